"""`ebr load` of files read as columns: the same items, counts and refusals as row by row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bench.vector_files import write_vectors
from engine.types import AttributeSpec, AttributeType, GeoPoint, IdType, Item, Schema, Timestamp
from tests.engine.cli.conftest import JOBS, Run
from tests.engine.cli.fake import FakeServer

D = 3
POINTS = Schema(
    "points",
    id_type="uint64",
    metric="dot",
    dimension=D,
    attributes=(*JOBS.attributes, AttributeSpec("n", AttributeType.INT), AttributeSpec("at", AttributeType.GEO_POINT)),
)


def vectors(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(n * D, dtype=np.float32).reshape(n, D)


def create(server: FakeServer, *, id_type: IdType = "uint64") -> None:
    server.client("").create_collection(replace(POINTS, id_type=id_type))


def loaded(server: FakeServer) -> dict[Any, Any]:
    """Items without identity of arrays."""
    return {one: _told(item) for one, item in server.items["points"].items()}


def _told(item: Item) -> tuple[Any, ...]:
    assert item.vector is not None
    return item.id, dict(item.attributes), item.vector.reshape(-1, D).tolist()


@pytest.mark.parametrize("suffix", [".npy", ".fbin"])
def test_vectors_alone_get_row_numbers_as_ids(run: Run, server: FakeServer, tmp_path: Path, suffix: str) -> None:
    create(server)
    path = tmp_path / f"v{suffix}"
    np.save(path, vectors(5)) if suffix == ".npy" else write_vectors(path, vectors(5))
    result = run("load", path, "-c", "points", "--first-id", 100, "--batch", 2)
    assert result.exit_code == 0, result.stderr
    assert "5 items loaded; 0 refused" in result.stderr
    assert loaded(server) == {100 + row: (100 + row, {}, [vectors(5)[row].tolist()]) for row in range(5)}
    assert server.columnar_batches == 3


def test_vectors_alone_may_bring_their_ids(run: Run, server: FakeServer, tmp_path: Path) -> None:
    create(server, id_type="string")
    np.save(tmp_path / "v.npy", vectors(2).astype(np.float64))
    np.save(tmp_path / "ids.npy", np.array(["a", "bc"]))
    assert run("load", tmp_path / "v.npy", "-c", "points", "--ids", tmp_path / "ids.npy").exit_code == 0
    assert [*loaded(server)] == ["a", "bc"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--ids", "short.npy"), "short.npy has 1 ids for 2 vectors"),
        (("--ids", "negative.npy"), "holds no list of ids"),
        (("--ids", "words.npy"), "are strings; this collection has uint64 ids"),
        (("--ids", "nowhere.npy"), "cannot read nowhere.npy"),
        (("--first-id", 2**64 - 1), "are not in [0, 2**64)"),
        (("--ids", "short.npy", "--first-id", 1), "give one of the two"),
        (("--vector", "v"), "--vector names a field"),
    ],
)
def test_ids_that_do_not_fit_are_refused(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[Any, ...], told: str
) -> None:
    create(server)
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", vectors(2))
    np.save("short.npy", np.arange(1))
    np.save("negative.npy", np.array([-1, 2]))
    np.save("words.npy", np.array(["a", "b"]))
    result = run("load", "v.npy", "-c", "points", *options)
    assert result.exit_code != 0
    assert told in result.stderr
    assert server.items["points"] == {}


def test_a_file_that_holds_no_vectors_is_refused(run: Run, server: FakeServer, tmp_path: Path) -> None:
    create(server)
    np.save(tmp_path / "flat.npy", np.arange(3))
    (tmp_path / "cut.fbin").write_bytes(np.array([7, D], "<u4").tobytes())
    for name, told in (("flat.npy", "holds int64 [3], not numbers"), ("cut.fbin", "has 8 bytes, its header says 92")):
        result = run("load", tmp_path / name, "-c", "points")
        assert result.exit_code == 1
        assert told in result.stderr
    assert "--id names the field" in run("load", tmp_path / "a.parquet", "-c", "points", "--first-id", 1).stderr


def odd_table(*, ids: list[Any]) -> pa.Table:
    """Of all types; the last rows lack something, or have what no item can have."""
    n = len(ids)
    rows: list[Any] = [row.tolist() for row in vectors(n)]
    rows[-1], rows[-2], rows[-3], rows[-4] = [1.0, 2.0], [], [1.0, None, 2.0], [1.0, float("nan"), 2.0]
    moment = datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    return pa.table(
        {
            "id": ids,
            "vector": pa.array(rows, pa.list_(pa.float32())),
            "company": [("a", "", None)[row % 3] for row in range(n)],
            "places": [(["x", "", None, "y"], [], None)[row % 3] for row in range(n)],
            "remote": [(True, False, None)[row % 3] for row in range(n)],
            "published": pa.array([moment if row % 2 else None for row in range(n)], pa.timestamp("ns", tz="UTC")),
            "pay": pa.array([row if row % 4 else None for row in range(n)], pa.int64()),
            "n": [row if row != 3 else None for row in range(n)],
            "at": [{"lat": 91.0 if row == 5 else 1.0, "lon": 2.0} for row in range(n)],
            "unknown": ["u"] * n,
        }
    )


@pytest.mark.parametrize(
    ("id_type", "ids"),
    [
        ("uint64", [*range(11), None, 12]),
        ("uint64", [-1, *range(1, 13)]),
        ("uint64", ["1", "x", "", None, *map(str, range(4, 13))]),
        ("string", [*range(13)]),
        ("string", ["a", "", None, "b" * 300, *"efghijklm"]),
    ],
)
def test_parquet_read_as_columns_becomes_what_it_becomes_row_by_row(
    run: Run, server: FakeServer, tmp_path: Path, id_type: IdType, ids: list[Any]
) -> None:
    table = odd_table(ids=ids)
    parquet.write_table(table, tmp_path / "columns.parquet")
    # A column of times, all null, says nothing and yet is more than columns can have.
    parquet.write_table(table.append_column("_expires_at", pa.nulls(len(ids))), tmp_path / "rows.parquet")
    seen = []
    for name in ("columns", "rows"):
        create_again(server, id_type)
        before = server.columnar_batches
        result = run("load", tmp_path / f"{name}.parquet", "-c", "points", "--vector", "vector", "--batch", 5)
        assert result.exit_code == 1
        assert (server.columnar_batches > before) == (name == "columns")
        told = [line for line in result.stderr.splitlines() if not line.startswith("loading")]
        seen.append((loaded(server), told))
    assert seen[0] == seen[1]
    assert len(seen[0][0]) > 3


def create_again(server: FakeServer, id_type: IdType) -> None:
    server.schemas.pop("points", None)
    create(server, id_type=id_type)


def test_a_row_without_a_vector_is_refused_and_loses_no_other(run: Run, server: FakeServer, tmp_path: Path) -> None:
    create(server)
    rows = pa.array([[1.0, 2.0, 3.0], None, [4.0, 5.0, 6.0]], pa.list_(pa.float64(), D))
    parquet.write_table(pa.table({"id": range(3), "vector": rows}), tmp_path / "a.parquet")
    result = run("load", tmp_path / "a.parquet", "-c", "points", "--vector", "vector")
    assert result.exit_code == 1
    assert "row 2: text: the item has neither text to encode nor vectors" in result.stderr
    assert [told[2] for told in loaded(server).values()] == [[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]


def test_values_of_parquet_come_as_the_schema_has_them(run: Run, server: FakeServer, tmp_path: Path) -> None:
    create(server)
    parquet.write_table(odd_table(ids=[*range(13)]), tmp_path / "a.parquet")
    run("load", tmp_path / "a.parquet", "-c", "points", "--vector", "vector")
    assert server.items["points"][7].attributes == {
        "company": "",
        "remote": False,
        "published": Timestamp(1_577_934_245_000_006),
        "pay": 7.0,
        "n": 7,
        "at": GeoPoint(1.0, 2.0),
    }


def test_a_load_of_columns_that_was_stopped_goes_on_where_it_stopped(
    run: Run, server: FakeServer, tmp_path: Path
) -> None:
    create(server)
    np.save(tmp_path / "v.npy", vectors(10))
    server.fail_after = 2
    stopped = run("load", tmp_path / "v.npy", "-c", "points", "--batch", 3)
    assert stopped.exit_code == 1
    assert "stopped after row 6" in stopped.stderr
    server.fail_after = None
    server.batches.clear()
    again = run("load", tmp_path / "v.npy", "-c", "points", "--batch", 3)
    assert "going on after row 6" in again.stderr
    assert "10 items loaded; 0 refused" in again.stderr
    assert server.batches == [[6, 7, 8], [9]]


def test_large_values_are_sent_in_smaller_messages(run: Run, server: FakeServer, tmp_path: Path) -> None:
    create(server)
    rows = pa.array([row.tolist() for row in vectors(9)], pa.list_(pa.float32(), D))
    table = pa.table({"id": range(9), "vector": rows, "company": ["x" * 3_000_000] * 9})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert run("load", tmp_path / "a.parquet", "-c", "points", "--vector", "vector").exit_code == 0
    assert server.batches == [[0, 1], [2, 3], [4, 5], [6], [7, 8]]
