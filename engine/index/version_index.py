"""One version's index: rows, attribute columns, mapped vectors and the inverted lists, changed only between batches.

The search lane's thread owns it: ``apply``, ``fold``, ``add_codes`` and every read for a search happen there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from engine.backend.protocol import Backend, IvfPqIndex, Vectors
from engine.dtypes import StoredArray, to_float32
from engine.embeddings import Int8Array, marked
from engine.index.changes import Change, LiveRow
from engine.index.coarse import Coarse
from engine.index.columns import Columns
from engine.index.costs import Costs
from engine.index.drift import Drift
from engine.index.features import FeatureSpec, FeatureTable, FeatureTables, SumFeature, Weighted
from engine.index.give_ups import GiveUps
from engine.index.ivfpq import min_rows_to_train
from engine.index.lexical import AnalysedTexts, LexicalIndex
from engine.index.masks import MaskCache
from engine.index.predicates import Ids
from engine.index.query_log import QueryLog
from engine.index.rows import Rows
from engine.index.taking import take
from engine.index.tuning import Tuning
from engine.item_columns import ColumnsChange
from engine.types import AttributeSpec, AttributeValue, Float32Array, Int64Array, ItemId, Schema, VersionInfo

FOLD_SECONDS = 0.002
LEAST_FOLDED = 64
"""Rows of a slice, where there are so many: ten of them take nearly as long, and would never be done beside a stream of
writes (docs/log.md, 2026-11-26).
"""
_RECOVERED_ITEMS = 4096
"""Appended at a time: enough that what is done once for all of them does not show."""


class Segments(Protocol):
    """Where stored vectors come from."""

    def arrays(self, n_rows: int) -> list[StoredArray]:
        """Segments that hold the first ``n_rows`` rows; later writes show in them."""
        ...


@dataclass(frozen=True, slots=True)
class Lists:
    """Inverted lists and what was measured of them, switched in as one; they were built over ``live_rows``.

    ``image_id``: of the image on disk that they came from. ``drift``: the image's with all rows folded since, which a
    start folds again; None where the image tells none.
    """

    ivfpq: IvfPqIndex
    tuning: Tuning
    live_rows: int
    image_id: str
    drift: Drift | None = None


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes by part."""

    vectors: int
    codes: int
    coarse_codes: int
    attributes: int
    lexical: int
    rows: int
    n_rows: int


def new_columns(schema: Schema) -> Columns:
    """Columns without rows."""
    return Columns(schema.attributes, LexicalIndex(schema) if schema.analysed_fields else None)


