from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.errors import CollectionExists, CorruptData, InvalidArgument, VersionNotFound
from engine.store import (
    ChangeKind,
    CollectionStore,
    DeleteOp,
    LiveRow,
    StoreLimits,
    UpsertOp,
    WriteRequest,
    schema_sql,
    writing,
)
from engine.types import AttributeSpec, AttributeType, AttributeValue, GeoPoint, StoredItem, Timestamp
from tests.engine.store.stores import (
    DIMENSION,
    as_stored,
    commit_one,
    make_store,
    only_change,
    schema,
    text_hash,
    upsert,
    vectors_of,
    version,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "collections" / "books"


@pytest.fixture
def store(folder: Path) -> Iterator[CollectionStore]:
    opened = make_store(folder)
    yield opened
    opened.close()


def the_item(store: CollectionStore, item_id: str) -> StoredItem:
    (item,) = store.get([item_id], vectors=True)
    assert item is not None
    return item


def test_a_new_store_is_empty_and_keeps_its_schema_and_version(folder: Path) -> None:
    make_store(folder).close()
    store = CollectionStore.open(folder)
    assert (store.schema, store.versions) == (schema(), (version(),))
    assert (store.sequence, store.item_count, store.row_count("v1")) == (0, 0, 0)
    assert list(store.live_rows("v1")) == []
    store.close()


def test_a_collection_is_not_created_over_another(store: CollectionStore, folder: Path) -> None:
    with pytest.raises(CollectionExists):
        make_store(folder)


def test_every_attribute_comes_back_with_its_type(store: CollectionStore, folder: Path) -> None:
    attributes: dict[str, AttributeValue] = {
        "color": "blå\x00\u2028",
        "tags": ("a", ""),
        "sold": True,
        "year": 2**62 + 1,
        "price": 3.0,
        "at": Timestamp(-(2**60) - 1),
        "place": GeoPoint(-0.1, 1e-17),
        "note": "",
        "clicks": 0,
    }
    commit_one(store, upsert("x", attributes=attributes, vectors=vectors_of(1)))
    found = dict(the_item(store, "x").attributes)
    assert found == attributes
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in attributes.items()}


def test_an_upsert_replaces_the_whole_item(store: CollectionStore) -> None:
    commit_one(store, upsert("x", "old", {"color": "red", "year": 1}, vectors=vectors_of(1)))
    commit_one(store, upsert("x", "new", {"year": 2}, vectors=vectors_of(2)))
    item = the_item(store, "x")
    assert (item.text, item.attributes, item.sequence) == ({"title": "new"}, {"year": 2}, 2)
    assert np.array_equal(item.vectors, as_stored(vectors_of(2)))  # type: ignore[arg-type]


def test_a_filterable_change_copies_the_vectors_to_new_rows(store: CollectionStore) -> None:
    commit_one(store, upsert("x", attributes={"year": 1}, vectors=vectors_of(1, n_rows=2)))
    change = only_change(commit_one(store, upsert("x", attributes={"year": 2})))
    assert (change.first_row, change.n_rows, change.dead_first_row, change.dead_n_rows) == (2, 2, 0, 2)
    assert not change.in_place
    assert np.array_equal(the_item(store, "x").vectors, as_stored(vectors_of(1, n_rows=2)))  # type: ignore[arg-type]


@pytest.mark.parametrize("attributes", [{"year": 1, "clicks": 9}, {"year": 1, "note": "n"}, {"year": 1}])
def test_volatile_and_unfilterable_changes_stay_in_place(store: CollectionStore, attributes: dict[str, int]) -> None:
    commit_one(store, upsert("x", attributes={"year": 1, "clicks": 1}, vectors=vectors_of(1, n_rows=2)))
    change = only_change(commit_one(store, upsert("x", attributes=attributes)))
    assert (change.in_place, change.first_row, change.n_rows, change.dead_n_rows) == (True, 0, 2, 0)
    assert (change.sequence, change.attributes) == (2, attributes)
    assert the_item(store, "x").attributes == attributes
    assert store.row_count("v1") == 2


def test_a_zero_that_turns_negative_is_a_filterable_change(store: CollectionStore) -> None:
    commit_one(store, upsert("x", attributes={"price": 0.0}, vectors=vectors_of(1)))
    assert not only_change(commit_one(store, upsert("x", attributes={"price": -0.0}))).in_place


