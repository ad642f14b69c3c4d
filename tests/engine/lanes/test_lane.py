"""The lane: batches while busy, drops who left, fails a batch whole and lives on. Time is held still by gates."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from engine.errors import DeadlineExceeded, Draining, EncodeFailed, EngineError, InvalidArgument, QueueFull
from engine.lanes.batching import BatchLimits
from engine.lanes.lane import Done, Lane


class Recorder:
    """Runs batches when its gate is open and remembers them."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.batches: list[list[int]] = []

    def run(self, payloads: Sequence[int]) -> list[int | EngineError]:
        self.running.set()
        self.gate.wait(10)
        self.batches.append(list(payloads))
        if 13 in payloads:
            raise RuntimeError("unlucky")
        return [InvalidArgument("n", "is odd") if n == 7 else 10 * n for n in payloads]

    async def block(self, lane: Lane[int, int]) -> asyncio.Future[Done[int]]:
        """Occupy the lane with a batch of its own until the gate opens."""
        self.gate.clear()
        self.running.clear()
        blocking = lane.enqueue(0)
        await asyncio.to_thread(self.running.wait, 10)
        return blocking


@asynccontextmanager
async def a_lane(recorder: Recorder, *, queue_cost: float = 100.0) -> AsyncIterator[Lane[int, int]]:
    lane: Lane[int, int] = Lane(
        "test",
        recorder.run,
        limits=BatchLimits(entries=4, cost=100.0),
        queue_cost=queue_cost,
        on_failure=lambda error: EncodeFailed(str(error)),
    )
    try:
        yield lane
    finally:
        recorder.gate.set()
        await asyncio.to_thread(lane.drain)


def test_what_waits_while_a_batch_runs_shares_the_next_one() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            others = [lane.enqueue(n) for n in (1, 2, 3, 4, 5)]
            recorder.gate.set()
            results = await asyncio.gather(first, *others)
        assert [done.result for done in results] == [0, 10, 20, 30, 40, 50]
        assert recorder.batches == [[0], [1, 2, 3, 4], [5]]
        assert results[1].batch_entries == 4

    asyncio.run(scene())


def test_a_cancelled_entry_is_never_computed() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            gone, stays = lane.enqueue(1), lane.enqueue(2)
            gone.cancel()
            recorder.gate.set()
            await asyncio.gather(first, stays)
        assert recorder.batches == [[0], [2]]

    asyncio.run(scene())


def test_an_entry_whose_deadline_passed_in_the_queue_is_never_computed() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            late = lane.enqueue(1, deadline=time.monotonic() - 1)
            recorder.gate.set()
            await first
            with pytest.raises(DeadlineExceeded):
                await late
        assert recorder.batches == [[0]]

    asyncio.run(scene())


def test_a_batch_that_raises_fails_all_its_callers_and_the_next_batch_works() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            doomed = [lane.enqueue(n) for n in (1, 13, 2)]
            recorder.gate.set()
            await first
            outcomes = await asyncio.gather(*doomed, return_exceptions=True)
            assert [type(one) for one in outcomes] == [EncodeFailed] * 3
            assert (await lane.submit(5)).result == 50
        assert lane.figures.failed_batches == 1

    asyncio.run(scene())


def test_one_entry_can_fail_without_its_neighbours() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            pair = [lane.enqueue(7), lane.enqueue(8)]
            recorder.gate.set()
            await first
            bad, good = await asyncio.gather(*pair, return_exceptions=True)
            assert isinstance(bad, InvalidArgument)
            assert isinstance(good, Done)
            assert good.result == 80

    asyncio.run(scene())


def test_a_full_queue_refuses_and_says_when_to_try_again() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder, queue_cost=2.0) as lane:
            first = await recorder.block(lane)
            waiting = [lane.enqueue(1), lane.enqueue(2)]
            with pytest.raises(QueueFull) as refused:
                lane.enqueue(3)
            assert refused.value.retry_after_ms > 0
            recorder.gate.set()
            await asyncio.gather(first, *waiting)

    asyncio.run(scene())


def test_an_action_runs_between_two_batches_in_its_turn() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            waiting = lane.enqueue(1)
            seen: list[int] = []
            lane.post(lambda: seen.append(len(recorder.batches)))
            lane.post(lambda: seen.append(-1))
            recorder.gate.set()
            await asyncio.gather(first, waiting)
            await lane.call(lambda: 0)
        assert seen == [1, -1]

    asyncio.run(scene())


