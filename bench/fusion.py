"""What score fusion costs and finds: a million rows with eight features, at three strengths, with a filter and without.

Strength is how much of similarity's best hundred the fused best hundred keeps. Recall is against the fused ranking in
float32. In the same rounds: similarity alone by the same strategy, where that is lists by as many of them, for what
fusion itself costs; similarity alone as it would be answered, for what all costs, the further lists included that fused
scores need; and ten times as many hits by similarity that the caller scores again, as is done where an engine cannot
fuse. In-process, two threads; odd queries are measured, even ones choose how strong the weights are.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bench import datasets, filtered_data
from bench.harness import SEED, Options, Report, progress, run
from bench.inprocess import Asked, EngineProcess
from bench.measured import Samples, interleaved
from bench.metrics import recall_of_survivors
from bench.predicates import Attributes, IntRange, Predicate
from bench.prepared import prepared
from engine.scoring import Feature, Scoring
from engine.types import Float32Array, Int64Array, Schema, Strategy

K = 10
_SHARED = (0.9, 0.5, 0.1)
_HUNDRED = 100
_TIMES = 10
_BUCKETS = 100
_N_FEATURES = 8
_COLLECTION = "fusion"
_MOST_OVERHEAD = 0.15
_RECALL = 0.95
_SAME_LISTS = 64
_LISTS = (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)
_FLOAT = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fused:
    """Rows and queries of length 1, features float64 [n, 8], and what of them is asked."""

    items: Float32Array
    queries: Float32Array
    features: _FLOAT
    buckets: Int64Array

    @property
    def attributes(self) -> Attributes:
        floats = {f"f{number}": np.ascontiguousarray(self.features[:, number]) for number in range(_N_FEATURES)}
        return Attributes({"bucket": self.buckets}, {}, floats)

    def added(self, scoring: Scoring) -> Float32Array:
        """What the features add to each row's score: float32 [n]."""
        weights = np.array([term.weight for term in scoring.terms])
        return np.asarray(self.features @ weights, np.float32)


def main(argv: Sequence[str] | None = None) -> int:
    return run("fusion", _body, arguments=_arguments, argv=argv)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, help="in place of a million, or of 100,000 with --quick")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5)


def _body(options: Options, report: Report) -> None:
    n_rows = options.extra.rows or (100_000 if options.quick else 1_000_000)
    made = _made(options, n_rows)
    report.figure("rows", {"n": n_rows, "d": made.items.shape[1], "features": _N_FEATURES})
    report.figure("threads", len(os.sched_getaffinity(0)))
    attributes = made.attributes
    schema = Schema(
        _COLLECTION, id_type="uint64", metric="dot", dimension=made.items.shape[1], attributes=attributes.specs()
    )
    settings = {"min_rows_to_train": n_rows}
    scorings = {shared: _scoring_at(made, shared) for shared in _SHARED}
    with prepared(schema, made.items, settings=settings, trained=True, attributes=attributes) as ready:
        report.figure("made", dict(ready.made))
        with EngineProcess(ready.folder, settings=settings) as engine:
            for rate in (1.0, 1 / _BUCKETS):
                for shared, scoring in scorings.items():
                    _measure(_Cell(made, engine, rate, shared, scoring), options, report)


def _made(options: Options, n_rows: int) -> Fused:
    encoder = datasets.minilm(threads=len(os.sched_getaffinity(0)))
    rows = filtered_data.short_texts(options.data, encoder, n_rows=n_rows, n_queries=256 if options.quick else 1024)
    rng = np.random.default_rng(SEED)
    features = np.concatenate(
        [
            rng.standard_normal((n_rows, 4)),
            np.log1p(rng.pareto(1.5, (n_rows, 2))),
            rng.random((n_rows, 1)),
            (rng.random((n_rows, 1)) < 0.1).astype(np.float64),
        ],
        axis=1,
    )
    return Fused(rows.items, rows.queries, features / features.std(axis=0), rng.integers(0, _BUCKETS, n_rows))


def _scoring_at(made: Fused, shared: float) -> Scoring:
    """Weights of one direction, so large that so much of similarity's best hundred stays, on the even queries."""
    direction = np.array([1.0, -0.5, 0.75, 0.25, 1.0, 0.5, 1.0, 0.75])
    queries = made.queries[0:128:2]
    scores = queries @ made.items.T
    best = [set(np.argpartition(-own, _HUNDRED)[:_HUNDRED].tolist()) for own in scores]
    added = (made.features @ direction).astype(np.float32)

    def kept(size: float) -> float:
        found = (np.argpartition(-(own + np.float32(size) * added), _HUNDRED)[:_HUNDRED] for own in scores)
        return float(np.mean([len(one & set(rows.tolist())) / _HUNDRED for one, rows in zip(best, found, strict=True)]))

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) > shared else (low, middle)
    return Scoring(terms=tuple(Feature(f"f{n}", float(high * one)) for n, one in enumerate(direction)))