def test_given_vectors_go_to_new_rows_even_when_the_text_is_the_same(store: CollectionStore) -> None:
    commit_one(store, upsert("x", vectors=vectors_of(1)))
    change = only_change(commit_one(store, upsert("x", vectors=vectors_of(2))))
    assert (change.first_row, change.dead_first_row, change.dead_n_rows, change.in_place) == (1, 0, 1, False)


def test_ops_without_vectors_to_reuse_are_stale_and_the_others_are_applied(store: CollectionStore) -> None:
    commit_one(store, upsert("known", "old", vectors=vectors_of(1)))
    outcome = commit_one(
        store, upsert("unknown"), upsert("fresh", vectors=vectors_of(2)), upsert("known", "new"), upsert("known", "old")
    )
    assert outcome.stale == (0, 2)
    assert [change.id for change in outcome.changes] == ["fresh", "known"]
    assert store.get(["unknown"]) == [None]
    assert the_item(store, "known").text == {"title": "old"}


def test_the_same_id_twice_in_a_group_is_applied_in_order(store: CollectionStore) -> None:
    first = WriteRequest([upsert("x", attributes={"year": 1}, vectors=vectors_of(1)), DeleteOp("x"), upsert("x")])
    second = WriteRequest([upsert("x", attributes={"year": 1}, vectors=vectors_of(2)), upsert("x")])
    outcomes = store.commit([first, second])
    assert [(outcome.stale, outcome.deleted, outcome.sequence) for outcome in outcomes] == [((2,), 1, 2), ((), 0, 4)]
    assert [change.n_rows for change in outcomes[0].changes] == [1, 0]
    copied = outcomes[1].changes[1]
    assert (copied.first_row, copied.dead_first_row, copied.dead_n_rows) == (2, 1, 1)
    assert np.array_equal(the_item(store, "x").vectors, as_stored(vectors_of(2)))  # type: ignore[arg-type]
    assert list(store.live_rows("v1")) == [LiveRow("x", 2, 1, 4, {})]
    assert store.item_count == 1


def test_given_and_copied_vectors_of_one_group_keep_their_places(store: CollectionStore) -> None:
    commit_one(store, upsert("a", vectors=vectors_of(1, n_rows=2)), upsert("b", vectors=vectors_of(2)))
    commit_one(
        store,
        upsert("b", attributes={"year": 1}),
        upsert("c", vectors=vectors_of(3, n_rows=3)),
        upsert("a", attributes={"year": 1}),
    )
    for item_id, seed, n_rows in (("a", 1, 2), ("b", 2, 1), ("c", 3, 3)):
        assert np.array_equal(the_item(store, item_id).vectors, as_stored(vectors_of(seed, n_rows=n_rows)))  # type: ignore[arg-type]


def test_deleting_counts_only_items_that_exist(store: CollectionStore) -> None:
    commit_one(store, upsert("x", vectors=vectors_of(1, n_rows=2)))
    (outcome,) = store.commit([WriteRequest([DeleteOp("x"), DeleteOp("x"), DeleteOp("never")])])
    assert (outcome.deleted, outcome.sequence, outcome.stale, store.item_count) == (1, 2, (), 0)
    change = only_change(outcome)
    assert (change.n_rows, change.dead_first_row, change.dead_n_rows) == (0, 0, 2)


def test_a_repeated_request_id_is_answered_as_then_and_not_applied(store: CollectionStore, folder: Path) -> None:
    commit_one(store, upsert("gone", vectors=vectors_of(1)))
    request = WriteRequest([upsert("x", vectors=vectors_of(2)), DeleteOp("gone")], request_id="r1", reply=b"then")
    first, again = store.commit([request, request])
    commit_one(store, upsert("y", vectors=vectors_of(3)))
    store.close()
    reopened = CollectionStore.open(folder)
    (late,) = reopened.commit([request])
    assert not first.replayed
    assert again == late
    assert (late.replayed, late.sequence, late.deleted, late.reply, list(late.changes)) == (True, 3, 1, b"then", [])
    assert reopened.sequence == 4
    reopened.close()


def test_a_request_with_stale_ops_is_not_remembered(store: CollectionStore) -> None:
    (first,) = store.commit([WriteRequest([upsert("x")], request_id="r1")])
    (second,) = store.commit([WriteRequest([upsert("x", vectors=vectors_of(1))], request_id="r1")])
    assert first.stale == (0,)
    assert (second.replayed, len(second.changes)) == (False, 1)


