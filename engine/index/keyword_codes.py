"""For each row the number of its keyword: what grouping and counting read, where a filter reads postings."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from pyroaring import BitMap

from engine.index.growing import GrowingArray, GrowingMask
from engine.index.postings import Postings
from engine.types import Int32Array
from kernels.cpu import rows_of_mask


class KeywordCodes:
    """``keywords`` by number, in the order in which they were met; of rows that have one keyword each, or none."""

    def __init__(self, postings: Postings, n_rows: int) -> None:
        self.keywords: list[str] = []
        self._numbers: dict[str, int] = {}
        self._codes = GrowingArray(np.int32)
        self._codes.append(-1, n_rows)
        self._fill(postings)

    @property
    def values(self) -> Int32Array:
        """[n_rows], -1 where a row has no keyword; a view."""
        return self._codes.values

    @property
    def memory_bytes(self) -> int:
        """The keywords themselves are the postings'."""
        return self._codes.nbytes + sys.getsizeof(self.keywords) + sys.getsizeof(self._numbers)

    def append(self, keywords: Sequence[str | None]) -> None:
        codes = [-1 if one is None else self._number(one) for one in keywords]
        self._codes.append(np.array(codes, np.int32), len(codes))

    def append_nulls(self, count: int) -> None:
        self._codes.append(-1, count)

    def _number(self, keyword: str) -> int:
        number = self._numbers.setdefault(keyword, len(self.keywords))
        if number == len(self.keywords):
            self.keywords.append(keyword)
        return number

    def _fill(self, postings: Postings) -> None:
        codes = self._codes.values
        single, numbers = [], []
        for keyword in postings.keywords:
            assert isinstance(keyword, str)
            held, number = postings.held(keyword), self._number(keyword)
            if isinstance(held, BitMap):
                codes[np.frombuffer(held.to_array(), np.uint32)] = number
            elif isinstance(held, GrowingMask):
                codes[rows_of_mask(held.bits, end_row=held.n_rows)] = number
            else:
                single.append(held)
                numbers.append(number)
        codes[single] = numbers
