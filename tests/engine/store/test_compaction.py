from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.store import Change, CollectionStore, DeleteOp, LiveRow, UpsertOp, WriteRequest
from engine.store.compaction import Compaction
from engine.types import ItemId, StoredItem
from tests.engine.store.stores import make_store, upsert, vectors_of

IDS: list[ItemId] = [f"item {number}" for number in range(12)]


class Writing:
    """Random groups of writes into a store."""

    def __init__(self, store: CollectionStore, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.changes: list[Change] = []

    def group(self) -> None:
        requests = [
            WriteRequest([self._op() for _ in range(self.random.randint(1, 4))])
            for _ in range(self.random.randint(1, 2))
        ]
        for outcome in self.store.commit(requests):
            self.changes += outcome.changes

    def _op(self) -> UpsertOp | DeleteOp:
        one = self.random.choice(IDS)
        if self.random.random() < 0.3:
            return DeleteOp(one)
        attributes = {"clicks": self.random.randint(0, 9), "year": self.random.randint(0, 1)}
        has_vectors = self.random.random() < 0.6
        vectors = vectors_of(self.random.randint(0, 10**6), n_rows=self.random.randint(1, 3)) if has_vectors else None
        return upsert(one, "a title", attributes, vectors=vectors)


def live_now(store: CollectionStore) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    ranges = [(row.first_row, row.n_rows) for row in store.live_rows("v1")]
    return np.array([row for first, n in ranges for row in range(first, first + n)], np.int64)


def content(store: CollectionStore) -> list[StoredItem]:
    return [item for item in store.get(IDS, vectors=True) if item is not None]


def same(one: list[StoredItem], other: list[StoredItem]) -> bool:
    def told(item: StoredItem) -> tuple[object, ...]:
        assert item.vectors is not None
        return item.id, item.sequence, item.text, item.attributes, item.vectors.tobytes()

    return [told(item) for item in one] == [told(item) for item in other]


def rows_by_id(rows: list[LiveRow]) -> dict[ItemId, tuple[int, int]]:
    return {row.id: (row.first_row, row.n_rows) for row in rows}


def steps(compaction: Compaction) -> Iterator[list[Change]]:
    """All that is to be done before the switch, a step at a time."""
    while compaction.copy():
        yield []
    while compaction.stage():
        yield []
    while compaction.is_behind:
        yield compaction.catch_up()


@pytest.mark.parametrize("seed", range(25))
def test_writes_beside_a_compaction_are_as_they_would_be_without(tmp_path: Path, seed: int) -> None:
    store = make_store(tmp_path / "books")
    writing = Writing(store, seed)
    for _ in range(6):
        writing.group()
    compaction = store.begin_compaction()
    for _ in range(writing.random.randint(0, 2)):
        writing.group()  # before the rows that live are told, and after writes are noted
    started, sequence = list(store.live_rows("v1")), store.sequence
    compaction.begin(live_now(store), sequence=sequence)
    changed = []
    for told in steps(compaction):
        changed += told
        if writing.random.random() < 0.5:
            writing.group()
    writing.group()
    before, old_rows = content(store), rows_by_id(list(store.live_rows("v1")))
    changed += store.finish_compaction()

    assert same(content(store), before)
    # What was alive at the start has the first rows, in their order; changes tell the rest.
    place, expected = 0, {}
    for row in started:
        expected[row.id] = (place, row.n_rows)
        place += row.n_rows
    for change in changed:
        assert change.sequence > sequence
        if not change.in_place:
            expected.pop(change.id, None)
        if change.n_rows:
            expected[change.id] = (change.first_row, change.n_rows)
    now = rows_by_id(list(store.live_rows("v1")))
    assert now == expected
    assert sorted(now, key=now.__getitem__) == sorted(old_rows, key=old_rows.__getitem__), "the order is another"
    assert [change.sequence for change in changed] == [
        change.sequence for change in writing.changes if change.sequence > sequence
    ]
    writing.group()
    after = content(store)
    store.remove_old_rows()
    assert [path.name for path in (tmp_path / "books/versions").iterdir()] == ["v1.1"]
    store.close()
    again = CollectionStore.open(tmp_path / "books")
    assert same(content(again), after)
    again.close()


def test_dead_rows_are_left_behind(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books")
    for seed in range(5):
        store.commit(
            [WriteRequest([upsert("a", vectors=vectors_of(seed, n_rows=3)), upsert("b", vectors=vectors_of(9))])]
        )
    assert store.row_count("v1") == 20
    compaction = store.begin_compaction()
    compaction.begin(live_now(store), sequence=store.sequence)
    list(steps(compaction))
    store.finish_compaction()
    assert store.row_count("v1") == 4
    assert store.versions[0].generation == 1
    store.close()


@pytest.mark.parametrize("n_steps", range(4))
def test_a_compaction_that_is_given_up_or_dies_leaves_all_as_it_was(tmp_path: Path, n_steps: int) -> None:
    store = make_store(tmp_path / "books")
    writing = Writing(store, 3)
    for _ in range(5):
        writing.group()
    for is_given_up in (True, False):
        compaction = store.begin_compaction()
        compaction.begin(live_now(store), sequence=store.sequence)
        writing.group()
        for _ in zip(range(n_steps), steps(compaction), strict=False):
            pass
        before = content(store)
        if is_given_up:
            store.give_up_compaction()
            store.give_up_compaction()
        else:
            store.abandon()
            store = CollectionStore.open(tmp_path / "books")
        assert same(content(store), before)
        assert [path.name for path in (tmp_path / "books/versions").iterdir()] == ["v1"]
    store.commit([WriteRequest([upsert("a", vectors=vectors_of(1))])])
    store.close()


def test_a_second_compaction_follows_the_first(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books")
    writing = Writing(store, 5)
    for generation in (1, 2, 3):
        for _ in range(5):
            writing.group()
        compaction = store.begin_compaction()
        compaction.begin(live_now(store), sequence=store.sequence)
        before = content(store)
        list(steps(compaction))
        store.finish_compaction()
        store.remove_old_rows()
        assert store.versions[0].generation == generation
        assert same(content(store), before)
    store.close()


def test_the_live_rows_of_some_items_are_those_of_all(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books")
    writing = Writing(store, 7)
    for _ in range(6):
        writing.group()
    everything = {row.id: row for row in store.live_rows("v1")}
    assert {row.id: row for row in store.live_rows_of(IDS)} == everything
    store.close()