@dataclass(frozen=True, slots=True)
class _Cell:
    made: Fused
    engine: EngineProcess
    rate: float
    shared: float
    scoring: Scoring

    @property
    def name(self) -> str:
        return f"pass{100 * self.rate:g}%.shared{100 * self.shared:g}%"

    @property
    def asked(self) -> Asked:
        """Odd queries, each with a bucket of its own where there is a filter."""
        queries = self.made.queries[1::2]
        predicates = [Predicate()] * len(queries)
        if self.rate < 1:
            buckets = np.random.default_rng(SEED).integers(0, _BUCKETS, len(queries)).tolist()
            predicates = [Predicate((IntRange("bucket", one, one + 1),)) for one in buckets]
        return Asked(queries, predicates, K, None, "bucket", scoring=self.scoring)

    def truth(self, asked: Asked) -> Int64Array:
        """The best by fused score in float32, [Q, k], padded with -1."""
        added = self.made.added(self.scoring)
        found = np.full((len(asked.queries), K), -1, np.int64)
        for place, (query, predicate) in enumerate(zip(asked.queries, asked.predicates, strict=True)):
            rows = np.arange(len(added)) if predicate.is_empty else np.flatnonzero(self._passes(predicate))
            scores = self.made.items[rows] @ query + added[rows]
            best = filtered_data.best_of(rows, scores, K)
            found[place, : len(best)] = best
        return found

    def _passes(self, predicate: Predicate) -> npt.NDArray[np.bool_]:
        return np.asarray(self.made.buckets == predicate.ranges[0].low)


def _measure(cell: _Cell, options: Options, report: Report) -> None:
    asked, engine, seconds = cell.asked, cell.engine, options.extra.seconds
    truth = cell.truth(asked)
    answers = engine.answers_each(_COLLECTION, asked)
    chosen = Counter(one.strategy for one in answers.explanations)
    strategy = chosen.most_common(1)[0][0]
    named = replace(asked, strategy=strategy)
    same = replace(named, nprobe=_SAME_LISTS) if strategy in _LISTS else named
    alone = replace(asked, scoring=None)
    outside = _Outside(cell, replace(alone, k=_TIMES * K))
    variants: dict[str, Callable[[], float]] = {}
    for batch in (64, 1):
        for name, one in {
            "fused": asked,
            "fused_same": same,
            "alone_same": replace(same, scoring=None),
            "alone": alone,
        }.items():
            variants[f"{name}.b{batch}"] = _rate(engine, one, batch, seconds)
        variants[f"outside.b{batch}"] = lambda batch=batch: outside.rate(batch, seconds)  # type: ignore[misc]
    rates = interleaved(variants, rounds=options.extra.rounds)
    found = engine.answers_each(_COLLECTION, named)
    told = {
        "strategies": {one.value: n for one, n in chosen.items()},
        "second_passes": sum(one.second_pass for one in answers.explanations),
        "rows_scanned": float(np.mean([one.rows_scanned for one in answers.explanations])),
        "recall": recall_of_survivors(answers.rows, truth),
        "recall_named": recall_of_survivors(found.rows, truth),
        "recall_outside": recall_of_survivors(outside.rows(), truth),
        "qps": {name: samples.figures() for name, samples in rates.items()},
    }
    report.figure(f"{cell.name}.strategies", told["strategies"])
    report.keep(cell.name, told)
    report.at_least(f"{cell.name}.recall", float(told["recall"]), _RECALL)  # type: ignore[arg-type]
    for batch in (64, 1):
        overhead = _ratio(rates[f"alone_same.b{batch}"], rates[f"fused_same.b{batch}"]) - 1
        report.at_most(f"{cell.name}.overhead.b{batch}", overhead, _MOST_OVERHEAD)
        report.figure(f"{cell.name}.total.b{batch}", _ratio(rates[f"alone.b{batch}"], rates[f"fused.b{batch}"]))
    progress.print(f"  {cell.name}: {told}")


def _rate(engine: EngineProcess, asked: Asked, batch: int, seconds: float) -> Callable[[], float]:
    return lambda: engine.search_each(_COLLECTION, asked, batch=batch, seconds=seconds).rate


def _ratio(one: Samples, other: Samples) -> float:
    """The median of the ratios of what was measured one after the other."""
    return float(np.median(np.array(one.values) / np.array(other.values)))


class _Outside:
    """Ten times as many hits by similarity, scored again by the caller with NumPy."""

    def __init__(self, cell: _Cell, asked: Asked) -> None:
        self._cell, self._asked = cell, asked
        self._features = np.ascontiguousarray(cell.made.features, np.float32)
        self._weights = np.array([term.weight for term in cell.scoring.terms], np.float32)

    def rows(self) -> Int64Array:
        """int64 [Q, k] of all queries."""
        found = self._cell.engine.answers_each(_COLLECTION, self._asked).rows
        return self._scored(found, self._asked.queries)

    def rate(self, batch: int, seconds: float) -> float:
        """Queries a second with the search by the engine and the scoring after it, which is timed here."""
        searched = self._cell.engine.search_each(_COLLECTION, self._asked, batch=batch, seconds=seconds)
        found = self._cell.engine.answers_each(
            _COLLECTION, replace(self._asked, queries=self._asked.queries[:64], predicates=self._asked.predicates[:64])
        ).rows
        spans = [slice(first, first + batch) for first in range(0, len(found), batch)]
        began = time.perf_counter()
        for span in spans:
            self._scored(found[span], self._asked.queries[span])
        return 1 / (1 / searched.rate + (time.perf_counter() - began) / len(found))

    def _scored(self, found: Int64Array, queries: Float32Array) -> Int64Array:
        """Similarities come with hits; they are made again here without being counted much: one product a query."""
        rows = np.maximum(found, 0)
        scores = np.einsum("bkd,bd->bk", self._cell.made.items[rows], queries) + self._features[rows] @ self._weights
        scores = np.where(found < 0, -np.inf, scores)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        return np.take_along_axis(found, order, axis=1)


if __name__ == "__main__":
    sys.exit(main())
