"""Recall against float32 exact search, and what it costs beside faiss: the engine's own choice, and IVF-PQ by name.

The engine is measured in-process and over the wire, the peer in its process, in turn; each rate stands with its recall.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bench import datasets, peer_faiss
from bench.awake import cores_awake
from bench.datasets import Rows
from bench.harness import Options, Report, interleaved
from bench.inprocess import EngineProcess
from bench.load import LoadProcess
from bench.metrics import recall_at
from bench.peer_faiss import FaissProcess, Shape, Tuned
from bench.prepared import Prepared, prepared
from bench.serving import served, vector_schema
from bench.wire import calls_of_vectors
from engine.client import CollectionInfo, RetrievalClient
from engine.types import Float32Array, Int64Array, Metric, Schema, SearchParams, Strategy

BATCH = 64
K = 10
_TARGETS = (0.95, 0.97, 0.99)
_MARGIN = 0.005
"""By which the recall on the choosing half must lie above the one wanted, about a standard error of the other half."""


@dataclass(frozen=True, slots=True)
class Task:
    """A collection to search: its true best rows are known for every query.

    ``trained``: settings with which inverted lists are trained; by default the rows may be too few for them.
    """

    name: str
    rows: Rows
    truth: Int64Array
    metric: Metric
    recall: float
    min_nlist: int
    trained: Mapping[str, object]
    default: Mapping[str, object]

    def half(self, which: int) -> tuple[Float32Array, Int64Array]:
        """Queries to choose settings with (0) and to measure everything with (1)."""
        return self.rows.queries[which::2], self.truth[which::2]

    @property
    def schema(self) -> Schema:
        return vector_schema(self.name, dimension=self.rows.items.shape[1], metric=self.metric)


def mnist784(options: Options) -> Task:
    """So many rows train lists of their own accord; here once, when all are there, and not on the way to it as well."""
    rows = datasets.mnist784(options.data)
    truth = datasets.exact_top("mnist784", rows, metric="l2", k=K)
    if options.quick:
        rows, truth = replace(rows, queries=rows.queries[:2048]), truth[:2048]
    settings = {"min_rows_to_train": len(rows.items)}
    return Task("mnist784", rows, truth, "l2", 0.95, min_nlist=256, trained=settings, default=settings)


def jobs(items: Float32Array, queries: Float32Array) -> Task:
    """Too few rows for lists of their own accord."""
    rows = Rows(items, queries)
    truth = datasets.exact_top("jobs", rows, metric="dot", k=K)
    settings = {"min_rows_to_train": len(items)}
    return Task("jobs", rows, truth, "cosine", 0.97, min_nlist=1, trained=settings, default={})


def measure(task: Task, options: Options, report: Report) -> None:
    """The engine's own choice first, then IVF-PQ by name beside the peer."""
    with cores_awake():
        with prepared(
            task.schema, task.rows.items, settings=task.default, trained=task.default == task.trained
        ) as ready:
            _own_choice(task, ready, options, report)
        with prepared(task.schema, task.rows.items, settings=task.trained, trained=True) as ready:
            _by_name(task, ready, options, report)


def _own_choice(task: Task, ready: Prepared, options: Options, report: Report) -> None:
    """Recall at the collection's default target, and the rate over the wire."""
    rounds, seconds = _pace(options)
    queries, _ = task.half(1)
    with served(ready.folder, settings=task.default) as running, LoadProcess() as load:
        _recall(running.client, task, SearchParams(k=K), "own_choice", report)
        calls = calls_of_vectors(running.client.target, task.name, queries, batch=BATCH)
        rates = interleaved({"qps": lambda: load.many_clients(calls, 2, seconds=seconds).qps}, rounds=rounds)
        report.figure(f"{task.name}.own_choice_wire.qps", rates["qps"])


def _by_name(task: Task, ready: Prepared, options: Options, report: Report) -> None:
    report.figure(f"{task.name}.made", ready.made)
    copy = shutil.copytree(ready.folder, ready.folder.with_name("copy"), symlinks=True)
    kind: Metric = "dot" if task.metric == "cosine" else task.metric
    with (
        served(ready.folder, settings=task.trained) as running,
        EngineProcess(copy, settings=task.trained) as engine,
        FaissProcess(task.rows.items, metric=kind, threads=len(os.sched_getaffinity(0))) as peer,
        LoadProcess() as load,
    ):
        info = running.client.get_collection(task.name)
        _tell_index(task, info, report)
        params = _least_that_reaches(task, engine, info, report)
        recall = _recall(running.client, task, params, "ivfpq", report)
        tuned = _tuned_peer(task, info, peer, recall, options)
        _rates(_Side(task, running.client, engine, peer, load, params), tuned, options, report)


def _pace(options: Options) -> tuple[int, float]:
    """Rounds, and the seconds of each measurement."""
    return (3, 0.4) if options.quick else (11, 2.0)


