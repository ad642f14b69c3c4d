"""How often queries that are scored alike gave up on inverted lists, so that the next ones begin with an exact way.

How far features spread is known only once lists are probed: a weight of theirs may make every list a candidate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

_MOST = 1024
_SEVERAL = 8
"""Queries after which a share is believed."""
_LIKELY = 0.5
_TRY_EVERY = 64
"""Of the queries that would give up one in so many probes all the same: what is in the index changes."""
_FADES_AT = 256


@dataclass(slots=True)
class _Tally:
    asked: int = 0
    gave_up: int = 0
    spared: int = 0


class GiveUps:
    """Tallies by what queries have in common; those used last."""

    def __init__(self) -> None:
        self._tallies: OrderedDict[Hashable, _Tally] = OrderedDict()

    def are_likely(self, kind: Hashable) -> bool:
        """Whether queries of this kind had better not probe; asked once for each batch of them."""
        tally = self._tallies.get(kind)
        if tally is None or tally.asked < _SEVERAL or tally.gave_up < _LIKELY * tally.asked:
            return False
        tally.spared += 1
        return tally.spared % _TRY_EVERY != 0

    def note(self, kind: Hashable, *, asked: int, gave_up: int) -> None:
        """So many queries probed, of which some gave up."""
        tally = self._tallies.setdefault(kind, _Tally())
        self._tallies.move_to_end(kind)
        tally.asked += asked
        tally.gave_up += gave_up
        if tally.asked > _FADES_AT:
            tally.asked, tally.gave_up = tally.asked // 2, tally.gave_up // 2
        if len(self._tallies) > _MOST:
            self._tallies.popitem(last=False)
