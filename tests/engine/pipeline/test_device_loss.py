"""What follows when a device is lost, in its order: health is back only where the CPU is measured and warm."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

from engine.lanes.batching import BatchLimits
from engine.lanes.lane import Lane
from engine.pipeline.device_loss import DeviceLoss


class Scene:
    """A device that is lost by ``lose``, three collections, of which ``bad`` cannot be warmed up; what happened."""

    def __init__(self, policy: Literal["cpu", "fail"]) -> None:
        self.happened: list[Any] = []
        self.done = asyncio.Event()
        self.lane: Lane[int, int] = Lane(
            "search", list, limits=BatchLimits(entries=1, cost=1.0), queue_cost=1.0, on_failure=RuntimeError
        )  # type: ignore[arg-type]  # no batch is run
        self.collections: dict[str, Any] = {name: self._collection(name) for name in ("good", "bad", "gone")}
        self.loss = DeviceLoss(
            SimpleNamespace(when_lost=self._when_lost),  # type: ignore[arg-type]
            SimpleNamespace(search=self.lane),  # type: ignore[arg-type]
            policy=policy,
            collections=self.collections,
            is_loaded=lambda: True,
            health=self._health,
            costs_of=self._costs_of,  # type: ignore[arg-type]
            warm_up=self._warm_up,  # type: ignore[arg-type]
        )

    def lose(self) -> None:
        thread = threading.Thread(target=self._tell, args=("it fell",))
        thread.start()
        thread.join()

    def _collection(self, name: str) -> Any:
        index = SimpleNamespace(name=name, reckon_with=lambda costs: self.happened.append((name, costs)))
        return SimpleNamespace(name=name, version=name, index=index)

    def _when_lost(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def _health(self, name: str, serving: bool) -> None:
        self.happened.append((name, serving))
        if name == "" and serving:
            self.done.set()

    def _costs_of(self, version: str) -> str:
        if version == "gone":
            del self.collections["gone"]
        return f"costs of {version}"

    def _warm_up(self, index: Any) -> None:
        assert threading.current_thread().name == "lane-search"
        if index.name == "bad":
            raise RuntimeError("cannot be warmed up")
        self.happened.append((index.name, "warm"))


def test_health_is_back_once_the_cpu_is_measured_and_warm_and_one_that_is_not_keeps_no_other() -> None:
    async def play() -> None:
        scene = Scene("cpu")
        scene.lose()
        await asyncio.wait_for(scene.done.wait(), 10)
        assert scene.loss.is_lost
        assert scene.happened == [
            *(("", False), ("good", False), ("bad", False), ("gone", False)),
            *(("good", "costs of good"), ("good", "warm"), ("good", True)),
            ("bad", "costs of bad"),
            *(("gone", "costs of gone"), ("gone", "warm")),
            ("", True),
        ]
        await scene.loss.stop()
        await asyncio.to_thread(scene.lane.drain)

    asyncio.run(play())


def test_where_nobody_is_to_go_on_health_stays_as_it_is() -> None:
    async def play() -> None:
        scene = Scene("fail")
        scene.lose()
        await asyncio.sleep(0)
        await asyncio.to_thread(scene.lane.drain)
        assert scene.happened == [("", False), ("good", False), ("bad", False), ("gone", False)]
        await scene.loss.stop()

    asyncio.run(play())
