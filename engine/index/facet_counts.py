"""How many items of a mask have each value of an attribute, counted a slice at a time beside searches.

What is counted is of the moment at which the counting was made: rows are only appended and filterable attributes of a
row never change, so what comes later does no harm. Search lane only.
"""

from __future__ import annotations

import array
import heapq
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from pyroaring import BitMap

from engine.index.column_types import BoolColumn, KeywordColumn, NumberColumn
from engine.index.columns import Columns
from engine.index.growing import GrowingMask, has_rows
from engine.index.postings import Postings
from engine.index.regions import SEGMENT_ROWS
from engine.index.rows import Rows
from engine.selection import Facet, FacetCounts
from engine.types import AttributeType, Int64Array, Schema, Uint8Array
from kernels.cpu import rows_of_mask
from kernels.cpu_filters import set_rows

_SLICE_SECONDS = 0.002
_ROWS_PER_KEYWORD = 50
"""A keyword's postings are intersected in the time in which so many rows are counted one by one."""
_CHUNK = 4096

_Values: TypeAlias = Sequence[Any] | Int64Array
_Counted: TypeAlias = tuple[_Values, Int64Array]
"""Values, and how many items have each."""


class FacetCounting:
    """See the module. ``counts``: of the facets done so far, in their order; whole once ``step`` answers False."""

    def __init__(self, rows: Rows, columns: Columns, schema: Schema, mask: Uint8Array, facets: Sequence[Facet]) -> None:
        self.counts: list[FacetCounts] = []
        self._columns = columns
        self._schema = schema
        self._facets = facets
        self._n_rows = rows.n_rows
        self._bits = mask.copy()
        self._first_rows = rows.first_rows if schema.rows_per_item > 1 else None
        self._pieces = self._in_pieces()

    def step(self) -> bool:
        """About 2 ms of the work; True while there is more."""
        end = time.perf_counter() + _SLICE_SECONDS
        return any(time.perf_counter() >= end for _ in self._pieces)

    def _in_pieces(self) -> Iterator[None]:
        if self._first_rows is not None:
            yield from self._keep_first_rows(self._first_rows)
        for facet in self._facets:
            values, counts = yield from self._counted(facet.attribute)
            told = yield from _largest(values, counts, facet.limit)
            self.counts.append(FacetCounts(facet.attribute, tuple(told)))

    def _keep_first_rows(self, first_rows: Int64Array) -> Iterator[None]:
        """An item counts once, however many rows it has, and whichever of them the mask has."""
        firsts = np.zeros_like(self._bits)
        for rows in self._slices():
            set_rows(firsts, first_rows[rows])
            yield
        self._bits = firsts

    def _counted(self, attribute: str) -> Generator[None, None, _Counted]:
        column, spec = self._columns.column(attribute), self._schema.attribute(attribute)
        if isinstance(column, BoolColumn):
            return (yield from self._bools(column))
        if isinstance(column, NumberColumn):
            return (yield from self._ints(column))
        assert isinstance(column, KeywordColumn)
        n_items = int(np.bitwise_count(self._bits).sum())
        one_each = spec is not None and spec.type is AttributeType.KEYWORD
        if one_each and n_items < _ROWS_PER_KEYWORD * len(column.postings):
            return (yield from self._rows_of(column))
        return (yield from self._keywords_of(column.postings))

    def _bools(self, column: BoolColumn) -> Generator[None, None, _Counted]:
        true = _n_common(self._bits, column.true)
        yield
        return [False, True], np.array([_n_common(self._bits, column.present) - true, true])

    def _ints(self, column: NumberColumn) -> Generator[None, None, _Counted]:
        """Parts of about the same size are joined, so that many different values are not joined again and again."""
        parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for rows in self._slices():
            own = rows[has_rows(column.present.room, rows)]
            parts.append(np.unique(column.values[own], return_counts=True))
            while len(parts) > 1 and 2 * len(parts[-1][0]) >= len(parts[-2][0]):
                parts.append(_joined([parts.pop(), parts.pop()]))
            yield
        return _joined(parts)

    def _rows_of(self, column: KeywordColumn) -> Generator[None, None, _Counted]:
        """Row by row: where few items are left, or keywords are many."""
        codes, keywords = column.codes.values, column.codes.keywords
        counts = np.zeros(len(keywords), np.int64)
        for rows in self._slices():
            own = codes[rows]
            numbers, times = np.unique(own[own >= 0], return_counts=True)
            counts[numbers] += times
            yield
        return keywords, counts

    def _keywords_of(self, postings: Postings) -> Generator[None, None, _Counted]:
        """Keyword by keyword."""
        items = BitMap()
        for rows in self._slices():
            items |= BitMap(array.array("I", rows.astype(np.uint32).tobytes()))
            yield
        keywords = postings.keywords
        counts = np.zeros(len(keywords), np.int64)
        for first in range(0, len(keywords), _CHUNK):
            single: list[tuple[int, int]] = []
            for place, keyword in enumerate(keywords[first : first + _CHUNK], start=first):
                held = postings.held(keyword)
                if isinstance(held, int):
                    single.append((place, held))
                elif isinstance(held, GrowingMask):
                    counts[place] = _n_common(self._bits, held)
                    yield
                else:
                    counts[place] = held.intersection_cardinality(items)
                    yield
            places, rows = np.array(single, np.int64).reshape(-1, 2).T
            known = rows < self._n_rows
            counts[places[known]] = has_rows(self._bits, rows[known])
            yield
        return keywords, counts

    def _spans(self) -> Iterator[tuple[int, int]]:
        for first in range(0, self._n_rows, SEGMENT_ROWS):
            yield first, min(first + SEGMENT_ROWS, self._n_rows)

    def _slices(self) -> Iterator[Int64Array]:
        """The rows of the mask, those of a segment at a time."""
        for first, end in self._spans():
            rows = rows_of_mask(self._bits[first >> 3 : (end + 63) // 64 * 8], end_row=end - first)
            yield rows + first


def _n_common(bits: Uint8Array, mask: GrowingMask) -> int:
    """Rows that are in both, of masks that may be of different lengths."""
    own = mask.bits
    n = min(len(bits), len(own))
    return int(np.bitwise_count(bits[:n] & own[:n]).sum())


def _joined(parts: Sequence[tuple[Int64Array, Int64Array]]) -> tuple[Int64Array, Int64Array]:
    values, places = np.unique(np.concatenate([own for own, _ in parts]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, places, np.concatenate([own for _, own in parts]))
    return values, counts


def _largest(
    values: _Values, counts: Int64Array, limit: int
) -> Generator[None, None, list[tuple[str | bool | int, int]]]:
    """The values that most items have, with their counts; what none has is left out."""
    least = 1
    if limit < len(counts):
        least = max(least, int(np.partition(counts, len(counts) - limit)[len(counts) - limit]))
    above = [(_plain(values[place]), int(counts[place])) for place in np.flatnonzero(counts > least).tolist()]
    told = sorted(above, key=lambda one: (-one[1], one[0]))
    equal = np.flatnonzero(counts == least).tolist()
    best: list[Any] = []
    for first in range(0, len(equal), _CHUNK):
        more = [_plain(values[place]) for place in equal[first : first + _CHUNK]]
        best = heapq.nsmallest(limit - len(told), [*best, *more])
        yield
    return told + [(value, least) for value in best]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.integer) else value
