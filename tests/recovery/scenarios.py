"""What is swept with faults: short histories of acknowledged steps on a store, each one a line of ``SCENARIOS``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from engine.backend.protocol import SEGMENT_ROWS
from engine.errors import CorruptData, ReadOnly, Unavailable
from engine.index.build import remove_leftovers as remove_build_leftovers
from engine.index.costs import Costs
from engine.index.ivfpq import (
    IvfPqImage,
    file_sha256,
    image_ids,
    index_path,
    read_image,
    remove_image,
    write_image,
)
from engine.index.tuning import Tuning
from engine.item_columns import ItemColumns, value_column
from engine.store import (
    CollectionStore,
    DeleteOp,
    StoreLimits,
    UpsertColumns,
    UpsertOp,
    WriteRequest,
    delete_collection_folder,
    list_collections,
    list_snapshots,
    remove_leftovers,
    verify_snapshot,
    version_folder,
)
from engine.store.faults import write_faults
from engine.store.snapshots import remove_old_snapshots, restore_snapshot, write_snapshot
from engine.types import AttributeSpec, AttributeType
from tests.engine.store.stores import DIMENSION, schema, text_hash, upsert, vectors_of, version

if TYPE_CHECKING:
    from engine.backend.cpu_ivfpq import CpuIvfPq

_DEFAULT_LIMITS = StoreLimits()

State: TypeAlias = Any
"""All that can be read of what is stored, as a value that can be compared; None where there is no collection."""


@dataclass(slots=True)
class Stage:
    """A folder of collections with one store that may be open."""

    collections: Path
    limits: StoreLimits
    store: CollectionStore | None = None

    @property
    def folder(self) -> Path:
        return self.collections / "books"

    @property
    def snapshots(self) -> Path:
        return self.collections.parent / "snapshots"

    def open(self) -> None:
        """As a server does: leftovers go, then what is there is opened."""
        remove_leftovers(self.collections)
        if "books" in list_collections(self.collections):
            self.store = CollectionStore.open(self.folder, limits=self.limits)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def look(self) -> State:
        """Whatever is listed as a snapshot, or is there as a copy, is whole."""
        if self.store is None:
            return None
        taken = list_snapshots(self.snapshots, "books")
        for one in taken:
            verify_snapshot(self.snapshots / "books" / one.id)
        copies = [name for name in list_collections(self.collections) if name != "books"]
        for name in copies:
            CollectionStore.open(self.collections / name).close()
        told = ([one.sequence for one in taken], copies)
        return state_of(self.store), lists_of(version_folder(self.folder, self.store.versions[0])), told

    @property
    def opened(self) -> CollectionStore:
        assert self.store is not None
        return self.store


@dataclass(frozen=True, slots=True)
class Step:
    """``is_durable``: once it is acknowledged it survives power loss. ``acts`` raises where it is refused."""

    acts: Callable[[Stage], None]
    is_durable: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """``before`` are acknowledged, then comes ``act`` with its faults.

    ``restarts``: the process dies between the two, and the next one opens what it left as part of ``act``.
    ``stays_open``: whether the store can be read once the act was refused. ``ghost``: a write between ``before`` and
    ``act`` that is refused because the disk would not sync it; until the next is acknowledged, a crash may bring it
    back, alone and whole. ``clears``: what a caller does before trying again, where the disk kept the act from cleaning
    up.
    ``is_large``: groups are written as large ones are, whose vectors are not in the log.
    """

    act: Step
    before: Sequence[Step] = ()
    seed: Sequence[Step] = ()
    restarts: bool = False
    stays_open: bool = True
    ghost: Step | None = None
    clears: Callable[[Stage], None] = lambda stage: None
    limits: StoreLimits = _DEFAULT_LIMITS
    is_large: bool = False
    least_calls: int = 3


def state_of(store: CollectionStore) -> State:
    """Everything but segments' unnamed rows."""
    items = store.scroll(None, limit=1000, vectors=True)
    ids = [item.id for item in items]
    assert store.get(ids, vectors=False) == store.scroll(None, limit=1000)
    return (
        (store.sequence, store.item_count, store.row_count("v1"), len(store.schema.attributes)),
        [(i.id, i.sequence, i.text, i.attributes, _bits(i.vectors)) for i in items],
        store.text_hashes(ids),
        [(row.id, row.first_row, row.n_rows, row.sequence, row.attributes) for row in store.live_rows("v1")],
        store.changes_after(0, limit=1000),
    )


def _bits(vectors: Any) -> bytes:
    content: bytes = vectors.tobytes()
    return content


def commit(*ops: UpsertOp | DeleteOp, durable: bool, request_id: str = "") -> Step:
    def act(stage: Stage) -> None:
        stage.opened.commit([WriteRequest(ops[:2]), WriteRequest(ops[2:], durable=durable, request_id=request_id)])

    return Step(act, durable)


