"""What the second stage adds: 500 candidates ranked by a small network over 64 columns, over loopback.

The same searches with ranking off and on, in turn: single queries, and batches of 64. What is added is the difference
of the medians; ``retrieved`` has the searches for 500 hits with their legs, which ranking needs and k = 10 does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.harness import SEED, Options, Report, interleaved, run
from bench.serving import data_folder, load_items, served
from engine.client import RetrievalClient
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, QueryInput, RankInput, RankStage, width_of
from engine.scoring import Feature, Scoring
from engine.types import AttributeSpec, AttributeType, Float32Array, Item, Schema, SearchParams

K, CANDIDATES, COLUMNS, HIDDEN, BATCH = 10, 500, 64, 64, 64
DIMENSION = 128
_NUMBERS = 8
_COUNTRIES = tuple(f"c{n}" for n in range(20))
_COLLECTION = "ranked"


def main(argv: Sequence[str] | None = None) -> int:
    return run("rank", _body, arguments=_arguments, argv=argv)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, help="in place of 200,000, or of 20,000 with --quick")
    parser.add_argument("--rounds", type=int, help="of single queries; of batches a quarter, and 5 at least")


def _body(options: Options, report: Report) -> None:
    n_rows = options.extra.rows or (20_000 if options.quick else 200_000)
    rounds = options.extra.rounds or (21 if options.quick else 101)
    random = np.random.default_rng(SEED)
    inputs = _inputs()
    assert sum(map(width_of, inputs)) == COLUMNS
    with data_folder() as folder, served(folder / "data") as running:
        load_items(running.client, _schema(), _items(n_rows, random))
        model = _network(folder / "model.onnx", random)
        running.client.set_pipeline(_COLLECTION, Pipeline(CANDIDATES, RankStage(str(model), inputs)))
        report.figure("rows", n_rows)
        queries = random.standard_normal((BATCH, DIMENSION)).astype(np.float32)
        _tell(running.client, queries[:1], "query", rounds, report)
        _tell(running.client, queries, "batch", max(5, rounds // 4), report)


def _tell(client: RetrievalClient, queries: Float32Array, name: str, rounds: int, report: Report) -> None:
    scoring = Scoring(terms=(Feature("n0", 0.1),))
    features = {"user": tuple(np.linspace(-1, 1, 16).tolist())}
    fused = SearchParams(k=K, scoring=scoring, rank=False)
    asked = {
        "fused": fused,
        "retrieved": SearchParams(k=CANDIDATES, scoring=scoring, rank=False, legs=True),
        "ranked": SearchParams(k=K, scoring=scoring, query_features=features),
    }
    taken = interleaved({one: _timed(client, queries, params) for one, params in asked.items()}, rounds=rounds)
    result = client.search_batch(_COLLECTION, queries, params=asked["ranked"], explain=True)
    if any(result.rank_fallbacks):
        raise RuntimeError(f"not ranked: {set(result.rank_fallbacks)}")
    for one, samples in taken.items():
        report.figure(f"{name}.{one}_ms", samples.figures())
    report.figure(f"{name}.added_p50_ms", taken["ranked"].median - taken["fused"].median)
    report.figure(f"{name}.added_p50_ms_a_query", (taken["ranked"].median - taken["fused"].median) / len(queries))
    report.figure(f"{name}.rank_stage_ms", result.explanations[0].times.rank * 1000)


def _timed(client: RetrievalClient, queries: Float32Array, params: SearchParams) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        client.search_batch(_COLLECTION, queries, params=params)
        return (time.perf_counter() - began) * 1000

    return measure


def _inputs() -> tuple[RankInput, ...]:
    numbers = (NumberInput(f"n{n}", name=f"number {n}") for n in range(_NUMBERS))
    keywords = (KeywordInput("country", _COUNTRIES), KeywordInput("skills", buckets=16))
    legs = (LegInput("similarity"), LegInput("fused"), LegInput("n0"), LegInput("n0", "raw", name="n0 raw"))
    return (*legs, *numbers, *keywords, QueryInput("user", 16))


def _schema() -> Schema:
    numbers = [
        AttributeSpec(f"n{n}", AttributeType.FLOAT, filterable=n % 2 == 0, volatile=n % 2 == 1) for n in range(_NUMBERS)
    ]
    keywords = (
        AttributeSpec("country", AttributeType.KEYWORD),
        AttributeSpec("skills", AttributeType.KEYWORD_LIST),
    )
    return Schema(_COLLECTION, "uint64", dimension=DIMENSION, attributes=(*numbers, *keywords))


def _items(n: int, random: np.random.Generator) -> list[Item]:
    vectors = random.standard_normal((n, DIMENSION)).astype(np.float32)
    numbers = random.random((n, _NUMBERS)).tolist()
    countries = random.integers(0, 30, n).tolist()
    skills = random.integers(0, 500, (n, 4)).tolist()
    return [
        Item(
            row,
            {},
            {
                "country": f"c{countries[row]}",
                "skills": tuple({f"s{one}" for one in skills[row]}),
                **{f"n{place}": value for place, value in enumerate(numbers[row])},
            },
            vectors[row],
        )
        for row in range(n)
    ]


def _network(path: Path, random: np.random.Generator) -> Path:
    """Two hidden layers of 64."""
    shapes = {"w0": (COLUMNS, HIDDEN), "w1": (HIDDEN, HIDDEN), "w2": (HIDDEN, 1)}
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) / 8).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["columns", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w2"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info("columns", TensorProto.FLOAT, ["n", COLUMNS])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
