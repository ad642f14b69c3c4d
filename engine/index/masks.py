"""Masks of filters, kept between batches under a byte budget. Search lane only, but for the counters.

What is kept follows from attribute columns alone: neither which rows live nor which row an item has is ever part of it.
A mask is kept in segments of 65,536 rows, each with the stamp of the columns it was evaluated from; after a write only
the segments whose stamp has changed are evaluated again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.index.columns import Columns
from engine.index.filters import FilterProgram, evaluate_together
from engine.index.growing import mask_bytes
from engine.index.regions import SEGMENT_ROWS, Span, segments_of
from engine.types import Int64Array, Uint8Array
from kernels import cpu_filters as kernels
from kernels.cpu import rows_of_mask

DEFAULT_BYTES = 256 << 20
_SEGMENT_BYTES = SEGMENT_ROWS // 8
_ENTRY_BYTES = 500
"""What an entry takes beside its mask, stamps and counts."""


class RowMask:
    """Rows as bits, and how many they are; what the cache gives is read-only and holds until rows are added."""

    __slots__ = ("_rows", "_wider", "bits", "count")

    def __init__(self, bits: Uint8Array, count: int, *, wider: RowMask | None = None) -> None:
        """``wider``: a mask that has all of these rows too."""
        self.bits = bits
        self.count = count
        self._wider = wider
        self._rows: Int64Array | None = None

    @property
    def rows(self) -> Int64Array:
        """Ascending; of few rows the list is kept, and found from that of a wider mask where it keeps one."""
        if self._rows is not None:
            return self._rows
        rows = self._listed()
        if _keeps_list(self.count, self.bits):
            self._rows = rows
        return rows

    def among(self, bits: Uint8Array) -> RowMask:
        """Those that are in another mask too."""
        return RowMask(*kernels.intersection(self.bits, bits), wider=self)

    def without(self, rows: Int64Array) -> RowMask:
        """All but these."""
        bits = self.bits.copy()
        return RowMask(bits, self.count - kernels.clear_rows(bits, rows), wider=self)

    def _listed(self) -> Int64Array:
        wider = self._wider
        if wider is None or not _keeps_list(wider.count, wider.bits):
            return rows_of_mask(self.bits, end_row=8 * len(self.bits))
        rows = wider.rows
        is_mine = np.unpackbits(kernels.take_rows(self.bits, rows), count=len(rows), bitorder="little")
        return rows[is_mine.view(np.bool_)]


def _keeps_list(count: int, bits: Uint8Array) -> bool:
    """A list of rows that is no larger than the bits is worth its memory."""
    return 8 * count <= len(bits)


@dataclass(slots=True)
class MaskCounters:
    """Segments served from the cache and evaluated anew, masks dropped for others, and bytes held now."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    bytes: int = 0

    @property
    def hit_rate(self) -> float:
        """Of all segments asked for; 0 where none was."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


@dataclass(slots=True, eq=False)
class _Entry:
    """``bits``: whole segments. ``stamps``, ``counts``: int64 [n_segments]; a stamp of 0: not evaluated yet. ``held``:
    bytes that the cache reckons with, 0 where it does not keep it.
    """

    bits: Uint8Array
    stamps: Int64Array
    counts: Int64Array
    n_rows: int
    whole: RowMask | None = None
    held: int = 0

    @property
    def nbytes(self) -> int:
        """With the list of rows that the mask may come to keep."""
        count = int(self.counts.sum())
        rows = 8 * count if _keeps_list(count, self.bits[: mask_bytes(self.n_rows)]) else 0
        return self.bits.nbytes + rows + self.stamps.nbytes + self.counts.nbytes + _ENTRY_BYTES


class MaskCache:
    """Least recently used masks go first once there are more than ``budget_bytes``. One serves many collections."""

    def __init__(self, budget_bytes: int = DEFAULT_BYTES) -> None:
        self.counters = MaskCounters()
        self._budget = budget_bytes
        self._entries: OrderedDict[tuple[int, bytes], _Entry] = OrderedDict()

    def mask(self, program: FilterProgram, columns: Columns) -> RowMask:
        """See ``masks``."""
        kept = self._kept(program, columns)
        return self.masks([program], columns)[0] if kept is None else kept

    def _kept(self, program: FilterProgram, columns: Columns) -> RowMask | None:
        """What is kept of a mask, where that is all of it."""
        key = (columns.serial, program.root.key)
        entry = self._entries.get(key)
        if entry is None or entry.n_rows != columns.n_rows or entry.whole is None:
            return None
        self.counters.hits += len(entry.stamps)
        self._entries.move_to_end(key)
        return entry.whole

    def masks(self, programs: Sequence[FilterProgram], columns: Columns) -> list[RowMask]:
        """One for each program, which names no ids, of all rows that pass, dead ones too.

        Those not kept are evaluated together: a column that several read is read once.

        Raises:
            UnknownAttribute: the columns lack an attribute that a program names; nothing of it is kept.
        """
        entries = [self._entry(program, columns) for program in programs]
        stamps = columns.stamps()
        stale: dict[Span, list[int]] = {}
        for place, entry in enumerate(entries):
            if entry.whole is None:
                for span in self._stale_spans(entry, stamps, columns.n_rows):
                    stale.setdefault(span, []).append(place)
        for span, places in stale.items():
            masks = evaluate_together([programs[place] for place in places], columns, span, _no_rows)
            for place, mask in zip(places, masks, strict=True):
                _put(entries[place], span, mask)
        found = [_whole(entry, columns) for entry in entries]
        for program, entry in zip(programs, entries, strict=True):
            key = (columns.serial, program.fingerprint)
            if self._entries.get(key) is entry:
                self._entries.move_to_end(key)
            else:
                self._keep(key, entry)
        return found

    def forget(self, columns: Columns) -> None:
        """Drop the masks over columns that will not be asked for again."""
        for key in [key for key in self._entries if key[0] == columns.serial]:
            self._drop(key)

    def _entry(self, program: FilterProgram, columns: Columns) -> _Entry:
        """What is kept of a mask, with room for all segments."""
        entry = self._entries.get((columns.serial, program.fingerprint))
        if entry is not None and entry.n_rows == columns.n_rows:
            self.counters.hits += len(entry.stamps)
            return entry
        n_segments = segments_of(columns.n_rows)
        grown = _Entry(
            np.zeros(n_segments * _SEGMENT_BYTES, np.uint8) if entry is None else entry.bits,
            np.zeros(n_segments, np.int64),
            np.zeros(n_segments, np.int64),
            columns.n_rows,
        )
        if entry is not None:
            n = len(entry.stamps)
            grown.stamps[:n], grown.counts[:n] = entry.stamps, entry.counts
            if n < n_segments:
                grown.bits = np.concatenate([entry.bits, np.zeros((n_segments - n) * _SEGMENT_BYTES, np.uint8)])
        return grown

    def _stale_spans(self, entry: _Entry, stamps: Int64Array, n_rows: int) -> Iterator[Span]:
        """Runs of segments that are not as the columns are now, whose ``stamps`` the entry takes over."""
        is_stale = entry.stamps != stamps
        n_stale = int(np.count_nonzero(is_stale))
        self.counters.misses += n_stale
        self.counters.hits += len(stamps) - n_stale
        entry.stamps = stamps
        if n_stale == len(stamps) > 0:
            yield Span(0, n_rows)
            return
        stale = np.flatnonzero(is_stale)
        for run in np.split(stale, np.flatnonzero(np.diff(stale) > 1) + 1):
            if len(run):
                end = min((int(run[-1]) + 1) * SEGMENT_ROWS, n_rows)
                yield Span(int(run[0]) * SEGMENT_ROWS, end)

    def _keep(self, key: tuple[int, bytes], entry: _Entry) -> None:
        if key in self._entries:
            self._drop(key)
        self._entries[key] = entry
        entry.held = entry.nbytes
        self.counters.bytes += entry.held
        while self.counters.bytes > self._budget:
            self._drop(next(iter(self._entries)))
            self.counters.evictions += 1

    def _drop(self, key: tuple[int, bytes]) -> None:
        self.counters.bytes -= self._entries.pop(key).held


def _put(entry: _Entry, span: Span, mask: Uint8Array) -> None:
    first = span.first_row >> 3
    entry.bits[first : first + len(mask)] = mask
    counts = kernels.segment_counts(mask)
    segment = span.first_row // SEGMENT_ROWS
    entry.counts[segment : segment + len(counts)] = counts


def _whole(entry: _Entry, columns: Columns) -> RowMask:
    if entry.whole is None:
        bits = entry.bits[: mask_bytes(columns.n_rows)]
        bits.flags.writeable = False
        entry.whole = RowMask(bits, int(entry.counts.sum()))
    return entry.whole


def _no_rows(ids: object) -> Int64Array:
    raise AssertionError("a mask that depends on ids is never kept")
