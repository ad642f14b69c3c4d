"""Servers are killed with SIGKILL at random moments: the next one finds everything that was acknowledged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.recovery.activities import ACTIVITIES
from tests.recovery.chain import Chain, nursery

_KILLS_IN_A_CHAIN = 50
_SHORT = 20
"""Training is killed twice then, for lists take seconds to train."""
_AROUND_IMAGES = ("images", "updates", "images", "deletes", "images", "compaction")
_SHORT_LOGGED = 12
_ALL_CHANGES = 1_000_000


def order_of_activities() -> list[str]:
    """A round in which what takes seconds comes once and everything else twice."""
    slow = [name for name, activity in ACTIVITIES.items() if activity.seconds >= 1]
    quick = [name for name in ACTIVITIES if name not in slow]
    return [*slow, *quick, *quick]


@pytest.mark.timeout(600)
def test_what_is_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    chain = kill_servers(tmp_path, kills=_SHORT, seed=1)
    assert chain.writes > 100
    assert chain.with_lists > 0


@pytest.mark.timeout(600)
def test_what_is_acknowledged_is_there_after_kill_9_though_the_change_log_keeps_only_what_images_need(
    tmp_path: Path,
) -> None:
    chain = kill_servers(tmp_path, kills=_SHORT_LOGGED, seed=1, activities=_AROUND_IMAGES, changes_kept=0)
    assert chain.writes > 100
    assert chain.with_all_changes > 0


@pytest.mark.crash
@pytest.mark.timeout(3600)
def test_what_is_acknowledged_is_there_after_hundreds_of_kills(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seed, kills = pytestconfig.getoption("--seed", 1), pytestconfig.getoption("--kills", 300)
    done, total, with_lists = 0, dict.fromkeys([*ACTIVITIES, "starting"], 0), 0
    while done < kills:
        folder = tmp_path / str(seed)
        folder.mkdir()
        kept = 0 if seed % 2 else _ALL_CHANGES
        chain = kill_servers(folder, kills=min(_KILLS_IN_A_CHAIN, kills - done), seed=seed, changes_kept=kept)
        total = {name: count + chain.kills[name] for name, count in total.items()}
        done, seed, with_lists = done + chain.kills.total(), seed + 1, with_lists + chain.with_lists
    sys.stdout.write(f"\nkills: {total}; {with_lists} servers found lists\n")
    assert with_lists > kills // 10


def kill_servers(
    folder: Path,
    *,
    kills: int,
    seed: int,
    activities: Sequence[str] = (),
    changes_kept: int = _ALL_CHANGES,
) -> Chain:
    with nursery() as process:
        chain = Chain(folder, process, seed, changes_kept)
        for activity in islice(cycle(activities or order_of_activities()), kills):
            chain.kill_one(activity)
            sys.stdout.write(f"\rseed {seed}: {chain.kills.total()} of {kills} killed, {chain.writes} acknowledged ")
            sys.stdout.flush()
        chain.check()
    return chain
