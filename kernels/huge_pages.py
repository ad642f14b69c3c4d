"""Memory for what is read at random, in pages of 2 MiB where the system has them: each page costs a look-up."""

from __future__ import annotations

import contextlib
import mmap

import numpy as np

from kernels.arrays import Uint8Array

PAGE_BYTES = 2 << 20
_LINE_BYTES = 64


def huge_bytes(n_bytes: int) -> Uint8Array:
    """uint8 [n_bytes], all zeros, taken as they are written to; it begins with a page or, if short, with 64 bytes."""
    if n_bytes < PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        room = np.zeros(n_bytes + _LINE_BYTES, np.uint8)
        start = -room.ctypes.data % _LINE_BYTES
        return room[start : start + n_bytes]
    mapped = mmap.mmap(-1, n_bytes + PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole: Uint8Array = np.frombuffer(mapped, np.uint8)
    start = -whole.ctypes.data % PAGE_BYTES
    # A system built without them refuses: the memory is as good, only slower.
    with contextlib.suppress(OSError):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return whole[start : start + n_bytes]