def _least_that_reaches(task: Task, engine: EngineProcess, info: CollectionInfo, report: Report) -> SearchParams:
    """As the peer is set up: the least that reaches the recall on queries that are not measured with.

    First recall targets, as a caller would; beyond the last of them twice the lists and candidates, and so on.
    """
    queries, truth = task.half(0)
    lists = info.message.versions[0].ivfpq
    by_target = [SearchParams(k=K, recall_target=target, strategy=Strategy.IVFPQ) for target in _TARGETS]
    deeper = [
        SearchParams(
            k=K,
            nprobe=min(lists.nprobe << step, lists.nlist),
            rescore_depth=lists.rescore_depth << step,
            strategy=Strategy.IVFPQ,
        )
        for step in range(1, 6)
    ]
    told: dict[str, float] = {}
    for params in (*by_target, *deeper):
        asked = f"recall_target {params.recall_target}" if params.recall_target else f"nprobe {params.nprobe}"
        told[asked] = recall_at(engine.answers(task.name, queries, params=params).rows, truth)
        if told[asked] >= task.recall + _MARGIN:
            break
    report.figure(f"{task.name}.ivfpq.recall_by_asking", told)
    return params


def _tell_index(task: Task, info: CollectionInfo, report: Report) -> None:
    version = info.message.versions[0]
    lists = version.ivfpq
    report.figure(
        f"{task.name}.index",
        {
            "rows": info.items,
            "nlist": lists.nlist,
            "code_bytes": lists.code_bytes,
            "nprobe": lists.nprobe,
            "rescore_depth": lists.rescore_depth,
            "expected_recall": lists.expected_recall,
        },
    )
    report.at_least(f"{task.name}.nlist", lists.nlist, task.min_nlist)


def _recall(client: RetrievalClient, task: Task, params: SearchParams, name: str, report: Report) -> float:
    """On the measuring half, over the wire."""
    queries, truth = task.half(1)
    found = np.full((len(queries), K), -1, np.int64)
    strategies: dict[str, int] = {}
    for first in range(0, len(queries), BATCH):
        result = client.search_batch(task.name, queries[first : first + BATCH], params=params, explain=True)
        for place in range(len(result.counts)):
            ids = np.asarray(result.rows(place)[0], np.int64)
            found[first + place, : len(ids)] = ids
        for explained in result.explanations:
            told = f"{explained.strategy.value} nprobe {explained.nprobe} rescored {explained.rescored}"
            strategies[told] = strategies.get(told, 0) + 1
    recall = recall_at(found, truth)
    report.figure(f"{task.name}.{name}.strategies", strategies)
    report.at_least(f"{task.name}.{name}.recall@{K}", recall, task.recall)
    return recall


def _tuned_peer(task: Task, info: CollectionInfo, peer: FaissProcess, recall: float, options: Options) -> Tuned:
    lists = info.message.versions[0].ivfpq
    n, d = task.rows.items.shape
    shapes = peer_faiss.shapes(d, n, like=Shape(lists.nlist, lists.code_bytes), quick=options.quick)
    for shape in shapes:
        peer.build(shape)
    queries, truth = task.half(0)
    return peer.tune(shapes, queries[:1024], truth[:1024], recall=recall)


@dataclass(frozen=True, slots=True)
class _Side:
    """Everything that takes turns."""

    task: Task
    client: RetrievalClient
    engine: EngineProcess
    peer: FaissProcess
    load: LoadProcess
    params: SearchParams


def _rates(side: _Side, tuned: Tuned, options: Options, report: Report) -> None:
    task, params = side.task, side.params
    queries, truth = task.half(1)
    rounds, seconds = _pace(options)
    calls = calls_of_vectors(side.client.target, task.name, queries, params=params, batch=BATCH)
    rates = interleaved(
        {
            "ivfpq": lambda: side.engine.search(task.name, queries, params=params, batch=BATCH, seconds=seconds).rate,
            "faiss": lambda: side.peer.rate(tuned.setting, queries, batch=BATCH, seconds=seconds),
            "ivfpq_wire": lambda: side.load.many_clients(calls, 2, seconds=seconds).qps,
        },
        rounds=rounds,
    )
    for name, samples in rates.items():
        report.figure(f"{task.name}.{name}.qps", samples)
    setting = tuned.setting
    report.figure(
        f"{task.name}.faiss.setting",
        {
            "nlist": setting.shape.nlist,
            "m": setting.shape.m,
            "nprobe": setting.nprobe,
            "k_factor": setting.k_factor,
            "recall": side.peer.recall(setting, queries, truth),
        },
    )
    report.at_least(f"{task.name}.ivfpq_over_faiss_qps", rates["ivfpq"].median / rates["faiss"].median, 0.8)
