from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from engine.store import CollectionStore
from engine.types import StoredItem
from tests.engine.store.crash_child import ITEMS
from tests.engine.store.stores import as_stored, make_store, text_hash, vectors_of

REPOSITORY = Path(__file__).parents[3]
KILLS = 10


def run_until_killed(folder: Path, *, first_generation: int, acknowledgements: int) -> int:
    """Kill a committing process after so many acknowledgements; the last generation that it acknowledged."""
    command = [sys.executable, "-m", "tests.engine.store.crash_child", str(folder), str(first_generation)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acknowledgements)]
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]
    assert len(whole) >= acknowledgements
    return int(whole[-1])


def generation_of(item: StoredItem) -> int:
    """The item's generation, if all of it is of one."""
    generation = item.attributes["year"]
    assert isinstance(generation, int)
    assert item.text == {"title": str(generation)}
    assert item.vectors is not None
    assert np.array_equal(item.vectors, as_stored(vectors_of(generation, n_rows=1 + generation % 3)))
    return generation


def check(folder: Path, *, acknowledged: int) -> int:
    """Check that nothing acknowledged is lost and nothing is half there; the last generation found."""
    store = CollectionStore.open(folder)
    found = {item.id: generation_of(item) for item in store.scroll(None, limit=1000, vectors=True)}
    for generation in range(max(0, acknowledged - ITEMS + 1), acknowledged + 1):
        assert found[generation % ITEMS] >= generation
    live = list(store.live_rows("v1"))
    ends = [row.first_row + row.n_rows for row in live]
    assert all(end <= row.first_row for end, row in zip(ends, live[1:], strict=False))
    assert {row.id: row.attributes["year"] for row in live} == found
    assert store.text_hashes(list(found)) == {i: text_hash(str(generation)) for i, generation in found.items()}
    assert store.item_count == len(found)
    assert store.sequence == max(found.values()) + 1
    store.close()
    return max(found.values())


def test_nothing_acknowledged_is_lost_and_nothing_is_half_there_after_kill_9(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    make_store(folder, id_type="uint64").close()
    moments = np.random.default_rng(7).integers(1, 40, KILLS)
    last = -1
    for acknowledgements in moments.tolist():
        acknowledged = run_until_killed(folder, first_generation=last + 1, acknowledgements=acknowledgements)
        last = check(folder, acknowledged=acknowledged)
    assert last > 100
