"""What encodes best on this CPU: each way to run a forward, alone and beside a busy thread, and what bfloat16 costs.

`docs/adr/0001-encoder-forward-outside-the-gil.md` rests on it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench import datasets
from bench.cache import cache_folder
from bench.datasets import Judged
from bench.harness import SEED, Options, Report, interleaved, percentiles, progress, run, seconds_of
from bench.metrics import mean_ndcg_at
from engine import threads
from engine.models.batches import PADDED_TOKENS, pad
from engine.models.bundle import MINILM, minilm_folder, open_encoder
from engine.models.folder import read_folder
from engine.models.protocol import ComputeDtype, EncodeDevice, Encoder, Tower
from engine.models.weights import TowerWeights, load_weights
from engine.types import Float32Array, Int64Array

QUERY_TOKENS = 12
BATCH = 64
LENGTHS = (12, 32, 128, 256)
INTERVALS_S = (0.005, 0.001, 0.0005, 0.0001)
K = 10
_SAMPLE_QUERIES, _SAMPLE_ITEMS = 60, 240


def main(argv: Sequence[str] | None = None) -> int:
    return run("encoder", _body, argv=argv)


def _body(options: Options, report: Report) -> None:
    n_threads = threads.configure(None, cache_folder() / "numba")  # before a library with a pool is loaded
    towers = _towers(load_weights(read_folder(minilm_folder())), n_threads)
    from engine.models.towers import has_bfloat16_instructions

    has_bfloat16 = has_bfloat16_instructions()
    report.figure("threads", n_threads)
    report.figure("cpu_has_bfloat16", has_bfloat16)
    _latency(towers, options, report)
    if not options.quick:
        _switch_intervals(towers["onnxruntime_float32"], report)
        _batch_sizes(towers["onnxruntime_float32"], report)
    for length in LENGTHS[:2] if options.quick else LENGTHS:
        is_too_slow = not has_bfloat16 and length > LENGTHS[0]
        affordable = {name: one for name, one in towers.items() if not (is_too_slow and "bfloat16" in name)}
        _throughput(affordable, length, options, report)
    if (options.data / "scifact").is_dir():
        _quality(datasets.scifact(options.data), n_threads, has_bfloat16, options, report)
    else:
        progress.print(f"  no quality figures: {options.data} has no scifact")


def _towers(weights: TowerWeights, n_threads: int) -> dict[str, Tower]:
    from engine.models.onnx_tower import OnnxTower
    from engine.models.towers import TorchTower

    return {
        "onnxruntime_float32": OnnxTower(weights, n_threads),
        "torch_jit_float32": TorchTower(weights, "float32"),
        "torch_eager_float32": EagerTower(weights),
        "torch_jit_bfloat16": TorchTower(weights, "bfloat16"),
    }


class EagerTower:
    """Implements ``Tower`` an operator at a time, as torch does when nothing is compiled."""

    engine = "torch"
    device: EncodeDevice = "cpu"

    def __init__(self, weights: TowerWeights) -> None:
        import torch

        from engine.models.towers import TowerModule

        self._module = TowerModule(weights, torch.float32).eval()

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        import torch

        with torch.inference_mode():
            embeddings: Float32Array = self._module(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        return embeddings


# One short text


def _latency(towers: Mapping[str, Tower], options: Options, report: Report) -> None:
    ids, lengths = _windows(1, QUERY_TOKENS)
    n_calls = 40 if options.quick else 300
    for name, tower in towers.items():

        def call(tower: Tower = tower) -> object:
            return tower.run(ids, lengths)

        alone = _milliseconds(call, n_calls)
        with busy_thread():
            busy = _milliseconds(call, n_calls)
        report.figure(f"single.{name}.alone_ms", alone)
        report.figure(f"single.{name}.busy_ms", busy)
        if name == "onnxruntime_float32":
            report.at_most("single.busy_over_alone_p50", busy["p50"] / alone["p50"], 3.0)


def _switch_intervals(tower: Tower, report: Report) -> None:
    """The encoder's wait for the GIL, against how much of its speed the busy thread keeps."""
    ids, lengths = _windows(1, QUERY_TOKENS)
    before = sys.getswitchinterval()
    for interval in INTERVALS_S:
        sys.setswitchinterval(interval)
        with busy_thread() as turns:
            began, first = time.perf_counter(), turns[0]
            figures: dict[str, Any] = _milliseconds(lambda: tower.run(ids, lengths), 300)
            figures["busy_turns_per_s"] = (turns[0] - first) / (time.perf_counter() - began)
        report.figure(f"switch_interval.{interval * 1e3:g}ms", figures)
    sys.setswitchinterval(before)


