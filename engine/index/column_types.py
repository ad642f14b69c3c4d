"""The types of attribute columns: append-only, null where an item has no value, and read as tests of rows.

A column holds what filters read and no more: keywords as postings, bools as bits, ints and timestamps as int64, floats
as float64, geo points as float64 unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from engine.index.growing import GrowingArray, GrowingMask, empty_mask, has_rows
from engine.index.hashed import KeywordPlaces, Places, Vocabulary
from engine.index.keyword_codes import KeywordCodes
from engine.index.postings import Postings
from engine.index.regions import Region, union
from engine.item_columns import ValueColumn
from engine.types import AttributeType, AttributeValue, GeoPoint, Int64Array, Timestamp
from kernels.filters import AtLeast, FloatBetween, HasBit, IntAmong, IntBetween, IntSet, Inverse, Near, RowTest

EARTH_RADIUS_M = 6_371_008.8
_INT64 = range(-(2**63), 2**63)
_CHORD_ROUNDING = 1e-15
"""What float64 rounding adds to the distance of two unit vectors; six nanometres on Earth."""

_MOST_PLACES = 64
"""Kept of a column; those of models that are gone go first."""

Value: TypeAlias = AttributeValue | None
Part: TypeAlias = GrowingMask | GrowingArray | Postings


class Column(Protocol):
    """``present`` has the rows with a value; it is one of the ``parts``, which are all that a column holds."""

    present: GrowingMask

    @property
    def parts(self) -> Mapping[str, Part]: ...

    @property
    def memory_bytes(self) -> int: ...

    def append(self, values: Sequence[Value]) -> None: ...

    def append_column(self, column: ValueColumn) -> None: ...

    def append_nulls(self, count: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between ``low`` and ``high``, None where unbounded; an open end does not belong to it."""

    low: int | float | None = None
    high: int | float | None = None
    low_open: bool = False
    high_open: bool = False

    @property
    def is_empty(self) -> bool:
        if self.low is None or self.high is None:
            return False
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def intersection(self, other: Interval) -> Interval:
        """Ints stay ints: the two must be of one kind."""
        lows = [(one.low, one.low_open) for one in (self, other) if one.low is not None]
        highs = [(one.high, not one.high_open) for one in (self, other) if one.high is not None]
        low, low_open = max(lows, default=(None, False))
        high, high_closed = min(highs, default=(None, True))
        return Interval(low, high, low_open, not high_closed)

    def as_ints(self) -> tuple[int, int]:
        """The first and the last int64 of an interval of ints."""
        low = _INT64.start if self.low is None else int(self.low) + self.low_open
        high = _INT64.stop - 1 if self.high is None else int(self.high) - self.high_open
        return low, high

    def as_floats(self) -> tuple[float, float]:
        """The first and the last float64 of an interval of floats; NaN, which admits none, beyond an open infinity."""
        low = -math.inf if self.low is None else float(self.low)
        high = math.inf if self.high is None else float(self.high)
        if self.low_open:
            low = math.nan if low == math.inf else math.nextafter(low, math.inf)
        if self.high_open:
            high = math.nan if high == -math.inf else math.nextafter(high, -math.inf)
        return low, high


