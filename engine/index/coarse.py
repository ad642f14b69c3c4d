"""A version's int8 codes for exact search in two passes: made slice by slice, with what searching by them has shown.

The search lane's thread owns it, as it does the index.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, CoarseCodes, Vectors
from engine.index.coarse_depth import DEPTHS_PER_K, CoarseState, DepthLadder, Rung
from engine.index.costs import Costs

SLICE_SECONDS = 0.002
_FIRST_SLICE_ROWS = 64
_USUAL_K = 10
_GAIN = 1.3
"""How many times faster than a scan the two passes must be, for codes to be worth their memory."""
_TAIL_SHARE = 0.1
"""New rows get codes once scanning them costs this share of the two passes."""
_GROWTH_TO_FORGET = 2


Living = Callable[[int, int], npt.NDArray[np.bool_]]


class Coarse:
    """See the module. ``codes`` is None where there are none; ``asked`` and ``unproven`` count queries."""

    def __init__(self) -> None:
        self.codes: CoarseCodes | None = None
        self.depths = DepthLadder()
        self.tail_depths = DepthLadder()
        self.asked = 0
        self.unproven = 0
        self._slice_rows = _FIRST_SLICE_ROWS
        self._learnt_at_rows = 0

    @property
    def n_rows(self) -> int:
        """Rows [0, n_rows) have codes."""
        return self.codes.n_rows if self.codes is not None else 0

    @property
    def memory_bytes(self) -> int:
        return self.codes.memory_bytes if self.codes is not None else 0

    @property
    def state(self) -> CoarseState | None:
        """For the planner, to a hundredth, so that its plans can be kept; None where there are no codes."""
        return CoarseState(self.n_rows, _rounded(self.depths), _rounded(self.tail_depths)) if self.n_rows else None

    def wants_rows(self, n_rows: int, n_alive: int, dimension: int, costs: Costs) -> bool:
        """Whether codes, or more of them, are predicted to pay for a query alone that has no filter."""
        if n_rows == self.n_rows:
            return False
        seconds = costs.coarse_seconds(n_rows, n_alive, dimension, _USUAL_K * DEPTHS_PER_K[0])
        tail = n_rows - self.n_rows
        if self.n_rows:
            return costs.scan_seconds(tail, tail, dimension) >= _TAIL_SHARE * seconds
        return _GAIN * seconds <= costs.scan_seconds(n_rows, n_alive, dimension)

    def grow(self, backend: Backend, vectors: Vectors, living: Living) -> bool:
        """Quantise a slice of the rows without codes, sized to take about ``SLICE_SECONDS``; True while there are more.

        ``living``: tells of rows [first, end) which live, those too that are not to be seen yet.
        """
        if self.n_rows >= vectors.n_rows:
            return False
        if self.codes is None:
            self.codes = backend.new_codes(vectors.dimension)
        segment_rows = len(vectors.segments[0])
        number, offset = divmod(self.n_rows, segment_rows)
        rows = min(self._slice_rows, segment_rows - offset, vectors.n_rows - self.n_rows)
        began = time.perf_counter()
        first = self.n_rows
        self.codes.add(vectors.segments[number][offset : offset + rows], living(first, first + rows))
        seconds = max(time.perf_counter() - began, 1e-6)
        self._slice_rows = max(1, min(4 * self._slice_rows, int(rows * SLICE_SECONDS / seconds)))
        if self.n_rows >= _GROWTH_TO_FORGET * self._learnt_at_rows:
            self._learnt_at_rows = self.n_rows
            self.depths.forget()
        return self.n_rows < vectors.n_rows

    def learn(self, depth_per_k: float, proven: npt.NDArray[np.bool_]) -> None:
        """Of queries of which not all rows that pass were rescored, which were proven: bool [B]."""
        _learn(self.depths, depth_per_k, proven)

    def learn_of_tail(self, depth_per_k: float, proven: npt.NDArray[np.bool_]) -> None:
        """The same of searches of rows in no list, of which there are fewer: less depth proves them."""
        _learn(self.tail_depths, depth_per_k, proven)

    def follow(self, earlier: Coarse) -> None:
        """Take the place of codes of the same items: what searches by those have shown holds for these."""
        self.depths, self._learnt_at_rows = earlier.depths, self.n_rows
        self.tail_depths = earlier.tail_depths
        self.asked, self.unproven = earlier.asked, earlier.unproven

    def count(self, proven: npt.NDArray[np.bool_]) -> None:
        self.asked += len(proven)
        self.unproven += len(proven) - int(proven.sum())


def _learn(depths: DepthLadder, depth_per_k: float, proven: npt.NDArray[np.bool_]) -> None:
    n_proven = int(proven.sum())
    depths.learn(depth_per_k, proven=n_proven, unproven=len(proven) - n_proven)


def _rounded(depths: DepthLadder) -> tuple[Rung, ...]:
    """None of them sure to prove all or nothing."""
    return tuple(Rung(one.depth_per_k, min(max(round(one.unproven, 2), 0.01), 0.99)) for one in depths.rungs)
