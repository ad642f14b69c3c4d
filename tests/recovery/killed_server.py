"""A server without gRPC that is to be killed: it checks what it finds, then writes and tells what was acknowledged.

``python -m tests.recovery.killed_server`` imports everything once and forks a server for every line it reads.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from engine.config import Settings
from engine.errors import CorruptData
from engine.limits import Limits
from engine.pipeline import needs
from engine.pipeline.collection import Collection
from engine.pipeline.engine import Engine
from engine.pipeline.operations import Operation
from engine.store import change_log, list_snapshots, verify_snapshot
from tests.recovery.activities import ACTIVITIES, SCHEMA, TASKS, Activity, Value, Write, first_writes, write_of
from tests.recovery.inspection import logged, what_is_wrong

RECALL = 0.95
_COPY = "copy"


@dataclass(frozen=True, slots=True)
class Order:
    """What to do; ``known`` is acknowledged, each of ``in_flight`` may have been written or not.

    ``changes_kept``: as the setting; with 0 whatever no image needs is forgotten at once.
    """

    data_dir: Path
    costs_file: Path
    activity: str
    seed: int
    first_number: int
    known: dict[int, Value]
    in_flight: list[Write]
    changes_kept: int


async def serve(order: Order) -> None:
    activity = ACTIVITIES[order.activity]
    if activity.trains:
        needs._GROWTH_TO_RETRAIN = 0.0
    if activity.images:
        needs._CHANGED_SHARE = 0.0
    if order.changes_kept == 0:
        change_log._FORGOTTEN_AT_ONCE = 1
    settings = Settings(
        data_dir=order.data_dir,
        costs_file=order.costs_file,
        compute_threads=1,
        recall_target=RECALL,
        min_rows_to_train=1000 if activity.trains else 10**9,
        recall_check_share=0.0,
        compact_dead_share=1.0,
        row_image_changes=300 if activity.images else 10**9,
        change_log_kept=order.changes_kept,
    )
    engine = Engine(settings, Limits(), health=lambda name, serves: None)
    await engine.load()
    collection = engine.collections.get(SCHEMA.name) or await _begin(engine)
    _say("lists", str(collection.index.lists is not None))
    _say("log", str(logged(collection.store)[0]), str(collection.index.image_sequence))
    if activity.folds:
        # Folds are in memory alone: what is checked is that the rows found again can be folded again.
        while await collection.lanes.search.call(collection.index.fold):
            pass
    found, wrong = await what_is_wrong(collection, order.known, order.in_flight, recall=RECALL)
    wrong += [f"{name} is not served: {error}" for name, error in engine._failed.items()]
    wrong += _wrong_snapshots(settings.snapshots)
    _say(*(["wrong", repr(wrong)] if wrong else ["sound", *map(str, found)]))
    if _COPY in engine.collections:
        await engine.delete(_COPY)
    await asyncio.gather(
        _tell_of_lists(collection),
        *([_compact(engine, collection)] if activity.compacts else []),
        *([_snapshot(engine, collection)] if activity.snapshots else []),
        *[_write(collection, activity, order, task) for task in range(TASKS)],
    )


def _wrong_snapshots(root: Path) -> list[str]:
    """Whatever is listed is whole."""
    wrong = []
    for manifest in list_snapshots(root, SCHEMA.name):
        try:
            verify_snapshot(root / SCHEMA.name / manifest.id)
        except CorruptData as error:
            wrong.append(str(error))
    return wrong


async def _compact(engine: Engine, collection: Collection) -> None:
    while True:
        await _done(engine.upkeep.compact(collection))
        _say("compacted")


async def _snapshot(engine: Engine, collection: Collection) -> None:
    while True:
        await _done(operation := engine.upkeep.snapshot(collection))
        await _done(engine.restore(SCHEMA.name, snapshot=operation.result.id, url="", into=_COPY))
        assert engine.collections[_COPY].store.sequence == operation.result.sequence
        await engine.delete(_COPY)
        _say("restored")


async def _done(operation: Operation) -> None:
    assert operation.task is not None
    await asyncio.wait([operation.task])
    if operation.error is not None:
        raise operation.error


async def _begin(engine: Engine) -> Collection:
    collection = await engine.create(SCHEMA)
    for write in first_writes():
        await write.send(collection)
    return collection


async def _write(collection: Collection, activity: Activity, order: Order, task: int) -> None:
    number = order.first_number + task
    while True:
        write = write_of(activity, order.seed, number)
        _say("sent", str(number))
        await write.send(collection)
        _say("acknowledged", str(number))
        if activity.folds:
            collection.lanes.search.post_idle(collection.index.fold)
        number += TASKS


async def _tell_of_lists(collection: Collection) -> None:
    """Whenever others are searched."""
    known = collection.index.lists
    while True:
        await asyncio.sleep(0.01)
        if collection.index.lists is not known:
            known = collection.index.lists
            _say("trained")


def _say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(serve(pickle.loads(Path(line.strip()).read_bytes())))
            except BaseException:
                _say("wrong", repr(traceback.format_exc()))
            os._exit(0)
        _say("started", str(child))
        os.waitpid(child, 0)
        _say("dead")


if __name__ == "__main__":
    main()
