from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.index.sets import sorted_once


@given(st.lists(st.integers(0, 20)), st.sampled_from([np.int64, np.uint64]))
def test_a_set_of_numbers_is_sorted_and_has_each_once(numbers: list[int], dtype: type) -> None:
    given_numbers: npt.NDArray[Any] = np.array(numbers, dtype)
    found = sorted_once(given_numbers)
    assert found.dtype == dtype
    assert found.tolist() == sorted(set(numbers))
    assert given_numbers.tolist() == numbers


@pytest.mark.parametrize("numbers", [[], [2**64 - 1], [0, 1, 2**64 - 1]])
def test_numbers_that_ascend_are_not_copied(numbers: list[int]) -> None:
    array = np.array(numbers, np.uint64)
    assert sorted_once(array) is array