def _create(stage: Stage) -> None:
    stage.store = CollectionStore.create(stage.folder, schema(), version(), limits=stage.limits)


def _drop(stage: Stage) -> None:
    """As a server does: closed first, and closed it stays."""
    if stage.store is not None:
        stage.store.abandon()
        stage.store = None
    if stage.folder.exists():
        delete_collection_folder(stage.folder)


def _checkpoint(stage: Stage) -> None:
    with write_faults("checkpoint"):
        stage.opened._writer.checkpoint()


def _add_attribute(stage: Stage) -> None:
    if stage.opened.schema.attribute("size") is None:
        stage.opened.add_attribute(AttributeSpec("size", AttributeType.INT))


@cache
def _trained(seed: int) -> tuple[CpuIvfPq, IvfPqImage]:
    """Lists of forty rows, and what is told of them; the digest is that of what is written."""
    from engine.backend.faiss_build import train_ivfpq

    rows = np.random.default_rng(seed).standard_normal((40, DIMENSION), dtype=np.float32)
    ivfpq = train_ivfpq(rows, nlist=2, code_bytes=1, metric="cosine", seed=seed)
    ivfpq.add(rows)
    tuning = Tuning((), Costs(*[1e-9] * 7))
    image = IvfPqImage(f"{seed:016d}", DIMENSION, "cosine", 2, 1, 40, 40, 40, seed, seed, "", 0.0, tuning)
    return ivfpq, image


def save_lists(seed: int) -> Step:
    """As a build does and the server that asked for it: a failed one is removed, and so are others once it is there."""

    def act(stage: Stage) -> None:
        folder = version_folder(stage.folder, version())
        ivfpq, image = _trained(seed)
        try:
            ivfpq.save(index_path(folder, image.id))
            write_image(folder, replace(image, index_sha256=file_sha256(index_path(folder, image.id))))
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                remove_image(folder, image.id)
            raise ReadOnly(f"saving lists failed: {error}") from error
        with suppress(OSError):
            for image_id in image_ids(folder):
                if image_id != image.id:
                    remove_image(folder, image_id)

    return Step(act, is_durable=True)


def lists_of(folder: Path) -> State:
    """The lists that a server would open: their id and every row of every list. Damaged ones are passed over."""
    remove_build_leftovers(folder)
    for image_id in image_ids(folder):
        try:
            read_image(folder, image_id)
        except CorruptData:
            continue
        # Where there are none it takes a second for nothing.
        from engine.backend.cpu_ivfpq import CpuIvfPq

        packed = CpuIvfPq.load(index_path(folder, image_id), threads=1).lists
        return image_id, [packed.listed(number)[1].tolist() for number in range(packed.nlist)]
    return None


def _compact(stage: Stage) -> None:
    """As a server does, with a write in between."""
    store = stage.opened
    if store.versions[0].generation:
        return
    try:
        compaction = store.begin_compaction()
        rows = [(row.first_row, row.n_rows) for row in store.live_rows("v1")]
        live = np.array([row for first, n in rows for row in range(first, first + n)], np.int64)
        compaction.begin(live, sequence=store.sequence)
        while compaction.copy():
            pass
        while compaction.stage():
            pass
        store.finish_compaction()
    except Unavailable:
        with suppress(Unavailable):
            store.give_up_compaction()
        raise
    store.remove_old_rows()


def _snapshot(stage: Stage) -> None:
    moment = stage.opened.hold_moment()
    try:
        write_snapshot(stage.snapshots, moment)
    finally:
        moment.release()
    remove_old_snapshots(stage.snapshots, "books", kept=1)


def _remove_snapshots(stage: Stage) -> None:
    """A whole one may be there, of which the disk would not sync the name."""
    shutil.rmtree(stage.snapshots, ignore_errors=True)


def _remove_copy(stage: Stage) -> None:
    shutil.rmtree(stage.collections / "copy", ignore_errors=True)


def _restore(stage: Stage) -> None:
    """Into a second collection, which is opened where it is looked at."""
    (folder,) = (stage.snapshots / "books").iterdir()
    copy = stage.collections / "copy"
    if not copy.exists():
        restore_snapshot(folder, copy)


def _nothing(_: Stage) -> None:
    """Opening and closing are what is swept."""


