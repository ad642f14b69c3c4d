"""The whole server with its vectors on the GPU, over the demo corpus: texts, batches of 64 and a stream of them.

The encoder runs on the CPU, which is most of a text's time: the same queries as vectors tell what is left. Truth is
float32, of the server's own encoder.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench import datasets, wire
from bench.gpu_bed import Bed
from bench.gpu_report import Lines
from bench.load import Calls, LoadProcess
from bench.machine import ROOT
from bench.measured import SEED, Samples, percentiles
from bench.metrics import recall_at
from bench.serving import Running, data_folder, load_batches, served, with_vectors
from engine.client import BatchResult, RetrievalClient
from engine.schema_file import read_schema
from engine.types import Explanation, Float32Array, Int64Array, Item

CORPUS = ROOT / "engine" / "demo_data" / "onet"
BATCH = 64
K = 10
STAGES = ("queue", "encode", "filter", "search", "fuse")
_ENCODER = "on the CPU: the engine's encoder knows no other device"
_ROUNDS, _EACH_S = 3, 2.0


def measure(bed: Bed, lines: Lines) -> None:
    n_items, n_queries = bed.sized(1 << 20, 40), bed.sized(1024, 8)
    items, texts = demo_items()[:n_items], demo_queries(n_queries)
    with (
        data_folder() as folder,
        served(folder, settings={"device": "cpu" if bed.is_host else "cuda"}) as running,
        LoadProcess() as load,
    ):
        truth, vectors = _loaded(running.client, items, texts)
        world = _World(bed, running, load, texts, vectors, truth)
        kinds = world.kinds()
        for _ in range(bed.sized(_ROUNDS, 1)):
            for kind in kinds:
                kind.measure()
        case = {"items": len(items), "k": K, "encoder": _ENCODER, "server_device": running.client.server().device}
        for kind in kinds:
            lines.tell({**case, "what": kind.name, "batch": kind.batch}, kind.figures())


def demo_items() -> list[Item]:
    return [
        Item(
            row["_id"],
            {name: row[name] for name in ("title", "description")},
            {"major_group": row["major_group"], "major_group_title": row["major_group_title"]},
        )
        for row in datasets.read_jsonl(CORPUS / "corpus.jsonl.gz")
    ]


def demo_queries(n: int) -> list[str]:
    """Job titles from all over the file: neighbours there are of one occupation."""
    texts = [str(row["text"]) for row in datasets.read_jsonl(CORPUS / "queries.jsonl.gz")]
    return [texts[place] for place in np.random.default_rng(SEED).choice(len(texts), n, replace=False)]


@dataclass(slots=True)
class _Kind:
    """One way to ask. ``ask`` gives queries a second and each call's seconds; ``stages``: of a call, in its reply."""

    name: str
    batch: int
    ask: Callable[[], tuple[float, Sequence[float]]]
    recall: float
    stages: dict[str, float]
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def measure(self) -> None:
        rate, seconds = self.ask()
        self.rates.append(rate)
        self.seconds.extend(seconds)

    def figures(self) -> dict[str, object]:
        times = {f"{rank}_ms": 1000 * value for rank, value in percentiles(self.seconds, (50, 99)).items()}
        told = {"qps": Samples(tuple(self.rates)), **times, "recall": self.recall}
        return {**told, "stages_ms": self.stages} if self.stages else told


