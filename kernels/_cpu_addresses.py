"""Where arrays lie, as the compiled kernels need to know it, and the checks that make a raw address safe to follow.

Whoever asks for an address keeps the array alive while it is used.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels._cpu_jit import compiled_briefly
from kernels.arrays import SEGMENT_ROWS, Int64Array, StoredArray, Uint8Array

_KINDS: dict[np.dtype[Any], StoredArray] = {
    np.dtype(np.float16): np.zeros(0, np.uint16),
    np.dtype(np.uint16): np.zeros(0, np.int16),
    np.dtype(np.float32): np.zeros(0, np.float32),
}

_known: dict[int, tuple[weakref.ref[StoredArray], int]] = {}
"""Segments seen before by ``id``: NumPy takes microseconds to tell an address, and there are hundreds of segments."""


def kind_of(segments: Sequence[StoredArray]) -> StoredArray:
    """An empty array that stands for the stored dtype, as ``kernels._cpu_jit`` knows it."""
    return _KINDS[segments[0].dtype] if segments else _KINDS[np.dtype(np.float32)]


def segment_addresses(segments: Sequence[StoredArray], end_row: int) -> Int64Array:
    """The address of each segment; together they cover [0, end_row)."""
    assert end_row <= (len(segments) - 1) * SEGMENT_ROWS + (len(segments[-1]) if segments else SEGMENT_ROWS)
    return np.array([array_address(segment) for segment in segments], np.int64)


def whole_words(mask: Uint8Array, end_row: int) -> Uint8Array:
    """The mask itself where it covers ``end_row`` in whole words, else a copy that does."""
    n_bytes = -(-end_row // 64) * 8
    if mask.size >= n_bytes and mask.flags.c_contiguous:
        return mask
    whole = np.zeros(n_bytes, np.uint8)
    whole[: mask.size] = mask[:n_bytes]
    return whole


def array_address(segment: StoredArray) -> int:
    """Of a contiguous array, asked of NumPy once."""
    known = _known.get(id(segment))
    if known is not None and known[0]() is segment:
        return known[1]
    assert segment.flags.c_contiguous
    address: int = segment.ctypes.data
    key = id(segment)
    _known[key] = (weakref.ref(segment, lambda _: _known.pop(key, None)), address)
    return address


@compiled_briefly
def mask_address(mask: Uint8Array) -> int:
    """The address of a mask, in a tenth of the time that NumPy takes."""
    return mask.ctypes.data
