from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.packed_lists import BLOCK_ROWS, CHUNK_BLOCKS, PackedLists


def empty(n_parts: int = 6, nlist: int = 4) -> PackedLists:
    return PackedLists(np.zeros((n_parts, 16, 2), np.float32), np.zeros((nlist, 2 * n_parts), np.float32), "dot")


@given(
    n_parts=st.sampled_from([2, 4, 6, 10]),
    portions=st.lists(st.sampled_from([0, 1, 5, 31, 32, 33, 100]), max_size=6),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_what_was_appended_in_portions_is_listed_in_order(n_parts: int, portions: list[int], seed: int) -> None:
    rng, lists, nlist = np.random.default_rng(seed), empty(n_parts), 4
    total = sum(portions)
    numbers, codes = rng.integers(0, nlist - 1, total), rng.integers(0, 256, (total, n_parts // 2)).astype(np.uint8)
    terms = rng.standard_normal(total).astype(np.float32)
    first = 0
    for size in portions:
        part = slice(first, first + size)
        lists.append(numbers[part], codes[part], np.arange(total)[part], terms[part])
        first += size
    for number in range(nlist):
        mine = np.flatnonzero(numbers == number)
        found_codes, found_rows, found_terms = lists.listed(number)
        np.testing.assert_array_equal(found_rows, mine)
        np.testing.assert_array_equal(found_codes, codes[mine])
        np.testing.assert_array_equal(found_terms, terms[mine])
    assert (lists.n_rows, lists.end_row) == (total, total)


def test_a_chunk_never_moves_when_lists_grow_beyond_it() -> None:
    lists = empty()
    lists.append(np.zeros(1, np.int64), np.ones((1, 3), np.uint8), np.arange(1), np.ones(1, np.float32))
    before = lists.chunk_addresses[0]
    n = CHUNK_BLOCKS * BLOCK_ROWS + 5
    lists.append(np.zeros(n, np.int64), np.zeros((n, 3), np.uint8), np.arange(1, n + 1), np.zeros(n, np.float32))
    assert len(lists.chunks) == 2
    assert lists.chunk_addresses[0] == before
    assert lists.chunk_addresses[0] % 64 == 0
    np.testing.assert_array_equal(lists.listed(0)[1], np.arange(n + 1))
    assert lists.listed(0)[0][0].tolist() == [1, 1, 1]
    assert lists.memory_bytes >= n * (3 + 8)


@pytest.mark.parametrize("n_parts", [3, 1024])
def test_a_number_of_parts_that_cannot_be_packed_is_refused(n_parts: int) -> None:
    with pytest.raises(AssertionError):
        empty(n_parts)
