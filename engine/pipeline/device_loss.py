"""A GPU that fails while it serves: health says so, and the CPU goes on with the same collections where it may.

The backend turns to the CPU by itself, from the batch after the one that failed. What is done here is to measure what
searches cost there and to warm up, before health says that all is well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Literal

from engine.backend.protocol import Backend
from engine.index.costs import Costs
from engine.index.version_index import VersionIndex
from engine.pipeline.collection import Collection, Lanes
from engine.types import VersionInfo

logger = logging.getLogger(__name__)


class DeviceLoss:
    """See the module. Made on the event loop.

    Args:
        policy: whether the CPU goes on.
        collections: those that are served, whichever they are then.
        is_loaded: whether the server serves at all yet; what follows while it does not is the start's to say.
        health: told (collection name, is serving); the empty name stands for the server.
        costs_of: what searches of a version cost on the device at work; takes a while.
        warm_up: runs in the search lane's thread.
    """

    def __init__(
        self,
        backend: Backend,
        lanes: Lanes,
        *,
        policy: Literal["cpu", "fail"],
        collections: Mapping[str, Collection],
        is_loaded: Callable[[], bool],
        health: Callable[[str, bool], None],
        costs_of: Callable[[VersionInfo], Costs],
        warm_up: Callable[[VersionIndex], None],
    ) -> None:
        self.is_lost = False
        self._lanes = lanes
        self._policy = policy
        self._collections = collections
        self._is_loaded = is_loaded
        self._health = health
        self._costs_of = costs_of
        self._warm_up = warm_up
        self._going: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        backend.when_lost(self._tell)

    async def stop(self) -> None:
        if self._going is not None:
            self._going.cancel()
            await asyncio.gather(self._going, return_exceptions=True)

    def _tell(self, reason: str) -> None:
        """In whatever thread."""
        self._loop.call_soon_threadsafe(self._begin, reason)

    def _begin(self, reason: str) -> None:
        self.is_lost = True
        goes_on = {"cpu": "the CPU goes on", "fail": "no search is answered until a restart (device_lost = fail)"}
        logger.error("the GPU failed, %s: %s", goes_on[self._policy], reason)
        for name in ("", *self._collections):
            self._health(name, False)
        if self._policy == "cpu":
            self._going = self._loop.create_task(self._go_over())

    async def _go_over(self) -> None:
        for collection in tuple(self._collections.values()):
            try:
                await self._make_ready(collection)
            except Exception:
                logger.exception("collection %s could not be made ready for the CPU", collection.name)
        if self._is_loaded():
            self._health("", True)

    async def _make_ready(self, collection: Collection) -> None:
        index = collection.index
        costs = await asyncio.to_thread(self._costs_of, collection.version)

        def take_over() -> None:
            index.reckon_with(costs)
            self._warm_up(index)

        await self._lanes.search.call(take_over)
        if self._collections.get(collection.name) is collection:
            self._health(collection.name, True)
