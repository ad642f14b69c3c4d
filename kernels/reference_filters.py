"""The definition of each filter kernel, in NumPy: slow, plain, and what every other implementation is tested against.

A mask is packed bits, one a row, least significant first, in whole 8-byte words; no bit is set beyond the last row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernels.arrays import SEGMENT_ROWS, Int64Array, Uint8Array
from kernels.filters import AtLeast, FloatBetween, HasBit, IntAmong, IntBetween, Inverse, Near, RowTest

BoolArray = npt.NDArray[np.bool_]


def filter_rows(tests: Sequence[RowTest], *, n_rows: int) -> list[Uint8Array]:
    """The mask of each test over rows [0, n_rows)."""
    return [_packed(_flags(test, n_rows)) for test in tests]


def set_rows(mask: Uint8Array, rows: Int64Array) -> None:
    """Set the bits of ``rows``, in any order."""
    np.bitwise_or.at(mask, rows >> 3, (1 << (rows & 7)).astype(np.uint8))


def mask_of_rows(rows: Int64Array, *, first_row: int, n_rows: int) -> Uint8Array:
    """A mask over rows [first_row, first_row + n_rows) with those of ``rows``, in any order, that lie there."""
    mask = np.zeros(-(-n_rows // 64) * 8, np.uint8)
    set_rows(mask, rows[(rows >= first_row) & (rows < first_row + n_rows)] - first_row)
    return mask


def clear_rows(mask: Uint8Array, rows: Int64Array) -> int:
    """Clear the bits of ``rows``, in any order; returns how many of them were set."""
    before = np.bitwise_count(mask).sum()
    np.bitwise_and.at(mask, rows >> 3, ~(1 << (rows & 7)).astype(np.uint8))
    return int(before - np.bitwise_count(mask).sum())


def take_rows(mask: Uint8Array, rows: Int64Array) -> Uint8Array:
    """A mask whose bit i is the bit of ``rows[i]``."""
    return _packed(_unpacked(mask, 8 * len(mask))[rows])


def intersection(one: Uint8Array, other: Uint8Array) -> tuple[Uint8Array, int]:
    """What two masks of the same length share, and how many rows that are."""
    both = one & other
    return both, int(np.bitwise_count(both).sum())


def segment_counts(mask: Uint8Array) -> Int64Array:
    """How many bits of each segment are set: int64 [n_segments]."""
    firsts = range(0, len(mask), SEGMENT_ROWS // 8)
    return np.array([np.bitwise_count(mask[at : at + SEGMENT_ROWS // 8]).sum() for at in firsts], np.int64)


def _flags(test: RowTest, n: int) -> BoolArray:
    match test:
        case HasBit(mask):
            return _unpacked(mask, n)
        case IntBetween(values, present, low, high):
            return _unpacked(present, n) & (values[:n] >= low) & (values[:n] <= high)
        case FloatBetween(values, present, low, high):
            return _unpacked(present, n) & (values[:n] >= low) & (values[:n] <= high)
        case IntAmong(values, present, members):
            return _unpacked(present, n) & np.isin(values[:n], members.members)
        case Near(axes, present, center, square):
            steps = [(axis[:n] - place) ** 2 for axis, place in zip(axes, center, strict=True)]
            return _unpacked(present, n) & (steps[0] + steps[1] + steps[2] <= square)
        case Inverse(of):
            return ~_flags(of, n)
        case AtLeast(minimum, children):
            counts = sum(_flags(child, n).astype(np.int64) for child in children)
            return np.asarray(counts >= minimum)


def _unpacked(mask: Uint8Array, n: int) -> BoolArray:
    return np.unpackbits(mask, count=n, bitorder="little").view(np.bool_)


def _packed(flags: BoolArray) -> Uint8Array:
    padded = np.zeros(-(-len(flags) // 64) * 64, np.bool_)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little")
