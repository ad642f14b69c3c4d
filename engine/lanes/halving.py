"""A batch that a device has no memory for is run once more as two halves. Knows nothing of what a batch does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from engine.errors import DeviceOutOfMemory, EngineError
from engine.lanes.lane import Run

P = TypeVar("P")
R = TypeVar("R")


def halving(run: Run[P, R]) -> Run[P, R]:
    """As ``run``, but a batch of several that fails with DeviceOutOfMemory is halved, once; each half fails alone."""

    def run_or_halve(payloads: Sequence[P]) -> Sequence[R | EngineError]:
        outcomes = _attempt(run, payloads)
        if not isinstance(outcomes, EngineError):
            return outcomes
        if len(payloads) == 1:
            return [outcomes]
        middle = -(-len(payloads) // 2)
        halves = (payloads[:middle], payloads[middle:])
        return [one for half in halves for one in _each(_attempt(run, half), len(half))]

    return run_or_halve


def _attempt(run: Run[P, R], payloads: Sequence[P]) -> Sequence[R | EngineError] | DeviceOutOfMemory:
    """The error is a new one: that which was raised keeps frames, and in them what a half would have room for."""
    try:
        return run(payloads)
    except DeviceOutOfMemory as error:
        return DeviceOutOfMemory(error.message)


def _each(outcomes: Sequence[R | EngineError] | EngineError, n: int) -> Sequence[R | EngineError]:
    return [outcomes] * n if isinstance(outcomes, EngineError) else outcomes
