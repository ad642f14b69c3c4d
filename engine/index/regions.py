"""Which rows of the columns a filter is evaluated for: a span of whole segments, or rows one by one.

A region brings each part of a column into one shape, arrays over its own n rows, so that one program serves both forms
of a filter: materialised over a span, and inline over the rows that a scan visits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from engine.index.growing import GrowingArray, GrowingMask, empty_mask
from engine.types import Int64Array, Uint8Array
from kernels import cpu_filters as kernels

SEGMENT_ROWS = 65_536


class Region(ABC):
    @property
    @abstractmethod
    def n_rows(self) -> int: ...

    @property
    @abstractmethod
    def bounds(self) -> tuple[int, int]:
        """No row of it lies before the first or from the second on."""

    @abstractmethod
    def bits(self, mask: GrowingMask) -> Uint8Array:
        """The bits of the region's rows, possibly followed by others; a view or a copy, not to be written to."""

    @abstractmethod
    def values(self, column: GrowingArray) -> npt.NDArray[Any]:
        """The values of the region's rows, possibly followed by others."""

    @abstractmethod
    def members(self, rows: BitMap) -> Uint8Array:
        """A mask of the region with the rows that are among ``rows``."""

    @abstractmethod
    def listed(self, rows: Int64Array) -> Uint8Array:
        """A mask of the region with the rows that are among ``rows``, in any order."""


@dataclass(unsafe_hash=True)
class Span(Region):
    """Rows [first_row, end_row); it begins with a segment."""

    first_row: int
    end_row: int

    def __post_init__(self) -> None:
        assert self.first_row % SEGMENT_ROWS == 0

    @property
    def n_rows(self) -> int:
        return self.end_row - self.first_row

    @property
    def bounds(self) -> tuple[int, int]:
        return self.first_row, self.end_row

    def bits(self, mask: GrowingMask) -> Uint8Array:
        return mask.room[self.first_row >> 3 :] if self.first_row else mask.room

    def values(self, column: GrowingArray) -> npt.NDArray[Any]:
        return column.room[self.first_row :] if self.first_row else column.room

    def members(self, rows: BitMap) -> Uint8Array:
        if self.first_row:
            rows = (rows & self._window).shift(-self.first_row)
        mask = empty_mask(self.n_rows)
        kernels.unpack_roaring(rows.serialize(), mask)
        return mask

    def listed(self, rows: Int64Array) -> Uint8Array:
        return kernels.mask_of_rows(rows, first_row=self.first_row, n_rows=self.n_rows)

    @cached_property
    def _window(self) -> BitMap:
        return BitMap(range(self.first_row, self.end_row))


@dataclass(frozen=True, eq=False)
class Listed(Region):
    """Rows [n], in any order."""

    rows: Int64Array

    @property
    def n_rows(self) -> int:
        return len(self.rows)

    @property
    def bounds(self) -> tuple[int, int]:
        return (int(self.rows.min()), int(self.rows.max()) + 1) if len(self.rows) else (0, 0)

    def bits(self, mask: GrowingMask) -> Uint8Array:
        return kernels.take_rows(mask.bits, self.rows)

    def values(self, column: GrowingArray) -> npt.NDArray[Any]:
        return column.values[self.rows]

    def members(self, rows: BitMap) -> Uint8Array:
        common = np.frombuffer((rows & self._as_bitmap).to_array(), np.uint32)
        return self._among(common.astype(np.int64))

    def listed(self, rows: Int64Array) -> Uint8Array:
        return self._among(np.sort(rows))

    @cached_property
    def _as_bitmap(self) -> BitMap:
        return BitMap(self.rows.tolist())

    def _among(self, ascending: Int64Array) -> Uint8Array:
        mask = empty_mask(self.n_rows)
        if len(ascending):
            places = np.minimum(np.searchsorted(ascending, self.rows), len(ascending) - 1)
            kernels.set_rows(mask, np.flatnonzero(ascending[places] == self.rows))
        return mask


def segments_of(n_rows: int) -> int:
    """How many segments so many rows lie in."""
    return -(-n_rows // SEGMENT_ROWS)


def union(maps: Sequence[BitMap]) -> BitMap:
    return maps[0] if len(maps) == 1 else BitMap.union(*maps)
