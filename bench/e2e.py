"""What the whole path costs over loopback beside its parts: gRPC alone, the encoder alone, the search alone.

Every part is measured in the same run, in turn with the whole. The client has a process of its own and shares the
cores: its CPU time is told, and rates are given a second time as if it were free. One client and the server never work
at once, so its CPU time is taken from the wall time as it is. Many clients do work beside the server: they only take
their share of the cores, so wall time minus CPU time / cores is what the same work would have taken. That holds while
the cores are busy, and ``busy`` tells how busy they were.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from bench import datasets, e2e_null
from bench.awake import cores_awake
from bench.e2e_bed import BATCH, COLLECTION, CORES, Bed, CpuWatch, Pace, Queries
from bench.echo_server import METHOD, echoing
from bench.harness import SEED, Options, Report, interleaved, percentiles, run
from bench.inprocess import EngineProcess
from bench.load import Calls, Load, LoadProcess, reply_bytes
from bench.prepared import prepared
from bench.serving import Running, served
from engine.client import RetrievalClient
from engine.types import Explanation, Float32Array, Schema, TextField

N_ROWS = 60_000
NOISE = 0.5
_SETTINGS = {"min_rows_to_train": N_ROWS}
"""Train when all rows are there, and not on the way to it as well."""
_VECTOR_RATE = 80.0
_STAGES = ("queue", "encode", "filter", "search", "fuse")


def main(argv: Sequence[str] | None = None) -> int:
    return run("e2e", _body, argv=argv)


def _body(options: Options, report: Report) -> None:
    with cores_awake():
        _measure(options, report)


def _measure(options: Options, report: Report) -> None:
    pace = Pace.of(options)
    report.figure("cores_kept_awake", True)
    e2e_null.measure(pace.rounds, pace.seconds, report)
    rows, queries = _rows_and_queries(options)
    schema = Schema(COLLECTION, id_type="uint64", encoder="minilm", text_fields=(TextField("title"),))
    with prepared(schema, rows, settings=_SETTINGS, trained=True) as ready:
        report.figure("rows", len(rows))
        report.figure("made", ready.made)
        copy = shutil.copytree(ready.folder, ready.folder.with_name("copy"), symlinks=True)
        with (
            served(ready.folder, settings=_SETTINGS) as running,
            EngineProcess(copy, settings=_SETTINGS) as engine,
            LoadProcess() as load,
            LoadProcess() as background,
        ):
            _tell_index(running, report)
            bed = Bed(running, engine, load, background, queries, pace)
            _stages(bed, report)
            _one_client(bed, report)
            _vector_batches(bed, report)
            _text_batches(bed, report)
            _both_loops(bed, report)
            _beside_text(bed, report)


def _rows_and_queries(options: Options) -> tuple[Float32Array, Queries]:
    """Rows: embeddings of job titles and occupations, over and over with Gaussian noise; queries: alternate titles."""
    encoder = datasets.minilm(threads=CORES)
    titles = [row["title"] for row in datasets.read_jsonl(options.data / "jobs" / "corpus.jsonl.gz")]
    alternate = datasets.onet(options.data, kind="alternate")
    base = datasets.embeddings("e2e-rows", encoder, [*dict.fromkeys(titles), *alternate.titles], role="item")
    texts = list(alternate.queries.values())
    sample = [texts[i] for i in np.random.default_rng(SEED).choice(len(texts), size=2048, replace=False)]
    vectors = datasets.embeddings("onet-alternate", encoder, sample, role="query")
    return datasets.noisy_copies(base, N_ROWS, noise=NOISE, seed=SEED), Queries(sample, vectors)


def _tell_index(running: Running, report: Report) -> None:
    lists = running.client.get_collection(COLLECTION).message.versions[0].ivfpq
    report.figure("ivfpq", {"nlist": lists.nlist, "nprobe": lists.nprobe, "expected_recall": lists.expected_recall})


# Stages


def _stages(bed: Bed, report: Report) -> None:
    """The median of each stage in the product's own account, and what no stage accounts for."""
    client, texts, vectors = bed.running.client, bed.queries.texts, bed.queries.vectors
    firsts = range(0, 6 * BATCH, BATCH)
    told = {
        "vector_unary": [_unary_account(client, vectors[place]) for place in range(60)],
        "text_unary": [_unary_account(client, texts[place]) for place in range(40)],
        "vector_batch": [_batch_account(client, vectors[first : first + BATCH]) for first in firsts],
        "text_batch": [_batch_account(client, texts[first : first + BATCH]) for first in firsts],
    }
    for kind, accounts in told.items():
        settled = accounts[len(accounts) // 3 :]
        report.figure(f"{kind}.stages_ms", {name: statistics.median(a[name] for a in settled) for name in settled[0]})


def _unary_account(client: RetrievalClient, query: str | Float32Array) -> dict[str, float]:
    began = time.perf_counter()
    result = client.search(COLLECTION, query, attributes=())
    return _account(result.explanation, time.perf_counter() - began)


def _batch_account(client: RetrievalClient, queries: Float32Array | Sequence[str]) -> dict[str, float]:
    began = time.perf_counter()
    result = client.search_batch(COLLECTION, queries, explain=True)
    return _account(result.explanations[0], time.perf_counter() - began)


def _account(explanation: Explanation, wall_s: float) -> dict[str, float]:
    stages = {stage: 1000 * getattr(explanation.times, stage) for stage in _STAGES}
    return {**stages, "rest": 1000 * wall_s - sum(stages.values()), "wall": 1000 * wall_s}


# Rates and latencies


def _one_client(bed: Bed, report: Report) -> None:
    """A vector query at a time, beside a call to a server that does nothing and the search alone."""
    calls = bed.calls("vector_unary")
    with echoing(reply_bytes(calls)) as target:
        echo = Calls(target, METHOD, calls.requests)
        seen: list[Load] = []
        samples = interleaved(
            {
                "echo": lambda: _p50_ms(bed.load.one_client(echo, seconds=bed.pace.seconds), seen=[]),
                "search": lambda: 1000 * statistics.median(bed.in_process(batch=1).seconds),
                "served": lambda: _p50_ms(bed.load.one_client(calls, seconds=bed.pace.seconds), seen=seen),
            },
            rounds=bed.pace.rounds,
        )
    for name, of_name in samples.items():
        report.figure(f"vector_unary.{name}_p50_ms", of_name)
    cpu_ms = 1000 * sum(one.client_cpu_s for one in seen) / sum(len(one.latencies_s) for one in seen)
    report.figure("vector_unary.client_cpu_ms_a_call", cpu_ms)
    report.figure("vector_unary.served_p50_ms_less_client", samples["served"].median - cpu_ms)
    parts = samples["echo"].median + samples["search"].median
    report.at_most("vector_unary.p50_over_echo_and_search", samples["served"].median / parts, 1.5)


def _p50_ms(load: Load, *, seen: list[Load]) -> float:
    seen.append(load)
    return load.percentiles_ms()["p50"]


def _vector_batches(bed: Bed, report: Report) -> None:
    """64 vectors a call, two clients: one call waits while another is searched."""
    calls = bed.calls("vector_batch")
    watch = CpuWatch(bed.running)
    with echoing(reply_bytes(calls)) as target:
        echo = Calls(target, METHOD, calls.requests, BATCH)
        rates = interleaved(
            {
                "search": lambda: bed.in_process(batch=BATCH).rate,
                "served": lambda: watch.qps(bed.load.many_clients(calls, 2, seconds=bed.pace.seconds)),
                "echo": lambda: bed.load.many_clients(echo, 2, seconds=bed.pace.seconds).qps,
            },
            rounds=bed.pace.rounds,
        )
    for name, of_name in rates.items():
        report.figure(f"vector_batch.{name}_qps", of_name)
    watch.tell("vector_batch", report)
    report.at_least("vector_batch.served_over_search", rates["served"].median / rates["search"].median, 0.8)


def _text_batches(bed: Bed, report: Report) -> None:
    """64 texts a call, two clients, against the encoder and the search one after the other."""
    calls, texts = bed.calls("text_batch"), bed.queries.texts
    watch = CpuWatch(bed.running)
    rates = interleaved(
        {
            "encode": lambda: bed.engine.encode(COLLECTION, texts, batch=BATCH, seconds=bed.pace.seconds).rate,
            "search": lambda: bed.in_process(batch=BATCH).rate,
            "served": lambda: watch.qps(bed.load.many_clients(calls, 2, seconds=2 * bed.pace.seconds)),
        },
        rounds=bed.pace.rounds,
    )
    for name, of_name in rates.items():
        report.figure(f"text_batch.{name}_qps", of_name)
    watch.tell("text_batch", report)
    ideal = 1 / (1 / rates["encode"].median + 1 / rates["search"].median)
    report.figure("text_batch.ideal_qps", ideal)
    report.at_least("text_batch.served_over_ideal", rates["served"].median / ideal, 0.85)


def _both_loops(bed: Bed, report: Report) -> None:
    """Closed loops as fast as they go, then open ones at half that rate, latency from when a call was due."""
    for kind, clients in (("vector_unary", 16), ("text_unary", 16), ("vector_batch", 2), ("text_batch", 2)):
        calls = bed.calls(kind)
        watch = CpuWatch(bed.running)
        closed = bed.load.many_clients(calls, clients, seconds=2 * bed.pace.seconds)
        watch.qps(closed)
        report.figure(f"{kind}.closed_{clients}_clients", closed.figures())
        watch.tell(f"{kind}.closed", report)
        rate = 0.5 * closed.qps / calls.queries_per_call
        opened = bed.load.open_loop(calls, rate, seconds=3 * bed.pace.seconds, seed=SEED)
        report.figure(f"{kind}.open_at_half_rate", {**opened.figures(), "late_p99_ms": 1000 * opened.late_s})
        report.figure(f"{kind}.failed", closed.failed + opened.failed)


def _beside_text(bed: Bed, report: Report) -> None:
    """Vector queries at a steady pace, in turn alone and beside as many texts as the encoder takes."""
    vectors, texts = bed.calls("vector_unary"), bed.calls("text_batch")
    quiet: list[float] = []
    beside: list[float] = []
    seconds = 4 * bed.pace.seconds
    for number in range(bed.pace.rounds):
        quiet += bed.load.open_loop(vectors, _VECTOR_RATE, seconds=seconds, seed=SEED + number).latencies_s
        flood = bed.background.start_many_clients(texts, 2, seconds=seconds + 1)
        time.sleep(0.5)
        beside += bed.load.open_loop(vectors, _VECTOR_RATE, seconds=seconds, seed=SEED + number).latencies_s
        report.figure(f"beside_text.texts_per_s.{number}", flood.result().qps)
    alone, loaded = percentiles(quiet), percentiles(beside)
    report.figure("beside_text.quiet_ms", {name: 1000 * value for name, value in alone.items()})
    report.figure("beside_text.loaded_ms", {name: 1000 * value for name, value in loaded.items()})
    report.figure("beside_text.samples", {"quiet": len(quiet), "loaded": len(beside)})
    report.at_most("beside_text.p99_over_quiet", loaded["p99"] / alone["p99"], 3.0)


if __name__ == "__main__":
    sys.exit(main())
