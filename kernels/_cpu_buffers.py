"""Memory for masks that is used again once nobody refers to it.

The first large block that a process asks for after other work has freed much costs the C library a search through all
of that, and a block that the system gives anew a fault for each of its pages: either takes as long as a filter may.
"""

from __future__ import annotations

import sys

import numpy as np

from kernels.arrays import Uint8Array

_MOST_BYTES = 32 << 20
"""Of all buffers together; beyond it they are let go, and those in use belong to their users alone."""

_kept: dict[int, list[Uint8Array]] = {}
"""By size: to look at those of other sizes would cost a wait for memory each."""


def _references_of_idle() -> int:
    for array in [np.empty(0, np.uint8)]:
        return sys.getrefcount(array)
    raise AssertionError


_IDLE = _references_of_idle()
"""What ``getrefcount`` tells of an array that a list, and the loop over it, alone refer to."""


def mask_buffer(n_bytes: int) -> Uint8Array:
    """As ``np.empty``: the caller's to keep, and to hand on, for as long as anything refers to it or to a part of it.

    Any thread may call: one that looks at a buffer refers to it, so that no other finds it idle.
    """
    of_size = _kept.get(n_bytes, ())
    for array in of_size:
        if sys.getrefcount(array) == _IDLE and array.flags.writeable:
            return array
    made = np.empty(n_bytes, np.uint8)
    if sum(size * len(arrays) for size, arrays in list(_kept.items())) + n_bytes > _MOST_BYTES:
        _kept.clear()
    _kept.setdefault(n_bytes, []).append(made)
    return made