def test_only_the_latest_request_ids_are_remembered(folder: Path) -> None:
    store = make_store(folder, limits=StoreLimits(requests_kept=2))
    for name in ("r1", "r2", "r3"):
        store.commit([WriteRequest([upsert(name, vectors=vectors_of(1))], request_id=name)])
    replays = [store.commit([WriteRequest([], request_id=name)])[0].replayed for name in ("r3", "r2", "r1")]
    assert replays == [True, True, False]
    store.close()


def test_the_change_log_names_each_change_in_order(store: CollectionStore) -> None:
    commit_one(store, upsert("a", vectors=vectors_of(1)), upsert("b", vectors=vectors_of(2)))
    store.commit([WriteRequest([DeleteOp("a")])])
    logged = [(change.sequence, change.kind, change.id) for change in store.changes_after(1, limit=10)]
    assert logged == [(2, ChangeKind.UPSERT, "b"), (3, ChangeKind.DELETE, "a")]


@pytest.mark.parametrize(
    "op",
    [
        upsert(7, vectors=vectors_of(1)),
        upsert("x", attributes={"colour": "red"}, vectors=vectors_of(1)),
        upsert("x", vectors=np.zeros((1, DIMENSION + 1), np.float32)),
        upsert("x", vectors=np.zeros((0, DIMENSION), np.float32)),
    ],
)
def test_what_does_not_fit_the_schema_refuses_the_group_and_changes_nothing(store: CollectionStore, op: object) -> None:
    with pytest.raises(InvalidArgument):
        store.commit([WriteRequest([upsert("y", vectors=vectors_of(1))]), WriteRequest([op])])  # type: ignore[list-item]
    assert (store.sequence, store.item_count, store.row_count("v1"), store.get(["y"])) == (0, 0, 0, [None])


def test_get_keeps_the_order_asked_for_and_takes_many_ids(store: CollectionStore) -> None:
    commit_one(store, *[upsert(f"i{n}", str(n), vectors=vectors_of(n)) for n in range(1300)])
    asked = [f"i{n}" for n in (1299, 0, 5, 5, 2000, *range(1300))]
    found = store.get(asked)
    assert [None if item is None else item.id for item in found] == [
        None if name == "i2000" else name for name in asked
    ]
    assert store.text_hashes(["i7", "nobody"]) == {"i7": text_hash("7")}


