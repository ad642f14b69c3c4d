"""`ebr search` and a real server: what it tells is what it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.types import Item, TextField, Visibility
from tests.e2e.serving import Serving, a_client, serving, text_schema
from tests.engine.cli.conftest import Run

pytestmark = pytest.mark.timeout(300)  # the first run on a machine compiles the CPU's kernels

COLOURS = ("red", "red", "red", "blue", "blue", "green")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Six items that share ever fewer words with one another, in collection ``things``."""
    schema = replace(text_schema(), text_fields=(TextField("title", analyser="plain"), TextField("body", order=1)))
    words = ["sweet", "small", "ripe", "red", "garden", "fruit"]
    with serving(tmp_path_factory.mktemp("served")) as running:
        with a_client(running) as client:
            client.create_collection(schema)
            items = [
                Item(f"i{n}", {"title": " ".join(words[: 6 - n])}, {"colour": colour})
                for n, colour in enumerate(COLOURS)
            ]
            client.upsert("things", items, visibility=Visibility.SEARCHABLE)
        yield running


@pytest.fixture
def told(run: Run, served: Serving, tmp_path: Path) -> Any:
    """The JSON record of a search with these options."""

    def told(*options: object) -> dict[str, Any]:
        result = run("search", *options, "-c", "things", "--target", served.target, "--json")
        assert result.exit_code == 0, result.stderr
        record: dict[str, Any] = json.loads(result.stdout)
        return record

    return told


def ids(record: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in record["hits"]]


@pytest.mark.parametrize("how", [(), ("--mode", "hybrid"), ("--mode", "lexical", "--terms", "sweet garden")])
def test_pages_one_after_another_are_the_whole_ranking(told: Any, how: tuple[str, ...]) -> None:
    query = ("sweet small ripe fruit", *how)
    whole = ids(told(*query, "-k", 6))
    assert len(whole) == 6

    pages, page = [], told(*query, "-k", 2, "--page")
    while page["next_page"] is not None:
        pages += ids(page)
        page = told(*query, "-k", 2, "--cursor", page["next_page"]["cursor"])

    assert pages + ids(page) == whole


def test_a_cursor_of_another_query_is_refused(told: Any, run: Run, served: Serving) -> None:
    cursor = told("sweet", "-k", 2, "--page")["next_page"]["cursor"]

    result = run("search", "ripe", "-c", "things", "-k", 2, "--cursor", cursor, "--target", served.target)

    assert result.exit_code == 1
    assert "params.cursor: is of another query" in result.stderr


def test_facets_count_all_that_pass_the_filter(told: Any) -> None:
    record = told("sweet", "-k", 1, "--filter", "colour != green", "--facet", "colour=5")

    counts = [{"value": "red", "items": 3}, {"value": "blue", "items": 2}]
    assert record["facets"] == [{"attribute": "colour", "counts": counts}]


def test_examples_leave_themselves_out(told: Any) -> None:
    assert set(ids(told("--like", "i0", "--like", "i1", "--unlike", "i5"))) == {"i2", "i3", "i4"}


def test_diversity_and_fusion_by_ranks_are_taken(told: Any) -> None:
    assert len(ids(told("sweet small", "-k", 3, "--diversity", 0.3))) == 3
    fused = told("sweet small", "-k", 3, "--rank-fusion", "--legs")
    assert {leg["name"] for leg in fused["hits"][0]["legs"]} == {"dense", "lexical"}
