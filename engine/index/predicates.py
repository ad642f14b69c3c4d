"""Predicates in normal form: what a compiled filter is made of, and which test of rows each becomes.

Equal filters, in whatever order they were written, have the same normal form and so the same key. Negation stands at
the leaves alone; conjunction and disjunction are flat, without repeats, sorted by cost and then by key.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from engine.index.column_types import BoolColumn, GeoColumn, Interval, KeywordColumn, NumberColumn
from engine.index.columns import Columns
from engine.index.growing import empty_mask, full_mask
from engine.index.regions import Region, union
from engine.types import GeoPoint, Int64Array, ItemId
from kernels.filters import AtLeast as AtLeastTest
from kernels.filters import HasBit, IntSet, Inverse, RowTest

Ids: TypeAlias = Sequence[ItemId] | npt.NDArray[np.uint64]
RowsOf: TypeAlias = Callable[[Ids], Int64Array]
_COUNTED_ITEMS = 4096
"""Up to so many are looked up for an estimate, by their ids or terms: in less than a millisecond."""


class Predicate(ABC):
    """``cost`` ranks what a row takes: 0 a bit, 1 a comparison, 2 a look-up, 3 arithmetic."""

    cost: ClassVar[int] = 0

    @cached_property
    def key(self) -> bytes:
        """32 bytes, the same for equal predicates alone."""
        return hashlib.sha256(repr(self).encode()).digest()

    @property
    def order(self) -> tuple[int, bytes]:
        return self.cost, self.key

    @property
    def names_ids(self) -> bool:
        """Whether it depends on which rows items have now, and not on the columns alone."""
        return False

    @abstractmethod
    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        """What it asks of the region's rows."""

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        """All rows it holds for where postings alone tell them; not to be written to."""
        return None

    def negated(self) -> Predicate:
        return Not(self)


@dataclass(frozen=True)
class Everything(Predicate):
    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        return HasBit(full_mask(region.n_rows))

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        return BitMap(range(columns.n_rows))

    def negated(self) -> Predicate:
        return Nothing()


@dataclass(frozen=True)
class Nothing(Predicate):
    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        return HasBit(empty_mask(region.n_rows))

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        return BitMap()

    def negated(self) -> Predicate:
        return Everything()


@dataclass(frozen=True)
class Present(Predicate):
    attribute: str

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        return HasBit(region.bits(columns.column(self.attribute).present))


@dataclass(frozen=True)
class AnyOf(Predicate):
    """``values`` sorted, without repeats."""

    attribute: str
    values: tuple[str | bool | int, ...]

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        column = columns.column(self.attribute)
        assert isinstance(column, (KeywordColumn, BoolColumn))
        return column.matching(self.values, region)

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        column = columns.column(self.attribute)
        return column.rows(self.values) if isinstance(column, KeywordColumn) else None


@dataclass(frozen=True, eq=False)
class AnyInt(Predicate):
    """``values``: int64, ascending, without repeats."""

    cost = 2
    attribute: str
    values: Int64Array

    @cached_property
    def key(self) -> bytes:
        return _key_of_array("any int", self.attribute, self.values)

    @cached_property
    def _members(self) -> IntSet:
        return IntSet(self.values)

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        column = columns.column(self.attribute)
        assert isinstance(column, NumberColumn)
        return column.matching(self._members, region)


@dataclass(frozen=True)
class Within(Predicate):
    cost = 1
    attribute: str
    interval: Interval

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        column = columns.column(self.attribute)
        assert isinstance(column, NumberColumn)
        return column.within(self.interval, region)


@dataclass(frozen=True)
class Near(Predicate):
    cost = 3
    attribute: str
    center: GeoPoint
    radius_m: float

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        column = columns.column(self.attribute)
        assert isinstance(column, GeoColumn)
        return column.near(self.center, self.radius_m, region)


@dataclass(frozen=True, eq=False)
class AnyId(Predicate):
    """``ids`` ascending, without repeats: uint64, or strings."""

    ids: tuple[str, ...] | npt.NDArray[np.uint64]

    @cached_property
    def key(self) -> bytes:
        if isinstance(self.ids, np.ndarray):
            return _key_of_array("any id", "", self.ids)
        return hashlib.sha256(f"any id {self.ids!r}".encode()).digest()

    @property
    def names_ids(self) -> bool:
        return True

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        return HasBit(region.listed(rows_of(self.ids)))

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        return BitMap(rows_of(self.ids).tolist()) if len(self.ids) <= _COUNTED_ITEMS else None


@dataclass(frozen=True)
class HasTerms(Predicate):
    """A text field has every one of the ``terms``, which are sorted, without repeats."""

    field: str
    terms: tuple[str, ...]

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        first, end = region.bounds
        rows = columns.postings_of(self.field).contains(self.field, self.terms, first_row=first, end_row=end)
        return HasBit(region.listed(rows))

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        lexical = columns.postings_of(self.field)
        if lexical.at_most(self.field, self.terms) > _COUNTED_ITEMS:
            return None
        return BitMap(lexical.contains(self.field, self.terms).tolist())


