"""Filter trees to programs: checked against the schema, brought to normal form, fingerprinted. Pure: knows no rows.

Semantics: a missing or null value satisfies no condition but ``is_null``, ``except_`` included; ``must_not`` is plain
negation and so keeps nulls; a list matches where any of its values does. Ints compare as int64, never as float.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.index import predicates
from engine.index.columns import Columns
from engine.index.predicates import Predicate, RowsOf, all_of, at_least
from engine.index.ranges import interval_of
from engine.items import validate_id
from engine.limits import Limits
from engine.types import (
    AttributeSpec,
    AttributeType,
    Condition,
    Filter,
    GeoRadius,
    HasId,
    IsNull,
    ItemId,
    Match,
    Range,
    Schema,
    Uint8Array,
)

MATCH_VALUES = 100_000
"""Values of one match, and ids of one has_id, at most."""
_DEFAULT_LIMITS = Limits()
_INT64 = range(-(2**63), 2**63)
_MATCHED: dict[AttributeType, type] = {
    AttributeType.KEYWORD: str,
    AttributeType.KEYWORD_LIST: str,
    AttributeType.BOOL: bool,
    AttributeType.INT: int,
}


@dataclass(frozen=True, slots=True)
class FilterProgram:
    """A compiled filter. ``fingerprint``: 32 bytes, the same for equal filters, in whatever order they were written."""

    root: Predicate

    @property
    def fingerprint(self) -> bytes:
        return self.root.key

    @property
    def is_pass_all(self) -> bool:
        return isinstance(self.root, predicates.Everything)

    def evaluate(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        """The row mask over ``columns.n_rows`` rows, dead ones included; the caller's to keep. Search lane only.

        ``rows_of``: the rows of items by id; unknown ids have none.

        Raises:
            UnknownAttribute: the columns are of a schema that lacks an attribute this filter names.
        """
        return self.root.mask(columns, rows_of)


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
    for place, value in enumerate(values):
        if type(value) is not wanted:
            raise InvalidArgument(
                f"{field}[{place}]", f"{value!r} is no value of {spec.name!r}, which is of type {spec.type.value}"
            )
        if wanted is int and value not in _INT64:
            raise InvalidArgument(f"{field}[{place}]", f"{value} is not in [-2**63, 2**63)")
    if wanted is int:
        return predicates.AnyInt(spec.name, _sorted_ints(values, np.int64))
    return predicates.AnyOf(spec.name, tuple(sorted(set(values))))


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


def _has_id(ids: Sequence[ItemId], schema: Schema, field: str) -> Predicate:
    if len(ids) > MATCH_VALUES:
        raise LimitExceeded(field, value=len(ids), limit=MATCH_VALUES, unit="ids")
    for place, one in enumerate(ids):
        validate_id(one, schema, f"{field}[{place}]")
    if not ids:
        return predicates.Nothing()
    if schema.id_type == "uint64":
        return predicates.AnyId(_sorted_ints(ids, np.uint64))
    return predicates.AnyId(tuple(sorted(set(ids))))


def _sorted_ints(values: Sequence[str | bool | int], dtype: type[np.int64 | np.uint64]) -> tuple[int, ...]:
    """Without repeats; NumPy takes a fifth of the time Python does, and lists of 100,000 are normal."""
    return tuple(np.unique(np.array(values, dtype)).tolist())
