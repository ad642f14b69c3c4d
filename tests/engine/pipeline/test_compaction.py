"""What a compaction does while it waits for pages of earlier moments."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from engine.pipeline import compaction


def test_what_is_written_while_cursors_are_waited_for_is_caught_up_with_meanwhile(monkeypatch: Any) -> None:
    clock = SimpleNamespace(micros=0)
    caught: list[int] = []

    async def sleep(seconds: float) -> None:
        clock.micros += round(seconds * 1e6)

    async def caught_up(*_: object) -> None:
        caught.append(clock.micros)

    async def call(action: Any) -> Any:
        return action()

    index = SimpleNamespace(
        clock=lambda: clock.micros, rows=SimpleNamespace(shown=SimpleNamespace(close=lambda now: now + 1_200_000))
    )
    collection: Any = SimpleNamespace(index=index, lanes=SimpleNamespace(search=SimpleNamespace(call=call)))
    monkeypatch.setattr(compaction, "_caught_up", caught_up)
    monkeypatch.setattr(compaction.asyncio, "sleep", sleep)
    nothing: Any = None
    asyncio.run(compaction._leases_ended(collection, nothing, nothing))
    assert caught == [500_000, 1_000_000, 1_200_000]
