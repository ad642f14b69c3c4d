"""Work of the event loop that may be long, done in turns with everything else that waits for the loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

ITEMS_A_TURN = 16
"""Items of a request are read, checked and hashed in 20 us each and more: a third of a millisecond in all. gRPC takes in
one call in two or three turns of the loop, so that turns of 2 ms would let 200 calls a second come in and no more.
"""
IDS_A_TURN = 512


async def in_turns(things: Iterable[A], act: Callable[[int, A], B], *, a_turn: int) -> list[B]:
    """``act(place, thing)`` for each, in order; what else waits for the loop has its turn after each ``a_turn``.

    So many or fewer are done at once, without giving way to anything.
    """
    done: list[B] = []
    rest = enumerate(things)
    while slice_ := list(itertools.islice(rest, a_turn)):
        if done:
            await asyncio.sleep(0)
        done += itertools.starmap(act, slice_)
    return done
