from __future__ import annotations

import json
from pathlib import Path

from engine.v1 import admin_pb2
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeServer
from tests.engine.store.stores import make_store
from tests.engine.store.test_snapshots import taken


def test_a_snapshot_is_created_and_copied_where_one_says(run: Run, server: FakeServer) -> None:
    assert run("snapshot", "create", "jobs", "--to", "s3://far/jobs").stdout == "snapshot-1 of jobs: done\n"
    assert server.copied_to == ["s3://far/jobs"]


def test_snapshots_are_listed_and_restored(run: Run, server: FakeServer) -> None:
    assert "ebr snapshot create jobs" in run("snapshot", "list", "jobs").stdout
    server.snapshots.append(
        admin_pb2.Snapshot(id="20261126T1Z-7", collection="jobs", items=1234, sequence=7, size_bytes=2_000_000)
    )
    listed = run("snapshot", "list", "jobs").stdout
    assert "20261126T1Z-7" in listed
    assert "1,234" in listed
    assert json.loads(run("snapshot", "list", "jobs", "--json").stdout)[0]["items"] == "1234"
    told = run("snapshot", "restore", "jobs", "20261126T1Z-7", "--into", "again", "--no-wait")
    assert told.stdout == "restore-1 of again: copying 25%\n"
    assert run("snapshot", "restore", "jobs").exit_code == 1


def test_a_snapshot_is_verified_without_a_server(run: Run, tmp_path: Path) -> None:
    store = make_store(tmp_path / "books")
    manifest = taken(store, tmp_path / "snapshots")
    store.close()
    folder = tmp_path / "snapshots/books" / manifest.id
    assert "is sound: 0 items of books" in run("snapshot", "verify", folder).stdout
    assert json.loads(run("snapshot", "verify", folder, "--json").stdout)["id"] == manifest.id
    (folder / "store.sqlite").write_bytes(b"?")
    told = run("snapshot", "verify", folder)
    assert told.exit_code == 1
    assert "sha256" in told.stderr