class _World:
    """A server with everything in it, and the queries as texts and as vectors."""

    def __init__(
        self,
        bed: Bed,
        running: Running,
        load: LoadProcess,
        texts: Sequence[str],
        vectors: Float32Array,
        truth: Int64Array,
    ) -> None:
        self._client, self._load = running.client, load
        self._texts, self._vectors, self._truth = texts, vectors, truth
        self._name = read_schema(CORPUS / "schema.toml").name
        self._batch = min(BATCH, len(texts))
        self._seconds = bed.sized(1, 0) * _EACH_S
        self._n_streamed = bed.sized(4, 1) * (len(texts) // self._batch)
        self._places = {item.id: place for place, item in enumerate(demo_items())}

    def kinds(self) -> list[_Kind]:
        target, name, batch = self._client.target, self._name, self._batch
        of_texts, of_vectors = self._recall(self._texts), self._recall(self._vectors)
        texts, vectors = self._texts, self._vectors
        unary = {
            "text": (wire.unary_calls_of_texts(target, name, texts), of_texts, self._unary_stages(texts)),
            "vector": (wire.unary_calls_of_vectors(target, name, vectors), of_vectors, self._unary_stages(vectors)),
        }
        batches = {
            "text_batch": (wire.calls_of_texts(target, name, texts, batch=batch), of_texts, self._stages(texts)),
            "vector_batch": (
                wire.calls_of_vectors(target, name, vectors, batch=batch),
                of_vectors,
                self._stages(vectors),
            ),
        }
        made = [_Kind(kind, 1, self._one(calls), *rest) for kind, (calls, *rest) in unary.items()]  # type: ignore[arg-type]
        made += [_Kind(kind, batch, self._two(calls), *rest) for kind, (calls, *rest) in batches.items()]  # type: ignore[arg-type]
        streams = (("text_stream", texts, of_texts), ("vector_stream", vectors, of_vectors))
        return [*made, *(_Kind(kind, batch, self._streamed(all_of), recall, {}) for kind, all_of, recall in streams)]

    def _one(self, calls: Calls) -> Callable[[], tuple[float, Sequence[float]]]:
        def ask() -> tuple[float, Sequence[float]]:
            seen = self._load.one_client(calls, seconds=self._seconds)
            return seen.qps, seen.latencies_s

        return ask

    def _two(self, calls: Calls) -> Callable[[], tuple[float, Sequence[float]]]:
        """Two clients: one call waits while another is searched."""

        def ask() -> tuple[float, Sequence[float]]:
            seen = self._load.many_clients(calls, 2, seconds=max(self._seconds, 0.2))
            return seen.qps, seen.latencies_s

        return ask

    def _streamed(self, queries: Sequence[str] | Float32Array) -> Callable[[], tuple[float, Sequence[float]]]:
        """The seconds are those between replies."""

        def batches() -> Iterator[Sequence[str] | Float32Array]:
            for number in range(self._n_streamed):
                first = number * self._batch % (len(queries) - self._batch + 1)
                yield queries[first : first + self._batch]

        def ask() -> tuple[float, Sequence[float]]:
            began = time.perf_counter()
            times = [began]
            for reply in self._client.search_stream(self._name, batches()):
                _result(reply)
                times.append(time.perf_counter())
            gaps = np.diff(times).tolist()
            return len(gaps) * self._batch / (times[-1] - began), gaps

        return ask

    def _recall(self, queries: Sequence[str] | Float32Array) -> float:
        found = self._client.search_batch(self._name, queries)
        ids = [found.rows(query)[0] for query in range(len(queries))]
        places = np.array([[self._places[str(one)] for one in own] for own in ids])
        return recall_at(places, self._truth)

    def _unary_stages(self, queries: Sequence[str] | Float32Array) -> dict[str, float]:
        return _medians([self._client.search(self._name, query, attributes=()).explanation for query in queries[:32]])

    def _stages(self, queries: Sequence[str] | Float32Array) -> dict[str, float]:
        firsts = range(0, len(queries) - self._batch + 1, self._batch)
        replies = [
            self._client.search_batch(self._name, queries[first : first + self._batch], explain=True)
            for first in firsts
        ]
        return _medians([reply.explanations[0] for reply in replies])


def _loaded(client: RetrievalClient, items: Sequence[Item], texts: Sequence[str]) -> tuple[Int64Array, Float32Array]:
    """The corpus is put into a collection: the true best items of each text [B, k], and the texts' vectors."""
    schema = read_schema(CORPUS / "schema.toml")
    client.create_collection(schema)
    joined = [datasets.joined_text(item.text["title"], item.text["description"]) for item in items]
    whole, vectors = (_encoded(client, schema.name, some) for some in (joined, texts))
    load_batches(client, schema.name, [with_vectors(items, whole)])
    truth: Int64Array = np.argsort(-(vectors @ whole.T), axis=1, kind="stable")[:, :K]
    return truth, vectors


def _encoded(client: RetrievalClient, collection: str, texts: Sequence[str]) -> Float32Array:
    parts = [client.encode(collection, texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
    return np.concatenate(parts)


def _medians(explanations: Sequence[Explanation]) -> dict[str, float]:
    return {stage: 1000 * statistics.median(getattr(one.times, stage) for one in explanations) for stage in STAGES}


def _result(reply: object) -> BatchResult:
    """
    Raises:
        EngineError: the batch failed.
    """
    if isinstance(reply, BaseException):
        raise reply
    assert isinstance(reply, BatchResult)
    return reply