def wall_micros() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class VersionIndex:
    """See the module. ``costs``: what exact paths cost on this machine; ``costs_are_given`` where someone said so.

    ``image_sequence``: of the newest image of these rows, 0 where there is none.
    """

    def __init__(
        self,
        schema: Schema,
        version: VersionInfo,
        segments: Segments,
        costs: Costs,
        *,
        costs_are_given: bool = False,
    ) -> None:
        self.version = version
        self.schema = schema
        self.costs = costs
        self._costs_are_given = costs_are_given
        self.rows = Rows(schema.id_type)
        self.columns = new_columns(schema)
        self.masks = MaskCache()
        self.lists: Lists | None = None
        self.coarse = Coarse()
        self.features = FeatureTables()
        self.give_ups = GiveUps()
        self.sequence = 0
        self.image_sequence = 0
        self.query_log = QueryLog(version.dimension)
        self.clock: Callable[[], int] = wall_micros
        self._segments = segments
        self._vectors: Vectors | None = None
        self._fold_rows = LEAST_FOLDED
        self._least_rows: int | None = None
        self._marked = np.zeros(0, np.int8)

    @property
    def lexical(self) -> LexicalIndex | None:
        """Postings of the text fields that have an analyser, None where none has."""
        return self.columns.lexical

    @property
    def vectors(self) -> Vectors:
        """Every row written so far."""
        if self._vectors is None or self._vectors.n_rows != self.rows.n_rows:
            version = self.version
            arrays = self._segments.arrays(self.rows.n_rows)
            self._vectors = Vectors(arrays, self.rows.n_rows, version.dimension, version.dtype, version.metric)
        return self._vectors

    def marked_rows(self) -> Int8Array:
        """int8 [n_rows]: which of the schema's embeddings each row is, where each is one; read from a row once."""
        first, end = len(self._marked), self.rows.n_rows
        if first < end:
            arrays, dtype = self.vectors.segments, self.version.dtype
            stride = len(arrays[0])
            found = [self._marked]
            for number in range(first // stride, (end - 1) // stride + 1):
                begin = number * stride
                marks = arrays[number][max(first - begin, 0) : end - begin, -1]
                found.append(marked(to_float32(marks, dtype)))
            self._marked = np.concatenate(found)
        return self._marked

    @property
    def indexed_rows(self) -> int:
        """Rows [0, indexed_rows) are in inverted lists, the others are the exact tail."""
        lists = self.lists  # once: other threads ask too
        return lists.ivfpq.n_rows if lists else 0

    @property
    def planning_costs(self) -> Costs:
        """Those measured beside the lists' own where there are lists, so that both were taken under the same load."""
        return self.costs if self.lists is None or self._costs_are_given else self.lists.tuning.costs

    @property
    def least_rows_to_train(self) -> int:
        """Live rows from which inverted lists are predicted to pay, by this machine's costs."""
        if self._least_rows is None:
            self._least_rows = min_rows_to_train(self.version.dimension, self.costs)
        return self._least_rows

    def beside(self, version: VersionInfo, segments: Segments) -> VersionIndex:
        """An empty index for the same items in other rows, to be filled and then ``become``."""
        other = VersionIndex(self.schema, version, segments, self.costs, costs_are_given=self._costs_are_given)
        other.masks, other.query_log, other._least_rows = self.masks, self.query_log, self._least_rows
        other.clock = self.clock
        return other

    def become(self, other: VersionIndex) -> None:
        """Take over everything of an index made ``beside`` this one, which is not to be used any more."""
        self.masks.forget(self.columns)
        other.coarse.follow(self.coarse)
        self.version = other.version
        self.rows, self.columns, self.lists, self.coarse = other.rows, other.columns, other.lists, other.coarse
        self.sequence, self.image_sequence = other.sequence, other.image_sequence
        self._segments, self._vectors, self._fold_rows = other._segments, None, LEAST_FOLDED
        self._marked = other._marked

    def reckon_with(self, costs: Costs) -> None:
        """Plan by what another device costs from the next batch on, unless someone said what costs are."""
        if not self._costs_are_given:
            self.costs, self._least_rows = costs, None

    def switch_lists(self, lists: Lists) -> None:
        """Search with these from the next batch on."""
        self.lists = lists

    def memory(self) -> MemoryUse:
        version = self.version
        bytes_per_value = 4 if version.dtype == "float32" else 2
        return MemoryUse(
            vectors=self.rows.n_rows * version.dimension * bytes_per_value,
            codes=self.lists.ivfpq.memory_bytes if self.lists else 0,
            coarse_codes=self.coarse.memory_bytes,
            attributes=self.columns.memory_bytes,
            lexical=self.lexical.memory_bytes if self.lexical is not None else 0,
            rows=self.rows.memory_bytes,
            n_rows=self.rows.n_rows,
        )

    def analyse(self, changes: Sequence[Change | ColumnsChange]) -> AnalysedTexts | None:
        """What ``apply`` is to append for the texts of changes, None without fields that are searched by terms.

        Takes longer than all else of a change: for the thread that commits, or for any other but the search lane's.
        """
        if self.lexical is None:
            return None
        first_rows: list[int] = []
        n_rows: list[int] = []
        texts: list[Mapping[str, str]] = []
        for change in changes:
            if isinstance(change, ColumnsChange):
                first_rows += range(change.first_row, change.first_row + change.n_rows)
                n_rows += [1] * change.n_rows
                texts += [{}] * change.n_rows
            elif change.n_rows and not change.in_place:
                first_rows.append(change.first_row)
                n_rows.append(change.n_rows)
                texts.append(change.text)
        return self.lexical.analyse(first_rows, n_rows, texts)

    def apply(
        self, changes: Sequence[Change | ColumnsChange], *, sequence: int, analysed: AnalysedTexts | None = None
    ) -> None:
        """Make committed changes visible, all at once; those of an earlier sequence number are passed over.

        ``analysed``: what ``analyse`` makes of these changes; made here where it is not given.
        """
        fresh = [change for change in changes if change.sequence > self.sequence]
        if analysed is None or len(fresh) < len(changes):
            analysed = self.analyse(fresh)
        self._apply(fresh)
        if self.lexical is not None and analysed is not None:
            self.lexical.add(analysed)
        self.sequence = max(self.sequence, sequence)

    def _apply(self, changes: Sequence[Change | ColumnsChange]) -> None:
        self._forget_moments()
        written: dict[ItemId, Change] = {}
        for change in changes:
            if isinstance(change, ColumnsChange):
                self._append(written)
                self._append_columnar(change)
                continue
            if change.in_place or change.id in written:
                self._append(written)
            if change.in_place:
                self.columns.set_volatile(change.first_row, change.n_rows, change.attributes)
                self.rows.put_times(change.first_row, change.n_rows, change.times)
                continue
            if change.dead_n_rows:
                self.rows.kill(change.id, died=change.sequence)
            if change.n_rows:
                written[change.id] = change
        self._append(written)

    def start_from(self, rows: Rows, columns: Columns, *, sequence: int) -> None:
        """Hold these, as of ``sequence``, before anything is searched."""
        self.rows, self.columns, self.sequence = rows, columns, sequence
        self._vectors = None

    def recover(self, live: Iterable[LiveRow], *, n_rows: int, sequence: int) -> None:
        """Append rows that live on disk, in ascending order; the gaps between them are dead."""
        rest = iter(live)
        while items := list(itertools.islice(rest, _RECOVERED_ITEMS)):
            self._append_items(items)
            self._append_texts(items)
        self.rows.skip_to(n_rows)
        if self.lexical is not None:
            self.lexical.skip_to(n_rows)
        if n_rows > self.columns.n_rows:
            self.columns.append_dead(n_rows - self.columns.n_rows)
        self.sequence = max(self.sequence, sequence)

    def tick(self) -> None:
        """Searches see what is to be seen now, until the next tick."""
        self._forget_moments()
        if len(self.rows.schedule):
            self.rows.tick(self.clock())

    def _forget_moments(self) -> None:
        if self.rows.shown.is_kept:
            self.rows.shown.forget_ended(self.clock())

    def add_attribute(self, spec: AttributeSpec, schema: Schema) -> None:
        """A new attribute, null for every row so far."""
        self.columns.add_attribute(spec)
        self.schema = schema

    def follow_schema(self, schema: Schema) -> None:
        """One that has the same fields and attributes."""
        self.schema = schema

    def weighted_features(self, total: SumFeature) -> Weighted:
        """Features of all rows and their weights, or their sum, as they are now.

        Raises:
            UnknownAttribute: the index has no column for one.
        """
        return self.features.weighted(total, self.columns, self.clock())

    def feature_table(self, specs: tuple[FeatureSpec, ...]) -> FeatureTable:
        """The features of all rows, as they are now.

        Raises:
            UnknownAttribute: the index has no column for one.
        """
        return self.features.table(specs, self.columns, self.clock())

    def feature_table_at(self, specs: tuple[FeatureSpec, ...], now: int) -> FeatureTable:
        """The same with ages as they were at an earlier ``now``."""
        return self.features.table_at(specs, self.columns, self.clock(), then=now)

    def vector_of(self, item_id: ItemId) -> Float32Array | None:
        """float32 [d], the mean of the item's embeddings; None where the item does not live."""
        span = self.rows.rows_of_item(item_id)
        if span is None:
            return None
        mean: Float32Array = self.read(span[0], span[0] + span[1]).mean(axis=0)
        return mean

    def read(self, first_row: int, end_row: int) -> Float32Array:
        """float32 [end - first, d] of consecutive rows, which may lie in several segments."""
        vectors = self.vectors
        stride = len(vectors.segments[0])
        parts = []
        while first_row < end_row:
            segment, offset = divmod(first_row, stride)
            stop = min(stride, offset + end_row - first_row)
            parts.append(to_float32(vectors.segments[segment][offset:stop], vectors.dtype))
            first_row += stop - offset
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def vectors_at(self, rows: Int64Array) -> Float32Array:
        """float32 [n, d] of rows [n], in whatever order."""
        return take(self.vectors, rows)

    @property
    def tail_rows(self) -> int:
        """How many rows are in no list yet."""
        return self.rows.n_rows - self.indexed_rows

    def fold(self) -> bool:
        """Move a slice of the tail into the lists, sized to take about ``FOLD_SECONDS``; True while there is more."""
        if self.lists is None or self.indexed_rows >= self.rows.n_rows:
            return False
        first = self.indexed_rows
        end = min(first + self._fold_rows, self.rows.n_rows)
        began = time.perf_counter()
        distances = self.lists.ivfpq.add(self.read(first, end))
        if self.lists.drift is not None:
            self.lists = replace(self.lists, drift=self.lists.drift.after(distances))
        seconds = max(time.perf_counter() - began, 1e-6)
        fitting = int((end - first) * FOLD_SECONDS / seconds)
        self._fold_rows = max(LEAST_FOLDED, min(4 * self._fold_rows, fitting))
        return end < self.rows.n_rows

    @property
    def wants_codes(self) -> bool:
        """Whether int8 codes, or more of them, are predicted to pay by this machine's costs."""
        return self.coarse.wants_rows(self.rows.n_rows, self.rows.n_alive, self.version.dimension, self.costs)

    def add_codes(self, backend: Backend) -> bool:
        """Make codes for a slice of the rows that have none; True while there are more such rows."""
        return self.coarse.grow(backend, self.vectors, self.rows.living)

    def rows_of(self, ids: Ids) -> Int64Array:
        return self.rows.rows_of(ids)

    def _append(self, written: dict[ItemId, Change]) -> None:
        """Many at a time: one by one they would hold up searches for longer."""
        if written:
            self._append_items(list(written.values()))
        for change in written.values():
            if not change.times.are_always:
                self.rows.put_times(change.first_row, change.n_rows, change.times)
        written.clear()

    def _append_columnar(self, change: ColumnsChange) -> None:
        n = change.n_rows
        first_rows = np.arange(change.first_row, change.first_row + n, dtype=np.int64)
        born = np.arange(change.first_sequence, change.first_sequence + n, dtype=np.int64)
        self.rows.add_many(change.ids, first_rows, np.ones(n, np.int64), born=born)
        self.columns.append_dead(change.first_row - self.columns.n_rows)
        self.columns.append_columns(change.attributes, n)

    def _append_items(self, items: Sequence[LiveRow | Change]) -> None:
        first_rows = np.array([item.first_row for item in items], np.int64)
        n_rows = np.array([item.n_rows for item in items], np.int64)
        born = np.array([item.sequence for item in items], np.int64)
        self.rows.add_many([item.id for item in items], first_rows, n_rows, born=born)
        appended: list[Mapping[str, AttributeValue]] = []
        for item in items:
            gap = item.first_row - self.columns.n_rows - len(appended)
            if gap > _RECOVERED_ITEMS:
                self._append_columns(appended)
                self.columns.append_dead(gap)
            else:
                appended.extend([{}] * gap)
            appended.extend([item.attributes] * item.n_rows)
        self._append_columns(appended)

    def _append_texts(self, items: Sequence[LiveRow]) -> None:
        """Of rows whose postings are not there yet: a compaction brings those of all rows before it brings the rows."""
        if self.lexical is not None:
            new = [item for item in items if item.first_row >= self.lexical.n_rows]
            self.lexical.append([one.first_row for one in new], [one.n_rows for one in new], [one.text for one in new])

    def _append_columns(self, appended: list[Mapping[str, AttributeValue]]) -> None:
        if appended:
            self.columns.append(appended)
            appended.clear()