class KeywordColumn:
    """Keywords and lists of keywords: the rows of each."""

    def __init__(self) -> None:
        self.present = GrowingMask()
        self._postings = Postings()
        self._codes: KeywordCodes | None = None
        self._places: dict[Places, KeywordPlaces] = {}

    @property
    def parts(self) -> Mapping[str, Part]:
        return {"present": self.present, "postings": self._postings}

    @property
    def memory_bytes(self) -> int:
        codes = 0 if self._codes is None else self._codes.memory_bytes
        places = sum(one.memory_bytes for one in tuple(self._places.values()))
        return self.present.nbytes + self._postings.memory_bytes + codes + places

    @property
    def postings(self) -> Postings:
        """Not to be written to."""
        return self._postings

    @property
    def codes(self) -> KeywordCodes:
        """Of a column whose rows have one keyword at most; made when first asked for, kept up from then on."""
        if self._codes is None:
            self._codes = KeywordCodes(self._postings, self.present.n_rows)
        return self._codes

    def append(self, values: Sequence[Value]) -> None:
        keywords = [_keywords(value) for value in values]
        rows_of: dict[str, list[int]] = {}
        for row, words in enumerate(keywords, start=self.present.n_rows):
            for word in words:
                rows_of.setdefault(word, []).append(row)
        for word, rows in rows_of.items():
            self._postings.add(word, rows)
            for places in self._places.values():
                places.add(word, rows)
        self.present.append([bool(words) for words in keywords])
        if self._codes is not None:
            self._codes.append([words[0] if words else None for words in keywords])

    def append_column(self, column: ValueColumn) -> None:
        self.append(column.as_values())

    def append_nulls(self, count: int) -> None:
        self.present.append_unset(count)
        if self._codes is not None:
            self._codes.append_nulls(count)

    def keys_at(self, rows: Int64Array) -> Int64Array:
        """A number for the keyword of each of ``rows`` [n], -1 where there is none."""
        return self.codes.values[rows].astype(np.int64)

    def values_of_keys(self, keys: Int64Array) -> tuple[str, ...]:
        """The keywords of such numbers."""
        return tuple(self.codes.keywords[key] for key in keys.tolist())

    def rows(self, values: Sequence[str | bool | int]) -> BitMap:
        """Rows that have any of the keywords; not to be written to."""
        return self._postings.rows(values)

    def places(self, places: Places) -> KeywordPlaces:
        """Which places each row's keywords have: made from all postings when first asked for, then kept up to date."""
        if places not in self._places:
            while len(self._places) >= _MOST_PLACES:
                del self._places[next(iter(self._places))]
            made = KeywordPlaces(places)
            for word in places.keywords if isinstance(places, Vocabulary) else self._postings.keywords:
                made.add(str(word), np.array(self._postings.rows([word]), np.int64))
            self._places[places] = made
        return self._places[places]

    def matching(self, values: Sequence[str | bool | int], region: Region) -> RowTest:
        """Rows that have any of the keywords."""
        masks, maps = self._postings.parts(values, self.present.n_rows)
        tests = [HasBit(region.bits(mask)) for mask in masks]
        if maps:
            tests.append(HasBit(region.members(union(maps))))
        if not tests:
            tests.append(HasBit(empty_mask(region.n_rows)))
        return tests[0] if len(tests) == 1 else AtLeast(1, tuple(tests))


def _keywords(value: Value) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    return tuple(dict.fromkeys(value)) if isinstance(value, (tuple, list)) else ()


class BoolColumn:
    def __init__(self) -> None:
        self.present = GrowingMask()
        self.true = GrowingMask()

    @property
    def parts(self) -> Mapping[str, Part]:
        return {"present": self.present, "true": self.true}

    @property
    def memory_bytes(self) -> int:
        return self.present.nbytes + self.true.nbytes

    def append(self, values: Sequence[Value]) -> None:
        self.true.append([value is True for value in values])
        self.present.append([value is not None for value in values])

    def append_column(self, column: ValueColumn) -> None:
        self.true.append(column.values & column.present)
        self.present.append(column.present)

    def append_nulls(self, count: int) -> None:
        self.true.append_unset(count)
        self.present.append_unset(count)

    def keys_at(self, rows: Int64Array) -> Int64Array:
        """0 or 1 for each of ``rows`` [n]."""
        return has_rows(self.true.room, rows).astype(np.int64)

    def matching(self, values: Sequence[str | bool | int], region: Region) -> RowTest:
        """Rows whose value is among the values."""
        present, true = HasBit(region.bits(self.present)), HasBit(region.bits(self.true))
        if True in values:
            return present if False in values else true
        return AtLeast(2, (present, Inverse(true)))


