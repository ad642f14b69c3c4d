from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.index.costs import Costs
from engine.index.row_arrays import Capture
from engine.index.version_index import VersionIndex
from engine.item_columns import ColumnsChange, ItemColumns, value_column
from engine.store import (
    CollectionStore,
    DeleteOp,
    UpdateOp,
    UpsertColumns,
    WriteOp,
    WriteOutcome,
    WriteRequest,
    planning,
)
from engine.types import AttributeValue, GeoPoint, IdType, ItemId, ItemUpdate, Timestamp
from tests.engine.store.stores import make_store, schema, upsert, vectors_of, version

WORDS = ["red", "blue", 'a "quoted" \\ word', "naïve\n\x00", ""]
TABLES = {
    "items": "key",
    "embeddings": "item_key",
    "changes": "sequence",
    "requests": "number",
    "meta": "one",
    "versions": "number",
}
N_IDS = 40


def named(number: int, id_type: IdType) -> ItemId:
    """Ids of both ends of the range among them, and strings that a database might cut short."""
    if id_type == "string":
        return f"item {number}\x00{number}"
    return 2**64 - 1 - number if number % 3 == 0 else number


def some_attributes(rng: np.random.Generator) -> dict[str, AttributeValue]:
    values: dict[str, AttributeValue] = {
        "color": WORDS[rng.integers(len(WORDS))],
        "tags": tuple(WORDS[one] for one in rng.integers(0, len(WORDS), rng.integers(1, 4))),
        "sold": bool(rng.integers(2)),
        "year": int(rng.integers(-(2**62), 2**62)),
        "price": float(rng.choice([0.0, -0.0, 0.1, 1e300, float(rng.standard_normal())])),
        "at": Timestamp(int(rng.integers(-(10**12), 10**12))),
        "place": GeoPoint(float(rng.uniform(-90, 90)), float(rng.uniform(-180, 180))),
        "note": "a note",
        "clicks": int(rng.integers(100)),
    }
    return {name: value for name, value in values.items() if rng.random() < 0.6}


def some_columns(rng: np.random.Generator, id_type: IdType) -> UpsertColumns:
    numbers = rng.integers(0, N_IDS, rng.integers(1, 12)).tolist()
    of_each = [some_attributes(rng) for _ in numbers]
    names = [spec.name for spec in schema().attributes if any(spec.name in one for one in of_each)]
    attributes = {name: value_column([one.get(name) for one in of_each], name) for name in names}
    ids: Any = [named(number, id_type) for number in numbers]
    ids = np.array(ids, np.uint64) if id_type == "uint64" else ids
    vectors = vectors_of(int(rng.integers(10**6)), n_rows=len(numbers))
    hashes = [f"hash {place}".encode() for place in range(len(numbers))]
    return UpsertColumns(ItemColumns(ids, vectors, attributes), hashes, vectors)


def plain_columns(ids: npt.NDArray[np.uint64]) -> UpsertColumns:
    vectors = vectors_of(len(ids), n_rows=len(ids))
    return UpsertColumns(ItemColumns(ids, vectors), [b"hash"] * len(ids), vectors)


def some_ops(rng: np.random.Generator, id_type: IdType) -> list[WriteOp]:
    ops: list[WriteOp] = []
    for number in rng.integers(0, N_IDS, rng.integers(0, 4)).tolist():
        one = named(number, id_type)
        kind = rng.integers(4)
        if kind == 0:
            ops.append(DeleteOp(one))
        elif kind == 1:
            ops.append(UpdateOp(ItemUpdate(one, {"clicks": int(rng.integers(9))}, ("color",))))
        else:
            vectors = vectors_of(number, n_rows=2) if kind == 2 else None
            ops.append(upsert(one, "a title", some_attributes(rng), vectors=vectors))
    return ops


def item_by_item(request: WriteRequest) -> WriteRequest:
    columns = request.columns
    assert columns is not None
    ops = [*request.ops, *(columns.op(place) for place in range(len(columns.items)))]
    return WriteRequest(ops, request.durable, request.request_id, request.reply)


