"""Batches that are too large for a device: halved once, and only those of a half that is too large still fail."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DeviceOutOfMemory, EngineError, InvalidArgument, SearchFailed
from engine.lanes.batching import BatchLimits
from engine.lanes.halving import halving
from engine.lanes.lane import Done, Lane


class Scarce:
    """A device with room for payloads that sum to ``room``; answers ten times each payload."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.batches: list[list[int]] = []
        self._held: list[weakref.ref[Scarce]] = []

    def run(self, payloads: Sequence[int]) -> list[int | EngineError]:
        self.batches.append(list(payloads))
        assert all(one() is None for one in self._held), "what a failed batch held is held still"
        held = Scarce(0)
        self._held.append(weakref.ref(held))
        if 13 in payloads:
            raise RuntimeError("unlucky")
        if sum(payloads) > self.room:
            try:
                raise MemoryError("out of memory")
            except MemoryError as error:
                raise DeviceOutOfMemory("no room") from error
        return [InvalidArgument("n", "is odd") if n == 7 else 10 * n for n in payloads]


@given(payloads=st.lists(st.integers(1, 12), min_size=1, max_size=20), room=st.integers(0, 120))
def test_every_payload_has_its_own_outcome_whatever_has_room(payloads: list[int], room: int) -> None:
    scarce = Scarce(room)
    outcomes = halving(scarce.run)(payloads)
    assert len(outcomes) == len(payloads)
    for n, outcome in zip(payloads, outcomes, strict=True):
        assert outcome == 10 * n or isinstance(outcome, DeviceOutOfMemory | InvalidArgument)
    assert len(scarce.batches) in (1, 3)
    assert scarce.batches[0] == payloads
    if len(scarce.batches) == 3:
        assert scarce.batches[1] + scarce.batches[2] == payloads
    fits = [sum(batch) <= room for batch in scarce.batches]
    failed = sum(isinstance(one, DeviceOutOfMemory) for one in outcomes)
    last = zip(scarce.batches[-2:], fits[-2:], strict=True)
    assert failed == (0 if fits[0] else sum(len(batch) for batch, fit in last if not fit))


def test_a_batch_that_fits_is_run_once() -> None:
    scarce = Scarce(100)
    assert halving(scarce.run)([1, 2, 3]) == [10, 20, 30]
    assert len(scarce.batches) == 1


def test_one_half_can_fail_without_the_other() -> None:
    outcomes = halving(Scarce(30).run)([10, 11, 50, 1])
    assert outcomes[:2] == [100, 110]
    assert all(isinstance(one, DeviceOutOfMemory) and one.code == "RESOURCE_EXHAUSTED" for one in outcomes[2:])


def test_a_payload_that_is_too_large_alone_is_not_tried_again() -> None:
    scarce = Scarce(5)
    (outcome,) = halving(scarce.run)([6])
    assert isinstance(outcome, DeviceOutOfMemory)
    assert len(scarce.batches) == 1


def test_what_fails_for_another_reason_fails_as_ever() -> None:
    with pytest.raises(RuntimeError, match="unlucky"):
        halving(Scarce(100).run)([1, 13])


def test_the_lane_lives_on_and_nobody_else_suffers() -> None:
    async def scene() -> None:
        scarce = Scarce(30)
        lane: Lane[int, int] = Lane(
            "test",
            halving(scarce.run),
            limits=BatchLimits(entries=4, cost=100.0),
            queue_cost=100.0,
            on_failure=lambda error: SearchFailed(str(error)),
        )
        too_large = await asyncio.gather(lane.submit(31), return_exceptions=True)
        assert isinstance(too_large[0], DeviceOutOfMemory)
        started, gate = threading.Event(), threading.Event()

        def hold() -> None:
            started.set()
            gate.wait(10)

        lane.post(hold)
        await asyncio.to_thread(started.wait, 10)
        others = [lane.enqueue(n) for n in (10, 11, 50, 1, 2)]
        gate.set()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        assert [one.result for one in outcomes if isinstance(one, Done)][:2] == [100, 110]
        assert isinstance(outcomes[2], DeviceOutOfMemory)
        assert isinstance(outcomes[4], Done)
        assert (await lane.submit(3)).result == 30
        await asyncio.to_thread(lane.drain)

    asyncio.run(scene())