class NumberColumn:
    """Numbers of one dtype; a timestamp is its microseconds, a null row holds 0."""

    def __init__(self, dtype: type[np.int64 | np.float64]) -> None:
        self.present = GrowingMask()
        self._numbers = GrowingArray(dtype)
        self._holds_ints = dtype is np.int64

    @property
    def parts(self) -> Mapping[str, Part]:
        return {"present": self.present, "numbers": self._numbers}

    @property
    def values(self) -> npt.NDArray[Any]:
        """[n_rows], a view."""
        return self._numbers.values

    @property
    def memory_bytes(self) -> int:
        return self.present.nbytes + self._numbers.nbytes

    def append(self, values: Sequence[Value]) -> None:
        numbers = [_number(value) for value in values]
        self._numbers.append(np.array(numbers, self.values.dtype), len(values))
        self.present.append([value is not None for value in values])

    def append_column(self, column: ValueColumn) -> None:
        self._numbers.append(np.where(column.present, column.values, 0), len(column.present))
        self.present.append(column.present)

    def append_nulls(self, count: int) -> None:
        self._numbers.append(0, count)
        self.present.append_unset(count)

    def set(self, first_row: int, n_rows: int, value: Value) -> None:
        """Change rows in place."""
        self.values[first_row : first_row + n_rows] = _number(value)
        if value is None:
            self.present.unset(first_row, n_rows)
        else:
            self.present.set(first_row, n_rows)

    def keys_at(self, rows: Int64Array) -> Int64Array:
        """The int of each of ``rows`` [n]."""
        assert self._holds_ints
        keys: Int64Array = self.values[rows]
        return keys

    def matching(self, members: IntSet, region: Region) -> RowTest:
        """Rows whose int is a member."""
        return IntAmong(region.values(self._numbers), region.bits(self.present), members)

    def within(self, interval: Interval, region: Region) -> RowTest:
        """Rows whose number lies in the interval, compared in the column's own dtype."""
        values, present = region.values(self._numbers), region.bits(self.present)
        if self._holds_ints:
            low, high = interval.as_ints()
            return IntBetween(values, present, low, high)
        return FloatBetween(values, present, *interval.as_floats())


def _number(value: Value) -> int | float:
    if isinstance(value, Timestamp):
        return value.micros
    assert value is None or isinstance(value, (int, float))
    return 0 if value is None else value


class GeoColumn:
    """Geo points as unit vectors, so that a great-circle radius is one straight distance."""

    def __init__(self) -> None:
        self.present = GrowingMask()
        self._axes = tuple(GrowingArray(np.float64) for _ in range(3))

    @property
    def parts(self) -> Mapping[str, Part]:
        return {"present": self.present, **dict(zip("xyz", self._axes, strict=True))}

    @property
    def memory_bytes(self) -> int:
        return self.present.nbytes + sum(axis.nbytes for axis in self._axes)

    def append(self, values: Sequence[Value]) -> None:
        points = [value if isinstance(value, GeoPoint) else GeoPoint(0.0, 0.0) for value in values]
        for axis, numbers in zip(self._axes, _unit_vectors(points), strict=True):
            axis.append(numbers, len(values))
        self.present.append([value is not None for value in values])

    def append_column(self, column: ValueColumn) -> None:
        self.append(column.as_values())

    def append_nulls(self, count: int) -> None:
        for axis in self._axes:
            axis.append(0.0, count)
        self.present.append_unset(count)

    def near(self, center: GeoPoint, radius_m: float, region: Region) -> RowTest:
        """Rows within ``radius_m`` metres: a chord's square is four times the haversine of its arc."""
        if radius_m >= math.pi * EARTH_RADIUS_M:
            return HasBit(region.bits(self.present))
        longest = 2 * math.sin(radius_m / (2 * EARTH_RADIUS_M)) + _CHORD_ROUNDING
        x, y, z = (region.values(axis) for axis in self._axes)
        target = _unit_vectors([center])[:, 0].tolist()
        return Near((x, y, z), region.bits(self.present), (target[0], target[1], target[2]), longest * longest)


def _unit_vectors(points: Sequence[GeoPoint]) -> npt.NDArray[np.float64]:
    """float64 [3, n]."""
    lat = np.radians(np.array([point.lat for point in points], np.float64))
    lon = np.radians(np.array([point.lon for point in points], np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


_NEW_COLUMN: Mapping[AttributeType, Callable[[], Column]] = {
    AttributeType.KEYWORD: KeywordColumn,
    AttributeType.KEYWORD_LIST: KeywordColumn,
    AttributeType.BOOL: BoolColumn,
    AttributeType.INT: lambda: NumberColumn(np.int64),
    AttributeType.FLOAT: lambda: NumberColumn(np.float64),
    AttributeType.TIMESTAMP: lambda: NumberColumn(np.int64),
    AttributeType.GEO_POINT: GeoColumn,
}


def new_column(kind: AttributeType) -> Column:
    """An empty column for attributes of that type."""
    return _NEW_COLUMN[kind]()
