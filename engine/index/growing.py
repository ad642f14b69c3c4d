"""Arrays and row masks that grow at the end by doubling, and packed row masks. Knows nothing of attributes.

A row mask is packed bits, one a row, least significant first, in whole 8-byte words; no bit is set beyond the last row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.types import Int64Array, Uint8Array
from kernels import cpu_filters as kernels

BoolArray = npt.NDArray[np.bool_]
_FIRST_CAPACITY = 1024


def mask_bytes(n_rows: int) -> int:
    """Bytes of a mask over ``n_rows`` rows."""
    return (n_rows + 63) // 64 * 8


def empty_mask(n_rows: int) -> Uint8Array:
    """A mask with no row."""
    return np.zeros(mask_bytes(n_rows), np.uint8)


def full_mask(n_rows: int) -> Uint8Array:
    """A mask with every row."""
    mask = np.full(mask_bytes(n_rows), 0xFF, np.uint8)
    _clear_tail(mask, n_rows)
    return mask


def inverted(mask: Uint8Array, n_rows: int) -> Uint8Array:
    """A mask with the rows that ``mask`` leaves out."""
    other = ~mask
    _clear_tail(other, n_rows)
    return other


def _clear_tail(mask: Uint8Array, n_rows: int) -> None:
    mask[(n_rows + 7) // 8 :] = 0
    if n_rows & 7:
        mask[n_rows >> 3] &= (1 << (n_rows & 7)) - 1


def flags_of(mask: Uint8Array, first: int, end: int) -> BoolArray:
    """Whether rows [first, end) are set in a mask that has them all."""
    bits = np.unpackbits(mask[first >> 3 : (end + 7) >> 3], bitorder="little")
    return bits[first & 7 : (first & 7) + end - first].astype(np.bool_)


def has_rows(mask: Uint8Array, rows: Int64Array) -> BoolArray:
    """Whether rows, in any shape, are set in a mask that has them all."""
    found: BoolArray = (mask[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1 > 0
    return found


class GrowingArray:
    """An array [n]; ``values`` is a view that the next ``append`` may leave behind.

    ``room``: ``values`` with what follows, which means nothing, up to a multiple of 64: one object until it is full.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.room: npt.NDArray[Any] = np.zeros(_FIRST_CAPACITY, dtype)
        self._n = 0

    @property
    def values(self) -> npt.NDArray[Any]:
        return self.room[: self._n]

    @property
    def nbytes(self) -> int:
        """What is allocated, room to grow included."""
        return self.room.nbytes

    def append(self, values: npt.ArrayLike, count: int) -> None:
        """Append ``count`` values, or one value ``count`` times."""
        end = self._n + count
        self.room = _with_room(self.room, end)
        self.room[self._n : end] = values
        self._n = end


class GrowingMask:
    """A row mask; ``bits`` is a view that later changes show in or leave behind: copy to keep.

    ``room``: ``bits`` with zeros after them: one object until it is full.
    """

    def __init__(self) -> None:
        self.n_rows = 0
        self.room: Uint8Array = np.zeros(_FIRST_CAPACITY, np.uint8)

    @property
    def bits(self) -> Uint8Array:
        return self.room[: mask_bytes(self.n_rows)]

    @property
    def nbytes(self) -> int:
        """What is allocated, room to grow included."""
        return self.room.nbytes

    def append(self, flags: Sequence[bool] | BoolArray) -> None:
        """Append one row for each flag."""
        offset = self.n_rows & 7
        aligned = np.zeros(offset + len(flags), np.bool_)
        aligned[offset:] = flags
        packed = np.packbits(aligned, bitorder="little")
        first_byte = self.n_rows >> 3
        self.append_unset(len(flags))
        self.room[first_byte : first_byte + len(packed)] |= packed

    def append_rows(self, rows: Int64Array) -> None:
        """Append as many rows as bring those told, ascending and not there yet, and set them alone."""
        self.append_unset(int(rows[-1]) + 1 - self.n_rows)
        kernels.set_rows(self.room, rows)

    def append_bits(self, bits: Uint8Array, count: int) -> None:
        """As the first of all rows append ``count``: packed ``bits``, which may end earlier or have more."""
        assert not self.n_rows
        self.append_unset(count)
        own = self.bits
        own[: len(bits)] = bits[: len(own)]
        _clear_tail(own, count)

    def append_unset(self, count: int) -> None:
        self.n_rows += count
        self.room = _with_room(self.room, mask_bytes(self.n_rows))

    def set(self, first_row: int, n_rows: int) -> None:
        for row in range(first_row, first_row + n_rows):
            self.room[row >> 3] |= 1 << (row & 7)

    def unset(self, first_row: int, n_rows: int) -> None:
        for row in range(first_row, first_row + n_rows):
            self.room[row >> 3] &= ~(1 << (row & 7)) & 0xFF


def _with_room(array: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    if n <= len(array):
        return array
    grown = np.zeros((max(n, 2 * len(array)) + 63) // 64 * 64, array.dtype)
    grown[: len(array)] = array
    return grown
