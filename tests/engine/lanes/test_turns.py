"""Long work of the event loop: in order, and never for long without a turn for others."""

from __future__ import annotations

import asyncio

import pytest

from engine.lanes.turns import in_turns


def test_everything_is_done_in_order_with_its_place() -> None:
    done = asyncio.run(in_turns("abcdefg", lambda place, one: (place, one), a_turn=3))
    assert done == [*enumerate("abcdefg")]
    assert asyncio.run(in_turns([], lambda place, one: one, a_turn=3)) == []


def test_others_have_a_turn_after_each_slice_and_none_within_one() -> None:
    happened: list[object] = []

    async def other() -> None:
        for _ in range(3):
            happened.append("other")
            await asyncio.sleep(0)

    async def scene() -> None:
        beside = asyncio.create_task(other())
        await in_turns(range(5), lambda _, one: happened.append(one), a_turn=2)
        await beside

    asyncio.run(scene())
    assert happened == [0, 1, "other", 2, 3, "other", 4, "other"]


def test_who_is_busy_has_time_to_itself_after_each_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.lanes.turns._REST_SECONDS", 0.125)
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr("engine.lanes.turns.asyncio.sleep", sleep)
    busy = iter([True, False, True])
    asyncio.run(in_turns(range(8), lambda _, one: one, a_turn=2, are_busy=lambda: next(busy)))
    assert rests == [0.125, 0, 0.125]


def test_a_single_slice_gives_way_to_nothing() -> None:
    happened: list[object] = []

    async def other() -> None:
        happened.append("other")

    async def scene() -> None:
        beside = asyncio.create_task(other())
        await in_turns(range(4), lambda _, one: happened.append(one), a_turn=4)
        await beside

    asyncio.run(scene())
    assert happened == [0, 1, 2, 3, "other"]
