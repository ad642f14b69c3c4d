"""What `ebr search` takes beside a query, and how it reaches the server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.client import SimilarTo
from engine.ranking import LegInput, Pipeline, QueryInput, RankStage
from engine.selection import Diversity, Facet, RankFusion
from engine.types import Examples, Item, SearchParams
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import CURSOR, FakeServer

CURSOR_TEXT = "-_--IG9mIHRoZSBzZWNvbmQgcGFnZQ=="
PIPELINE = Pipeline(20, RankStage("model.onnx", (LegInput("fused"), QueryInput("user", 2), QueryInput("hour"))))


@pytest.fixture(autouse=True)
def _items(server: FakeServer) -> None:
    for place, company in enumerate(["Bread", "Bread", "Flour"]):
        attributes = {"company": company, "remote": place == 0}
        server.items["jobs"][f"i{place}"] = Item(f"i{place}", {"title": f"job {place}"}, attributes)


def searched(run: Run, server: FakeServer, *options: object) -> SearchParams:
    """The parameters that reached the server."""
    result = run("search", "bread", "-c", "jobs", *options)
    assert result.exit_code == 0, result.stderr
    return server.searches[-1][1]


def test_facets_are_asked_for_and_shown_below_the_hits(run: Run, server: FakeServer) -> None:
    result = run("search", "bread", "-c", "jobs", "--facet", "company=1", "--facet", "remote")

    assert server.searches[0][1].facets == (Facet("company", 1), Facet("remote"))
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines.index(["company", "items"]) < lines.index(["Bread", "2"]) < lines.index(["remote", "items"])
    assert ["Flour", "1"] not in lines
    assert ["False", "2"] in lines


def test_json_has_facets_and_the_next_page(run: Run) -> None:
    told = json.loads(run("search", "bread", "-c", "jobs", "--facet", "remote", "--page", "--json").stdout)

    counts = [{"value": False, "items": 2}, {"value": True, "items": 1}]
    assert told["facets"] == [{"attribute": "remote", "counts": counts}]
    assert told["next_page"] == {"cursor": CURSOR_TEXT, "cursor_expires_at": "1970-01-01T00:00:01Z"}


def test_json_without_facets_and_pages_says_so(run: Run) -> None:
    told = json.loads(run("search", "bread", "-c", "jobs", "--json").stdout)

    assert (told["facets"], told["next_page"]) == ([], None)


def test_a_page_tells_its_cursor_unbroken_and_the_cursor_goes_on(
    run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    first = run("search", "bread", "-c", "jobs", "--page")
    assert f"the hits that follow, until 1970-01-01T00:00:01Z: --cursor {CURSOR_TEXT}\n" in first.stdout

    second = run("search", "bread", "-c", "jobs", "--cursor", CURSOR_TEXT)

    params = server.searches[-1][1]
    assert (params.page, params.cursor) == (True, CURSOR)
    assert "no hits follow" in second.stdout
    assert "follow" not in run("search", "bread", "-c", "jobs").stdout


@pytest.mark.parametrize("text", ["a.b=", "abc", "x" * 100 + "!"])
def test_what_is_no_cursor_is_told(run: Run, server: FakeServer, text: str) -> None:
    result = run("search", "bread", "-c", "jobs", "--cursor", text)

    assert result.exit_code == 2
    assert f"--cursor {text[:40]}" in result.stderr
    assert server.searches == []


def test_several_items_are_examples(run: Run, server: FakeServer) -> None:
    run("search", "--like", "i0", "--like", "i1", "--unlike", "i2", "-c", "jobs")
    run("search", "--like", "i0", "--unlike", "i2", "-c", "jobs")
    run("search", "--like", "i0", "-c", "jobs")

    several, one, alone = (query for query, _ in server.searches)
    assert isinstance(several, Examples)
    assert (several.like, several.unlike) == (("i0", "i1"), ("i2",))
    assert isinstance(one, Examples)
    assert (one.like, one.unlike) == (("i0",), ("i2",))
    assert alone == SimilarTo("i0")


def test_an_item_unlike_what_is_wanted_needs_one_that_is_like_it(run: Run) -> None:
    result = run("search", "bread", "--unlike", "i2", "-c", "jobs")

    assert result.exit_code == 2
    assert "--unlike i2" in result.stderr


def test_an_id_that_is_none_is_told_with_its_option(run: Run, server: FakeServer) -> None:
    server.schemas["jobs"] = replace(server.schemas["jobs"], id_type="uint64")

    result = run("search", "--like", "1", "--unlike", "two", "-c", "jobs")

    assert result.exit_code == 1
    assert result.stderr == "--unlike: 'two' is not a uint64 id, which this collection has\n"


def test_ranks_and_ranking_are_up_to_options(run: Run, server: FakeServer) -> None:
    plain = searched(run, server)
    assert (plain.rank_fusion, plain.rank, plain.diversity) == (None, None, None)

    params = searched(run, server, "--rank-fusion", "--no-rank", "--diversity", 0.7)

    assert (params.rank_fusion, params.rank, params.diversity) == (RankFusion(), False, Diversity(0.7))
    assert searched(run, server, "--rank").rank is True


def test_numbers_of_rank_fusion_and_diversity_are_taken(run: Run, server: FakeServer) -> None:
    fused = searched(run, server, "--fusion", "lexical=0.5", "--fusion", "depth=200", "--fusion", "constant=10")
    assert fused.rank_fusion == RankFusion(constant=10.0, depth=200, lexical=0.5)

    diverse = searched(run, server, "--diversity", 0.7, "--diversity-candidates", 40)
    assert diverse.diversity == Diversity(0.7, 40)


def test_candidates_of_diversity_alone_are_refused(run: Run) -> None:
    result = run("search", "bread", "-c", "jobs", "--diversity-candidates", "40")

    assert result.exit_code == 2
    assert "--diversity-candidates 40" in result.stderr


def test_numbers_of_the_query_reach_the_ranker(run: Run, server: FakeServer) -> None:
    server.schemas["jobs"] = replace(server.schemas["jobs"], pipeline=PIPELINE)

    params = searched(run, server, "--query-feature", "user=0.5,-1", "--query-feature", "hour=7")

    assert params.query_features == {"user": (0.5, -1.0), "hour": (7.0,)}


def test_numbers_that_no_ranker_reads_are_told(run: Run, server: FakeServer) -> None:
    without = run("search", "bread", "-c", "jobs", "--query-feature", "user=1")
    server.schemas["jobs"] = replace(server.schemas["jobs"], pipeline=PIPELINE)
    other = run("search", "bread", "-c", "jobs", "--query-feature", "usr=1,2")

    assert (without.exit_code, other.exit_code) == (1, 1)
    assert "--query-feature: user=1: " in without.stderr
    assert "features that are read: none" in without.stderr
    assert "--query-feature: usr=1,2: " in other.stderr
    assert "features that are read: user, hour" in other.stderr


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--query-feature", ["user"]),
        ("--query-feature", ["user=1,x"]),
        ("--query-feature", ["user=1,2", "user=3,4"]),
        ("--facet", ["company=0"]),
        ("--facet", ["company=many"]),
        ("--facet", ["company="]),
        ("--fusion", ["lexical"]),
        ("--fusion", ["depth=1.5"]),
        ("--fusion", ["sum=1"]),
        ("--diversity", ["1.5"]),
        ("--diversity", ["nan"]),
    ],
)
def test_an_option_that_cannot_be_read_is_told_with_its_value(
    run: Run, server: FakeServer, option: str, values: list[str]
) -> None:
    server.schemas["jobs"] = replace(server.schemas["jobs"], pipeline=PIPELINE)

    result = run("search", "bread", "-c", "jobs", *(part for value in values for part in (option, value)))

    assert result.exit_code == 2
    assert option in result.stderr
    assert values[-1] in result.stderr
    assert server.searches == []


def test_how_many_of_a_group_asks_for_the_attribute_that_groups(run: Run) -> None:
    result = run("search", "bread", "--per-group", 2, "-c", "jobs")
    assert result.exit_code == 2
    assert "--group-by" in result.stderr
