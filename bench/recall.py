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
from bench.datasets import Rows
from bench.harness import Options, Report, interleaved
from bench.inprocess import EngineProcess
from bench.load import LoadProcess
from bench.metrics import recall_at
from bench.peer_faiss import FaissProcess, Shape, Tuned
from bench.prepared import prepared
from bench.serving import served, vector_schema
from bench.wire import calls_of_vectors
from engine.client import CollectionInfo, RetrievalClient
from engine.types import Float32Array, Int64Array, Metric, SearchParams, Strategy

BATCH = 64
K = 10


@dataclass(frozen=True, slots=True)
class Task:
    """A collection to search: its true best rows are known for every query."""

    name: str
    rows: Rows
    truth: Int64Array
    metric: Metric
    recall: float
    min_nlist: int
    settings: Mapping[str, object]

    def half(self, which: int) -> tuple[Float32Array, Int64Array]:
        """Queries to tune the peer with (0) and to measure everything with (1)."""
        return self.rows.queries[which::2], self.truth[which::2]

    @property
    def params(self) -> SearchParams:
        return SearchParams(k=K, recall_target=self.recall)

    @property
    def forced(self) -> SearchParams:
        return replace(self.params, strategy=Strategy.IVFPQ)


def mnist784(options: Options) -> Task:
    rows = datasets.mnist784(options.data)
    truth = datasets.exact_top("mnist784", rows, metric="l2", k=K)
    if options.quick:
        rows, truth = replace(rows, queries=rows.queries[:2048]), truth[:2048]
    return Task("mnist784", rows, truth, "l2", 0.95, min_nlist=256, settings=_trained_once(rows.items))


def jobs(options: Options, items: Float32Array, queries: Float32Array) -> Task:
    """Postings and titles as they are embedded. Too few to be trained of its own accord."""
    rows = Rows(items, queries)
    truth = datasets.exact_top("jobs", rows, metric="dot", k=K)
    return Task("jobs", rows, truth, "cosine", 0.97, min_nlist=1, settings=_trained_once(items))


def _trained_once(items: Float32Array) -> dict[str, object]:
    """Train when all is there, and not on the way to it as well."""
    return {"min_rows_to_train": len(items)}


def measure(task: Task, options: Options, report: Report) -> None:
    """Load, let the index train (or find that done before), then recall over the wire and rates in turn."""
    threads = len(os.sched_getaffinity(0))
    schema = vector_schema(task.name, dimension=task.rows.items.shape[1], metric=task.metric)
    with prepared(schema, task.rows.items, settings=task.settings, trained=True) as ready:
        report.figure(f"{task.name}.made", ready.made)
        copy = shutil.copytree(ready.folder, ready.folder.with_name("copy"), symlinks=True)
        with (
            served(ready.folder, settings=task.settings) as running,
            EngineProcess(copy, settings=task.settings) as engine,
            FaissProcess(task.rows.items, metric="dot" if task.metric == "cosine" else "l2", threads=threads) as peer,
            LoadProcess() as load,
        ):
            client = running.client
            info = client.get_collection(task.name)
            _tell_index(task, info, report)
            recalls = {name: _recall(client, task, params, name, report) for name, params in _both(task).items()}
            tuned = _tuned_peer(task, info, peer, recalls["ivfpq"], options)
            _rates(task, client, engine, peer, load, tuned, options, report)


def _both(task: Task) -> dict[str, SearchParams]:
    return {"own_choice": task.params, "ivfpq": task.forced}


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


def _rates(
    task: Task,
    client: RetrievalClient,
    engine: EngineProcess,
    peer: FaissProcess,
    load: LoadProcess,
    tuned: Tuned,
    options: Options,
    report: Report,
) -> None:
    queries, truth = task.half(1)
    rounds, seconds = (5, 0.6) if options.quick else (11, 2.0)
    calls = calls_of_vectors(client.target, task.name, queries, params=task.forced, batch=BATCH)
    rates = interleaved(
        {
            "ivfpq": lambda: engine.search(task.name, queries, params=task.forced, batch=BATCH, seconds=seconds).rate,
            "faiss": lambda: peer.rate(tuned.setting, queries, batch=BATCH, seconds=seconds),
            "ivfpq_wire": lambda: load.many_clients(calls, 2, seconds=seconds).qps,
            "own_choice": lambda: (
                engine.search(task.name, queries, params=task.params, batch=BATCH, seconds=seconds).rate
            ),
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
            "recall": peer.recall(setting, queries, truth),
        },
    )
    report.at_least(f"{task.name}.ivfpq_over_faiss_qps", rates["ivfpq"].median / rates["faiss"].median, 0.8)