def test_scroll_goes_in_unsigned_order(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books", id_type="uint64")
    ids = [2**64 - 1, 0, 2**63, 2**63 - 1, 5]
    commit_one(store, *[upsert(item_id, vectors=vectors_of(1)) for item_id in ids])
    pages = [store.scroll(None, limit=2), store.scroll(5, limit=2), store.scroll(2**63, limit=2)]
    assert [item.id for page in pages for item in page] == sorted(ids)
    store.close()


def test_scroll_goes_in_the_order_of_bytes(store: CollectionStore) -> None:
    ids = ["é", "z", "\U0001f600", "\uffee", "Z", "a\x00b", "a"]
    commit_one(store, *[upsert(item_id, vectors=vectors_of(1)) for item_id in ids])
    assert [item.id for item in store.scroll(None, limit=10, vectors=True)] == sorted(ids, key=str.encode)


def test_an_attribute_added_later_is_there_after_reopening(store: CollectionStore, folder: Path) -> None:
    commit_one(store, upsert("x", attributes={"year": 1}, vectors=vectors_of(1)))
    spec = AttributeSpec("rating", AttributeType.FLOAT)
    extended = store.add_attribute(spec)
    commit_one(store, upsert("y", attributes={"rating": 0.5}, vectors=vectors_of(2)))
    store.close()
    reopened = CollectionStore.open(folder)
    assert reopened.schema == extended
    assert extended.attributes[-1] == spec
    assert [item.attributes for item in reopened.get(["x", "y"]) if item] == [{"year": 1}, {"rating": 0.5}]
    reopened.close()


def test_an_attribute_is_not_added_twice(store: CollectionStore) -> None:
    with pytest.raises(InvalidArgument, match="color"):
        store.add_attribute(AttributeSpec("color", AttributeType.INT))


def test_an_unknown_version_is_refused(store: CollectionStore) -> None:
    with pytest.raises(VersionNotFound):
        store.segments("v2")


def test_live_rows_are_those_of_one_moment_while_commits_and_checkpoints_go_on(folder: Path) -> None:
    store = make_store(folder, limits=StoreLimits(wal_bytes=1))
    commit_one(store, upsert("a", vectors=vectors_of(1)), upsert("b", vectors=vectors_of(2)))
    rows = store.live_rows("v1")
    assert next(rows).id == "a"
    store.commit([WriteRequest([DeleteOp("b"), upsert("c", vectors=vectors_of(3))])])
    assert [row.id for row in rows] == ["b"]
    assert [row.id for row in store.live_rows("v1")] == ["a", "c"]
    store.close()


def test_the_log_is_folded_into_the_database_beyond_its_budget(folder: Path) -> None:
    store = make_store(folder, limits=StoreLimits(wal_bytes=200_000))
    sizes = []
    for n in range(100):
        commit_one(store, upsert(f"i{n}", "t" * 3000, vectors=vectors_of(n)))
        sizes.append((folder / "store.sqlite-wal").stat().st_size)
    assert 100_000 < max(sizes) < 300_000
    assert sizes.count(0) > 1
    store.close()


def test_another_format_is_refused(store: CollectionStore, folder: Path) -> None:
    store._writer._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(CorruptData, match="99"):
        CollectionStore.open(folder)


@pytest.mark.parametrize("statement", ["DROP TABLE meta", "DELETE FROM meta", "UPDATE meta SET schema = '{}'"])
def test_a_damaged_meta_table_is_refused(store: CollectionStore, folder: Path, statement: str) -> None:
    store._writer._connection.execute(statement)
    with pytest.raises(CorruptData):
        CollectionStore.open(folder)


def test_what_is_no_database_is_refused(store: CollectionStore, folder: Path) -> None:
    store.close()
    (folder / "store.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(CorruptData, match="not a database"):
        CollectionStore.open(folder)


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match=r"store\.sqlite"):
        CollectionStore.open(tmp_path)


@pytest.mark.parametrize("size", [None, 0, 3])
def test_vectors_of_a_small_group_are_in_the_log_until_they_are_synced(
    store: CollectionStore, folder: Path, size: int | None
) -> None:
    commit_one(store, upsert("x", vectors=vectors_of(1, n_rows=3)))
    commit_one(store, upsert("y", vectors=vectors_of(2)))
    segment = folder / "versions" / "v1" / "segment-000000.vec"
    segment.unlink()
    if size is not None:
        segment.write_bytes(b"x" * size)
    reopened = CollectionStore.open(folder)
    found = [item.vectors for item in reopened.get(["x", "y"], vectors=True) if item]
    np.testing.assert_array_equal(np.concatenate(found), as_stored(np.vstack([vectors_of(1, n_rows=3), vectors_of(2)])))
    reopened._writer.checkpoint()
    assert list(reopened._writer._connection.execute("SELECT * FROM fresh_rows")) == []
    reopened.close()


@pytest.mark.parametrize("size", [None, 0, 3])
def test_missing_vectors_are_found_at_open(store: CollectionStore, folder: Path, size: int | None) -> None:
    commit_one(store, upsert("x", vectors=vectors_of(1)))
    store._writer.checkpoint()
    segment = folder / "versions" / "v1" / "segment-000000.vec"
    segment.unlink()
    if size is not None:
        segment.write_bytes(b"x" * size)
    with pytest.raises(CorruptData, match="segment-000000"):
        CollectionStore.open(folder)


def test_rows_that_no_item_may_name_are_found_when_live_rows_are_read(store: CollectionStore) -> None:
    commit_one(store, upsert("x", vectors=vectors_of(1)))
    store._writer._connection.execute("UPDATE embeddings SET first_row = 1")
    with pytest.raises(CorruptData, match="beyond"):
        list(store.live_rows("v1"))


@pytest.mark.parametrize("damage", ['{"color":', '{"unheard_of":1}', '{"place":[1]}'])
def test_attributes_that_were_never_written_are_told_as_corrupt(store: CollectionStore, damage: str) -> None:
    commit_one(store, upsert("x", vectors=vectors_of(1)))
    store._writer._connection.execute("UPDATE items SET attributes = ?", [damage])
    for read in (lambda: list(store.live_rows("v1")), lambda: store.get(["x"]), lambda: store.scroll(None, limit=9)):
        with pytest.raises(CorruptData):
            read()


def recorded(store: CollectionStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk from now on, in its order."""
    events: list[str] = []
    segments, connection = store._segments, store._writer._connection
    for name in ("write", "sync"):
        original = getattr(segments, name)
        monkeypatch.setattr(segments, name, partial(record_and_call, events, name, original))
    connection.set_trace_callback(lambda statement: events.append(statement.strip()))
    return events


def record_and_call(events: list[str], name: str, original: Callable[..., None], *args: object) -> None:
    events.append(name)
    original(*args)


def of_interest(events: list[str]) -> list[str]:
    return [event for event in events if event.startswith(("write", "sync", "BEGIN", "COMMIT", "PRAGMA"))]


def test_vectors_are_written_before_the_transaction_that_names_them(
    store: CollectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = recorded(store, monkeypatch)
    commit_one(store, upsert("x", vectors=vectors_of(1)))
    assert of_interest(events) == ["write", "PRAGMA synchronous = NORMAL", "BEGIN IMMEDIATE", "COMMIT"]
    events.clear()
    commit_one(store, upsert("x", vectors=vectors_of(2)), durable=True)
    assert of_interest(events) == ["write", "PRAGMA synchronous = FULL", "BEGIN IMMEDIATE", "COMMIT"]
    events.clear()
    monkeypatch.setattr(writing, "_LOGGED_BYTES", 0)
    commit_one(store, upsert("x", vectors=vectors_of(3)))
    assert of_interest(events) == ["write", "sync", "PRAGMA synchronous = NORMAL", "BEGIN IMMEDIATE", "COMMIT"]
    assert all(event.startswith("SELECT") for event in events[: events.index("write")])
    assert events[-1] == "COMMIT"


def test_vectors_are_synced_before_a_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(folder, limits=StoreLimits(wal_bytes=1))
    events = recorded(store, monkeypatch)
    commit_one(store, upsert("x", vectors=vectors_of(1)))
    forgets = ["BEGIN IMMEDIATE", "COMMIT"]
    assert of_interest(events)[-5:] == ["COMMIT", "sync", *forgets, "PRAGMA wal_checkpoint(TRUNCATE)"]
    events.clear()
    store.close()
    assert of_interest(events)[:2] == ["sync", "PRAGMA wal_checkpoint(TRUNCATE)"]


def test_nothing_is_checkpointed_by_sqlite_itself(store: CollectionStore) -> None:
    (pages,) = store._writer._connection.execute("PRAGMA wal_autocheckpoint").fetchone()
    assert pages == 0


def test_readers_on_other_threads_see_whole_items_while_commits_go_on(store: CollectionStore) -> None:
    def generation(n: int) -> list[UpsertOp]:
        return [upsert(f"i{i}", str(n), {"year": n}, vectors=vectors_of(n)) for i in range(5)]

    def read(done: threading.Event) -> int:
        reads = 0
        while not done.is_set() or not reads:
            found = [item for item in store.get([f"i{i}" for i in range(5)], vectors=True) if item]
            (n,) = {int(item.text["title"]) for item in found}
            assert {item.attributes["year"] for item in found} == {n}
            assert all(np.array_equal(item.vectors, as_stored(vectors_of(n))) for item in found)  # type: ignore[arg-type]
            reads += len(store.scroll(None, limit=2))
        return reads

    commit_one(store, *generation(0))
    done = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, done) for _ in range(2)]
        for n in range(1, 60):
            commit_one(store, *generation(n))
        done.set()
        assert all(reader.result() for reader in readers)


def test_items_are_looked_up_by_index(store: CollectionStore) -> None:
    connection = store._writer._connection
    for statement, parameters in (
        (schema_sql.READ_STANDING.format(marks="?,?"), [1, "a", "b"]),
        (schema_sql.READ_ITEMS.format(marks="?,?"), [1, "a", "b"]),
        (schema_sql.SCROLL_AFTER, [1, "a", 10]),
        (schema_sql.READ_LIVE.format(marks="?,?"), [1, 2]),
    ):
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)]
        assert all(step.startswith("SEARCH") for step in plan), plan


def repeat(store: CollectionStore) -> None:
    (outcome,) = store.commit([WriteRequest([], request_id="r1", durable=True)])
    assert outcome.replayed


@pytest.mark.parametrize("sync", [CollectionStore.sync, repeat])
def test_what_was_committed_without_a_sync_is_synced_with_the_log_where_that_is_asked_for(
    store: CollectionStore, folder: Path, monkeypatch: pytest.MonkeyPatch, sync: Callable[[CollectionStore], object]
) -> None:
    synced: list[str] = []

    def record(path: Path) -> None:
        synced.append(path.name)

    monkeypatch.setattr("engine.store.writing.sync_file", record)
    monkeypatch.setattr("engine.store.writing.sync_folder", record)
    store.commit([WriteRequest([upsert("a", vectors=vectors_of(1))], request_id="r1")])
    assert synced == []
    monkeypatch.setattr(store._segments, "sync", lambda: synced.append("vectors"))
    sync(store)
    assert synced == ["vectors", "store.sqlite-wal", folder.name]
