"""What runs for long, where one can see it and end it: training, compaction, snapshots, more. On the event loop.

Operations live as long as the process; of those that have ended the latest are kept.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from engine.errors import Cancelled, EngineError, OperationFailed, OperationNotFound
from engine.index.build import BuildProcess
from engine.index.ivfpq import IvfPqImage

logger = logging.getLogger(__name__)

Report = Callable[[str, float], None]
"""Told the stage, and how much of it is done, in [0, 1]."""

_ENDED_KEPT = 256
_POLL_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Operation:
    """``kind`` is checkpoint, compact, snapshot, restore, train or tune. ``error`` is None until it has failed;
    ``result``: what it has made, of one that makes something.
    """

    number: int
    kind: str
    collection: str
    began_micros: int
    stage: str = ""
    progress: float = 0.0
    ended_micros: int | None = None
    error: EngineError | None = None
    result: Any = None
    task: asyncio.Task[Any] | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"

    @property
    def is_done(self) -> bool:
        return self.ended_micros is not None

    def report(self, stage: str, progress: float) -> None:
        self.stage, self.progress = stage, progress


class Operations:
    """All of a server's, in the order they began."""

    def __init__(self) -> None:
        self._by_name: dict[str, Operation] = {}
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Operation]:
        return iter(tuple(self._by_name.values()))

    def get(self, name: str) -> Operation:
        """
        Raises:
            OperationNotFound: there is none of that name, or it ended long ago.
        """
        found = self._by_name.get(name)
        if found is None:
            raise OperationNotFound(name)
        return found

    def cancel(self, name: str) -> Operation:
        """Ask it to end, without waiting for that; harmless once it has.

        Raises:
            OperationNotFound: there is none of that name.
        """
        found = self.get(name)
        if found.task is not None and not found.is_done:
            found.task.cancel()
        return found

    def start(self, kind: str, collection: str, work: Callable[[Operation], Coroutine[Any, Any, None]]) -> Operation:
        """Run ``work`` in a task of its own, which never raises: what went wrong is told by the operation."""
        operation = self._new(kind, collection)
        operation.task = asyncio.get_running_loop().create_task(_run(operation, work))
        return operation

    async def stop(self) -> None:
        """End all that run in tasks of their own, and wait until they have."""
        tasks = [one.task for one in self if one.task is not None and not one.is_done]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _new(self, kind: str, collection: str) -> Operation:
        operation = Operation(next(self._numbers), kind, collection, _now())
        self._by_name[operation.name] = operation
        ended = [one.name for one in self if one.is_done]
        for old in ended[: max(0, len(ended) - _ENDED_KEPT)]:
            del self._by_name[old]
        return operation


async def _run(operation: Operation, work: Callable[[Operation], Coroutine[Any, Any, None]]) -> None:
    try:
        await work(operation)
        operation.progress = 1.0
    except asyncio.CancelledError:
        operation.error = Cancelled("the operation was cancelled")
    except EngineError as error:
        operation.error = error
    except Exception as error:
        logger.exception("%s of %s failed", operation.kind, operation.collection)
        operation.error = OperationFailed(f"{operation.kind} failed: {error!r}")
    finally:
        operation.ended_micros, operation.stage = _now(), ""


async def follow(process: BuildProcess, report: Report) -> IvfPqImage:
    """What a child leaves, once it has ended; it is ended where this is cancelled.

    Raises:
        TrainingFailed: the child failed.
        CorruptData: what it left is no image.
    """
    try:
        while not process.poll():
            report(process.progress.stage, process.progress.fraction)
            await asyncio.sleep(_POLL_SECONDS)
        return await asyncio.to_thread(process.result)
    except BaseException:
        process.cancel()
        raise


def _now() -> int:
    return time.time_ns() // 1000
