"""Our masked exact scan of bf16 rows: against the memory's reading speed alone, against GEMM and top-k in batches."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.baselines.masked_topk import as_float32, gemm_topk, same_dtype
from bench.gpu_bed import Bed, packed
from bench.gpu_ceilings import fastest, readers
from bench.gpu_fused import measure_scan
from bench.gpu_report import Answered, Lines, ways
from bench.gpu_rows import Made, exact_top
from bench.measured import Samples, Target
from bench.metrics import recall_at
from kernels import cuda as kernels
from kernels.arrays import Float32Array, Int64Array

_DEAD = 0.01
_SCORES_BYTES = 2 << 30
OF_BANDWIDTH, TIMES_TORCH = 0.80, 2.5


def measure(bed: Bed, lines: Lines, *, n_rows: int) -> None:
    made = Made(n_rows, bed.sized(128, 32), bed.where)
    scan = _Scan(bed, made)
    _alone(scan, lines)
    for batch in (4,) if bed.small else (64, 1024):
        for k in (10, 20) if bed.small else (10, 100):
            _batch(scan, lines, batch, k)
    measure_scan(bed, lines, made, scan.rows)


class _Scan:
    """The rows, ours and torch's, and a mask of those that are alive."""

    def __init__(self, bed: Bed, made: Made) -> None:
        self.bed, self.made = bed, made
        self.rows = bed.rows(made, torch.bfloat16)
        self.stored = made.stored(torch.bfloat16)
        generator = torch.Generator(bed.where).manual_seed(1)
        self.alive = torch.rand(made.n_rows, generator=generator, device=bed.where) >= _DEAD
        self.words = packed(self.alive)
        self.mask = self.words.data_ptr()

    def passes(self, first: int, end: int) -> Tensor:
        return self.alive[first:end][None]

    def search(self, queries: Float32Array, k: int) -> Int64Array:
        return self.bed.scan(self.rows, queries, [self.mask] * len(queries), k=k)

    def started(self, queries: Float32Array, k: int) -> Any:
        """The keys, which stay on the device."""
        masks, end = self.bed.addresses([self.mask] * len(queries)), self.made.n_rows
        return kernels.masked_scan(
            self.bed.device, self.rows, queries, masks, metric="dot", k=k, first_row=0, end_row=end
        )


def _alone(scan: _Scan, lines: Lines) -> None:
    """One query: the share of the reading speed that the whole search reaches, its answer on the host included."""
    bed, k = scan.bed, 10
    query = scan.made.queries(1)
    asked = query.cpu().numpy()
    n_bytes = scan.stored.numel() * 2 + scan.words.numel() * 4
    reads = readers(bed, n_bytes)
    taken = bed.timed({**reads, "scan": lambda: scan.search(asked, k), "keys": lambda: scan.started(asked, k)})
    read = fastest({name: taken[name] for name in reads})
    recall = recall_at(scan.search(asked, k), exact_top(scan.made, query, k=k, passes=scan.passes))
    share = _ratio(read, taken["scan"])
    figures = {
        "read_gb_per_s": n_bytes / read.median / 1e9,
        "of_bandwidth": share,
        "keys_of_bandwidth": _ratio(read, taken["keys"]),
        **ways({"scan": Answered(taken["scan"], recall), "keys": Answered(taken["keys"], recall)}, 1),
    }
    case = {"rows": scan.made.n_rows, "dimension": scan.made.dimension, "batch": 1, "k": k, "dtype": "bfloat16"}
    lines.tell(case, figures, {"of_bandwidth": Target(share, OF_BANDWIDTH, is_floor=True)})


def _batch(scan: _Scan, lines: Lines, batch: int, k: int) -> None:
    """Ours under the mask beside torch without one, which favours torch: each with the recall of its own task."""
    bed, made = scan.bed, scan.made
    queries = made.queries(batch)
    asked = queries.cpu().numpy()
    searches: dict[str, Callable[[], Int64Array]] = {"scan": lambda: scan.search(asked, k)}
    searches |= {"gemm_topk": _torch(scan, queries, k), "gemm_topk_float32": _torch32(scan, queries, k)}
    taken = bed.timed(searches)
    masked = exact_top(made, queries, k=k, passes=scan.passes)
    every = exact_top(made, queries, k=k)
    answered = {
        name: Answered(taken[name], recall_at(search(), masked if name == "scan" else every))
        for name, search in searches.items()
    }
    ratio = min(_ratio(taken[name], taken["scan"]) for name in searches if name != "scan")
    case = {"rows": made.n_rows, "dimension": made.dimension, "batch": batch, "k": k, "dtype": "bfloat16"}
    figures = {"times_gemm_topk": ratio, **ways(answered, batch)}
    lines.tell(case, figures, {"times_gemm_topk": Target(ratio, TIMES_TORCH, is_floor=True)})


def _torch(scan: _Scan, queries: Tensor, k: int) -> Callable[[], Int64Array]:
    asked, rows = queries.to(torch.bfloat16), max(k, _SCORES_BYTES // (2 * len(queries)))
    return lambda: _host(gemm_topk(scan.stored, asked, k=k, chunk_rows=rows, scores_of=same_dtype))


def _torch32(scan: _Scan, queries: Tensor, k: int) -> Callable[[], Int64Array]:
    asked, rows = queries.to(torch.bfloat16), max(k, _SCORES_BYTES // (4 * len(queries)))
    return lambda: _host(gemm_topk(scan.stored, asked, k=k, chunk_rows=rows, scores_of=as_float32))


def _host(rows: Tensor) -> Int64Array:
    found: Int64Array = rows.cpu().numpy()
    return found


def _ratio(of: Samples, to: Samples) -> float:
    """The median over the rounds."""
    return statistics.median(one / other for one, other in zip(of.values, to.values, strict=True))
