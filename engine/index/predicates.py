"""Predicates in normal form: what a compiled filter is made of, and how each becomes a row mask.

Equal filters, in whatever order they were written, have the same normal form and so the same key. Negation stands at
the leaves alone; conjunction and disjunction are flat, without repeats, sorted by cost and then by key.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeAlias

import numpy as np

from engine.index.column_types import BoolColumn, GeoColumn, Interval, KeywordColumn, NumberColumn
from engine.index.columns import Columns
from engine.index.growing import add_rows, empty_mask, full_mask, inverted
from engine.types import GeoPoint, Int64Array, ItemId, Uint8Array

RowsOf: TypeAlias = Callable[[Sequence[ItemId]], Int64Array]


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

    @abstractmethod
    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        """The rows it holds for; the caller may write to it."""

    def negated(self) -> Predicate:
        return Not(self)


@dataclass(frozen=True)
class Everything(Predicate):
    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        return full_mask(columns.n_rows)

    def negated(self) -> Predicate:
        return Nothing()


@dataclass(frozen=True)
class Nothing(Predicate):
    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        return empty_mask(columns.n_rows)

    def negated(self) -> Predicate:
        return Everything()


@dataclass(frozen=True)
class Present(Predicate):
    attribute: str

    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        return columns.column(self.attribute).present.bits.copy()


@dataclass(frozen=True)
class AnyOf(Predicate):
    """``values`` sorted, without repeats."""

    attribute: str
    values: tuple[str | bool | int, ...]

    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        column = columns.column(self.attribute)
        assert isinstance(column, (KeywordColumn, BoolColumn, NumberColumn))
        return column.matching(self.values)


@dataclass(frozen=True)
class AnyInt(AnyOf):
    cost = 2


@dataclass(frozen=True)
class Within(Predicate):
    cost = 1
    attribute: str
    interval: Interval

    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        column = columns.column(self.attribute)
        assert isinstance(column, NumberColumn)
        return column.within(self.interval)


@dataclass(frozen=True)
class Near(Predicate):
    cost = 3
    attribute: str
    center: GeoPoint
    radius_m: float

    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        column = columns.column(self.attribute)
        assert isinstance(column, GeoColumn)
        return column.near(self.center, self.radius_m)


@dataclass(frozen=True)
class AnyId(Predicate):
    """``ids`` sorted, without repeats."""

    ids: tuple[ItemId, ...]

    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        mask = empty_mask(columns.n_rows)
        add_rows(mask, rows_of(self.ids))
        return mask


@dataclass(frozen=True)
class Not(Predicate):
    """Of a leaf."""

    leaf: Predicate

    @property
    def order(self) -> tuple[int, bytes]:
        return self.leaf.cost, self.key

    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        return inverted(self.leaf.mask(columns, rows_of), columns.n_rows)

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

    def mask(self, columns: Columns, rows_of: RowsOf) -> Uint8Array:
        masks = (child.mask(columns, rows_of) for child in self.children)
        if not self.is_all and self.minimum > 1:
            counts = np.zeros(8 * len(empty_mask(columns.n_rows)), np.uint16)
            for mask in masks:
                counts += np.unpackbits(mask, bitorder="little")
            return np.packbits(counts >= self.minimum, bitorder="little")
        return _intersected(masks) if self.is_all else np.bitwise_or.reduce(list(masks))

    def negated(self) -> Predicate:
        children = [child.negated() for child in self.children]
        return at_least(len(children) - self.minimum + 1, children)


def _intersected(masks: Iterator[Uint8Array]) -> Uint8Array:
    """What comes after an empty mask is not evaluated."""
    found = next(masks)
    while found.any() and (mask := next(masks, None)) is not None:
        found &= mask
    return found


def all_of(predicates: Sequence[Predicate]) -> Predicate:
    return at_least(len(predicates), predicates)


def at_least(minimum: int, predicates: Sequence[Predicate]) -> Predicate:
    """The normal form of: at least ``minimum`` of the predicates hold."""
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
