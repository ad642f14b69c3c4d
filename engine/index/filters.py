"""Filter trees to programs: checked against the schema, brought to normal form, fingerprinted. Pure: knows no rows.

Semantics: a missing or null value satisfies no condition but ``is_null``, ``except_`` included; ``must_not`` is plain
negation and so keeps nulls; a list matches where any of its values does. Ints compare as int64, never as float.
"""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, assert_never, cast

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.index import predicates
from engine.index.columns import Columns
from engine.index.lexical.analysers import analyser
from engine.index.predicates import Predicate, RowsOf, all_of, at_least
from engine.index.ranges import interval_of
from engine.index.regions import Listed, Region, Span
from engine.index.sets import sorted_once
from engine.items import validate_id
from engine.limits import Limits
from engine.types import (
    AttributeSpec,
    AttributeType,
    Condition,
    Contains,
    Filter,
    GeoRadius,
    HasId,
    Int64Array,
    IsNull,
    ItemId,
    Match,
    Range,
    Schema,
    Uint8Array,
)
from kernels import cpu_filters as kernels

MATCH_VALUES = 100_000
"""Values of one match, and ids of one has_id, at most."""
CONTAINS_TERMS = 256
"""Different terms of one contains at most."""
_DEFAULT_LIMITS = Limits()
_INT64 = range(-(2**63), 2**63)
_MATCHED: dict[AttributeType, type] = {
    AttributeType.KEYWORD: str,
    AttributeType.KEYWORD_LIST: str,
    AttributeType.BOOL: bool,
    AttributeType.INT: int,
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of all rows, dead ones included, that pass; ``is_exact`` where it was counted, else by a sample."""

    share: float
    is_exact: bool


@dataclass(frozen=True, slots=True)
class FilterProgram:
    """A compiled filter. ``fingerprint``: 32 bytes, the same for equal filters, in whatever order they were written.

    Whatever reads ``columns`` belongs to the search lane, and raises UnknownAttribute where they are of a schema that
    lacks an attribute this filter names. ``rows_of`` gives the rows of items by id; unknown ids have none.
    """

    root: Predicate

    @property
    def fingerprint(self) -> bytes:
        return self.root.key

    @property
    def is_pass_all(self) -> bool:
        return type(self.root) is predicates.Everything

    def parts(self) -> tuple[FilterProgram, FilterProgram]:
        """Two programs that must both hold: of columns alone, and of what also depends on which rows items have."""
        whole = self.root
        conjuncts = whole.children if isinstance(whole, predicates.AtLeast) and whole.is_all else (whole,)
        of_ids = [one for one in conjuncts if one.names_ids]
        if not of_ids:
            return self, PASS_ALL
        return FilterProgram(all_of([one for one in conjuncts if not one.names_ids])), FilterProgram(all_of(of_ids))

    def evaluate(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        """The row mask over ``columns.n_rows`` rows, dead ones included; the caller's to keep."""
        test = self.root.test(columns, Span(0, columns.n_rows), rows_of)
        return kernels.filter_rows([test], n_rows=columns.n_rows)[0]

    def matches(self, columns: Columns, rows: Int64Array, rows_of: RowsOf) -> npt.NDArray[np.bool_]:
        """Which of ``rows`` [n] pass, in whatever order they are told; the columns of no other row are read."""
        region = Listed(rows)
        (mask,) = evaluate_together([self], columns, region, rows_of)
        return np.unpackbits(mask, count=len(rows), bitorder="little").view(np.bool_)

    def estimate(self, columns: Columns, rows_of: RowsOf) -> Estimate:
        """Counted where postings alone tell the rows or all rows are few, else from a sample kept with the columns."""
        if columns.n_rows == 0:
            return Estimate(0.0, is_exact=True)
        rows = self.root.rows(columns, rows_of)
        if rows is not None:
            return Estimate(len(rows) / columns.n_rows, is_exact=True)
        sample = columns.sample()
        (mask,) = evaluate_together([self], columns, sample, rows_of)
        share = int(np.bitwise_count(mask).sum()) / sample.n_rows
        return Estimate(share, is_exact=sample.n_rows == columns.n_rows)


PASS_ALL = FilterProgram(predicates.Everything())


def evaluate_together(
    programs: Sequence[FilterProgram], columns: Columns, region: Region, rows_of: RowsOf
) -> list[Uint8Array]:
    """The mask of each program over the region's rows; columns that several read are read from memory once."""
    tests = [program.root.test(columns, region, rows_of) for program in programs]
    return kernels.filter_rows(tests, n_rows=region.n_rows)


def compile_filter(filter: Filter, schema: Schema, *, limits: Limits = _DEFAULT_LIMITS) -> FilterProgram:
    """
    Raises:
        InvalidArgument: a condition does not fit its attribute; the field is its path, as ``filter.must[1].range.gte``.
        UnknownAttribute: the schema has no such attribute, or it is not filterable.
        LimitExceeded: too deep, too many conditions, or too many values in one.
    """
    n_conditions = _count_conditions(filter, "filter", 1, limits)
    if n_conditions > limits.filter_conditions:
        raise LimitExceeded("filter", value=n_conditions, limit=limits.filter_conditions, unit="conditions")
    return FilterProgram(_filter(filter, schema, "filter"))


def _count_conditions(tree: Filter, field: str, depth: int, limits: Limits) -> int:
    if depth > limits.filter_depth:
        raise LimitExceeded(field, value=depth, limit=limits.filter_depth, unit="levels of filters")
    count = 0
    for clause in ("must", "should", "must_not"):
        for place, one in enumerate(getattr(tree, clause)):
            count += 1
            if isinstance(one, Filter):
                count += _count_conditions(one, f"{field}.{clause}[{place}].filter", depth + 1, limits)
    return count


def _filter(tree: Filter, schema: Schema, field: str) -> Predicate:
    must = _conditions(tree.must, schema, f"{field}.must")
    must_not = _conditions(tree.must_not, schema, f"{field}.must_not")
    should = _conditions(tree.should, schema, f"{field}.should")
    minimum = min(1, len(should)) if tree.min_should is None else tree.min_should
    if minimum < 0:
        raise InvalidArgument(f"{field}.min_should", f"{minimum} is below 0")
    if minimum > len(should):
        raise InvalidArgument(f"{field}.min_should", f"{minimum} is more than should has conditions: {len(should)}")
    return all_of([*must, *(one.negated() for one in must_not), at_least(minimum, should)])


def _conditions(conditions: Sequence[Condition], schema: Schema, field: str) -> list[Predicate]:
    return [_condition(one, schema, f"{field}[{place}]") for place, one in enumerate(conditions)]


def _condition(condition: Condition, schema: Schema, field: str) -> Predicate:
    match condition:
        case Match():
            return _match(condition, _attribute(condition.attribute, schema), f"{field}.match")
        case Range():
            spec = _attribute(condition.attribute, schema)
            return predicates.within(spec.name, interval_of(condition, spec, f"{field}.range"))
        case GeoRadius():
            return _geo_radius(condition, _attribute(condition.attribute, schema), f"{field}.geo_radius")
        case HasId(ids):
            return _has_id(ids, schema, f"{field}.has_id.ids")
        case Contains(name, text):
            return _contains(name, text, schema, f"{field}.contains")
        case IsNull(attribute):
            return predicates.Present(_attribute(attribute, schema).name).negated()
        case Filter():
            return _filter(condition, schema, f"{field}.filter")
    assert_never(condition)


def _attribute(name: str, schema: Schema) -> AttributeSpec:
    spec = schema.attribute(name)
    if spec is None:
        raise UnknownAttribute(name)
    if spec.volatile:
        raise UnknownAttribute(name, "it is volatile: what changes in place cannot be filtered on")
    if not spec.filterable:
        raise UnknownAttribute(name, "it is not filterable")
    return spec


def _match(condition: Match, spec: AttributeSpec, field: str) -> Predicate:
    wanted = _MATCHED.get(spec.type)
    if wanted is None:
        raise InvalidArgument(
            f"{field}.attribute",
            f"{spec.name!r} is of type {spec.type.value}: match takes keywords, bools and ints, nothing else",
        )
    if bool(condition.any_of) == bool(condition.except_):
        raise InvalidArgument(field, "set exactly one of any_of and except_any")
    if condition.any_of:
        return _any_of(condition.any_of, wanted, spec, f"{field}.any_of")
    among = _any_of(condition.except_, wanted, spec, f"{field}.except_any")
    return all_of([predicates.Present(spec.name), among.negated()])


def _any_of(values: Sequence[str | bool | int], wanted: type, spec: AttributeSpec, field: str) -> Predicate:
    if len(values) > MATCH_VALUES:
        raise LimitExceeded(field, value=len(values), limit=MATCH_VALUES, unit="values")
    # Lists of 100,000 are normal: what is wrong is looked for one by one only where something is.
    if set(map(type, values)) != {wanted} or (wanted is int and not _fit_int64(values)):
        _refuse_value(values, wanted, spec, field)
    if wanted is int:
        return predicates.AnyInt(spec.name, sorted_once(np.fromiter(values, np.int64, len(values))))
    return predicates.AnyOf(spec.name, tuple(sorted(set(values))))


def _fit_int64(values: Sequence[Any]) -> bool:
    return min(values) in _INT64 and max(values) in _INT64


def _refuse_value(values: Sequence[str | bool | int], wanted: type, spec: AttributeSpec, field: str) -> NoReturn:
    for place, value in enumerate(values):
        if type(value) is not wanted:
            raise InvalidArgument(
                f"{field}[{place}]", f"{value!r} is no value of {spec.name!r}, which is of type {spec.type.value}"
            )
        if wanted is int and value not in _INT64:
            raise InvalidArgument(f"{field}[{place}]", f"{value} is not in [-2**63, 2**63)")
    raise AssertionError("every value fits")


def _contains(name: str, text: str, schema: Schema, field: str) -> Predicate:
    spec = next((one for one in schema.text_fields if one.name == name), None)
    if spec is None:
        raise UnknownAttribute(name, "the schema has no such text field")
    if spec.analyser is None:
        raise UnknownAttribute(name, "the text field has no analyser")
    terms = tuple(sorted(set(analyser(spec.analyser)(text))))
    if not terms:
        raise InvalidArgument(f"{field}.text", f"{text[:80]!r} has no terms, as {name!r} is analysed ({spec.analyser})")
    if len(terms) > CONTAINS_TERMS:
        raise LimitExceeded(f"{field}.text", value=len(terms), limit=CONTAINS_TERMS, unit="terms")
    return predicates.HasTerms(name, terms)


def _geo_radius(condition: GeoRadius, spec: AttributeSpec, field: str) -> Predicate:
    if spec.type is not AttributeType.GEO_POINT:
        raise InvalidArgument(f"{field}.attribute", f"{spec.name!r} is of type {spec.type.value}, not geo_point")
    if not -90 <= condition.center.lat <= 90:
        raise InvalidArgument(f"{field}.center.lat", f"{condition.center.lat} is not in [-90, 90]")
    if not -180 <= condition.center.lon <= 180:
        raise InvalidArgument(f"{field}.center.lon", f"{condition.center.lon} is not in [-180, 180]")
    if not (math.isfinite(condition.radius_m) and condition.radius_m >= 0):
        raise InvalidArgument(f"{field}.radius_m", f"{condition.radius_m} is not a number from 0 on")
    return predicates.Near(spec.name, condition.center, float(condition.radius_m))


def _has_id(ids: Sequence[ItemId] | npt.NDArray[np.uint64], schema: Schema, field: str) -> Predicate:
    if len(ids) > MATCH_VALUES:
        raise LimitExceeded(field, value=len(ids), limit=MATCH_VALUES, unit="ids")
    if not len(ids):
        return predicates.Nothing()
    if schema.id_type == "uint64" and (numbers := _uint64(ids)) is not None:
        return predicates.AnyId(sorted_once(numbers))
    texts = []
    for place, one in enumerate(ids):
        validate_id(one, schema, f"{field}[{place}]")
        texts.append(str(one))
    return predicates.AnyId(tuple(sorted(set(texts))))


def _uint64(ids: Sequence[ItemId] | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64] | None:
    """The ids as an array, None where one is no uint64; NumPy takes a tenth of the time that looking at each does."""
    if isinstance(ids, np.ndarray):
        return ids if ids.dtype == np.uint64 else None
    if set(map(type, ids)) != {int}:
        return None
    try:
        # Of all ways to read a sequence of Python's ints the fastest: a third of what NumPy takes.
        return np.frombuffer(array.array("Q", cast(Sequence[int], ids)), np.uint64)
    except OverflowError:
        return None
