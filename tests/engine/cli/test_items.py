from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.types import GeoPoint, Item, Timestamp
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeServer


@pytest.fixture(autouse=True)
def _items(server: FakeServer) -> None:
    for place in range(3):
        vector = np.array([[place, 0.5]], np.float32)
        attributes = {"company": "ä", "published": Timestamp(1), "places": ("Rome",)}
        server.items["jobs"][f"i{place}"] = Item(f"i{place}", {"title": "Baker"}, attributes, vector)


def test_items_are_shown_by_id(run: Run) -> None:
    result = run("get", "i0", "-c", "jobs")

    assert result.exit_code == 0
    assert all(part in result.stdout for part in ("i0", "Baker", "Rome"))


def test_an_item_that_is_not_there_is_told_beside_those_that_are(run: Run) -> None:
    result = run("get", "i0", "none", "-c", "jobs", "--json")

    assert result.exit_code == 1
    assert [item["_id"] for item in json.loads(result.stdout)] == ["i0"]
    assert result.stderr == "no item with id 'none'\n"


def test_deleting_counts_those_that_existed(run: Run, server: FakeServer) -> None:
    assert "deleted 1 of 2 items" in run("delete", "i0", "none", "-c", "jobs").stdout
    assert json.loads(run("delete", "i1", "-c", "jobs", "--json").stdout)["deleted"] == 1
    assert list(server.items["jobs"]) == ["i2"]


def test_items_are_counted(run: Run) -> None:
    assert run("count", "-c", "jobs").stdout == "3\n"
    assert json.loads(run("count", "-c", "jobs", "--json").stdout) == {"count": 3}


def test_what_is_exported_loads_again_as_it_was(run: Run, server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    before = dict(server.items["jobs"])

    assert run("export", "-c", "jobs", "--vectors", "-o", out).exit_code == 0
    server.items["jobs"].clear()
    assert run("load", out, "-c", "jobs", "--vector", "_vector").exit_code == 0

    for one, item in before.items():
        again = server.items["jobs"][one]
        assert (again.id, again.text, again.attributes) == (item.id, item.text, item.attributes)
        assert item.vector is not None
        assert again.vector is not None
        np.testing.assert_array_equal(again.vector, item.vector)


def test_an_export_goes_to_stdout_line_by_line(run: Run, server: FakeServer) -> None:
    server.items["jobs"]["i0"] = Item("i0", {}, {"place": GeoPoint(1, 2)})

    lines = run("export", "-c", "jobs").stdout.splitlines()

    assert [json.loads(line)["_id"] for line in lines] == ["i0", "i1", "i2"]
    assert json.loads(lines[0])["place"] == {"lat": 1, "lon": 2}


def test_an_id_that_cannot_be_one_is_told(run: Run, server: FakeServer, tmp_path: Path) -> None:
    schema = tmp_path / "s.toml"
    schema.write_text('name = "numbers"\ndimension = 2\nid_type = "uint64"\n', "utf-8")
    run("collection", "create", schema)

    assert "'abc' is not a uint64 id" in run("get", "abc", "-c", "numbers").stderr
