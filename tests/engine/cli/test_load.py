from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli import load as load_command
from engine.ingest import readers
from engine.types import Timestamp
from tests.engine.cli.conftest import JOBS, Run
from tests.engine.cli.fake import REFUSED_TEXT, FakeServer


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _rows(n: int) -> list[dict[str, Any]]:
    return [{"_id": f"i{place:03}", "title": f"job {place}"} for place in range(n)]


def test_a_file_is_loaded_with_its_values_as_the_schema_has_them(run: Run, server: FakeServer, tmp_path: Path) -> None:
    row = {
        "_id": "a",
        "title": "Baker",
        "company": "Bread",
        "places": ["Rome"],
        "remote": "true",
        "published": "1970-01-01T00:00:01Z",
        "pay": 5,
        "unknown": 1,
    }

    result = run("load", _jsonl(tmp_path / "a.jsonl", [row]), "-c", "jobs")

    assert result.exit_code == 0, result.stderr
    item = server.items["jobs"]["a"]
    assert item.attributes == {
        "company": "Bread",
        "places": ("Rome",),
        "remote": True,
        "published": Timestamp(1_000_000),
        "pay": 5.0,
    }
    assert "1 items loaded; 0 refused" in result.stderr
    assert "not loaded: unknown" in result.stderr