CREATE = Step(_create, is_durable=True)
SEED = (
    CREATE,
    commit(
        upsert("a", "one", {"year": 1, "color": "red"}, vectors=vectors_of(1)),
        upsert("b", "two", {"year": 2}, vectors=vectors_of(2, n_rows=2)),
        upsert("c", "three", {"clicks": 3}, vectors=vectors_of(3)),
        upsert("d", "four", {"tags": ("x",)}, vectors=vectors_of(4)),
        durable=True,
    ),
    Step(_checkpoint, is_durable=True),
)
NEARLY_FULL = (
    *SEED,
    commit(upsert("z", "many", vectors=vectors_of(5, n_rows=SEGMENT_ROWS - 7)), durable=True),
    Step(_checkpoint, is_durable=True),
)
EARLIER = commit(
    upsert("f", "six", {"year": 6}, vectors=vectors_of(6, n_rows=3)),
    upsert("a", "one again", {"year": 7}, vectors=vectors_of(7)),
    DeleteOp("d"),
    durable=False,
)
EARLIER_DURABLE = commit(
    upsert("g", "seven", {"sold": True}, vectors=vectors_of(8)),
    upsert("c", "three", {"clicks": 4}),
    durable=True,
)


def mixed(*, durable: bool) -> Step:
    """New, new vectors, copied rows, in place, deleted; two requests of one group."""
    return commit(
        upsert("e", "five", {"year": 9, "note": "n" * 5000}, vectors=vectors_of(9, n_rows=2)),
        upsert("b", "two", {"year": 10}),
        upsert("c", "three", {"clicks": 11}),
        upsert("a", "another", {"year": 12}, vectors=vectors_of(12, n_rows=3)),
        DeleteOp("f"),
        durable=durable,
        request_id="r",
    )


def columns(*, durable: bool) -> Step:
    """Many new items between two that are there, behind another request of the group that writes one of them."""
    ids = ["a", *(f"new {number}" for number in range(40)), "c"]
    vectors = vectors_of(20, n_rows=len(ids))
    years = {"year": value_column(np.arange(len(ids)), "year")}
    given = UpsertColumns(ItemColumns(ids, vectors, years), [text_hash(one) for one in ids], vectors)

    def act(stage: Stage) -> None:
        before = WriteRequest([upsert("new 3", "three", vectors=vectors_of(21)), DeleteOp("f")])
        stage.opened.commit([before, WriteRequest((), durable=durable, request_id="r", columns=given)])

    return Step(act, durable)


SNAPSHOT = Step(_snapshot, is_durable=True)
DELETE = commit(DeleteOp("a"), DeleteOp("b"), DeleteOp("nobody"), durable=True)
FOLDS_SOON = StoreLimits(wal_bytes=1)

SCENARIOS: dict[str, Scenario] = {
    "upsert-committed": Scenario(mixed(durable=False), [EARLIER, EARLIER_DURABLE], SEED),
    "upsert-durable": Scenario(mixed(durable=True), [EARLIER_DURABLE, EARLIER], SEED),
    "upsert-into-a-new-segment": Scenario(mixed(durable=True), [EARLIER], NEARLY_FULL),
    "upsert-and-checkpoint": Scenario(mixed(durable=False), [EARLIER], SEED, limits=FOLDS_SOON),
    "upsert-after-a-crash": Scenario(mixed(durable=True), [EARLIER], SEED, restarts=True, least_calls=10),
    "large-upsert": Scenario(mixed(durable=False), [EARLIER], SEED, is_large=True),
    "large-upsert-after-a-refused-one": Scenario(
        mixed(durable=False), [EARLIER], SEED, ghost=EARLIER_DURABLE, is_large=True
    ),
    "upsert-after-a-refused-one": Scenario(mixed(durable=True), [EARLIER], SEED, ghost=EARLIER_DURABLE),
    "columns": Scenario(columns(durable=False), [EARLIER, EARLIER_DURABLE], SEED),
    "large-columns": Scenario(columns(durable=True), [EARLIER], SEED, is_large=True),
    "delete": Scenario(DELETE, [EARLIER], SEED),
    "add-attribute": Scenario(Step(_add_attribute, is_durable=True), [EARLIER], SEED),
    "checkpoint": Scenario(Step(_checkpoint, is_durable=True), [EARLIER_DURABLE, EARLIER], SEED),
    "open-after-a-crash": Scenario(Step(_nothing, is_durable=False), [EARLIER_DURABLE, EARLIER], SEED, restarts=True),
    "close": Scenario(Step(Stage.close, is_durable=True), [EARLIER_DURABLE, EARLIER], SEED, stays_open=False),
    "save-lists": Scenario(save_lists(2), [EARLIER_DURABLE], (*SEED, save_lists(1)), stays_open=False, least_calls=20),
    "compact": Scenario(Step(_compact, is_durable=True), [EARLIER_DURABLE, EARLIER], SEED, least_calls=20),
    "snapshot": Scenario(SNAPSHOT, [EARLIER_DURABLE], SEED, clears=_remove_snapshots, least_calls=20),
    "restore": Scenario(
        Step(_restore, is_durable=True), [EARLIER_DURABLE], (*SEED, SNAPSHOT), clears=_remove_copy, least_calls=20
    ),
    "create": Scenario(CREATE, clears=_drop, least_calls=30),
    "drop": Scenario(Step(_drop, is_durable=True), [EARLIER], SEED),
}