def content(folder: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(folder / "store.sqlite") as connection:
        rows = {t: connection.execute(f"SELECT * FROM {t} ORDER BY {by}").fetchall() for t, by in TABLES.items()}
    connection.close()
    return rows


def indexed(store: CollectionStore, outcomes: Sequence[WriteOutcome]) -> dict[str, Any]:
    """What rows and columns of an index hold after these."""
    index = VersionIndex(store.schema, version(), store.segments("v1"), Costs(*[1e-9] * len(Costs.__slots__)))
    for outcome in outcomes:
        index.apply(outcome.changes, sequence=outcome.sequence)
    capture = Capture(index.rows, index.columns)
    capture.find_items()
    while capture.step():
        pass
    counts = np.array([index.rows.n_rows, index.rows.n_alive, index.rows.n_items, index.sequence])
    held = {name: np.array(array) for name, array in capture.arrays.items()}
    has_place = np.unpackbits(held["columns/place/present"], bitorder="little")[: index.rows.n_rows]
    for axis in "xyz":
        # What rows without a value hold there means nothing, and differs.
        held[f"columns/place/{axis}"] *= has_place
    return {"counts": counts, "died": index.rows.died.copy()} | held


@pytest.mark.parametrize("short_run", [0, 4])
@pytest.mark.parametrize("id_type", ["uint64", "string"])
@pytest.mark.parametrize("seed", range(6))
def test_columns_leave_what_their_items_written_one_by_one_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, id_type: IdType, short_run: int
) -> None:
    monkeypatch.setattr(planning, "_SHORT_RUN", short_run)
    rng = np.random.default_rng(seed)
    groups = [
        [
            WriteRequest(some_ops(rng, id_type), False, f"{group}-{one}", b"told", some_columns(rng, id_type))
            for one in range(int(rng.integers(1, 4)))
        ]
        for group in range(5)
    ]
    left, arrays, kinds = [], [], set()
    for name, written in (("columns", groups), ("items", [[item_by_item(one) for one in group] for group in groups])):
        store = make_store(tmp_path / name, id_type=id_type)
        outcomes = [outcome for group in written for outcome in store.commit(group)]
        kinds |= {type(change) for outcome in outcomes for change in outcome.changes}
        arrays.append(indexed(store, outcomes))
        live = [(row.id, row.first_row, row.sequence) for row in store.live_rows("v1")]
        vectors = store.segments("v1").take(np.arange(store.row_count("v1"))).tobytes()
        told = [(one.sequence, one.stale, one.conflicts, one.deleted, one.reply) for one in outcomes]
        store.close()
        left.append((content(tmp_path / name), live, vectors, told))
    assert short_run or ColumnsChange in kinds
    assert left[0] == left[1]
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)


def test_new_ids_among_stored_ones_are_told_apart(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books", id_type="uint64")
    first, all_of_them = (np.arange(0, 200, step, dtype=np.uint64) for step in (100, 1))
    _, outcome = [store.commit([WriteRequest((), columns=plain_columns(ids))])[0] for ids in (first, all_of_them)]
    kinds = [type(change).__name__ for change in outcome.changes]
    assert kinds == ["Change", "ColumnsChange", "Change", "ColumnsChange"]
    assert (store.item_count, store.sequence) == (200, 202)
    store.close()


def test_a_retried_request_of_columns_is_applied_once(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books", id_type="uint64")
    columns = plain_columns(np.arange(50, dtype=np.uint64))
    request = WriteRequest((), request_id="once", reply=b"told", columns=columns)
    first, again = store.commit([request, request])
    (third,) = store.commit([request])
    assert (again.replayed, third.replayed) == (True, True)
    assert (again.reply, third.reply, third.sequence) == (b"told", b"told", first.sequence)
    assert store.sequence == 50
    store.close()
