"""Postings: for each keyword the rows that have it, compressed, and the union of some of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from pyroaring import BitMap

from engine.index.regions import union

_BITMAP_BYTES = 170
"""What a BitMap takes beside its values, as the growth of a process that makes 100,000 shows."""


class Postings:
    """Rows below 2**32 by keyword: a plain int while a keyword has one row, a Roaring bitmap from the second on."""

    def __init__(self) -> None:
        self._rows: dict[object, int | BitMap] = {}
        self._bytes = 0

    @property
    def memory_bytes(self) -> int:
        """Dictionary, keywords and bitmaps."""
        return sys.getsizeof(self._rows) + self._bytes

    def add(self, keyword: str, rows: Sequence[int]) -> None:
        """Append rows, ascending and beyond those the keyword has."""
        before = self._rows.get(keyword)
        self._bytes -= sys.getsizeof(keyword) + _row_bytes(before) if before is not None else 0
        if isinstance(before, BitMap):
            before.update(rows)
        elif before is None and len(rows) == 1:
            self._rows[keyword] = rows[0]
        else:
            self._rows[keyword] = BitMap(rows if before is None else [before, *rows])
        self._bytes += sys.getsizeof(keyword) + _row_bytes(self._rows[keyword])

    def rows(self, keywords: Iterable[object]) -> BitMap:
        """The rows that have any of the keywords; not to be written to."""
        found = [rows for one in keywords if (rows := self._rows.get(one)) is not None]
        maps = [rows for rows in found if isinstance(rows, BitMap)]
        if len(maps) < len(found):
            maps.append(BitMap([rows for rows in found if isinstance(rows, int)]))
        return union(maps) if maps else BitMap()


def _row_bytes(rows: int | BitMap) -> int:
    return sys.getsizeof(rows) + (_BITMAP_BYTES if isinstance(rows, BitMap) else 0)