def test_lists_in_csv_are_split_and_names_can_be_moved(run: Run, server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("key,name,where,pay\n1,Baker,Rome;Oslo,\n", "utf-8")

    result = run(
        *("load", path, "-c", "jobs", "--id", "key", "--text", "title=name"),
        *("--map", "places=where", "--separator", ";"),
    )

    assert result.exit_code == 0, result.stderr
    item = server.items["jobs"]["1"]
    assert (item.text, item.attributes) == ({"title": "Baker"}, {"places": ("Rome", "Oslo")})


@pytest.mark.parametrize("option", [("--map", "pay=salary"), ("--vector", "salary"), ("--text", "title=salary")])
def test_a_column_that_an_option_names_and_the_file_lacks_is_refused_before_anything_is_written(
    run: Run, server: FakeServer, tmp_path: Path, option: tuple[str, str]
) -> None:
    """Written anyway, every item would lose what it has under that name."""
    path = tmp_path / "a.csv"
    path.write_text("_id,title,pay\n1,Baker,5\n", "utf-8")

    result = run("load", path, "-c", "jobs", *option)

    assert result.exit_code == 1
    assert "no column 'salary'" in result.stderr
    assert server.items["jobs"] == {}


def test_a_field_that_an_option_names_and_no_object_has_is_told(run: Run, server: FakeServer, tmp_path: Path) -> None:
    rows = [{"_id": "a", "title": "Baker"}, {"_id": "b", "title": "Cook", "wage": 5}]

    result = run("load", _jsonl(tmp_path / "a.jsonl", rows), "-c", "jobs", "--map", "pay=wage", "--map", "remote=far")

    assert result.exit_code == 0, result.stderr
    assert "named, but in no row: far" in result.stderr


def test_refused_rows_are_counted_and_the_first_ten_told(run: Run, server: FakeServer, tmp_path: Path) -> None:
    rows = [*_rows(30), {"_id": "x", "title": REFUSED_TEXT}, *({"title": "no id"} for _ in range(12))]
    path = _jsonl(tmp_path / "a.jsonl", rows)

    result = run("load", path, "-c", "jobs", "--batch", 7)

    assert result.exit_code == 1
    assert "30 items loaded; 13 refused" in result.stderr
    assert "row 31: text: is not liked" in result.stderr
    assert "row 32: _id or id: is missing" in result.stderr
    assert "and 3 more" in result.stderr
    assert run("load", path, "-c", "jobs", "--allow-refused").exit_code == 0


def test_a_line_that_is_no_json_is_refused_with_its_place(run: Run, server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"_id": "a", "title": "x"}\n{oops\n', "utf-8")

    result = run("load", path, "-c", "jobs")

    assert result.exit_code == 1
    assert "row 2: line: not JSON" in result.stderr
    assert list(server.items["jobs"]) == ["a"]


def test_truncated_items_are_reported(run: Run, server: FakeServer, tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "a.jsonl", [{"_id": "a", "title": "x" * 2000}])

    assert "1 with text longer than the encoder reads (7 tokens left out)" in run("load", path, "-c", "jobs").stderr


def test_a_load_cut_short_goes_on_after_what_was_acknowledged(run: Run, server: FakeServer, tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "a.jsonl", _rows(25))
    server.fail_after = 2

    broken = run("load", path, "-c", "jobs", "--batch", 5)

    assert broken.exit_code == 1
    assert "stopped after row 10" in broken.stderr
    assert "the server went away" in broken.stderr

    server.fail_after = None
    server.batches.clear()
    whole = run("load", path, "-c", "jobs", "--batch", 5)

    assert whole.exit_code == 0
    assert "going on after row 10" in whole.stderr
    assert "25 items loaded" in whole.stderr
    assert [batch[0] for batch in server.batches] == ["i010", "i015", "i020"]
    assert len(server.items["jobs"]) == 25


def test_a_finished_load_begins_anew_when_it_is_run_again(run: Run, server: FakeServer, tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "a.jsonl", _rows(3))
    run("load", path, "-c", "jobs")
    server.batches.clear()

    run("load", path, "-c", "jobs")

    assert server.batches == [["i000", "i001", "i002"]]


@pytest.mark.parametrize("change", ["restart", "file", "collection", "lost"])
def test_a_load_does_not_go_on_where_something_else_is_loaded(
    run: Run, server: FakeServer, tmp_path: Path, change: str
) -> None:
    path = _jsonl(tmp_path / "a.jsonl", _rows(25))
    server.fail_after = 2
    run("load", path, "-c", "jobs", "--batch", 5)
    server.fail_after = None
    server.batches.clear()
    if change == "file":
        _jsonl(path, _rows(26))
    elif change == "collection":
        del server.schemas["jobs"]
        server.client("").create_collection(JOBS)
    elif change == "lost":
        server.sequence -= 1

    result = run("load", path, "-c", "jobs", "--batch", 5, *(["--restart"] if change == "restart" else []))

    assert result.exit_code == 0
    assert server.batches[0][0] == "i000"


def test_ctrl_c_keeps_what_was_acknowledged(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _jsonl(tmp_path / "a.jsonl", _rows(15))
    real = load_command.write_state
    calls = []

    def write_then_interrupt(*args: Any) -> None:
        real(*args)
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(load_command, "write_state", write_then_interrupt)

    result = run("load", path, "-c", "jobs", "--batch", 5)

    assert result.exit_code == 130
    assert "stopped after row 10" in result.stderr
    assert "going on after row 10" in run("load", path, "-c", "jobs", "--batch", 5).stderr


def test_a_collection_is_created_from_a_schema_file_once(run: Run, server: FakeServer, tmp_path: Path) -> None:
    schema = tmp_path / "s.toml"
    schema.write_text('name = "things"\ndimension = 2\n[[attribute]]\nname = "a"\ntype = "int"\n', "utf-8")
    path = _jsonl(tmp_path / "a.jsonl", [{"id": "x", "v": [1, 2], "a": "7"}])

    for name in ("", "other", "other"):
        named = ["-c", name] if name else []
        result = run("load", path, "--schema", schema, "--vector", "v", *named)
        assert result.exit_code == 0, result.stderr

    assert server.items["things"]["x"].attributes == server.items["other"]["x"].attributes == {"a": 7}


def test_a_schema_file_that_differs_from_the_collection_is_refused(
    run: Run, server: FakeServer, tmp_path: Path
) -> None:
    schema = tmp_path / "s.toml"
    schema.write_text(
        'name = "jobs"\nencoder = "minilm"\n[[text]]\nname = "title"\n[[attribute]]\nname = "pay"\ntype = "int"\n',
        "utf-8",
    )

    result = run("load", _jsonl(tmp_path / "a.jsonl", _rows(1)), "--schema", schema)

    assert result.exit_code == 1
    assert "differs in its attributes pay" in result.stderr


def test_neither_collection_nor_schema_is_a_usage_error(run: Run, server: FakeServer, tmp_path: Path) -> None:
    assert run("load", _jsonl(tmp_path / "a.jsonl", [])).exit_code == 2


def test_a_file_that_is_not_there_is_told(run: Run, server: FakeServer, tmp_path: Path) -> None:
    result = run("load", tmp_path / "none.jsonl", "-c", "jobs")

    assert result.exit_code == 1
    assert "is no file" in result.stderr


def test_a_file_that_breaks_off_is_told_after_what_could_be_read(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_COUNTED_BYTES", 0)
    path = tmp_path / "a.csv"
    path.write_text('_id,title\na,x\nb,"never ends\n', "utf-8")

    result = run("load", path, "-c", "jobs", "--batch", 1)

    assert result.exit_code == 1
    assert "cannot read a.csv" in result.stderr
    assert list(server.items["jobs"]) == ["a"]


def test_a_load_waits_for_a_server_that_is_still_starting(run: Run, server: FakeServer, tmp_path: Path) -> None:
    server.is_loading = True
    result = run("load", _jsonl(tmp_path / "a.jsonl", _rows(2)), "-c", "jobs")
    assert result.exit_code == 0, result.stderr
    assert "still starting" in result.stderr
    assert len(server.items["jobs"]) == 2
