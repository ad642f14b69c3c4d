"""How deep a coarse search must go that its answer is proven, learned from what was proven. Pure.

A deeper first pass leaves out worse rows, so that more is proven and fewer queries are answered a second time; it
costs more rows to rescore. Which depth is the cheapest is the planner's to say.
"""

from __future__ import annotations

from dataclasses import dataclass

DEPTHS_PER_K = (2, 8, 32, 128)

_EXPECTED = 0.05
"""The share of queries taken to remain unproven where none was seen."""
_EXPECTED_WEIGHT = 20
"""Queries that what is expected weighs as much as."""
_REMEMBERED = 1024
"""Queries after which what was seen of them weighs half: data and queries change."""


@dataclass(frozen=True, slots=True)
class Rung:
    """``depth_per_k`` rows by codes for each hit leave a share ``unproven`` of the queries without a proof."""

    depth_per_k: int
    unproven: float


@dataclass(frozen=True, slots=True)
class CoarseState:
    """Rows [0, n_rows) have codes; ``rungs`` ascend by depth.

    ``tail_rungs``: of searches of the rows in no list alone.
    """

    n_rows: int
    rungs: tuple[Rung, ...]
    tail_rungs: tuple[Rung, ...] = ()


class DepthLadder:
    """What was seen of a few depths."""

    def __init__(self) -> None:
        self._seen = dict.fromkeys(DEPTHS_PER_K, (0.0, 0.0))

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """What is expected of each depth, the shallowest first."""
        return tuple(
            Rung(depth, (unproven + _EXPECTED * _EXPECTED_WEIGHT) / (asked + _EXPECTED_WEIGHT))
            for depth, (asked, unproven) in self._seen.items()
        )

    def learn(self, depth_per_k: float, *, proven: int, unproven: int) -> None:
        """What is proven is so at any greater depth, and what is not is not at any smaller one."""
        for depth in DEPTHS_PER_K:
            asked, failed = self._seen[depth]
            if depth >= depth_per_k:
                asked += proven
            if depth <= depth_per_k:
                asked, failed = asked + unproven, failed + unproven
            if asked > _REMEMBERED:
                asked, failed = asked / 2, failed / 2
            self._seen[depth] = (asked, failed)

    def forget(self) -> None:
        """Begin anew: the rows are no longer what they were."""
        self._seen = dict.fromkeys(DEPTHS_PER_K, (0.0, 0.0))
