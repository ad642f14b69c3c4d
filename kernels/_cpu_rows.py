"""Sets of rows by other means than a column: row lists and compressed bitmaps into masks, masks into one."""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, count_ones, int64
from kernels.arrays import Int64Array, Uint8Array
from kernels.filters import Uint64Array


@compiled
def set_bits(mask: Uint8Array, rows: Int64Array) -> None:
    for place in range(len(rows)):
        mask[rows[place] >> 3] |= np.uint8(1 << (rows[place] & 7))


@compiled
def mark_bits(mask: Uint8Array, rows: Int64Array, first_row: int, n_rows: int) -> None:
    """Overwrite ``mask``, which begins with ``first_row`` and covers ``n_rows``; other rows are passed over."""
    mask[:] = 0
    for place in range(len(rows)):
        row = rows[place] - first_row
        if 0 <= row < n_rows:
            mask[row >> 3] |= np.uint8(1 << (row & 7))


@compiled
def clear_bits(mask: Uint8Array, rows: Int64Array) -> int:
    """Returns how many bits were set before."""
    total = 0
    for place in range(len(rows)):
        at, bit = rows[place] >> 3, rows[place] & 7
        total += (mask[at] >> bit) & 1
        mask[at] &= np.uint8(~(1 << bit))
    return total


@compiled
def take_bits(mask: Uint8Array, rows: Int64Array, taken: Uint8Array) -> None:
    """``taken`` is all 0."""
    for place in range(len(rows)):
        bit = (mask[rows[place] >> 3] >> (rows[place] & 7)) & 1
        taken[place >> 3] |= np.uint8(bit << (place & 7))


@compiled
def intersect_words(one: Uint64Array, other: Uint64Array, both: Uint64Array) -> int:
    """Writes what the masks share; returns how many rows that are."""
    total = 0
    for w in range(len(both)):
        both[w] = one[w] & other[w]
        total += count_ones(both[w])
    return total


@compiled
def count_segments(words: Uint64Array, counts: Int64Array) -> None:
    """Set bits of each 65,536 rows; ``counts`` is all 0."""
    for w in range(len(words)):
        counts[w >> 10] += count_ones(words[w])


@compiled
def unpack_containers(stored: Uint8Array, mask: Uint8Array) -> None:
    """OR a bitmap in Roaring's portable format, with values below the end of ``mask``, into it.

    Source: https://github.com/RoaringBitmap/RoaringFormatSpec
    """
    cookie, n, at, flags_at = _uint32(stored, 0), 0, 8, -1
    if cookie == 12346:
        n = _uint32(stored, 4)
    else:
        n, flags_at = (cookie >> 16) + 1, 4
        at = 4 + (n + 7) // 8
    header = at
    at += 4 * n
    if cookie == 12346 or n >= 4:
        at += 4 * n  # where each container begins, which reading them in order tells as well
    for container in range(n):
        first = _uint16(stored, header + 4 * container) << 13
        count = _uint16(stored, header + 4 * container + 2) + 1
        if flags_at >= 0 and (stored[flags_at + (container >> 3)] >> (container & 7)) & 1:
            n_runs = _uint16(stored, at)
            for run in range(n_runs):
                start = _uint16(stored, at + 2 + 4 * run)
                _set_run(mask, first, start, start + _uint16(stored, at + 4 + 4 * run) + 1)
            at += 2 + 4 * n_runs
        elif count <= 4096:
            for place in range(count):
                value = _uint16(stored, at + 2 * place)
                mask[first + (value >> 3)] |= np.uint8(1 << (value & 7))
            at += 2 * count
        else:
            # A container may end beyond the mask, whose last rows are fewer.
            for byte in range(min(8192, len(mask) - first)):
                mask[first + byte] |= stored[at + byte]
            at += 8192


@compiled
def _uint16(stored: Uint8Array, at: int) -> int:
    return int64(stored[at]) | int64(stored[at + 1]) << 8


@compiled
def _uint32(stored: Uint8Array, at: int) -> int:
    return _uint16(stored, at) | _uint16(stored, at + 2) << 16


@compiled
def _set_run(mask: Uint8Array, first_byte: int, start: int, end: int) -> None:
    while start < end and start & 7:
        mask[first_byte + (start >> 3)] |= np.uint8(1 << (start & 7))
        start += 1
    while start + 8 <= end:
        mask[first_byte + (start >> 3)] = np.uint8(0xFF)
        start += 8
    while start < end:
        mask[first_byte + (start >> 3)] |= np.uint8(1 << (start & 7))
        start += 1
