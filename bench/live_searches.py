"""Searches at half of what the quiet server can, in an open loop, and how good answers are at that moment."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench import wire
from bench.filtered_data import best_of, scores_of
from bench.harness import SEED, percentiles
from bench.live_bed import BATCH, COLLECTION, Bed, K, Made
from bench.load import Load, LoadProcess, open_loop
from bench.serving import Running
from engine.client import RetrievalClient
from engine.types import Float32Array, SearchParams

CLIENTS = 4
"""That ask at once where capacity is measured."""
WANTED_RECALL = 0.95
_CHECK_EVERY_S = 1.0
_CHUNK_S = 1.0
_STANDARD_ERRORS = 3.0


@dataclass(slots=True)
class Recall:
    """Recall of sampled searches, query by query, each against an exact search right after it."""

    values: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def bound(self) -> float:
        """The target less what a sample of this size may miss it by."""
        spread = float(np.std(self.values) / np.sqrt(max(1, len(self.values))))
        return WANTED_RECALL - _STANDARD_ERRORS * spread

    def figures(self) -> dict[str, float]:
        return {"recall@10": self.mean, "queries": len(self.values)}


class Sampler:
    """Batches of queries in turn, each asked for as it is by default and then exactly."""

    def __init__(self, client: RetrievalClient, queries: Float32Array) -> None:
        self._client = client
        self._queries = queries
        self._next = 0

    def check(self, recall: Recall) -> None:
        first = self._next % (len(self._queries) - BATCH + 1)
        self._next += BATCH
        asked = self._queries[first : first + BATCH]
        found = self._client.search_batch(COLLECTION, asked, params=SearchParams(k=K))
        exact = self._client.search_batch(
            COLLECTION, asked, params=SearchParams(k=K, exact=True), min_sequence=found.sequence
        )
        for query in range(BATCH):
            wanted = set(exact.rows(query)[0])
            recall.values.append(len(wanted & set(found.rows(query)[0])) / max(1, len(wanted)))


def brute_force_recall(client: RetrievalClient, made: Made, n_rows: int) -> float:
    """Of rows that are as they were made, against float32 on this side."""
    queries = made.queries[:256]
    found = client.search_batch(COLLECTION, queries, params=SearchParams(k=K))
    rows = np.arange(n_rows)
    scores = scores_of(made.items[:n_rows], queries, "dot")
    truth = [best_of(rows, own, K) for own in scores]
    shares = [np.isin(own, np.asarray(found.rows(place)[0], np.int64)).mean() for place, own in enumerate(truth)]
    return float(np.mean(shares))


@dataclass(slots=True)
class Going:
    """Searches that go on for as long as a with statement lasts."""

    loads: list[Load] = field(default_factory=list)
    recall: Recall = field(default_factory=Recall)
    ended: threading.Event = field(default_factory=threading.Event)

    def between(self, began: float, ended: float) -> list[float]:
        """Seconds of the calls that were due within."""
        each = ((due, took) for one in self.loads for due, took in zip(one.due_s, one.latencies_s, strict=True))
        return [took for due, took in each if began <= due <= ended]

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.loads)


@dataclass(frozen=True, slots=True)
class Window:
    """An open loop, what the server used in it, and in which second of the watch it began."""

    load: Load
    server_cpu_s: float
    second: int

    @property
    def p99_ms(self) -> float:
        return p99_ms(self.load.latencies_s)

    def figures(self) -> dict[str, object]:
        cores = self.server_cpu_s / self.load.wall_s
        return {**told_load(self.load), "server_cpu_cores": cores, "second": self.second}


class Searches:
    """Calls of BATCH queries against one server, at half its quiet capacity once that is known."""

    def __init__(self, bed: Bed, running: Running, load: LoadProcess) -> None:
        self._seconds = bed.pace.seconds
        self._watch = bed.watch
        self._running = running
        self._load = load
        self._calls = wire.calls_of_vectors(running.client.target, COLLECTION, bed.made.queries, batch=BATCH)
        self.sampler = Sampler(running.client, bed.made.queries)
        self.rate = 0.0
        self._seed = SEED

    def measure_capacity(self) -> Load:
        """As many as the server can, in a closed loop."""
        self._load.many_clients(self._calls, CLIENTS, seconds=min(1.0, self._seconds))
        full = self._load.many_clients(self._calls, CLIENTS, seconds=self._seconds)
        self.rate = 0.5 * full.qps / BATCH
        return full

    def window(self) -> Window:
        self._seed += 1
        second, cpu_s = self._watch.second, self._running.cpu_s()
        load = self._load.open_loop(self._calls, self.rate, seconds=self._seconds, seed=self._seed)
        return Window(load, self._running.cpu_s() - cpu_s, second)

    @contextlib.contextmanager
    def going_on(self) -> Iterator[Going]:
        """Chunks of a second at most, one after another."""
        going = Going()
        thread = threading.Thread(target=self._go_on, args=(going,))
        thread.start()
        try:
            yield going
        finally:
            going.ended.set()
            thread.join()

    def _go_on(self, going: Going) -> None:
        while not going.ended.is_set():
            self._seed += 1
            chunk = self._load.start(open_loop, self._calls, self.rate, min(_CHUNK_S, self._seconds), self._seed)
            going.loads.append(chunk.result())

    def quiet(self, *, check_every_s: float = _CHECK_EVERY_S) -> list[float]:
        """Seconds of calls while nothing else goes on but the checks of recall that go on beside upkeep as well."""
        with self.going_on() as going:
            began = time.perf_counter()
            end = began + self._seconds
            while time.perf_counter() < end:
                self.sampler.check(going.recall)
                time.sleep(min(check_every_s, max(0.0, end - time.perf_counter())))
        return going.between(began, end)


def p99_ms(latencies_s: Sequence[float]) -> float:
    return 1000 * percentiles(latencies_s, (99,))["p99"]


def told_load(load: Load) -> dict[str, object]:
    """A load's figures with what the driver itself cost and how late it was."""
    return {
        **load.figures(),
        "calls": len(load.latencies_s),
        "failed": load.failed,
        "late_p99_ms": 1000 * load.late_s,
        "client_cpu_share_of_a_core": load.client_cpu_s / load.wall_s,
    }
