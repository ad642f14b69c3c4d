"""faiss's inverted lists on a GPU under a filter, which they do not know: asked for many and filtered afterwards.

What they find is scored again from the stored rows, as ours is. On the host faiss's lists of the CPU stand in, so that
the way is tried. Only numbers of rows and queries pass between faiss and torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.gpu_rows import Made, first_rows
from kernels.arrays import Float32Array, Int64Array

MOST = 2048
"""That faiss finds for a query on a GPU."""


class FaissLists:
    """A trained faiss index and the rows, as they are stored, in the same order; ``kept``: what must live as long."""

    def __init__(self, index: Any, stored: Tensor, kept: object) -> None:
        self._index = index
        self._stored = stored
        self._kept = kept

    def found(self, queries: Float32Array, *, wanted: int, nprobe: int) -> Int64Array:
        """By its own scores: int64 [B, wanted], -1 where there are fewer."""
        self._index.nprobe = nprobe
        rows: Int64Array = self._index.search(queries, wanted)[1]
        return rows

    def filtered(
        self,
        queries: Float32Array,
        passes: Callable[[Tensor], Tensor] | None,
        *,
        k: int,
        wanted: int,
        nprobe: int,
    ) -> Tensor:
        """Rows int64 [B, k] of those found that pass; ``passes`` tells of rows int64 [B, m] which do."""
        rows = torch.from_numpy(self.found(queries, wanted=wanted, nprobe=nprobe)).to(self._stored.device)
        there = rows.clamp(min=0)
        asked = torch.from_numpy(queries).to(self._stored.device, self._stored.dtype)
        scores = torch.bmm(self._stored[there], asked[:, :, None]).squeeze(2)
        is_out = rows < 0 if passes is None else (rows < 0) | ~passes(there)
        best, places = scores.masked_fill_(is_out, -torch.inf).topk(min(k, wanted))
        return torch.where(best > -torch.inf, rows.gather(1, places), -1)


def gpu_lists(made: Made, stored: Tensor, *, nlist: int, code_bytes: int, sample_rows: int) -> FaissLists:
    """``GpuIndexIVFPQ`` of 8-bit codes, with tables in float16 as faiss recommends.

    Raises:
        ImportError: faiss is not installed, or has no GPU part.
    """
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("faiss is there, but without its GPU part")
    config = faiss.GpuIndexIVFPQConfig()
    config.useFloat16LookupTables = True
    resources = faiss.StandardGpuResources()
    shape = (made.dimension, nlist, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    index = faiss.GpuIndexIVFPQ(resources, *shape, config)
    _fill(index, made, sample_rows)
    return FaissLists(index, stored, resources)


def cpu_lists(made: Made, stored: Tensor, *, nlist: int, sample_rows: int) -> FaissLists:
    """Of vectors as they are, on the host.

    Raises:
        ImportError: faiss is not installed.
    """
    import faiss

    quantizer = faiss.IndexFlatIP(made.dimension)
    index = faiss.IndexIVFFlat(quantizer, made.dimension, nlist, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    _fill(index, made, sample_rows)
    return FaissLists(index, stored, quantizer)


def _fill(index: Any, made: Made, sample_rows: int) -> None:
    index.train(first_rows(made, sample_rows).cpu().numpy())
    for _, chunk in made.chunks():
        index.add(chunk.cpu().numpy())
