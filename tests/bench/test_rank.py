from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from bench import rank
from bench.harness import SEED
from engine.ranking import width_of


@pytest.mark.timeout(600)  # a first server compiles its kernels
@pytest.mark.usefixtures("bench_cache")
def test_ranking_is_timed_beside_the_searches_that_it_adds_to(tmp_path: Path) -> None:
    out = tmp_path / "rank.jsonl"
    assert rank.main(["--rows", "600", "--rounds", "2", "--out", str(out)]) == 0
    line: dict[str, Any] = json.loads(out.read_text("utf-8"))
    figures = line["figures"]
    assert (line["bench"], figures["rows"]) == ("rank", 600)
    for name, queries in {"query": 1, "batch": rank.BATCH}.items():
        medians = {one: figures[f"{name}.{one}_ms"]["median"] for one in ("fused", "retrieved", "ranked")}
        assert min(medians.values()) > 0
        added = figures[f"{name}.added_p50_ms"]
        assert added == pytest.approx(medians["ranked"] - medians["fused"], rel=0.01, abs=0.01)
        assert figures[f"{name}.added_p50_ms_a_query"] == pytest.approx(added / queries, rel=0.01, abs=0.01)
        assert figures[f"{name}.rank_stage_ms"] > 0


def test_columns_are_as_many_as_the_network_reads() -> None:
    assert sum(map(width_of, rank._inputs())) == rank.COLUMNS


def test_items_fit_the_schema_and_are_the_same_each_time() -> None:
    one, other = (rank._items(20, np.random.default_rng(SEED)) for _ in range(2))
    schema = rank._schema()
    for item, again in zip(one, other, strict=True):
        assert item.attributes == again.attributes
        assert set(item.attributes) == {spec.name for spec in schema.attributes}
        np.testing.assert_array_equal(item.vector, again.vector)


def test_the_network_is_two_hidden_layers(tmp_path: Path) -> None:
    path = rank._network(tmp_path / "model.onnx", np.random.default_rng(SEED))
    model = onnx.load(path)
    weights = [onnx.numpy_helper.to_array(one) for one in model.graph.initializer]
    columns = np.random.default_rng(1).standard_normal((5, rank.COLUMNS)).astype(np.float32)
    hidden = np.maximum(np.maximum(columns @ weights[0], 0) @ weights[1], 0)
    (scores,) = ReferenceEvaluator(model).run(None, {"columns": columns})
    np.testing.assert_allclose(scores, hidden @ weights[2], rtol=1e-4, atol=1e-5)
