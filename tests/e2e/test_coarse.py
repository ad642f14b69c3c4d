"""Int8 codes are made in the background where they are predicted to pay, and exact searches use them."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import FailedPrecondition
from engine.index.costs import Costs
from engine.types import Filter, Item, Range, SearchParams, Strategy, Visibility
from tests.e2e.serving import Serving, a_client, serving, vector_schema, wait_for

ROWS, D = 500, 16
pytestmark = pytest.mark.timeout(300)

CODES_PAY = Costs(1.0, 1e-9, 1e-9, 1e-9, 1.0, 1e-9, 1e-9, 1e-5, 1e-12, 1e-12, 1e-12)
VECTORS = np.random.default_rng(1).normal(size=(ROWS, D)).astype(np.float32)


def costs_file(folder: Path) -> Path:
    path = folder / "costs.json"
    path.write_text(json.dumps(asdict(CODES_PAY)))
    return path


def load(client: RetrievalClient) -> None:
    client.create_collection(vector_schema(dimension=D))
    items = [Item(n, {}, {"rank": n}, vector) for n, vector in enumerate(VECTORS)]
    client.upsert("points", items, visibility=Visibility.SEARCHABLE)


def code_bytes(client: RetrievalClient) -> int:
    return client.get_collection("points").message.versions[0].memory.coarse_codes


def wait_for_idle(running: Serving) -> None:
    """Until the search lane has taken a step of whatever upkeep gave it for idle times."""
    idle = threading.Event()

    def step() -> bool:
        idle.set()
        return False

    running.server.engine.lanes.search.post_idle(step)
    assert idle.wait(60)


@pytest.mark.parametrize("tree", [Filter(), Filter(must=(Range("rank", lt=ROWS // 3),))])
def test_an_exact_search_takes_the_codes_once_they_are_made(tmp_path: Path, tree: Filter) -> None:
    with serving(tmp_path / "data", costs_file=costs_file(tmp_path)) as running, a_client(running) as client:
        load(client)
        wait_for(lambda: code_bytes(client) > 0, seconds=60)
        asked = SearchParams(k=10, exact=True, filter=tree)
        wait_for(
            lambda: client.search("points", VECTORS[0], params=asked).explanation.strategy is Strategy.COARSE_SCAN,
            seconds=60,
        )
        found = client.search_batch("points", VECTORS[:40], params=asked)
        scanned = client.search_batch(
            "points", VECTORS[:40], params=SearchParams(k=10, filter=tree, strategy=Strategy.MASKED_SCAN)
        )
        np.testing.assert_array_equal(found.ids, scanned.ids)
        by_name = client.search("points", VECTORS[0], params=SearchParams(strategy=Strategy.COARSE_SCAN))
        assert by_name.explanation.strategy is Strategy.COARSE_SCAN
        assert by_name.explanation.expected_recall == 1
        value = running.server.metrics.registry.get_sample_value
        asked_so_far, unproven = value("ebr_coarse_queries"), value("ebr_coarse_unproven_queries")
        assert asked_so_far is not None
        assert unproven is not None
        assert asked_so_far >= 42
        assert 0 <= unproven < asked_so_far


def test_no_codes_are_made_where_they_are_switched_off(tmp_path: Path) -> None:
    settings = {"costs_file": costs_file(tmp_path), "coarse_codes": "off"}
    with serving(tmp_path / "data", **settings) as running, a_client(running) as client:
        load(client)
        collection = running.server.engine.collections["points"]
        assert collection.index.wants_codes
        wait_for_idle(running)
        with pytest.raises(FailedPrecondition, match="needs int8 codes"):
            client.search("points", VECTORS[0], params=SearchParams(strategy=Strategy.COARSE_SCAN))
        assert code_bytes(client) == 0


def test_no_codes_are_made_where_they_would_not_pay(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as running, a_client(running) as client:
        load(client)
        assert not running.server.engine.collections["points"].index.wants_codes
        wait_for_idle(running)
        assert code_bytes(client) == 0
