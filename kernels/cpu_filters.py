"""The filter kernels of ``kernels.reference_filters`` on the CPU: the same names, arguments and answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels._cpu_buffers import mask_buffer
from kernels._cpu_filter_code import assembled
from kernels._cpu_filters import run_parallel, run_serial, scratch_bytes
from kernels._cpu_rows import (
    clear_bits,
    count_segments,
    intersect_words,
    mark_bits,
    set_bits,
    take_bits,
    unpack_containers,
)
from kernels._cpu_threads import all_threads, claim_threads
from kernels.arrays import SEGMENT_ROWS, Int64Array, Uint8Array
from kernels.filters import AtLeast, FloatBetween, HasBit, IntAmong, IntBetween, IntSet, Inverse, Near, RowTest

__all__ = [
    "clear_rows",
    "filter_rows",
    "intersection",
    "mask_of_rows",
    "segment_counts",
    "set_rows",
    "take_rows",
    "unpack_roaring",
    "warm_up",
]

_WORK_OF_BYTE = 0.1
"""Multiply-adds of a scan for each byte of a column. Memory is what bounds a filter, and one thread draws most of it: a
second one was measured to pay from some 40 MB on."""


def filter_rows(tests: Sequence[RowTest], *, n_rows: int) -> list[Uint8Array]:
    """The mask of each test over rows [0, n_rows); a tile of a column is read from memory once for all of them."""
    outs = [mask_buffer(-(-n_rows // 64) * 8) for _ in tests]
    if n_rows == 0:
        return outs
    code = assembled(tests, outs, n_rows)
    threads = claim_threads(int(n_rows * code.bytes_a_row * _WORK_OF_BYTE))
    scratch = mask_buffer(threads * scratch_bytes(code.depth))
    if threads == 1:
        run_serial(code.array(), scratch, n_rows)
    else:
        run_parallel(code.array(), scratch, n_rows, threads)
    return outs


def set_rows(mask: Uint8Array, rows: Int64Array) -> None:
    """Set the bits of ``rows``, in any order."""
    assert not len(rows) or 0 <= rows.min() <= rows.max() < 8 * len(mask)
    set_bits(mask, rows)


def mask_of_rows(rows: Int64Array, *, first_row: int, n_rows: int) -> Uint8Array:
    """A mask over rows [first_row, first_row + n_rows) with those of ``rows``, in any order, that lie there."""
    mask = mask_buffer(-(-n_rows // 64) * 8)
    mark_bits(mask, rows, first_row, n_rows)
    return mask


def clear_rows(mask: Uint8Array, rows: Int64Array) -> int:
    """Clear the bits of ``rows``, in any order; returns how many of them were set."""
    assert not len(rows) or 0 <= rows.min() <= rows.max() < 8 * len(mask)
    return clear_bits(mask, rows)


def take_rows(mask: Uint8Array, rows: Int64Array) -> Uint8Array:
    """A mask whose bit i is the bit of ``rows[i]``."""
    assert not len(rows) or 0 <= rows.min() <= rows.max() < 8 * len(mask)
    taken = np.zeros(-(-len(rows) // 64) * 8, np.uint8)
    take_bits(mask, rows, taken)
    return taken


def intersection(one: Uint8Array, other: Uint8Array) -> tuple[Uint8Array, int]:
    """What two masks of the same length share, and how many rows that are."""
    assert len(one) == len(other)
    both = np.empty(len(one), np.uint8)
    return both, intersect_words(one.view(np.uint64), other.view(np.uint64), both.view(np.uint64))


def segment_counts(mask: Uint8Array) -> Int64Array:
    """How many bits of each segment are set: int64 [n_segments]."""
    counts = np.zeros(-(-8 * len(mask) // SEGMENT_ROWS), np.int64)
    count_segments(mask.view(np.uint64), counts)
    return counts


def unpack_roaring(stored: bytes, mask: Uint8Array) -> None:
    """Set the bits of the rows of a bitmap in Roaring's portable format, all of which ``mask`` covers."""
    unpack_containers(np.frombuffer(stored, np.uint8), mask)


def warm_up() -> None:
    """Compile, or load from disk, all that filters need."""
    mask, rows = np.zeros(8, np.uint8), np.zeros(1, np.int64)
    frozen = np.zeros(8, np.uint8)
    frozen.flags.writeable = False
    tests = _one_of_each(mask)
    filter_rows(tests, n_rows=1)
    with all_threads():
        filter_rows(tests, n_rows=1)
    set_rows(mask, rows)
    mask_of_rows(rows, first_row=0, n_rows=1)
    clear_rows(mask, rows)
    take_rows(mask, rows)
    segment_counts(mask)
    intersection(mask, mask)
    intersection(frozen, mask)
    unpack_roaring(_EMPTY_ROARING, mask)


_EMPTY_ROARING = (12346).to_bytes(4, "little") + bytes(4)


def _one_of_each(mask: Uint8Array) -> list[RowTest]:
    ints, floats = np.zeros(64, np.int64), np.zeros(64, np.float64)
    sets = [IntSet(np.array(members, np.int64)) for members in ([1], range(20), range(0, 20 << 40, 1 << 40))]
    leaves: list[RowTest] = [HasBit(mask), IntBetween(ints, mask, 0, 1), FloatBetween(floats, mask, 0.0, 1.0)]
    leaves += [Near((floats, floats, floats), mask, (0.0, 0.0, 0.0), 1.0), Inverse(HasBit(mask))]
    return [AtLeast(2, tuple(leaves)), *(IntAmong(ints, mask, one) for one in sets)]
