"""Postings: for each keyword the rows that have it, compressed or as bits, whichever filters read faster.

A keyword of many rows is kept as a mask, which a filter reads as it is; others are compressed and unpacked first.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from pyroaring import BitMap

from engine.index.growing import GrowingMask
from engine.index.regions import union
from kernels import cpu as kernels

_BITMAP_BYTES = 170
"""What a BitMap takes beside its values, as the growth of a process that makes 100,000 shows."""
_DENSE_ROWS = 4096
_DENSE = 32
"""From a share of one row in so many on, a mask takes less than twice what a bitmap does."""
_SPARSE = 2 * _DENSE
"""Below a share of one row in so many a mask is compressed again; far from _DENSE, so that none goes to and fro."""


@dataclass(slots=True)
class _Dense:
    """A mask, which may end before the last row of all, and how many bits of it are set."""

    mask: GrowingMask
    count: int


_Held: TypeAlias = int | BitMap | _Dense


class Postings:
    """Rows below 2**32 by keyword: an int while a keyword has one row, then a Roaring bitmap, a mask where dense."""

    def __init__(self) -> None:
        self._rows: dict[object, _Held] = {}
        self._bytes = 0

    @property
    def memory_bytes(self) -> int:
        """Dictionary, keywords, bitmaps and masks."""
        return sys.getsizeof(self._rows) + self._bytes

    def add(self, keyword: str, rows: Sequence[int]) -> None:
        """Append rows, ascending and beyond those the keyword has."""
        before = self._rows.get(keyword)
        self._bytes -= sys.getsizeof(keyword) + _row_bytes(before) if before is not None else 0
        self._rows[keyword] = after = _fitting(_extended(before, rows), rows[-1] + 1)
        self._bytes += sys.getsizeof(keyword) + _row_bytes(after)

    def rows(self, keywords: Iterable[object]) -> BitMap:
        """The rows that have any of the keywords; not to be written to."""
        masks, maps = self._split(keywords)
        maps += map(_compressed, masks)
        return union(maps) if maps else BitMap()

    def parts(self, keywords: Iterable[object], n_rows: int) -> tuple[list[GrowingMask], list[BitMap]]:
        """As ``rows``, as what is to be united: masks over ``n_rows`` rows, and bitmaps. Not to be written to."""
        masks, maps = self._split(keywords)
        for mask in masks:
            if mask.n_rows < n_rows:
                self._bytes -= mask.nbytes
                mask.append_unset(n_rows - mask.n_rows)
                self._bytes += mask.nbytes
        return masks, maps

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def keywords(self) -> list[object]:
        return list(self._rows)

    def held(self, keyword: object) -> int | BitMap | GrowingMask:
        """The rows of a keyword that is there, in the form they are kept in; not to be written to."""
        held = self._rows[keyword]
        return held.mask if isinstance(held, _Dense) else held

    def put_rows(self, keyword: str, rows: BitMap | GrowingMask) -> None:
        """The rows of a keyword that is not there yet, which become this object's; harmless where there are none."""
        held: _Held
        if isinstance(rows, GrowingMask):
            held = _Dense(rows, int(np.bitwise_count(rows.bits).sum()))
            n_rows = held.count
        else:
            n_rows = len(rows)
            held = rows.min() if n_rows == 1 else rows
        if n_rows:
            self._rows[keyword] = held
            self._bytes += sys.getsizeof(keyword) + _row_bytes(held)

    def put_single(self, keywords: Sequence[str], rows: Sequence[int]) -> None:
        """Keywords that are not there yet and have one row each."""
        self._rows.update(zip(keywords, rows, strict=True))
        self._bytes += sum(map(sys.getsizeof, keywords)) + sum(map(sys.getsizeof, rows))

    def _split(self, keywords: Iterable[object]) -> tuple[list[GrowingMask], list[BitMap]]:
        masks: list[GrowingMask] = []
        maps: list[BitMap] = []
        single: list[int] = []
        for one in keywords:
            rows = self._rows.get(one)
            if isinstance(rows, _Dense):
                masks.append(rows.mask)
            elif isinstance(rows, BitMap):
                maps.append(rows)
            elif rows is not None:
                single.append(rows)
        return masks, [*maps, BitMap(single)] if single else maps


def _extended(before: _Held | None, rows: Sequence[int]) -> _Held:
    if isinstance(before, _Dense):
        before.mask.append_rows(np.array(rows, np.int64))
        before.count += len(rows)
        return before
    if isinstance(before, BitMap):
        before.update(rows)
        return before
    if before is None and len(rows) == 1:
        return rows[0]
    return BitMap(rows if before is None else [before, *rows])


def _fitting(held: _Held, n_rows: int) -> _Held:
    """In the form that suits as many as there are among ``n_rows`` rows."""
    if isinstance(held, _Dense):
        return _compressed(held.mask) if held.count * _SPARSE < n_rows else held
    if isinstance(held, BitMap) and len(held) >= _DENSE_ROWS and len(held) * _DENSE >= n_rows:
        mask = GrowingMask()
        mask.append_rows(np.frombuffer(held.to_array(), np.uint32).astype(np.int64))
        return _Dense(mask, len(held))
    return held


def _compressed(mask: GrowingMask) -> BitMap:
    rows = kernels.rows_of_mask(mask.bits, end_row=mask.n_rows).astype(np.uint32)
    return BitMap(array.array("I", rows.tobytes()))


def _row_bytes(rows: _Held) -> int:
    if isinstance(rows, _Dense):
        return rows.mask.nbytes
    return sys.getsizeof(rows) + (_BITMAP_BYTES if isinstance(rows, BitMap) else 0)
