from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import ChangesGone
from engine.store import CollectionStore, DeleteOp, FaultKind, StoreLimits, UpsertOp, WriteRequest, change_log
from tests.engine.store.stores import commit_one, make_store, upsert, vectors_of
from tests.engine.store.test_verifying import content, kinds, repaired, sql, verified

KEPT = 5


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CollectionStore:
    monkeypatch.setattr(change_log, "_FORGOTTEN_AT_ONCE", 1)
    return make_store(tmp_path / "books", limits=StoreLimits(changes_kept=KEPT))


def write(store: CollectionStore, n: int) -> None:
    for number in range(n):
        commit_one(store, upsert(f"item {number % 7}", vectors=vectors_of(number)))


def first_of(store: CollectionStore) -> int:
    """The sequence of the log's first entry; all from there on are there."""
    error = None
    try:
        store.changes_after(0, limit=1)
    except ChangesGone as gone:
        error = gone
    first = int(error.metadata["first"]) if error else 1
    assert [one.sequence for one in store.changes_after(first - 1, limit=10_000)] == [*range(first, store.sequence + 1)]
    return first


def test_the_latest_changes_are_kept_and_no_others(store: CollectionStore) -> None:
    store.keep_changes_after(None)
    write(store, 20)
    assert first_of(store) == 16
    store.close()


def test_nothing_is_forgotten_before_someone_has_said_what_is_needed(store: CollectionStore) -> None:
    write(store, 20)
    assert first_of(store) == 1
    store.close()


def test_what_is_needed_is_kept_however_long_the_log_becomes(store: CollectionStore) -> None:
    store.keep_changes_after(7)
    write(store, 40)
    assert first_of(store) == 8
    store.keep_changes_after(39)
    write(store, 40)
    assert first_of(store) == 40
    store.close()


def test_asking_for_what_is_gone_is_refused_and_names_where_the_log_begins(store: CollectionStore) -> None:
    store.keep_changes_after(None)
    write(store, 20)
    with pytest.raises(ChangesGone, match="changes after sequence 14 are asked for, the change log begins with 16"):
        store.changes_after(14, limit=1)
    assert [one.sequence for one in store.changes_after(15, limit=2)] == [16, 17]
    assert store.changes_after(20, limit=1) == []
    store.close()


def test_an_empty_log_is_known_to_have_lost_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_log, "_FORGOTTEN_AT_ONCE", 1)
    store = make_store(tmp_path / "books", limits=StoreLimits(changes_kept=0))
    assert store.changes_after(0, limit=1) == []
    store.keep_changes_after(None)
    write(store, 3)
    with pytest.raises(ChangesGone, match="begins with 4"):
        store.changes_after(2, limit=1)
    assert store.changes_after(3, limit=1) == []
    store.close()
    assert verified(tmp_path / "books").faults == []


def test_a_log_that_is_far_too_long_is_forgotten_by_slices_of_what_commits_write(store: CollectionStore) -> None:
    store.commit([WriteRequest([upsert(f"item {n}", vectors=vectors_of(n)) for n in range(100)])])
    store.keep_changes_after(None)
    write(store, 1)
    assert first_of(store) == 3
    write(store, 1)
    assert first_of(store) == 5
    store.commit([WriteRequest([upsert(f"item {n}", vectors=vectors_of(n)) for n in range(10)])])
    assert first_of(store) == 25
    store.close()


def test_entries_are_forgotten_many_at_a_time(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books", limits=StoreLimits(changes_kept=0))
    store.keep_changes_after(None)
    ops: list[UpsertOp | DeleteOp] = [upsert("a", vectors=vectors_of(1))]
    for _ in range(511):
        ops += [DeleteOp("a"), upsert("a", vectors=vectors_of(1))]
    store.commit([WriteRequest(ops)])
    assert (store.sequence, first_of(store)) == (1023, 1)
    commit_one(store, upsert("b", vectors=vectors_of(2)))
    assert first_of(store) == 1025
    store.close()


def test_a_commit_that_is_refused_forgets_nothing(store: CollectionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, 20)
    store.keep_changes_after(None)
    with monkeypatch.context() as patch:
        patch.setattr("engine.store.schema_sql.UPDATE_NEXT_ROW", "no statement")
        with pytest.raises(Exception, match="syntax error"):
            write(store, 1)
    assert first_of(store) == 1
    store.close()


def test_a_log_that_begins_late_is_sound_and_one_with_a_gap_is_not(store: CollectionStore, tmp_path: Path) -> None:
    store.keep_changes_after(None)
    write(store, 20)
    store.close()
    folder = tmp_path / "books"
    assert verified(folder).faults == []
    held = content(folder)
    sql(folder, "DELETE FROM changes WHERE sequence = 18")
    verdict = verified(folder)
    assert kinds(verdict) == {FaultKind.CHANGES_WRONG}
    assert verdict.faults[0].found == "1 are missing"
    assert repaired(folder).verdict.faults == []
    assert content(folder) == held
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
        assert connection.execute("SELECT sequence FROM changes").fetchall() == [(19,), (20,)]


def test_a_log_that_ends_early_is_a_fault_and_begins_anew(store: CollectionStore, tmp_path: Path) -> None:
    write(store, 20)
    store.close()
    folder = tmp_path / "books"
    sql(folder, "DELETE FROM changes WHERE sequence > 15", "DELETE FROM embeddings WHERE item_key = 3")
    assert FaultKind.CHANGES_WRONG in kinds(verified(folder))
    assert repaired(folder).verdict.faults == []
    opened = CollectionStore.open(folder)
    assert (first_of(opened), opened.sequence) == (21, 21)
    opened.close()