def test_a_batch_does_not_wait_for_all_of_many_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.lanes.lane._ACTION_SECONDS", 0.0)
    monkeypatch.setattr("engine.lanes.lane._ACTION_SHARE", 0.0)

    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            waiting = [lane.enqueue(n) for n in (1, 2, 3, 4, 5, 6)]
            seen: list[tuple[int, int]] = []
            for number in range(5):
                lane.post(lambda number=number: seen.append((number, len(recorder.batches))))  # type: ignore[misc]
            recorder.gate.set()
            await asyncio.gather(first, *waiting)
            await lane.call(lambda: 0)
        assert seen[:2] == [(0, 1), (1, 2)]
        assert [number for number, _ in seen] == [0, 1, 2, 3, 4]

    asyncio.run(scene())


@pytest.mark.parametrize(("share", "taken"), [(0.3, 2), (0.0, 0)])
def test_a_step_is_run_between_batches_where_it_is_due_a_share_of_a_busy_lane(
    monkeypatch: pytest.MonkeyPatch, share: float, taken: int
) -> None:
    monkeypatch.setattr("engine.lanes.lane._STEP_SECONDS", 1e-9)

    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            waiting = [lane.enqueue(n) for n in (1, 2, 3, 4, 5, 6)]
            steps: list[int] = []

            def step() -> bool:
                steps.append(len(recorder.batches))
                return len(steps) < 2

            def asked() -> float:
                return share

            lane.post_idle(step, share=asked)
            recorder.gate.set()
            await asyncio.gather(first, *waiting)
        assert len([n for n in steps if n < 3]) == taken

    asyncio.run(scene())


def test_a_step_that_had_idle_moments_enough_is_not_run_between_batches() -> None:
    async def scene() -> None:
        recorder = Recorder()
        steps: list[int] = []
        async with a_lane(recorder) as lane:
            idle = asyncio.Event()
            loop = asyncio.get_running_loop()

            def step() -> bool:
                steps.append(len(recorder.batches))
                lane._owed_seconds -= 1000.0  # as if it had taken so long
                loop.call_soon_threadsafe(idle.set)
                return False

            lane.post_idle(step, share=lambda: 0.5)
            await idle.wait()
            await lane.call(lambda: None)
            assert -1.0 < lane._owed_seconds < 0.0, "credit is bounded"
            first = await recorder.block(lane)
            waiting = [lane.enqueue(n) for n in (1, 2, 3, 4, 5, 6)]
            lane.post_idle(step, share=lambda: 0.5)
            recorder.gate.set()
            await asyncio.gather(first, *waiting)
        assert steps[0] == 0
        assert steps[1:] == [3]

    asyncio.run(scene())


def test_a_lane_is_busy_while_a_batch_runs_or_waits() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            seen = [lane.is_busy]
            first = await recorder.block(lane)
            seen.append(lane.is_busy)
            recorder.gate.set()
            await first
            await lane.call(lambda: None)
            seen.append(lane.is_busy)
        assert seen == [False, True, False]

    asyncio.run(scene())


def test_every_action_is_run_before_a_lane_ends() -> None:
    async def scene() -> None:
        recorder = Recorder()
        seen: list[int] = []
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            for number in range(100):
                lane.post(lambda number=number: seen.append(number))  # type: ignore[misc]
            recorder.gate.set()
            await first
        assert seen == [*range(100)]

    asyncio.run(scene())


def test_an_action_that_raises_does_not_end_the_lane() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            with pytest.raises(ZeroDivisionError):
                await lane.call(lambda: 1 // 0)
            assert (await lane.submit(3)).result == 30

    asyncio.run(scene())


def test_idle_work_goes_on_until_it_says_it_is_done() -> None:
    async def scene() -> None:
        recorder = Recorder()
        steps: list[int] = []
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def step() -> bool:
            steps.append(len(steps))
            if len(steps) == 3:
                loop.call_soon_threadsafe(ended.set)
            return len(steps) < 3

        async with a_lane(recorder) as lane:
            lane.post_idle(step)
            await ended.wait()
            assert (await lane.submit(1)).result == 10
        assert steps == [0, 1, 2]

    asyncio.run(scene())


def test_a_draining_lane_finishes_what_waits_and_refuses_more() -> None:
    async def scene() -> None:
        recorder = Recorder()
        async with a_lane(recorder) as lane:
            first = await recorder.block(lane)
            waiting = lane.enqueue(1)
            draining = asyncio.get_running_loop().run_in_executor(None, lane.drain)
            recorder.gate.set()
            assert (await first).result == 0
            assert (await waiting).result == 10
            await draining
            with pytest.raises(Draining):
                lane.enqueue(2)

    asyncio.run(scene())