@contextmanager
def busy_thread() -> Iterator[list[int]]:
    """A thread that never waits, as a saturated event loop; yields a list of one number, the turns it has made."""
    turns, done = [0], threading.Event()

    def spin() -> None:
        while not done.is_set():
            turns[0] += 1

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield turns
    finally:
        done.set()
        thread.join()


def _milliseconds(call: Callable[[], object], n_calls: int) -> dict[str, float]:
    for _ in range(5):
        call()
    taken = [1e3 * seconds_of(call) for _ in range(n_calls)]
    return {"min": min(taken), **percentiles(taken, (50, 99))}


# Batches


def _throughput(towers: Mapping[str, Tower], length: int, options: Options, report: Report) -> None:
    """In calls of the size that an encoder makes."""
    n = min(BATCH, PADDED_TOKENS // length)
    variants = {name: _timed(tower, n, length) for name, tower in towers.items()}
    taken = interleaved(variants, rounds=2 if options.quick else 4)
    for name, samples in taken.items():
        report.figure(f"texts_per_s.{n}x{length}.{name}", {"median": n / samples.median, "best": n / samples.minimum})


def _batch_sizes(tower: Tower, report: Report) -> None:
    """Microseconds a padded token, by how many of them a call has."""
    for length in (16, 64, 256):
        sizes = [n_tokens for n_tokens in (256, 512, 1024, 2048, 4096, 8192) if n_tokens >= length]
        taken = interleaved(
            {str(size): _timed(tower, size // length, length) for size in sizes}, rounds=3, warm_up_rounds=1
        )
        figures = {size: 1e6 * samples.minimum / int(size) for size, samples in taken.items()}
        report.figure(f"us_per_token_by_batch_tokens.length{length}", figures)


def _timed(tower: Tower, n: int, length: int) -> Callable[[], float]:
    ids, lengths = _windows(n, length)
    return lambda: seconds_of(lambda: tower.run(ids, lengths))


def _windows(n: int, length: int) -> tuple[Int64Array, Int64Array]:
    words = np.random.default_rng(SEED).integers(1000, 30_000, size=(n, length))
    return pad(words.tolist())


# What bfloat16 costs in quality


def _quality(judged: Judged, n_threads: int, has_bfloat16: bool, options: Options, report: Report) -> None:
    """On the whole set where it does not take hours, else on a sample; of --quick only where bfloat16 is quick."""
    dtypes: tuple[ComputeDtype, ...] = ("float32", "bfloat16")
    if options.quick and not has_bfloat16:
        progress.print("  no quality of bfloat16: this CPU computes it too slowly for --quick")
        return
    if options.quick or not has_bfloat16:
        judged = _sample(judged)
    opened = {dtype: open_encoder(MINILM, compute_dtype=dtype, threads=n_threads) for dtype in dtypes}
    report.figure("scifact.queries", len(judged.queries))
    report.figure("scifact.items", len(judged.ids))
    found = {dtype: _ndcg(judged, encoder) for dtype, encoder in opened.items()}
    for dtype, value in found.items():
        report.figure(f"scifact.{dtype}.exact_ndcg@{K}", value)
    report.at_most("scifact.bfloat16_ndcg_loss", found["float32"] - found["bfloat16"], 0.01)


def _sample(judged: Judged) -> Judged:
    """Some queries, all that is relevant to them, and others up to a number of items."""
    rng = np.random.default_rng(SEED)
    queries = [str(one) for one in rng.permutation(list(judged.queries))[:_SAMPLE_QUERIES]]
    wanted = {item for query in queries for item in judged.relevance[query]}
    others = [id_ for id_ in judged.ids if id_ not in wanted]
    wanted |= {str(one) for one in rng.permutation(others)[: _SAMPLE_ITEMS - len(wanted)]}
    kept = [row for row, id_ in enumerate(judged.ids) if id_ in wanted]
    return Judged(
        [judged.ids[row] for row in kept],
        [judged.titles[row] for row in kept],
        [judged.texts[row] for row in kept],
        {query: judged.queries[query] for query in queries},
        {query: judged.relevance[query] for query in queries},
    )


def _ndcg(judged: Judged, encoder: Encoder) -> float:
    items = datasets.embeddings("scifact", encoder, judged.joined, role="item")
    queries = datasets.embeddings("scifact", encoder, list(judged.queries.values()), role="query")
    best = np.argsort(-(queries @ items.T), axis=1, kind="stable")[:, :K]
    rankings = {query: [judged.ids[row] for row in rows] for query, rows in zip(judged.queries, best, strict=True)}
    return mean_ndcg_at(rankings, judged.relevance, K)


if __name__ == "__main__":
    sys.exit(main())
