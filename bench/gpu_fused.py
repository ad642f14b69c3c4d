"""Fused scores: eight features beside similarity, each query its own weights, in the scan and in the lists' part.

A fused score is a dot product with the features as more dimensions: so truth is found, and so torch does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.baselines.masked_topk import as_float32, gemm_topk
from bench.gpu_bed import Bed
from bench.gpu_report import Answered, Lines, ways
from bench.gpu_rows import Made, exact_top
from bench.measured import SEED
from bench.metrics import recall_at
from kernels import cpu as cpu_kernels
from kernels import cuda as kernels
from kernels.arrays import SEGMENT_ROWS, Float32Array, Int64Array
from kernels.fusion import FeatureStamps, Fusion, ListExtremes, no_extremes
from kernels.packed_lists import PackedLists, fixed_limits

FEATURES = 8
_WEIGHT = 0.05
"""With it features of random rows of 128 dimensions differ about half as much as similarities do."""

_SCORES_BYTES = 2 << 30


@dataclass(frozen=True)
class Fused:
    """Rows with features between 0 and 1, float32 [SEGMENT_ROWS, F] a segment, and a copy of those on the device."""

    bed: Bed
    made: Made
    segments: Sequence[Float32Array]
    features: kernels.DeviceFeatures

    @property
    def where(self) -> str:
        return self.made.where

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Float32 [m, d + F]: rows with their features behind."""
        for (first, chunk), segment in zip(self.made.chunks(), self.segments, strict=True):
            yield first, torch.cat([chunk, torch.from_numpy(segment[: len(chunk)]).to(self.where)], dim=1)

    def stored(self, dtype: torch.dtype) -> Tensor:
        """All of them in one piece."""
        whole = torch.empty((self.made.n_rows, self.made.dimension + FEATURES), dtype=dtype, device=self.where)
        for first, chunk in self.chunks():
            whole[first : first + len(chunk)] = chunk
        return whole

    def fusion(self, n_queries: int) -> Fusion:
        rng = np.random.default_rng(SEED)
        weights = (_WEIGHT * rng.standard_normal((n_queries, FEATURES))).astype(np.float32)
        return Fusion(np.ones(n_queries, np.float32), weights, self.segments, [None] * n_queries)

    def asked(self, vectors: Tensor, fusion: Fusion) -> Tensor:
        """Float32 [B, d + F]: queries with their weights behind."""
        return torch.cat([vectors, torch.from_numpy(fusion.weights).to(self.where)], dim=1)

    def put(self, fusion: Fusion) -> kernels.DeviceFusion:
        return kernels.put_fusion(self.bed.device, fusion, self.features, end_row=self.made.n_rows)


