from __future__ import annotations

import numpy as np

from kernels._cpu_buffers import mask_buffer


def test_a_buffer_is_not_given_again_while_it_or_a_part_of_it_is_held() -> None:
    whole = mask_buffer(1_001)
    part = mask_buffer(1_001)[500:]
    word = mask_buffer(1_001)[:8].view(np.uint64)
    given = [mask_buffer(1_001) for _ in range(20)]
    for array in (whole, part, word, *given):
        assert sum(np.shares_memory(array, other) for other in (whole, part, word, *given)) == 1


def test_a_buffer_that_nobody_holds_is_given_again() -> None:
    address = mask_buffer(1_003).ctypes.data
    assert mask_buffer(1_003).ctypes.data == address
    held = mask_buffer(1_003)
    assert held.ctypes.data == address
    assert mask_buffer(1_003).ctypes.data != address


def test_a_buffer_that_was_made_read_only_is_not_given_again() -> None:
    mask_buffer(1_007).flags.writeable = False
    assert mask_buffer(1_007).flags.writeable
