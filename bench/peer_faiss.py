"""The peer: faiss IVF-PQ with exact refinement of its candidates, set up as well as we can, in a process of its own.

Its nprobe and k_factor are chosen as ours are: the fastest that reaches a recall on queries that are not measured with.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cache import cache_folder, content_key
from bench.harness import SEED
from bench.metrics import recall_at
from engine.types import Float32Array, Int64Array, Metric

K = 10
_NPROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_K_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_TUNE_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Shape:
    """Of an index: lists, and bytes of a code (one for each of so many parts of a vector)."""

    nlist: int
    m: int


@dataclass(frozen=True, slots=True)
class Setting:
    """Of a search: an index, the lists it probes, and the candidates it refines for each hit."""

    shape: Shape
    nprobe: int
    k_factor: int


@dataclass(frozen=True, slots=True)
class Tuned:
    """The fastest setting found, with its recall and rate on the tuning queries."""

    setting: Setting
    recall: float
    qps: float


def shapes(dimension: int, n_rows: int, *, like: Shape, quick: bool) -> list[Shape]:
    """Ours, made to fit (faiss wants equal parts), and the ones usual for such a collection."""
    fitting = [m for m in range(1, dimension + 1) if dimension % m == 0]
    own = Shape(like.nlist, max(m for m in fitting if m <= max(like.m, 1)))
    usual = [Shape(nlist, dimension // 8) for nlist in (256, 512, 1024) if n_rows >= 39 * nlist]
    return list(dict.fromkeys([own, *usual[: 1 if quick else None]]))


class FaissProcess:
    """A process with faiss indexes over the rows."""

    def __init__(self, rows: Float32Array, *, metric: Metric, threads: int) -> None:
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_open,
            initargs=(rows, metric, threads),
        )

    def __enter__(self) -> FaissProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def build(self, shape: Shape) -> None:
        """Train and fill an index, or take it from the cache."""
        self._pool.submit(_build, shape).result()

    def tune(self, shapes: Sequence[Shape], queries: Float32Array, truth: Int64Array, *, recall: float) -> Tuned:
        """The fastest setting of all shapes that reaches the recall; the one of best recall where none does."""
        return self._pool.submit(_tune, tuple(shapes), queries, truth, recall).result()

    def rate(self, setting: Setting, queries: Float32Array, *, batch: int, seconds: float) -> float:
        """Queries a second."""
        return self._pool.submit(_rate, setting, queries, batch, seconds).result()

    def recall(self, setting: Setting, queries: Float32Array, truth: Int64Array) -> float:
        return self._pool.submit(_recall, setting, queries, truth).result()


# In the process

_rows: Float32Array
_metric: Metric
_indexes: dict[Shape, Any] = {}


def _open(rows: Float32Array, metric: Metric, threads: int) -> None:
    global _rows, _metric
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    import faiss

    faiss.omp_set_num_threads(threads)
    _rows, _metric = rows, metric


def _build(shape: Shape) -> None:
    import faiss

    key = content_key("faiss", faiss.__version__, _metric, f"{shape}", str(SEED), _rows)
    path = cache_folder() / f"peer-{key}.faiss"
    coded = faiss.read_index(str(path)) if path.is_file() else _train(shape, path)
    exact = faiss.IndexFlat(_rows.shape[1], coded.metric_type)
    exact.add(_rows)
    refined = faiss.IndexRefine(coded, exact)
    _indexes[shape] = (refined, coded, exact)


def _train(shape: Shape, path: Path) -> Any:
    import faiss

    kind = faiss.METRIC_L2 if _metric == "l2" else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(_rows.shape[1], f"IVF{shape.nlist},PQ{shape.m}x8", kind)
    vars(faiss)["downcast_index"](index).cp.seed = SEED
    index.train(_rows)
    index.add(_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".tmp")
    faiss.write_index(index, str(half))
    half.replace(path)
    return index


def _tune(shapes: tuple[Shape, ...], queries: Float32Array, truth: Int64Array, wanted: float) -> Tuned:
    tried = [(setting, recall) for shape in shapes for setting, recall in _border(shape, queries, truth, wanted)]
    reached = [one for one in tried if one[1] >= wanted] or [max(tried, key=lambda one: one[1])]
    timed = [Tuned(setting, recall, _rate(setting, queries, 64, _TUNE_SECONDS)) for setting, recall in reached]
    fastest = sorted(timed, key=lambda one: -one.qps)[:3]
    again = [Tuned(one.setting, one.recall, _rate(one.setting, queries, 64, 4 * _TUNE_SECONDS)) for one in fastest]
    return max(again, key=lambda one: one.qps)


def _border(shape: Shape, queries: Float32Array, truth: Int64Array, wanted: float) -> Iterator[tuple[Setting, float]]:
    """For each k_factor the fewest lists that reach the recall, or the most: refining more, fewer lists may do."""
    nprobes = [nprobe for nprobe in _NPROBES if nprobe <= shape.nlist]
    last = len(nprobes) - 1
    for k_factor in _K_FACTORS:
        recall = 0.0
        for place, nprobe in enumerate(nprobes):
            setting = Setting(shape, nprobe, k_factor)
            recall = _recall(setting, queries, truth)
            if recall >= wanted or place == last:
                yield setting, recall
                break


def _found(setting: Setting, queries: Float32Array) -> Int64Array:
    refined, coded, _ = _indexes[setting.shape]
    coded.nprobe = setting.nprobe
    refined.k_factor = setting.k_factor
    rows: Int64Array = refined.search(queries, K)[1]
    return rows


def _recall(setting: Setting, queries: Float32Array, truth: Int64Array) -> float:
    return recall_at(_found(setting, queries), truth)


def _rate(setting: Setting, queries: Float32Array, batch: int, seconds: float) -> float:
    batches = [np.ascontiguousarray(queries[at : at + batch]) for at in range(0, len(queries) - batch + 1, batch)]
    _found(setting, batches[0])
    done, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        _found(setting, batches[done % len(batches)])
        done += 1
    return done * batch / elapsed