@dataclass(frozen=True)
class Not(Predicate):
    """Of a leaf."""

    leaf: Predicate

    @cached_property
    def key(self) -> bytes:
        return hashlib.sha256(b"not " + self.leaf.key).digest()

    @property
    def order(self) -> tuple[int, bytes]:
        return self.leaf.cost, self.key

    @property
    def names_ids(self) -> bool:
        return self.leaf.names_ids

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        return Inverse(self.leaf.test(columns, region, rows_of))

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        rows = self.leaf.rows(columns, rows_of)
        return None if rows is None else rows.flip(0, columns.n_rows)

    def negated(self) -> Predicate:
        return self.leaf


@dataclass(frozen=True)
class AtLeast(Predicate):
    """At least ``minimum`` of two or more children hold: conjunction where that is all, disjunction where it is 1."""

    minimum: int
    children: tuple[Predicate, ...]

    @cached_property
    def key(self) -> bytes:
        return hashlib.sha256(b"%d of " % self.minimum + b"".join(child.key for child in self.children)).digest()

    @property
    def order(self) -> tuple[int, bytes]:
        return max(child.order[0] for child in self.children), self.key

    @property
    def is_all(self) -> bool:
        return self.minimum == len(self.children)

    @property
    def names_ids(self) -> bool:
        return any(child.names_ids for child in self.children)

    def test(self, columns: Columns, region: Region, rows_of: RowsOf) -> RowTest:
        return AtLeastTest(self.minimum, [child.test(columns, region, rows_of) for child in self.children])

    def rows(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        if self.is_all:
            return self._rows_of_all(columns, rows_of)
        if self.minimum > 1:
            return None
        found = [child.rows(columns, rows_of) for child in self.children]
        known = [rows for rows in found if rows is not None]
        return union(known) if len(known) == len(found) else None

    def _rows_of_all(self, columns: Columns, rows_of: RowsOf) -> BitMap | None:
        """What some have in common less what others exclude, which is quicker than to share what others leave."""
        wanted = [one.rows(columns, rows_of) for one in self.children if not isinstance(one, Not)]
        unwanted = [one.leaf.rows(columns, rows_of) for one in self.children if isinstance(one, Not)]
        known = [rows for rows in (*wanted, *unwanted) if rows is not None]
        if len(known) < len(self.children):
            return None
        common = known[: len(wanted)] or [BitMap(range(columns.n_rows))]
        return BitMap.intersection(*common).difference(*known[len(wanted) :])

    def negated(self) -> Predicate:
        children = [child.negated() for child in self.children]
        return at_least(len(children) - self.minimum + 1, children)


def _key_of_array(kind: str, attribute: str, values: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> bytes:
    digest = hashlib.sha256(f"{kind} {attribute!r} {len(values)} ".encode())
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def all_of(predicates: Sequence[Predicate]) -> Predicate:
    return at_least(len(predicates), predicates)


def at_least(minimum: int, predicates: Sequence[Predicate]) -> Predicate:
    """The normal form of: at least ``minimum`` of the predicates hold."""
    if not predicates and minimum <= 0:
        return Everything()
    open_ones = [one for one in predicates if not isinstance(one, (Everything, Nothing))]
    minimum -= sum(isinstance(one, Everything) for one in predicates)
    if minimum <= 0:
        return Everything()
    if minimum > len(open_ones):
        return Nothing()
    if minimum == len(open_ones):
        return _conjunction(open_ones)
    if minimum == 1:
        return _disjunction(open_ones)
    return AtLeast(minimum, _sorted(open_ones))


def _conjunction(predicates: Sequence[Predicate]) -> Predicate:
    if len(predicates) == 1:
        return predicates[0]
    flat: list[Predicate] = []
    for one in predicates:
        flat.extend(one.children if isinstance(one, AtLeast) and one.is_all else [one])
    unique = list({one.key: one for one in _with_ranges_merged(flat)}.values())
    if any(isinstance(one, Nothing) for one in unique):
        return Nothing()
    return unique[0] if len(unique) == 1 else AtLeast(len(unique), _sorted(unique))


def _disjunction(predicates: Sequence[Predicate]) -> Predicate:
    flat: list[Predicate] = []
    for one in predicates:
        flat.extend(one.children if isinstance(one, AtLeast) and one.minimum == 1 else [one])
    unique = list({one.key: one for one in flat}.values())
    return unique[0] if len(unique) == 1 else AtLeast(1, _sorted(unique))


def _sorted(predicates: Sequence[Predicate]) -> tuple[Predicate, ...]:
    return tuple(sorted(predicates, key=lambda one: one.order))


def _with_ranges_merged(predicates: Sequence[Predicate]) -> list[Predicate]:
    """Ranges of one attribute that must all hold are one range, and one pass over its column."""
    intervals: dict[str, Interval] = {}
    others: list[Predicate] = []
    for one in predicates:
        if isinstance(one, Within):
            intervals[one.attribute] = intervals.get(one.attribute, Interval()).intersection(one.interval)
        else:
            others.append(one)
    return [*others, *(within(attribute, interval) for attribute, interval in intervals.items())]


def within(attribute: str, interval: Interval) -> Predicate:
    """Nothing where the interval is empty."""
    return Nothing() if interval.is_empty else Within(attribute, interval)
