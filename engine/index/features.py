"""Features of items as scores read them: numbers of attributes capped and scaled, a float32 row of them for each row.

A table has the features of some scoring, whatever their weights; it follows the columns when it is next used. Search
lane only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import IvfPqIndex
from engine.index.regions import SEGMENT_ROWS
from engine.scoring import MOST_VALUE, Scale
from engine.types import Float32Array, Uint8Array
from kernels.cpu import widen_extremes
from kernels.fusion import FeatureStamps, ListExtremes, no_extremes

if TYPE_CHECKING:
    from engine.index.columns import Columns

DEFAULT_BYTES = 1 << 30
MICROS = 1_000_000
AGE_STEPS = 4096
"""Of a half-life: so finely are ages counted, unless that is less than a second."""
_ONE = np.ones(1, np.float32)
_OFTEN = 3
"""Batches in which weights are met before their sum is worth a table."""
_MOST_MET = 1024
_EARLIER_TABLES = 4

Float64Array: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class NumberFeature:
    """See ``engine.scoring.Feature``, weight and name aside."""

    attribute: str
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None
    missing: float = 0.0

    def of(self, values: Float64Array, present: BoolArray) -> Float32Array:
        """float32 [n] of values [n], those that are present."""
        found = np.where(present, values, self.missing)
        low, high = (-MOST_VALUE if self.low is None else self.low), (MOST_VALUE if self.high is None else self.high)
        np.clip(found, low, high, out=found)
        if self.scale == "log1p":
            np.log1p(np.maximum(found, 0.0, out=found), out=found)
        return found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class DecayFeature:
    """See ``engine.scoring.Decay``, weight and name aside."""

    attribute: str
    half_life_s: float
    missing: float = 0.0

    def moment(self, now: int) -> int:
        """The microsecond from which ages are counted at ``now``."""
        step = max(MICROS, int(self.half_life_s * MICROS / AGE_STEPS))
        return now // step * step

    def ages(self, values: Float64Array, now: int) -> Float64Array:
        """Seconds since timestamps [n] of microseconds, 0 of those to come."""
        return np.maximum(self.moment(now) - values, 0.0) / MICROS

    def of(self, values: Float64Array, present: BoolArray, now: int) -> Float32Array:
        """float32 [n] of timestamps [n], those that are present."""
        powers = np.exp2(self.ages(values, now) / -self.half_life_s)
        return np.where(present, powers, self.missing).astype(np.float32)


@dataclass(frozen=True, slots=True)
class SumFeature:
    """Features with their weights as one: what scores of the same weights add again and again. Hashed once."""

    parts: tuple[tuple[NumberFeature | DecayFeature, float], ...]
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.parts))

    def __hash__(self) -> int:
        return self._hash

    @property
    def features(self) -> tuple[NumberFeature | DecayFeature, ...]:
        return tuple(part for part, _ in self.parts)

    @property
    def weights(self) -> Float32Array:
        return np.array([weight for _, weight in self.parts], np.float32)


FeatureSpec: TypeAlias = NumberFeature | DecayFeature | SumFeature


def _parts_of(spec: FeatureSpec) -> list[NumberFeature | DecayFeature]:
    return [part for part, _ in spec.parts] if isinstance(spec, SumFeature) else [spec]


def _moments(spec: FeatureSpec, now: int) -> list[int]:
    return [part.moment(now) for part in _parts_of(spec) if isinstance(part, DecayFeature)]


class FeatureTable:
    """``segments``: float32 [SEGMENT_ROWS, F] arrays that hold ``n_rows`` rows; ``stamps``: theirs, new ones where the
    table is begun anew; ``now``: what ages are counted to.
    """

    def __init__(self, specs: Sequence[FeatureSpec]) -> None:
        self.specs = tuple(specs)
        self.segments: list[Float32Array] = []
        self.stamps = FeatureStamps()
        self.now = 0
        self._has_ages = any(_moments(spec, 0) for spec in specs)
        self._columns_serial = -1
        self._n_changes = 0
        self._extremes: ListExtremes | None = None
        self._extremes_of: IvfPqIndex | None = None
        self._n_listed = 0
        self._n_widened = 0

    @property
    def n_rows(self) -> int:
        return self.stamps.n_rows

    @property
    def n_features(self) -> int:
        return len(self.specs)

    @property
    def memory_bytes(self) -> int:
        extremes = 0 if self._extremes is None else sum(part.nbytes for part in self._extremes)
        return sum(segment.nbytes for segment in self.segments) + extremes

    def follow(self, columns: Columns, now: int) -> bool:
        """Be what the columns say at ``now``, microseconds since 1970; whether it has grown."""
        if self._columns_serial != columns.serial:
            self.segments, self.stamps, self._columns_serial = [], FeatureStamps(), columns.serial
            self._n_changes, self.now, self._extremes = columns.n_changes, now, None
        if self._has_ages:
            self._follow_time(columns, now)
        if self._n_changes != columns.n_changes:
            self._follow_changes(columns)
        if self.n_rows == columns.n_rows:
            return False
        self._fill(columns, self.n_rows, columns.n_rows)
        self.stamps.n_rows = columns.n_rows
        return True

    def extremes(self, lists: IvfPqIndex, alive: Callable[[], Uint8Array]) -> ListExtremes:
        """Of the rows listed, at least of those that are ``alive``."""
        if self._extremes is None or self._extremes_of is not lists or self._n_widened > lists.n_rows // 8:
            self._extremes, self._extremes_of = no_extremes(lists.nlist, self.n_features), lists
            self._n_listed = self._n_widened = 0
        if self._n_listed < lists.n_rows:
            self._widen(lists, alive(), self._n_listed, lists.n_rows)
            self._n_listed = lists.n_rows
        return self._extremes

    def rows(self, rows: npt.NDArray[np.int64]) -> Float32Array:
        """float32 [n, F] of rows [n]."""
        found = np.empty((len(rows), self.n_features), np.float32)
        numbers, places = np.divmod(rows, SEGMENT_ROWS)
        for number in np.unique(numbers):
            here = numbers == number
            found[here] = self.segments[number][places[here]]
        return found

    def _widen(self, lists: IvfPqIndex, alive: Uint8Array, first: int, end: int) -> None:
        assert self._extremes is not None
        widen_extremes(self._extremes, lists.numbers, self.segments, alive, first_row=first, end_row=end)

    def _follow_time(self, columns: Columns, now: int) -> None:
        """All ages have grown where a step has passed."""
        for place, spec in enumerate(self.specs):
            if _moments(spec, now) != _moments(spec, self.now):
                self._fill(columns, 0, self.n_rows, places=[place], now=now)
                self._extremes = None
        self.now = now

    def _follow_changes(self, columns: Columns) -> None:
        """Values that were changed in place since."""
        spans = columns.changes_since(self._n_changes)
        self._n_changes = columns.n_changes
        if spans is None:
            self._fill(columns, 0, self.n_rows)
            self._extremes = None
            return
        for first, n_rows in spans:
            end = min(first + n_rows, self.n_rows)
            self._fill(columns, first, end)
            if self._extremes is not None and self._extremes_of is not None and first < self._n_listed:
                self._n_widened += n_rows
                everything = np.full((end + 63) // 64 * 8, 255, np.uint8)
                self._widen(self._extremes_of, everything, first, min(end, self._n_listed))

    def _fill(
        self, columns: Columns, first: int, end: int, *, places: Sequence[int] | None = None, now: int | None = None
    ) -> None:
        """Write rows [first, end), of all features or of some."""
        while first < end:
            number, offset = divmod(first, SEGMENT_ROWS)
            stop = min(end, (number + 1) * SEGMENT_ROWS)
            if number == len(self.segments):
                self.segments.append(np.zeros((SEGMENT_ROWS, self.n_features), np.float32))
                self.stamps.changes.append(0)
            elif first < self.n_rows:
                self.stamps.note_change(first, stop)
            part = self.segments[number][offset : offset + stop - first]
            for place in range(self.n_features) if places is None else places:
                part[:, place] = self._values(self.specs[place], columns, first, stop, self.now if now is None else now)
            first = stop

    def _values(self, spec: FeatureSpec, columns: Columns, first: int, end: int, now: int) -> Float32Array:
        if isinstance(spec, SumFeature):
            total = np.zeros(end - first, np.float32)
            for part, weight in spec.parts:
                total += np.float32(weight) * self._values(part, columns, first, end, now)
            return total
        values, present = columns.numbers(spec.attribute, first, end)
        return spec.of(values, present, now) if isinstance(spec, DecayFeature) else spec.of(values, present)


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """A table, and what its features count: float32 [F]."""

    table: FeatureTable
    weights: Float32Array


class FeatureTables:
    """The tables of an index by their features, those used last within ``most_bytes``, or one.

    Weights that are met again and again get a table of their sum: one feature is looked up quicker than many, and what
    the rows of a list add at most is told closer.
    """

    def __init__(self, most_bytes: int = DEFAULT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._tables: OrderedDict[tuple[FeatureSpec, ...], FeatureTable] = OrderedDict()
        self._met: OrderedDict[SumFeature, int] = OrderedDict()
        self._earlier: OrderedDict[tuple[object, ...], FeatureTable] = OrderedDict()

    @property
    def memory_bytes(self) -> int:
        return sum(table.memory_bytes for table in [*self._tables.values(), *self._earlier.values()])

    def weighted(self, total: SumFeature, columns: Columns, now: int) -> Weighted:
        """Features and weights, as of ``now``: one by one, or their sum.

        Raises:
            UnknownAttribute: the index has no such column.
        """
        met = self._met.get(total, 0) + 1
        self._met[total] = met
        self._met.move_to_end(total)
        if len(self._met) > _MOST_MET:
            self._met.popitem(last=False)
        if met < _OFTEN or len(total.parts) == 1:
            return Weighted(self.table(total.features, columns, now), total.weights)
        return Weighted(self.table((total,), columns, now), _ONE)

    def table(self, specs: tuple[FeatureSpec, ...], columns: Columns, now: int) -> FeatureTable:
        """The table of these features, as of ``now``.

        Raises:
            UnknownAttribute: the index has no such column.
        """
        table = self._tables.get(specs)
        if table is None:
            for part in (part for spec in specs for part in _parts_of(spec)):
                columns.require_numbers(part.attribute)
            table = self._tables[specs] = FeatureTable(specs)
        self._tables.move_to_end(specs)
        if table.follow(columns, now):
            while len(self._tables) > 1 and self.memory_bytes > self.most_bytes:
                self._tables.popitem(last=False)
        return table

    def table_at(self, specs: tuple[FeatureSpec, ...], columns: Columns, now: int, *, then: int) -> FeatureTable:
        """The table of these features with ages as they were at ``then``, all else as of ``now``.

        Raises:
            UnknownAttribute: the index has no such column.
        """
        live = self.table(specs, columns, now)
        moments = _all_moments(specs, then)
        if moments == _all_moments(specs, live.now):
            return live
        key = (specs, moments)
        table = self._earlier.setdefault(key, FeatureTable(specs))
        self._earlier.move_to_end(key)
        table.follow(columns, then)
        while len(self._earlier) > _EARLIER_TABLES:
            self._earlier.popitem(last=False)
        return table


def _all_moments(specs: Sequence[FeatureSpec], now: int) -> tuple[int, ...]:
    return tuple(moment for spec in specs for moment in _moments(spec, now))
