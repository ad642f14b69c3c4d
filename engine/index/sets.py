"""Sets of numbers as arrays: ascending, without repeats."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.int64, np.uint64)


def sorted_once(numbers: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """[n] ascending, each number once; ``numbers`` itself where it is so already.

    Lists of 100,000 are normal and mostly sorted where they come from: to see that takes a hundredth of ``np.unique``.
    """
    if _ascends(numbers):
        return numbers
    ordered = np.sort(numbers)
    if _ascends(ordered):
        return ordered
    is_first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


def _ascends(numbers: npt.NDArray[Number]) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())
