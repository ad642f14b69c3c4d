from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.cli import output
from engine.cli.search import read_vector
from engine.client import SimilarTo
from engine.errors import InvalidArgument
from engine.scoring import Scoring
from engine.selection import GroupBy
from engine.types import Hit, Item, LegScore, Match, Timestamp
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeServer


@pytest.fixture(autouse=True)
def _items(server: FakeServer) -> None:
    for place, title in enumerate(["Baker\nof bread", "Miller"]):
        attributes = {"company": f"c{place}", "places": ("Rome", "Oslo"), "published": Timestamp(1_000_000)}
        server.items["jobs"][f"i{place}"] = Item(f"i{place}", {"title": title}, attributes)


def test_hits_are_shown_as_a_table_with_strategy_and_times_below(run: Run) -> None:
    result = run("search", "bread", "-c", "jobs")

    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert any(
        all(part in line for part in ("1", "i0", "1.0000", "Baker of bread", "c0", "Rome, Oslo")) for line in lines
    )
    assert any("filtered_ivfpq · 25.00% of items pass · nprobe 8" in line for line in lines)
    assert any("queue 1.00 ms · encode 2.00 ms" in line and "search 500 ms" in line for line in lines)


def test_texts_are_cut_by_the_width_of_a_terminal_alone(
    run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.items["jobs"]["i0"] = Item("i0", {"title": "Baker of bread, rolls and cakes, " * 4}, {"company": "c0"})
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run("search", "bread", "-c", "jobs").stdout
    monkeypatch.delenv("COLUMNS")
    piped = run("search", "bread", "-c", "jobs").stdout

    assert "…" in narrow
    assert "Baker of bread, rolls and cakes, " * 3 in piped
    assert "…" not in piped


def test_scores_and_what_is_chosen_by_them_are_up_to_options(run: Run, server: FakeServer) -> None:
    options = ["--mode", "hybrid", "--terms", "flour", "--profile", "fresh", "--min-score", 0.5]
    run("search", "bread", "-c", "jobs", *options, "--group-by", "company", "--per-group", 2, "--legs")

    _, params = server.searches[0]
    assert (params.mode, params.terms, params.scoring, params.min_score) == ("hybrid", "flour", Scoring("fresh"), 0.5)
    assert (params.group_by, params.legs) == (GroupBy("company", 2), True)


def test_legs_are_shown_and_told() -> None:
    legs = (LegScore("similarity", 0.5, 0.5, 1.0), LegScore("rank", math.nan, 0.0, 2.0))
    hit = Hit("a", 0.5, legs=legs)
    assert output.legs_line(hit) == "1 x 0.500 similarity + 2 x 0.000 rank"
    assert output.hit_record(hit)["legs"][1] == {"name": "rank", "raw": None, "normalised": 0.0, "weight": 2.0}
    assert "legs" in [column.header for column in output.hits_table([hit], ()).columns]


def test_json_holds_hits_and_explanation(run: Run) -> None:
    told = json.loads(run("search", "bread", "-c", "jobs", "--json", "-k", 1).stdout)

    assert [hit["id"] for hit in told["hits"]] == ["i0"]
    assert told["hits"][0]["attributes"]["published"] == "1970-01-01T00:00:01Z"
    assert told["explanation"]["strategy"] == "filtered_ivfpq"
    assert told["explanation"]["times"]["search"] == 0.5


def test_the_options_reach_the_server(run: Run, server: FakeServer) -> None:
    run("search", "--like", "i1", "-c", "jobs", "-k", 3, "--exact", "--nprobe", 5, "--recall-target", 0.9)

    query, params = server.searches[0]
    assert query == SimilarTo("i1")
    assert (params.k, params.exact, params.nprobe, params.recall_target) == (3, True, 5, 0.9)


def test_a_filter_is_parsed_with_the_schema_of_the_collection(run: Run, server: FakeServer) -> None:
    result = run("search", "bread", "-c", "jobs", "--filter", 'company = "c0"')

    assert result.exit_code == 0, result.stderr
    assert Match("company", any_of=("c0",)) in server.searches[0][1].filter.must


def test_the_columns_may_be_chosen(run: Run) -> None:
    shown = run("search", "bread", "-c", "jobs", "--fields", "published,places").stdout

    assert "1970-01-01T00:00:01Z" in shown
    assert "Baker" not in shown


def test_a_column_that_the_schema_lacks_is_told(run: Run) -> None:
    result = run("search", "bread", "-c", "jobs", "--fields", "titel")

    assert result.exit_code == 1
    assert "collection 'jobs' has no titel; there are: title, company, places" in result.stderr


def test_explain_shows_every_word_of_the_reply(run: Run) -> None:
    shown = run("search", "bread", "-c", "jobs", "--explain").stdout

    assert "encoder version" in shown
    assert "score dtype" in shown


@pytest.mark.parametrize("args", [[], ["bread", "--like", "i0"], [" "]])
def test_anything_but_one_query_is_a_usage_error(run: Run, args: list[str]) -> None:
    assert run("search", "-c", "jobs", *args).exit_code == 2


def test_no_hits_is_said_so(run: Run, server: FakeServer) -> None:
    server.items["jobs"].clear()

    assert "no hits" in run("search", "bread", "-c", "jobs").stdout


def test_a_vector_is_read_from_numpy_json_or_numbers(tmp_path: Path, run: Run, server: FakeServer) -> None:
    wanted = np.array([1, 2.5], np.float32)
    np.save(tmp_path / "v.npy", wanted.astype(np.float64)[None])
    (tmp_path / "v.json").write_text("[1, 2.5]", "utf-8")
    (tmp_path / "v.txt").write_text("1\n2.5\n", "utf-8")

    for name in ("v.npy", "v.json", "v.txt"):
        np.testing.assert_array_equal(read_vector(tmp_path / name), wanted)
    run("search", "--vector-file", tmp_path / "v.npy", "-c", "jobs")
    np.testing.assert_array_equal(server.searches[0][0], wanted)


@pytest.mark.parametrize(("name", "content"), [("v.txt", "one"), ("v.npy", "no"), ("v.json", "[[1, 2], [3, 4]]")])
def test_a_file_without_a_vector_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")

    with pytest.raises(InvalidArgument):
        read_vector(tmp_path / name)


def test_a_vector_file_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    result = run("search", "--vector-file", tmp_path / "none.npy", "-c", "jobs")

    assert result.exit_code == 1
    assert result.stderr.endswith("none.npy: No such file or directory\n")


def test_weights_of_embeddings_reach_the_server(run: Run, server: FakeServer) -> None:
    run("search", "bread", "-c", "jobs", "--embedding", "title=2", "--embedding", "body=0.5")

    assert server.searches[0][1].embedding_weights == {"title": 2.0, "body": 0.5}
    told = run("search", "bread", "-c", "jobs", "--embedding", "title")
    assert told.exit_code == 2
    assert "give NAME=WEIGHT" in told.stderr
