from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench import datasets, filtered_data, fusion
from bench.harness import MISSED
from bench.inprocess import Answers, Asked
from bench.live_bed import clustered
from bench.predicates import IntRange, Predicate
from engine.scoring import Feature, Scoring
from engine.types import Float32Array

ROWS, QUERIES = 2000, 64


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> fusion.Fused:
    """Clusters in place of the texts, with the features that the bench draws."""
    monkeypatch.setattr(datasets, "minilm", lambda *, threads: None)

    def short_texts(data: Path, encoder: None, *, n_rows: int, n_queries: int) -> datasets.Rows:
        rows = clustered(n_rows)
        return datasets.Rows(rows.items, rows.queries[:QUERIES])

    monkeypatch.setattr(filtered_data, "short_texts", short_texts)
    return fusion._made(SimpleNamespace(quick=True, data=Path("nowhere")), ROWS)  # type: ignore[arg-type]


WEIGHTS = np.array([0.1, 0, 0, 0.05, 0, 0, 0, -0.2])


def cell(made: fusion.Fused, engine: Any, *, rate: float) -> fusion._Cell:
    scoring = Scoring(terms=tuple(Feature(f"f{n}", float(weight)) for n, weight in enumerate(WEIGHTS)))
    return fusion._Cell(made, engine, rate, 0.5, scoring)


def top(made: fusion.Fused, query: Float32Array, n: int, *, added: Float32Array | None = None) -> set[int]:
    scores = made.items @ query + (0 if added is None else added)
    return set(np.argsort(-scores, kind="stable")[:n].tolist())


@pytest.mark.timeout(600)  # a first engine compiles its kernels
@pytest.mark.usefixtures("made", "bench_cache")
def test_every_cell_is_told_with_its_recall_and_the_rates_of_all_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "_SHARED", (0.5,))
    out = tmp_path / "fusion.jsonl"
    pace = ["--rows", str(ROWS), "--seconds", "0.01", "--rounds", "1", "--quick"]
    assert fusion.main([*pace, "--out", str(out)]) in {0, MISSED}
    line: dict[str, Any] = json.loads(out.read_text("utf-8"))
    assert line["figures"]["rows"] == {"n": ROWS, "d": 128, "features": 8}
    for name in ("pass100%.shared50%", "pass1%.shared50%"):
        told = line["figures"][name]
        assert line["targets"][f"{name}.recall"]["value"] >= 0.9
        assert told["recall_outside"] <= told["recall"] + 0.1
        assert sum(told["strategies"].values()) == QUERIES // 2
        ways = ("fused", "fused_same", "alone_same", "alone", "outside")
        assert set(told["qps"]) == {f"{way}.b{batch}" for way in ways for batch in (64, 1)}
        assert {f"{name}.overhead.b64", f"{name}.overhead.b1"} <= set(line["targets"])


@pytest.mark.parametrize("shared", [0.9, 0.5, 0.1])
def test_weights_are_so_strong_that_as_much_of_the_best_hundred_by_similarity_stays_as_was_asked(
    made: fusion.Fused, shared: float
) -> None:
    scoring = fusion._scoring_at(made, shared)
    added = made.added(scoring)
    kept = [len(top(made, one, 100) & top(made, one, 100, added=added)) / 100 for one in made.queries[0:128:2]]
    assert np.mean(kept) == pytest.approx(shared, abs=0.02)


def test_the_truth_is_the_best_by_fused_score_of_the_rows_that_pass(made: fusion.Fused) -> None:
    for rate in (1.0, 0.01):
        one = cell(made, None, rate=rate)
        asked = one.asked
        truth = one.truth(asked)
        added = made.features @ WEIGHTS
        for query, predicate, found in zip(asked.queries, asked.predicates, truth, strict=True):
            passes = np.ones(ROWS, bool) if rate == 1 else made.buckets == predicate.ranges[0].low
            scores = np.where(passes, made.items @ query + added, -np.inf)
            assert set(found.tolist()) == set(np.argsort(-scores, kind="stable")[: fusion.K].tolist())


def test_where_fewer_pass_than_are_wanted_the_truth_is_padded(made: fusion.Fused) -> None:
    one = cell(made, None, rate=0.01)
    few = int(np.bincount(made.buckets).argmin())
    made.buckets[np.flatnonzero(made.buckets == few)[3:]] = (few + 1) % 100
    asked = Asked(made.queries[:1], [Predicate((IntRange("bucket", few, few + 1),))], fusion.K, None, "bucket")
    (found,) = one.truth(asked)
    assert (found[3:] == -1).all()
    assert set(found[:3].tolist()) == set(np.flatnonzero(made.buckets == few).tolist())


def test_hits_that_the_caller_scores_again_are_the_best_of_those_found(made: fusion.Fused) -> None:
    found = np.argsort(-(made.queries[1::2] @ made.items.T), axis=1)[:, : 10 * fusion.K].astype(np.int64)
    found[0, 4:] = -1

    class Found:
        def answers_each(self, collection: str, asked: Asked) -> Answers:
            return Answers(found, ())

    one = cell(made, Found(), rate=1.0)
    outside = fusion._Outside(one, one.asked)
    rows, added = outside.rows(), made.added(one.scoring)
    assert rows.shape == (QUERIES // 2, fusion.K)
    assert (rows[0, 4:] == -1).all()
    for query, own, among in zip(one.asked.queries[1:], rows[1:], found[1:], strict=True):
        scores = (made.items @ query + added)[among]
        assert set(own.tolist()) == set(among[np.argsort(-scores, kind="stable")[: fusion.K]].tolist())
