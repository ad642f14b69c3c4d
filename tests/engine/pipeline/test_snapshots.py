"""Files left to a thread: what is cancelled leaves no exception that nobody takes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import Cancelled, ReadOnly
from engine.pipeline.operations import Operations, Report
from engine.pipeline.snapshots import _held, in_thread


def cancelled(work: Callable[[Report], None]) -> list[dict[str, Any]]:
    """What the loop complains of when ``work`` is cancelled once it has begun."""
    complaints: list[dict[str, Any]] = []

    async def scene() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, context: complaints.append(context))

        def begins(report: Report) -> None:
            loop.call_soon_threadsafe(begun.set)
            work(report)

        operations = Operations()
        operation = operations.start("snapshot", "things", lambda one: in_thread(begins, one.report))
        await begun.wait()
        await operations.stop()
        assert operation.error is not None
        assert operation.error.code == "CANCELLED"
        gc.collect()

    asyncio.run(scene())
    return complaints


def goes_on(report: Report) -> None:
    while True:
        report("copying", 0.5)


def test_what_is_cancelled_leaves_no_exception_that_nobody_takes() -> None:
    assert cancelled(goes_on) == []


def test_a_failure_of_what_was_cancelled_is_told_by_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fails(report: Report) -> None:
        try:
            goes_on(report)
        except Cancelled as end:
            raise ReadOnly("the disk is full") from end

    assert cancelled(fails) == []
    assert "the disk is full" in caplog.text


def test_a_moment_that_comes_when_nobody_wants_it_any_more_is_released() -> None:
    class Released:
        times = 0

        def release(self) -> None:
            self.times += 1
            is_released.set()

    moment, is_released = Released(), asyncio.Event()

    async def scene() -> None:
        is_held = asyncio.Event()

        async def hold() -> Any:
            await is_held.wait()
            return moment

        waiting = asyncio.create_task(_held(hold()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (waiting.cancelled(), moment.times) == (True, 0)
        is_held.set()
        await is_released.wait()

    asyncio.run(scene())
    assert moment.times == 1
