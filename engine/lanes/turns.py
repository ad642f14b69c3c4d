"""Work of the event loop that may be long, done in turns with everything else that waits for the loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

ITEMS_A_TURN = 16
"""Items are read, checked and hashed in 20 us each and more: a third of a millisecond in all. gRPC takes in one call in
two or three turns of the loop, so that turns of 2 ms would let 200 calls a second come in and no more.
"""
IDS_A_TURN = 512
_REST_SECONDS = 0.002
"""Between two turns while others are busy: turns without rests take a core of two from searches (docs/log.md,
2026-11-27).
"""


def _never() -> bool:
    return False


async def in_turns(
    things: Iterable[A], act: Callable[[int, A], B], *, a_turn: int, are_busy: Callable[[], bool] = _never
) -> list[B]:
    """``act(place, thing)`` for each, in order; what else waits for the loop has its turn after each ``a_turn``, and
    some time to itself where others ``are_busy``.

    So many or fewer are done at once, without giving way to anything.
    """
    done: list[B] = []
    rest = enumerate(things)
    while slice_ := list(itertools.islice(rest, a_turn)):
        if done:
            await asyncio.sleep(_REST_SECONDS if are_busy() else 0)
        done += itertools.starmap(act, slice_)
    return done
