"""`ebr load --json`: one record on standard output, whatever became of the load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from engine.cli import load as load_command
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import REFUSED_TEXT, FakeServer
from tests.engine.cli.test_load_columns import create, vectors


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def titles(n: int) -> list[dict[str, Any]]:
    return [{"_id": f"i{place:03}", "title": f"job {place}"} for place in range(n)]


def record(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_the_record_tells_what_was_written_and_refused(run: Run, server: FakeServer, tmp_path: Path) -> None:
    rows = [{**titles(1)[0], "odd": 1}, *titles(20)[1:], {"_id": "x", "title": REFUSED_TEXT}, {"title": "no id"}]
    path = written(tmp_path / "a.jsonl", rows)

    result = run("load", path, "-c", "jobs", "--batch", 7, "--map", "pay=wage", "--json")

    told = record(result)
    assert result.exit_code == 1
    assert "20 items loaded; 2 refused" in result.stderr
    assert told.pop("seconds") > 0
    assert told.pop("rows_per_second") > 0
    assert told == {
        "collection": "jobs",
        "file": str(path),
        "read_as": "rows",
        "complete": True,
        "searchable": True,
        "resumed_after_row": 0,
        "rows": 22,
        "accepted": 20,
        "refused": 2,
        "refusals": ["row 21: text: is not liked", "row 22: _id or id: is missing, and every item needs an id"],
        "unchanged_texts": 0,
        "truncated_items": 0,
        "truncated_tokens": 0,
        "ignored_fields": ["odd"],
        "missing_fields": ["wage"],
        "sequence": server.sequence,
    }


def test_without_the_option_nothing_is_on_standard_output(run: Run, server: FakeServer, tmp_path: Path) -> None:
    assert run("load", written(tmp_path / "a.jsonl", titles(2)), "-c", "jobs").stdout == ""


def test_a_load_that_stops_has_a_record_too_and_the_next_tells_where_it_went_on(
    run: Run, server: FakeServer, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.jsonl", titles(25))
    server.fail_after = 2

    broken = run("load", path, "-c", "jobs", "--batch", 5, "--json")

    assert broken.exit_code == 1
    wanted = {"complete": False, "searchable": False, "resumed_after_row": 0, "rows": 10, "accepted": 10}
    assert wanted.items() <= record(broken).items()

    server.fail_after = None
    told = record(run("load", path, "-c", "jobs", "--batch", 5, "--json"))

    wanted = {"complete": True, "searchable": True, "resumed_after_row": 10, "rows": 25, "accepted": 25}
    assert wanted.items() <= told.items()
    assert told["rows_per_second"] == pytest.approx(15 / told["seconds"], rel=0.01)


def test_columns_have_the_same_record(run: Run, server: FakeServer, tmp_path: Path) -> None:
    create(server)
    np.save(tmp_path / "v.npy", vectors(5))

    told = record(run("load", tmp_path / "v.npy", "-c", "points", "--batch", 2, "--json"))

    assert {"read_as": "columns", "rows": 5, "accepted": 5, "sequence": 5, "complete": True}.items() <= told.items()


def test_what_is_not_searchable_in_time_is_told_so(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_command, "wait_until_searchable", lambda *_: False)

    result = run("load", written(tmp_path / "a.jsonl", titles(2)), "-c", "jobs", "--json")

    assert result.exit_code == 0
    assert {"complete": True, "searchable": False}.items() <= record(result).items()
