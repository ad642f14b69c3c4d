"""What serving costs before any search: `ebr serve` over a device that computes nothing, 64 queries a call and one."""

from __future__ import annotations

import numpy as np

from bench import null_server, wire
from bench.harness import SEED, Report, interleaved
from bench.load import LoadProcess
from bench.serving import data_folder, load_vectors, served, vector_schema
from engine.types import SearchParams

_COLLECTION = "null"
_DIMENSION = 384
_BATCH = 64
_CLIENTS = 16


def measure(rounds: int, seconds: float, report: Report) -> None:
    """Batches must bring at least ten times the queries a second of single calls."""
    vectors = np.random.default_rng(SEED).standard_normal((1024, _DIMENSION), dtype=np.float32)
    with (
        data_folder() as folder,
        served(folder, program=null_server.PROGRAM) as running,
        LoadProcess() as load,
    ):
        load_vectors(running.client, vector_schema(_COLLECTION, dimension=_DIMENSION, metric="cosine"), vectors)
        target = running.client.target
        unary = wire.unary_calls_of_vectors(target, _COLLECTION, vectors)
        batch = wire.calls_of_vectors(target, _COLLECTION, vectors, params=SearchParams(), batch=_BATCH)
        rates = interleaved(
            {
                "unary": lambda: load.many_clients(unary, _CLIENTS, seconds=seconds).qps,
                "batch": lambda: load.many_clients(batch, 4, seconds=seconds).qps,
            },
            rounds=rounds,
        )
    for name, samples in rates.items():
        report.figure(f"null.{name}_qps", samples)
    report.at_least("null.batch_over_unary", rates["batch"].median / rates["unary"].median, 10)