def fused(bed: Bed, made: Made) -> Fused:
    rng = np.random.default_rng(SEED)
    n_segments = -(-made.n_rows // SEGMENT_ROWS)
    segments = [rng.random((SEGMENT_ROWS, FEATURES), np.float32) for _ in range(n_segments)]
    features = kernels.DeviceFeatures(bed.device, FEATURES)
    features.sync(segments, FeatureStamps(made.n_rows, [0] * n_segments))
    return Fused(bed, made, segments, features)


def measure_scan(bed: Bed, lines: Lines, made: Made, rows: kernels.DeviceRows) -> None:
    """Every row passes; beside it the same scan without features, and torch's product of the longer rows."""
    world, k, n_rows = fused(bed, made), 10, made.n_rows
    stored = world.stored(torch.bfloat16)
    for batch in (1, 4) if bed.small else (1, 64, 1024):
        vectors, fusion = made.queries(batch), world.fusion(batch)
        asked, queries = world.asked(vectors, fusion), vectors.cpu().numpy()
        searches: dict[str, Callable[[], Int64Array]] = {
            "fused": _scan(world, rows, queries, fusion, k),
            "plain": _scan(world, rows, queries, None, k),
            "gemm_topk_float32": _product(stored, asked, k),
        }
        truths = {"plain": exact_top(made, vectors, k=k)}
        case = {"rows": n_rows, "dimension": made.dimension, "features": FEATURES, "batch": batch, "k": k}
        _tell(bed, lines, {**case, "dtype": "bfloat16"}, searches, truths, exact_top(world, asked, k=k))


def measure_lists(bed: Bed, lines: Lines, made: Made, rows: kernels.DeviceRows, lists: kernels.DeviceLists) -> None:
    """Of as many lists as there are a sixteenth, 400 candidates; beside it the same without features, and a scan."""
    world, k = fused(bed, made), 10
    extremes = _extremes(world, lists.lists)
    nprobe, depth = max(1, lists.lists.nlist // 16), 400
    for batch in (1, 4) if bed.small else (1, 64, 1024):
        vectors, fusion = made.queries(batch), world.fusion(batch)
        queries = vectors.cpu().numpy()
        how: dict[str, Any] = {"limits": fixed_limits(batch, k=k, nprobe=nprobe, depth=depth), "k": k}
        searches = {
            "fused": _probe(world, rows, lists, queries, fusion, extremes, how),
            "plain": _probe(world, rows, lists, queries, None, None, how),
            "scan": _scan(world, rows, queries, fusion, k),
        }
        truths = {"plain": exact_top(made, vectors, k=k)}
        case = {"rows": made.n_rows, "dimension": made.dimension, "features": FEATURES, "batch": batch, "k": k}
        case |= {"nlist": lists.lists.nlist, "nprobe": nprobe, "depth": depth}
        _tell(bed, lines, case, searches, truths, exact_top(world, world.asked(vectors, fusion), k=k))


def _tell(
    bed: Bed,
    lines: Lines,
    case: dict[str, Any],
    searches: dict[str, Callable[[], Int64Array]],
    truths: dict[str, Int64Array],
    truth: Int64Array,
) -> None:
    """``truth``: of every way but those that have their own among ``truths``."""
    taken = bed.timed(searches)
    answered = {
        name: Answered(taken[name], recall_at(search(), truths.get(name, truth))) for name, search in searches.items()
    }
    figures = {"times_plain": taken["fused"].median / taken["plain"].median}
    lines.tell(case, {**figures, **ways(answered, case["batch"])})


def _scan(
    world: Fused, rows: kernels.DeviceRows, queries: Float32Array, fusion: Fusion | None, k: int
) -> Callable[[], Int64Array]:
    bed, end = world.bed, world.made.n_rows

    def search() -> Int64Array:
        on_device = None if fusion is None else world.put(fusion)
        how: dict[str, Any] = {"metric": "dot", "k": k, "first_row": 0, "end_row": end, "fusion": on_device}
        masks = bed.addresses([0] * len(queries))
        return bed.found(kernels.masked_scan(bed.device, rows, queries, masks, **how))[0]

    return search


def _probe(
    world: Fused,
    rows: kernels.DeviceRows,
    lists: kernels.DeviceLists,
    queries: Float32Array,
    fusion: Fusion | None,
    extremes: ListExtremes | None,
    how: dict[str, Any],
) -> Callable[[], Int64Array]:
    bed, end = world.bed, world.made.n_rows

    def search() -> Int64Array:
        on_device = None if fusion is None else world.put(fusion)
        masks = bed.addresses([0] * len(queries))
        beside: dict[str, Any] = {"metric": "dot", "end_row": end, "fusion": on_device, "extremes": extremes}
        keys, _ = kernels.search_lists(bed.device, lists, rows, queries, queries, masks, **beside, **how)
        return bed.found(keys)[0]

    return search


def _extremes(world: Fused, lists: PackedLists) -> ListExtremes:
    n_rows = world.made.n_rows
    numbers, found = np.zeros(n_rows, np.int32), no_extremes(lists.nlist, FEATURES)
    for number in range(lists.nlist):
        numbers[lists.listed(number)[1]] = number
    everything = np.full(-(-n_rows // 64) * 8, 255, np.uint8)
    cpu_kernels.widen_extremes(found, numbers, world.segments, everything, first_row=0, end_row=n_rows)
    return found


def _product(stored: Tensor, asked: Tensor, k: int) -> Callable[[], Int64Array]:
    queries, size = asked.to(stored.dtype), max(k, _SCORES_BYTES // (4 * len(asked)))
    return lambda: _host(gemm_topk(stored, queries, k=k, chunk_rows=size, scores_of=as_float32))


def _host(rows: Tensor) -> Int64Array:
    found: Int64Array = rows.cpu().numpy()
    return found
