"""What the end-to-end bench measures, running: a server, the same engine in-process, load, and the queries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from bench import wire
from bench.harness import Options, Report
from bench.inprocess import EngineProcess, Timed
from bench.load import Calls, Load, LoadProcess
from bench.serving import Running
from engine.types import Float32Array

COLLECTION = "titles"
BATCH = 64
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Pace:
    """``rounds`` of interleaved measurements, each of so many seconds."""

    rounds: int
    seconds: float

    @staticmethod
    def of(options: Options) -> Pace:
        return Pace(3, 0.45) if options.quick else Pace(7, 3.0)


@dataclass(frozen=True, slots=True)
class Queries:
    """The same queries as texts and as float32 vectors."""

    texts: Sequence[str]
    vectors: Float32Array


@dataclass(frozen=True, slots=True)
class Bed:
    """Everything that is measured, running."""

    running: Running
    engine: EngineProcess
    load: LoadProcess
    background: LoadProcess
    queries: Queries
    pace: Pace

    def calls(self, kind: str) -> Calls:
        """``kind``: vector or text, unary or batch."""
        target = self.running.client.target
        queries = self.queries
        if kind == "vector_unary":
            return wire.unary_calls_of_vectors(target, COLLECTION, queries.vectors)
        if kind == "text_unary":
            return wire.unary_calls_of_texts(target, COLLECTION, queries.texts)
        if kind == "vector_batch":
            return wire.calls_of_vectors(target, COLLECTION, queries.vectors, batch=BATCH)
        return wire.calls_of_texts(target, COLLECTION, queries.texts, batch=BATCH)

    def in_process(self, *, batch: int) -> Timed:
        """The search alone."""
        return self.engine.search(COLLECTION, self.queries.vectors, batch=batch, seconds=self.pace.seconds)


class CpuWatch:
    """The CPU time of client and server over the loads it is shown."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._server_s = running.cpu_s()
        self._loads: list[Load] = []

    def qps(self, load: Load) -> float:
        """Of the load, which is taken into the account."""
        self._loads.append(load)
        return load.qps

    def tell(self, name: str, report: Report) -> None:
        """Shares of one core for client and server, of all cores for ``busy``, and the rate were the client free."""
        wall_s = sum(one.wall_s for one in self._loads)
        client_s = sum(one.client_cpu_s for one in self._loads)
        server_s = self._running.cpu_s() - self._server_s
        queries = sum(one.queries for one in self._loads)
        report.figure(
            f"{name}.cpu",
            {
                "client_cores": client_s / wall_s,
                "server_cores": server_s / wall_s,
                "busy": (client_s + server_s) / wall_s / CORES,
                "qps_less_client": queries / (wall_s - client_s / CORES),
            },
        )
