from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from engine.cli import main
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeServer


def test_a_collection_is_created_listed_shown_and_deleted(run: Run, server: FakeServer, tmp_path: Path) -> None:
    schema = tmp_path / "s.toml"
    schema.write_text('name = "things"\ndimension = 2\n', "utf-8")

    assert run("collection", "create", schema).exit_code == 0
    assert "things" in run("collection", "list").stdout
    assert "callers bring the vectors" in run("collection", "get", "things").stdout
    assert run("collection", "delete", "things", "--yes").exit_code == 0
    assert "things" not in server.schemas


def test_texts_that_are_searched_by_terms_are_shown_as_such(run: Run, server: FakeServer, tmp_path: Path) -> None:
    schema = tmp_path / "s.toml"
    lines = ['name = "things"', "dimension = 2", "bm25_b = 0.75", "[[text]]", 'name = "title"', 'analyser = "english"']
    schema.write_text("\n".join([*lines, "lexical_weight = 2", "[[text]]", 'name = "sku"']), "utf-8")

    assert run("collection", "create", schema).exit_code == 0
    told = run("collection", "get", "things").stdout
    assert "BM25 with k1 0.9, b 0.75" in told
    assert "terms english, lexical weight 2" in told
    assert "terms and postings" in told
    assert "BM25" not in run("collection", "get", "jobs").stdout


def test_the_memory_of_a_row_is_shown_by_part(run: Run, server: FakeServer) -> None:
    lines = run("collection", "get", "jobs").stdout.splitlines()

    assert any("vectors" in line and "8.0" in line and "800 B" in line for line in lines)


def test_json_is_the_whole_reply(run: Run, server: FakeServer) -> None:
    told = json.loads(run("collection", "get", "jobs", "--json").stdout)

    assert told["schema"]["name"] == "jobs"
    assert told["versions"][0]["memory"]["vectors"] == "800"
    assert json.loads(run("collection", "list", "--json").stdout) == [told]


def test_creating_what_exists_is_told(run: Run, server: FakeServer, tmp_path: Path) -> None:
    schema = tmp_path / "s.toml"
    schema.write_text('name = "jobs"\ndimension = 2\n', "utf-8")

    result = run("collection", "create", schema)

    assert result.exit_code == 1
    assert result.stderr == "a collection named 'jobs' exists already\n"


def test_deleting_asks_first(server: FakeServer) -> None:
    result = CliRunner().invoke(main.app, ["collection", "delete", "jobs"], input="n\n")

    assert result.exit_code == 1
    assert "jobs" in server.schemas


def test_an_attribute_is_added_and_a_volatile_one_is_not_filterable(run: Run, server: FakeServer) -> None:
    assert run("collection", "add-attribute", "jobs", "clicks", "int", "--volatile").exit_code == 0

    added = server.schemas["jobs"].attribute("clicks")
    assert added is not None
    assert (added.volatile, added.filterable) == (True, False)
    assert run("collection", "add-attribute", "jobs", "clicks", "number").exit_code == 2


def test_upkeep_is_paused_shown_as_such_and_resumed(run: Run, server: FakeServer) -> None:
    told = run("collection", "pause", "jobs").stdout
    assert "paused upkeep of jobs; under way still: train-" in told
    assert server.pauses == [("jobs", False)]
    assert "paused" in run("collection", "list").stdout
    assert "paused: `ebr collection resume jobs`" in run("collection", "get", "jobs").stdout

    assert run("collection", "resume", "jobs").stdout == "resumed upkeep of jobs\n"
    assert "paused" not in run("collection", "list").stdout + run("collection", "get", "jobs").stdout


def test_upkeep_of_all_collections_is_paused_and_what_is_under_way_cancelled(run: Run, server: FakeServer) -> None:
    told = json.loads(run("collection", "pause", "--all", "--cancel", "--json").stdout)

    assert told["collection"] == ""
    assert len(told["operations"]) == len(server.schemas) == len(server.paused)
    assert server.pauses == [("", True)]
    assert json.loads(run("collection", "resume", "--all", "--json").stdout) == {"collection": ""}
    assert not server.paused


def test_pausing_wants_a_name_or_all_and_not_both(run: Run, server: FakeServer) -> None:
    for command in ("pause", "resume"):
        assert run("collection", command).exit_code == 2
        assert run("collection", command, "jobs", "--all").exit_code == 2
    assert not server.pauses
