"""The CPU backend: exact searches by our own kernels, IVF-PQ by faiss."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from engine.backend.cpu_codes import CpuCodes
from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.protocol import TopK, Vectors
from engine.dtypes import MOST_LENGTH, numpy_dtype
from engine.errors import ConfigError
from engine.types import Float32Array, Int64Array, Metric, Uint8Array
from kernels import cpu as kernels
from kernels.fusion import Fusion

_log = logging.getLogger(__name__)


class CpuBackend:
    """Implements ``engine.backend.protocol.Backend`` with at most ``threads`` threads a call.

    Raises:
        ConfigError: numba has fewer threads, or no pool that several callers may enter at once.
    """

    def __init__(self, threads: int) -> None:
        try:
            kernels.use_threads(threads)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"compute threads: {error}") from error
        self._threads = threads
        if threads > 1 and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
            _log.warning("OMP_WAIT_POLICY is not PASSIVE: on a busy machine small searches may take 16 ms more")

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        return "cpu"

    @property
    def threads(self) -> int:
        return self._threads

    def when_lost(self, tell: Callable[[str], None]) -> None:
        """It does not fail alone."""

    def unit_queries(self, queries: Float32Array, *, metric: Metric) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        """Queries float32 [B, d] as the metric wants them, and which are sound; the others become zeros."""
        return kernels.unit_queries(queries, metric=metric, most_length=MOST_LENGTH)

    def masked_scan(
        self,
        vectors: Vectors,
        queries: Float32Array,
        masks: Sequence[Uint8Array],
        *,
        k: int,
        first_row: int = 0,
        end_row: int | None = None,
        fusion: Fusion | None = None,
    ) -> TopK:
        """Exact top k of rows [first_row, end_row) for queries float32 [B, d], one mask for each query."""
        end = vectors.n_rows if end_row is None else min(end_row, vectors.n_rows)
        how: dict[str, Any] = {"metric": vectors.metric, "k": k, "first_row": first_row, "end_row": end}
        return TopK(*kernels.masked_scan(vectors.segments, queries, masks, fusion=fusion, **how))

    def gather(
        self,
        vectors: Vectors,
        queries: Float32Array,
        rows: Sequence[Int64Array],
        *,
        k: int,
        fusion: Fusion | None = None,
    ) -> TopK:
        """Exact top k among ``rows[b]`` for each query b."""
        how: dict[str, Any] = {"metric": vectors.metric, "k": k, "end_row": vectors.n_rows}
        return TopK(*kernels.gather(vectors.segments, queries, rows, fusion=fusion, **how))

    def merge_topk(self, parts: Sequence[TopK], *, k: int) -> TopK:
        """Top k of several answers to the same queries."""
        return TopK(*kernels.merge_topk([(part.rows, part.scores) for part in parts], k=k))

    def load_ivfpq(self, path: Path, *, dimension: int | None = None, metric: Metric | None = None) -> CpuIvfPq:
        """Open an index file in faiss CPU format, of that dimension and metric where they are given.

        Raises:
            CorruptData: the file is not such an index.
        """
        return CpuIvfPq.load(path, dimension=dimension, metric=metric, threads=self._threads)

    def new_codes(self, dimension: int) -> CpuCodes:
        """Codes of no rows yet."""
        return CpuCodes(dimension)

    def warm_up(self, vectors: Vectors) -> None:
        """Compile the kernels for the stored dtype, or load them from numba's cache."""
        kernels.warm_up(numpy_dtype(vectors.dtype))
