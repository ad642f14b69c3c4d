from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from engine.files import file_sha256
from engine.ranking import LegInput, Pipeline, RankStage
from engine.store import CollectionStore, DirectoryLock
from tests.engine.cli.conftest import Run
from tests.engine.store.stores import commit_one, make_store, upsert, vectors_of
from tests.engine.store.test_snapshots import taken
from tests.engine.store.test_verifying import content, sql

RANKER = "0123456789abcdef"


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A collection of three items in the data directory ``tmp_path``, and a snapshot of it."""
    monkeypatch.setenv("COLUMNS", "300")
    store = make_store(tmp_path / "collections/books")
    for seed, name in enumerate("abc"):
        commit_one(store, upsert(name, f"title {name}", {"year": seed}, vectors=vectors_of(seed)))
    taken(store, tmp_path / "snapshots")
    store.close()
    return tmp_path / "collections/books"


@pytest.fixture
def ranker(books: Path, tmp_path: Path) -> Path:
    """The collection's own copy of the model that its pipeline ranks by."""
    source = tmp_path / "model.onnx"
    source.write_bytes(b"a model")
    pipeline = Pipeline(20, RankStage(str(source), (LegInput("fused"),)), RANKER, {"model.onnx": file_sha256(source)})
    with closing(CollectionStore.open(books)) as store:
        store.place_ranker(RANKER, {"model.onnx": source})
        store.change_schema(replace(store.schema, pipeline=pipeline))
    return books / "rankers" / RANKER / "model.onnx"


def test_a_sound_directory_is_told_so(run: Run, books: Path, tmp_path: Path) -> None:
    told = run("verify", "--data-dir", tmp_path)
    assert told.exit_code == 0
    assert "3 items" in told.stdout
    assert told.stdout.count("sound") == 2
    record = json.loads(run("verify", "--data-dir", tmp_path, "--json").stdout)
    assert record["collections"][0]["is_sound"]
    assert record["snapshots"][0]["fault"] is None
    assert json.loads(run("verify", "--data-dir", tmp_path, "--no-snapshots", "--json").stdout)["snapshots"] == []


def test_nothing_is_verified_beside_a_server(run: Run, books: Path, tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        told = run("verify", "--data-dir", tmp_path)
    assert told.exit_code == 1
    assert "stop the server first" in told.stderr


def test_a_directory_or_collection_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    assert "is no folder" in run("verify", "--data-dir", tmp_path / "none").stderr
    assert not (tmp_path / "none").exists()
    told = run("verify", "--data-dir", tmp_path, "--collection", "none")
    assert told.exit_code == 1
    assert "no collection named 'none'" in told.stderr


def test_a_repair_asks_first_and_says_what_it_did(run: Run, books: Path, tmp_path: Path) -> None:
    sql(books, "DELETE FROM embeddings WHERE item_key = 2", "UPDATE meta SET item_count = 9")
    told = run("verify", "--data-dir", tmp_path)
    assert told.exit_code == 1
    for word in ("items without rows", "counters wrong", "ebr verify --repair"):
        assert word in told.stdout
    refused = run("verify", "--data-dir", tmp_path, "--repair")
    assert refused.exit_code == 1
    assert "items without rows" in refused.stderr
    assert "counters wrong" in refused.stdout
    done = run("verify", "--data-dir", tmp_path, "--repair", "--yes")
    assert done.exit_code == 0
    assert "items taken out: 1" in done.stdout
    (path,) = tmp_path.glob("lost-items-books-*.jsonl")
    assert f"ebr load {path}" in done.stdout
    assert json.loads(path.read_text()) == {"_id": "b", "title": "title b", "year": 1}
    assert content(books).keys() == {"a", "c"}
    assert run("verify", "--data-dir", tmp_path).exit_code == 0


def test_leftovers_are_removed_by_a_repair_and_are_no_fault(run: Run, books: Path, tmp_path: Path) -> None:
    shutil.copytree(books, tmp_path / "collections/.old.deleting")
    (tmp_path / "snapshots/books/.half.making").mkdir()
    told = run("verify", "--data-dir", tmp_path)
    assert told.exit_code == 0
    assert told.stdout.count("leftover") == 2
    assert run("verify", "--data-dir", tmp_path, "--repair", "--yes").exit_code == 0
    assert not list(tmp_path.glob("*/.*")) + list(tmp_path.glob("snapshots/books/.*"))


def test_what_cannot_be_repaired_has_its_newest_sound_snapshot_named(run: Run, books: Path, tmp_path: Path) -> None:
    (books / "store.sqlite").write_bytes(b"no database")
    (snapshot,) = (tmp_path / "snapshots/books").iterdir()
    told = run("verify", "--data-dir", tmp_path, "--repair", "--yes")
    assert told.exit_code == 1
    assert f"ebr snapshot restore books {snapshot.name} --into books-restored" in told.stdout
    shutil.rmtree(snapshot)
    assert "no sound snapshot of it was found" in run("verify", "--data-dir", tmp_path).stdout


def test_a_damaged_snapshot_is_a_fault(run: Run, books: Path, tmp_path: Path) -> None:
    (snapshot,) = (tmp_path / "snapshots/books").iterdir()
    (snapshot / "manifest.json").write_text("{")
    told = run("verify", "--data-dir", tmp_path)
    assert told.exit_code == 1
    assert "snapshot damaged" in told.stdout


def test_a_sound_ranker_is_told_so(run: Run, ranker: Path, tmp_path: Path) -> None:
    told = run("verify", "--data-dir", tmp_path, "--json")
    assert told.exit_code == 0
    assert "ranker" in json.loads(told.stdout)["collections"][0]["sound"]


@pytest.mark.parametrize("damage", ["damaged", "missing"])
def test_a_ranker_that_is_not_what_its_pipeline_names_is_a_fault_that_no_repair_touches(
    run: Run, ranker: Path, tmp_path: Path, damage: str
) -> None:
    source = tmp_path / "model.onnx"
    if damage == "damaged":
        ranker.write_bytes(b"A model")
    else:
        ranker.unlink()
    kept = sorted((tmp_path / "collections").rglob("*"))

    for options in ([], ["--repair", "--yes"]):
        told = run("verify", "--data-dir", tmp_path, *options)
        assert told.exit_code == 1
        assert f"rankers/{RANKER}/model.onnx" in told.stdout
        assert f"ranker {damage}" in told.stdout
        assert "`ebr pipeline set books FOLDER` copies it anew" in told.stdout
    assert sorted((tmp_path / "collections").rglob("*")) == kept
    (record,) = json.loads(run("verify", "--data-dir", tmp_path, "--json").stdout)["collections"]
    assert (record["is_sound"], [one["kind"] for one in record["faults"]]) == (False, [f"ranker {damage}"])

    with closing(CollectionStore.open(ranker.parents[2])) as store:
        store.place_ranker(RANKER, {"model.onnx": source})
    assert run("verify", "--data-dir", tmp_path).exit_code == 0


def test_what_else_is_wrong_is_repaired_beside_a_ranker_that_is_not(
    run: Run, ranker: Path, books: Path, tmp_path: Path
) -> None:
    ranker.unlink()
    sql(books, "UPDATE meta SET item_count = 9")

    told = run("verify", "--data-dir", tmp_path, "--repair", "--yes")

    assert told.exit_code == 1
    assert "counters wrong" in told.stderr
    assert "ranker" not in told.stderr
    assert "counters set" in told.stdout
    assert "`ebr pipeline set books FOLDER`" in told.stdout
    assert "ranker missing" in run("verify", "--data-dir", tmp_path).stdout
