"""A collection's version and rows, read beside a server that has it open, and of one that no server has."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import CorruptData
from engine.store import CollectionStore, glance
from tests.engine.store.stores import commit_one, make_store, upsert, vectors_of, version


def test_rows_are_told_of_a_collection_that_is_open_and_of_one_that_is_not(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books")
    assert glance(tmp_path / "books") == (version(), 0)
    commit_one(store, upsert("a", vectors=vectors_of(1, n_rows=2)), upsert("b", vectors=vectors_of(2)))
    assert glance(tmp_path / "books") == (version(), 3)
    commit_one(store, upsert("a", "another", vectors=vectors_of(3)))
    assert glance(tmp_path / "books") == (version(), 4)
    store.close()
    assert glance(tmp_path / "books") == (version(), 4)


def test_a_look_at_what_a_crash_left_changes_nothing_of_it(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books")
    commit_one(store, upsert("a", vectors=vectors_of(1)))
    log = (tmp_path / "books" / "store.sqlite-wal").read_bytes()
    assert glance(tmp_path / "books")[1] == 1
    assert (tmp_path / "books" / "store.sqlite-wal").read_bytes() == log
    store.close()
    assert CollectionStore.open(tmp_path / "books").row_count("v1") == 1


def test_what_is_no_collection_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match=r"has no store\.sqlite"):
        glance(tmp_path)
    (tmp_path / "store.sqlite").write_bytes(b"something else, and long enough to be read" * 100)
    with pytest.raises(CorruptData):
        glance(tmp_path)
