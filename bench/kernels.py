"""Each kernel on the CPU beside its reference, beside what memory and arithmetic allow, and beside faiss SQ8.

The bandwidth and the peer take turns with the kernels, so that a busy neighbour falls on all of them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from bench import datasets
from bench.cache import cache_folder
from bench.harness import SEED, Options, Report, Samples, interleaved, progress, rounded, run, seconds_of
from bench.metrics import recall_at
from engine import threads
from engine.dtypes import to_stored
from engine.types import Float32Array, Uint8Array
from kernels.arrays import SEGMENT_ROWS, RowCodes, Selection, StoredArray
from kernels.coarse import row_bounds

DIMENSION = 128
K = 10
BATCHES = (1, 64)
DTYPES = ("float16", "bfloat16", "float32")
_ROWS, _QUICK_ROWS = 1_000_000, 524_288
_REFERENCE_ROWS, _REFERENCE_BATCH = 4096, 4
_DEPTHS = (10, 20, 50, 100, 200, 400)
_PROOF_QUERIES = 256
_SURVIVORS = 20_000
_TERMS_BYTES = 12
"""Of a quantised row, beside its codes: scale, sum and norm."""
_CODES_A_FLOAT = 4
"""Multiply-adds of bytes that VNNI makes where one of floats is made."""


@dataclass(frozen=True, slots=True)
class Bed:
    """What is searched: the same rows as stored in each dtype and as codes, and masks that all pass."""

    segments: Mapping[str, Sequence[StoredArray]]
    codes: Sequence[RowCodes]
    queries: Float32Array
    masks: Sequence[Uint8Array]
    n_rows: int

    def first(self, n_rows: int, n_queries: int) -> Bed:
        """The first rows, fewer than a segment, and queries."""
        segments = {dtype: [some[0][:n_rows]] for dtype, some in self.segments.items()}
        codes = self.codes[:1]
        masks = [mask[: n_rows // 8] for mask in self.masks[:n_queries]]
        return replace(
            self, segments=segments, codes=codes, queries=self.queries[:n_queries], masks=masks, n_rows=n_rows
        )


def main(argv: Sequence[str] | None = None) -> int:
    return run("kernels", _body, argv=argv)


def _body(options: Options, report: Report) -> None:
    n_threads = threads.configure(None, cache_folder() / "numba")  # before a library with a pool is loaded
    from kernels import cpu, reference

    cpu.use_threads(n_threads)
    bed = _bed(_QUICK_ROWS if options.quick else _ROWS, cpu)
    report.figure("sizes", {"rows": bed.n_rows, "dimension": DIMENSION, "k": K, "threads": n_threads})
    limits = _Limits(n_threads)
    peer = _Peer(np.concatenate(bed.segments["float32"]), n_threads)
    rounds = 3 if options.quick else 9
    for batch in BATCHES:
        _scans(replace(bed, queries=bed.queries[:batch], masks=bed.masks[:batch]), cpu, limits, peer, rounds, report)
    _small(bed, cpu, limits, rounds, report)
    _beside_reference(bed.first(_REFERENCE_ROWS, _REFERENCE_BATCH), cpu, reference, report)
    if (options.data / "mnist784").is_dir():
        _proofs(options, cpu, report)
    else:
        progress.print(f"  no proofs counted: {options.data} has no mnist784")


def _bed(n_rows: int, cpu: ModuleType) -> Bed:
    rng = np.random.default_rng(SEED)
    rows = rng.standard_normal((n_rows, DIMENSION), dtype=np.float32)
    queries = rng.standard_normal((max(BATCHES), DIMENSION), dtype=np.float32)
    starts = range(0, n_rows, SEGMENT_ROWS)
    segments = {
        "float32": [rows[at : at + SEGMENT_ROWS] for at in starts],
        "float16": [to_stored(rows[at : at + SEGMENT_ROWS], "float16") for at in starts],
        "bfloat16": [to_stored(rows[at : at + SEGMENT_ROWS], "bfloat16") for at in starts],
    }
    codes = [cpu.quantise_rows(segment) for segment in segments["float32"]]
    return Bed(segments, codes, queries, [_all_pass(n_rows)] * len(queries), n_rows)


def _all_pass(n_rows: int) -> Uint8Array:
    return np.packbits(np.ones(n_rows, np.bool_), bitorder="little")


# What the machine allows


class _Limits:
    """The memory's reading speed and the arithmetic's, each measured when asked."""

    def __init__(self, n_threads: int) -> None:
        import numba

        self._parts = np.ones((n_threads, (128 << 20) // (8 * n_threads)), np.int64)
        self._square = np.ones((1536, 1536), np.float32)

        @numba.njit(nogil=True, parallel=True)
        def read(parts: Any) -> int:
            total = 0
            for part in numba.prange(parts.shape[0]):
                total += parts[part].sum()
            return total

        self._read: Callable[[Any], int] = read
        self._read(self._parts)

    def bytes_per_s(self) -> float:
        return self._parts.nbytes / seconds_of(lambda: self._read(self._parts))

    def multiply_adds_per_s(self) -> float:
        """Of float32, by the matrix product of the BLAS that NumPy has."""
        square = self._square
        return len(square) ** 3 / seconds_of(lambda: square @ square)


class _Peer:
    """faiss's flat index of 8-bit codes over the same rows, on as many threads."""

    def __init__(self, rows: Float32Array, n_threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(n_threads)
        self._index = faiss.IndexScalarQuantizer(DIMENSION, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        self._index.train(rows[:100_000])
        self._index.add(rows)

    def search(self, queries: Float32Array) -> object:
        return self._index.search(queries, K)


# Scans


def _scans(bed: Bed, cpu: ModuleType, limits: _Limits, peer: _Peer, rounds: int, report: Report) -> None:
    batch = len(bed.queries)
    calls: dict[str, Callable[[], object]] = {f"masked_scan.{dtype}": _scan(cpu, bed, dtype) for dtype in DTYPES}
    calls |= {"coarse_scan.int8": _coarse(cpu, bed), "two_pass_scan.float16": _two_pass(cpu, bed)}
    calls["faiss_sq8"] = lambda: peer.search(bed.queries)
    measures: dict[str, Callable[[], float]] = {name: _timed(call) for name, call in calls.items()}
    measures |= {"bytes_per_s": limits.bytes_per_s, "multiply_adds_per_s": limits.multiply_adds_per_s}
    taken = interleaved(measures, rounds=rounds)
    bandwidth, arithmetic = taken.pop("bytes_per_s"), taken.pop("multiply_adds_per_s")
    report.figure(f"b{batch}.memory_gb_per_s", _scaled(bandwidth, 1e-9))
    report.figure(f"b{batch}.float32_gmac_per_s", _scaled(arithmetic, 1e-9))
    per_query = 1e3 * 1e6 / (batch * bed.n_rows)
    for name, seconds in taken.items():
        told: dict[str, float] = _scaled(seconds, per_query).figures()
        kind = name.partition(".")[2]
        if kind and not name.startswith("two"):
            told |= {"of_limit": rounded(_of_limit(bed, kind, seconds, bandwidth, arithmetic))}
        report.figure(f"b{batch}.{name}.ms_per_query_per_million", told)
    ratios = {name: _ratio(taken["faiss_sq8"], seconds) for name, seconds in taken.items() if name != "faiss_sq8"}
    report.figure(f"b{batch}.times_faiss_sq8", ratios)
    if batch == 1:
        share = _of_limit(bed, "int8", taken["coarse_scan.int8"], bandwidth, arithmetic)
        report.at_least("coarse_scan.b1.of_bandwidth", share, 0.7)
    else:
        report.at_least(f"best_scan.b{batch}.times_faiss_sq8", max(ratios.values()), 3.0)


def _scan(kernels: ModuleType, bed: Bed, dtype: str) -> Callable[[], Selection]:
    segments, keywords = bed.segments[dtype], {"metric": "dot", "k": K, "first_row": 0, "end_row": bed.n_rows}
    return lambda: kernels.masked_scan(segments, bed.queries, bed.masks, **keywords)


def _coarse(kernels: ModuleType, bed: Bed) -> Callable[[], Selection]:
    keywords = {"metric": "dot", "k": K, "first_row": 0, "end_row": bed.n_rows}
    return lambda: kernels.coarse_scan(bed.codes, bed.queries, bed.masks, **keywords)


def _two_pass(kernels: ModuleType, bed: Bed) -> Callable[[], object]:
    bounds = row_bounds(bed.codes)
    keywords = {"metric": "dot", "k": K, "depth": 100, "bounds": bounds, "first_row": 0, "end_row": bed.n_rows}
    return lambda: kernels.two_pass_scan(bed.segments["float16"], bed.codes, bed.queries, bed.masks, **keywords)


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    return lambda: seconds_of(call)


def _of_limit(bed: Bed, kind: str, seconds: Samples, bandwidth: Samples, arithmetic: Samples) -> float:
    """The time that reading or multiplying takes at least, whichever is longer, to the time taken, in the same round.

    The median of the rounds.
    """
    value_bytes = {"float32": 4, "int8": 1}.get(kind, 2)
    n_bytes = bed.n_rows * (DIMENSION * value_bytes + (_TERMS_BYTES if kind == "int8" else 0))
    n_sums = bed.n_rows * DIMENSION * len(bed.queries) / (_CODES_A_FLOAT if kind == "int8" else 1)
    rounds = zip(seconds.values, bandwidth.values, arithmetic.values, strict=True)
    return statistics.median(max(n_bytes / read, n_sums / made) / taken for taken, read, made in rounds)


def _ratio(of: Samples, to: Samples) -> float:
    """The median over the rounds."""
    return statistics.median(one / other for one, other in zip(of.values, to.values, strict=True))


def _scaled(samples: Samples, factor: float) -> Samples:
    return Samples(tuple(value * factor for value in samples.values))


# Lists and masks


def _small(bed: Bed, cpu: ModuleType, limits: _Limits, rounds: int, report: Report) -> None:
    """Kernels that touch few rows, or only masks; gathered rows lie anywhere, so that memory's latency counts too."""
    calls = _small_calls(cpu, bed, _SURVIVORS)
    measures: dict[str, Callable[[], float]] = {name: _timed(call) for name, (call, _) in calls.items()}
    taken = interleaved(measures | {"bytes_per_s": limits.bytes_per_s}, rounds=3 * rounds)
    for name, (_, n_bytes) in calls.items():
        least = n_bytes / taken["bytes_per_s"].median
        report.figure(f"{name}.us", _scaled(taken[name], 1e6).figures() | {"of_limit": least / taken[name].median})


def _small_calls(kernels: ModuleType, bed: Bed, survivors: int) -> dict[str, tuple[Callable[[], object], int]]:
    """Each with the bytes that it must read or write."""
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.choice(bed.n_rows, min(survivors, bed.n_rows), replace=False))
    chosen = np.zeros(bed.n_rows, np.bool_)
    chosen[rows] = True
    mask, segments = np.packbits(chosen, bitorder="little"), bed.segments["float16"]
    candidates = rng.integers(0, bed.n_rows, (len(bed.queries), 200))
    keywords = {"metric": "dot", "k": K, "end_row": bed.n_rows}
    halves = [_scored(rng, len(bed.queries)) for _ in range(2)]
    row_bytes = 2 * DIMENSION
    return {
        "popcount": (lambda: kernels.popcount(mask, end_row=bed.n_rows), mask.nbytes),
        "rows_of_mask": (lambda: kernels.rows_of_mask(mask, end_row=bed.n_rows), mask.nbytes + rows.nbytes),
        "gather.b1": (lambda: kernels.gather(segments, bed.queries[:1], [rows], **keywords), rows.size * row_bytes),
        f"rescore.b{len(bed.queries)}": (
            lambda: kernels.rescore(segments, bed.queries, candidates, **keywords),
            candidates.size * row_bytes,
        ),
        f"merge_topk.b{len(bed.queries)}": (
            lambda: kernels.merge_topk(halves, k=K),
            sum(array.nbytes for half in halves for array in half),
        ),
    }


def _scored(rng: np.random.Generator, n_queries: int) -> Selection:
    scores = -np.sort(-rng.standard_normal((n_queries, 200), dtype=np.float32), axis=1)
    return rng.integers(0, 1_000_000, scores.shape), scores


def _beside_reference(small: Bed, cpu: ModuleType, reference: ModuleType, report: Report) -> None:
    """How many times as fast as NumPy's plain definition, on few rows and queries."""
    sides = {}
    for side, kernels in (("cpu", cpu), ("reference", reference)):
        calls: dict[str, Callable[[], object]] = {
            f"masked_scan.{dtype}": _scan(kernels, small, dtype) for dtype in DTYPES
        }
        calls |= {"coarse_scan.int8": _coarse(kernels, small)}
        calls |= {name: call for name, (call, _) in _small_calls(kernels, small, 500).items()}
        vectors = small.segments["float16"][0]
        calls["quantise_rows"] = lambda kernels=kernels, vectors=vectors: kernels.quantise_rows(vectors)  # type: ignore[misc]
        sides[side] = interleaved({name: _timed(call) for name, call in calls.items()}, rounds=3)
    times = {name: sides["reference"][name].median / seconds.minimum for name, seconds in sides["cpu"].items()}
    report.figure(f"times_reference.{small.n_rows}x{len(small.queries)}", times)


# Proofs


def _proofs(options: Options, cpu: ModuleType, report: Report) -> None:
    """How deep the coarse pass must go on mnist784 that the second pass is right, and is known to be."""
    rows = datasets.mnist784(options.data)
    truth = datasets.exact_top("mnist784", rows, metric="l2", k=K)[:_PROOF_QUERIES]
    segments: list[StoredArray] = [to_stored(rows.items, "float16")]
    codes, queries, n = [cpu.quantise_rows(segments[0])], rows.queries[:_PROOF_QUERIES], len(rows.items)
    for depth in _DEPTHS:
        found, proven = cpu.two_pass_scan(
            segments,
            codes,
            queries,
            [_all_pass(n)] * len(queries),
            metric="l2",
            k=K,
            depth=depth,
            bounds=row_bounds(codes),
            first_row=0,
            end_row=n,
        )
        told = {"recall@10": recall_at(found[0], truth), "proven": float(proven.mean())}
        report.figure(f"mnist784.two_pass.depth_{depth}", told)


if __name__ == "__main__":
    sys.exit(main())
