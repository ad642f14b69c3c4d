"""Lists are trained anew where rows come that are unlike those they were trained among, and kept where like ones do."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.index.costs import Costs
from engine.types import Float32Array
from tests.e2e.serving import Serving, a_client, serving, vector_schema, wait_for
from tests.e2e.test_upkeep import ROWS, D, clustered, load, trained

pytestmark = pytest.mark.timeout(300)


def unlike(rows: int, seed: int) -> Float32Array:
    """Of clusters where none was."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(77).normal(size=(10, D)) * 4
    return (centers[rng.integers(0, 10, rows)] + rng.normal(size=(rows, D))).astype(np.float32)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """With costs by which every tail is folded at once."""
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({field.name: 1e-9 for field in fields(Costs)} | {"scan_call": 1.0}))
    return {"costs_file": path, "min_rows_to_train": ROWS}


def drift(client: RetrievalClient) -> float:
    return client.get_collection("points").message.versions[0].ivfpq.drift


def gauge(server: Serving, name: str = "ebr_drift") -> float | None:
    return server.server.metrics.registry.get_sample_value(name, {"collection": "points"})


def trainings(client: RetrievalClient) -> list[bool]:
    """Whether each is done."""
    return [one.is_done for one in client.list_operations() if one.kind == "train"]


def test_lists_are_trained_anew_once_rows_come_that_lie_far_from_all_of_them(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with serving(tmp_path / "data", **settings) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        wait_for(lambda: trainings(client) == [True])
        load(client, unlike(ROWS // 4, 5), first=ROWS)
        wait_for(lambda: len(trainings(client)) == 2, seconds=60)
        wait_for(lambda: trainings(client) == [True, True], seconds=120)
        # Lists of both: rows like either are no drift any more.
        load(client, np.concatenate([clustered(900, 6), unlike(200, 7)]), first=2 * ROWS)
        trained(client, ROWS + ROWS // 4 + 1100)
        assert drift(client) < 0.1
        assert len(trainings(client)) == 2


def test_lists_are_kept_while_rows_come_like_those_they_were_trained_among(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with serving(tmp_path / "data", **settings) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        assert gauge(running) is gauge(running, "ebr_imbalance") is None
        load(client)
        trained(client)
        for part in range(4):
            load(client, clustered(ROWS // 5, 10 + part), first=ROWS + part * ROWS // 5)
        trained(client, ROWS + 4 * ROWS // 5)
        assert drift(client) < 0.1
        assert gauge(running) == drift(client)
        lists = client.get_collection("points").message.versions[0].ivfpq
        assert 0.8 < lists.imbalance < 1.2
        assert gauge(running, "ebr_imbalance") == lists.imbalance
        load(client, clustered(1, 20), first=10**6)
        assert trainings(client) == [True]


def test_lists_are_trained_anew_once_where_a_known_cluster_is_flooded_though_no_row_lies_far(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    cluster = np.random.default_rng(1).normal(size=(40, D))[7] * 4
    with serving(tmp_path / "data", **settings) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        wait_for(lambda: trainings(client) == [True])
        flood = (cluster + np.random.default_rng(8).normal(size=(ROWS, D))).astype(np.float32)
        load(client, flood[: ROWS // 2], first=ROWS)
        wait_for(lambda: len(trainings(client)) == 2, seconds=60)
        wait_for(lambda: trainings(client) == [True, True], seconds=120)
        # As many again of the same share are no flood of lists that were trained among both.
        load(client, np.concatenate([clustered(600, 6), flood[ROWS // 2 : ROWS // 2 + 300]]), first=2 * ROWS)
        trained(client, ROWS + ROWS // 2 + 900)
        assert drift(client) < 0.1
        assert len(trainings(client)) == 2


def test_drift_outlives_restarts_and_compactions(tmp_path: Path, settings: dict[str, Any]) -> None:
    with serving(tmp_path / "data", **settings) as first, a_client(first) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        load(client, unlike(ROWS // 12, 5), first=ROWS)
        trained(client, ROWS + ROWS // 12)
        before = drift(client)
        assert 0.2 < before < 0.35
    with serving(tmp_path / "data", **settings) as second, a_client(second) as client:
        load(client, clustered(1, 30), first=10**6)
        trained(client, ROWS + ROWS // 12 + 1)
        assert drift(client) == pytest.approx(before, abs=0.001)
        client.delete("points", list(range(100)))
        client.wait_for_operation(client.compact_collection("points"))
        assert drift(client) == pytest.approx(before, abs=0.001)
    with serving(tmp_path / "data", **settings) as third, a_client(third) as client:
        assert drift(client) == pytest.approx(before, abs=0.001)
