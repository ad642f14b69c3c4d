"""Postings: for each keyword the rows that have it, compressed, and the union of some of them as a row mask."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from engine.index.growing import add_rows, empty_mask, mask_bytes
from engine.types import Uint8Array

_CONTAINER_ROWS = 65_536
_CONTAINER_BYTES = _CONTAINER_ROWS // 8
_BITMAP_BYTES = 170
"""What a BitMap takes beside its values, as the growth of a process that makes 100,000 shows."""
_SCATTER_ROWS_PER_CONTAINER = 1024
"""Setting so many bits one by one takes as long as unpacking a container: 11 microseconds here."""


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

    def mask(self, keywords: Iterable[object], n_rows: int) -> Uint8Array:
        """The rows that have any of the keywords."""
        found = [rows for one in keywords if (rows := self._rows.get(one)) is not None]
        maps = [rows for rows in found if isinstance(rows, BitMap)]
        mask = _unpacked(_union(maps), n_rows) if maps else empty_mask(n_rows)
        add_rows(mask, np.array([rows for rows in found if isinstance(rows, int)], np.int64))
        return mask


def _row_bytes(rows: int | BitMap) -> int:
    return sys.getsizeof(rows) + (_BITMAP_BYTES if isinstance(rows, BitMap) else 0)


def _union(maps: Sequence[BitMap]) -> BitMap:
    return maps[0] if len(maps) == 1 else BitMap.union(*maps)


def _unpacked(rows: BitMap, n_rows: int) -> Uint8Array:
    if len(rows) * _CONTAINER_ROWS <= n_rows * _SCATTER_ROWS_PER_CONTAINER:
        mask = empty_mask(n_rows)
        add_rows(mask, np.frombuffer(rows.to_array(), np.uint32))
        return mask
    return _unpacked_containers(rows.serialize(), n_rows)


def _unpacked_containers(stored: bytes, n_rows: int) -> Uint8Array:
    """A mask from a bitmap in Roaring's portable format, copied container by container.

    Source: https://github.com/RoaringBitmap/RoaringFormatSpec
    """
    keys, counts, is_run, at = _header(stored)
    n_containers = -(-n_rows // _CONTAINER_ROWS)
    mask = np.zeros(n_containers * _CONTAINER_BYTES, np.uint8)
    for key, count, run in zip(keys, counts, is_run, strict=True):
        out = mask[key * _CONTAINER_BYTES : (key + 1) * _CONTAINER_BYTES]
        if run:
            n_runs = int.from_bytes(stored[at : at + 2], "little")
            out[:] = _packed_runs(_uint16(stored, at + 2, 2 * n_runs))
            at += 2 + 4 * n_runs
        elif count <= 4096:
            out[:] = _packed_values(_uint16(stored, at, count))
            at += 2 * count
        else:
            out[:] = np.frombuffer(stored, np.uint8, _CONTAINER_BYTES, at)
            at += _CONTAINER_BYTES
    return mask[: mask_bytes(n_rows)]


def _header(stored: bytes) -> tuple[list[int], list[int], list[int], int]:
    """Of each container its place, its number of values and whether it holds runs; then where the first begins."""
    cookie = int.from_bytes(stored[:4], "little")
    if cookie == 12346:
        n_containers = int.from_bytes(stored[4:8], "little")
        is_run, at = [0] * n_containers, 8
    else:
        n_containers = (cookie >> 16) + 1
        flag_bytes = (n_containers + 7) // 8
        flags = np.frombuffer(stored, np.uint8, flag_bytes, 4)
        is_run, at = np.unpackbits(flags, count=n_containers, bitorder="little").tolist(), 4 + flag_bytes
    keys_and_counts = _uint16(stored, at, 2 * n_containers).astype(np.int64)
    at += 4 * n_containers
    if cookie == 12346 or n_containers >= 4:
        at += 4 * n_containers  # where each container begins, which reading them in order tells as well
    return keys_and_counts[::2].tolist(), (keys_and_counts[1::2] + 1).tolist(), is_run, at


def _uint16(stored: bytes, at: int, count: int) -> npt.NDArray[Any]:
    return np.frombuffer(stored, np.dtype("<u2"), count, at)


def _packed_values(values: npt.NDArray[Any]) -> Uint8Array:
    flags = np.zeros(_CONTAINER_ROWS, np.bool_)
    flags[values] = True
    return np.packbits(flags, bitorder="little")


def _packed_runs(starts_and_lengths: npt.NDArray[Any]) -> Uint8Array:
    """Of runs as (first value, number of values that follow it)."""
    starts = starts_and_lengths[::2].astype(np.int64)
    steps = np.zeros(_CONTAINER_ROWS + 1, np.int8)
    steps[starts] += 1
    steps[starts + starts_and_lengths[1::2] + 1] -= 1
    return np.packbits(np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_), bitorder="little")
