from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.errors import CollectionNotFound
from engine.store import CollectionStore, delete_collection_folder, list_collections, remove_leftovers
from tests.engine.store.stores import make_store, schema, version


def test_collections_are_listed_by_name(tmp_path: Path) -> None:
    assert list_collections(tmp_path / "nothing") == []
    for name in ("b", "a"):
        make_store(tmp_path / name).close()
    assert list_collections(tmp_path) == ["a", "b"]


def test_a_deleted_collection_is_gone_and_its_name_is_free(tmp_path: Path) -> None:
    make_store(tmp_path / "a").close()
    delete_collection_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    make_store(tmp_path / "a").close()


def test_deleting_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CollectionNotFound):
        delete_collection_folder(tmp_path / "a")


def test_a_delete_that_is_cut_short_leaves_no_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path / "a").close()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            delete_collection_folder(tmp_path / "a")
    assert list_collections(tmp_path) == []
    assert remove_leftovers(tmp_path) == [".a.deleting"]
    assert list(tmp_path.iterdir()) == []


def test_a_create_that_is_cut_short_leaves_no_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_store(tmp_path / "a")
    assert list_collections(tmp_path) == []
    CollectionStore.create(tmp_path / "a", schema(), version()).close()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
