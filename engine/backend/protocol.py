"""The only seam between CPU and GPU: what a device does for the index, in arrays.

Shapes: n rows, d dimension, B queries, k hits, c candidates. Rows are positions in a version's row space; -1 pads rows
and -inf pads scores. Larger scores are better with every metric, ties go to the smaller row. Scores are accumulated in
float32 from the stored dtype. A mask is packed bits, least significant first, as uint8 [>= ceil(n / 8)]: a set bit
means that the row is alive and passes the query's filter. All arrays are host memory here; one thread at a time calls
a backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from engine.dtypes import StoredArray
from engine.types import Float32Array, Int32Array, Int64Array, Metric, Uint8Array, VectorDtype
from kernels.fusion import Fusion, ListExtremes
from kernels.packed_lists import ProbeLimits

SEGMENT_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Vectors:
    """A version's stored vectors: segments of ``SEGMENT_ROWS`` x d, of which the first ``n_rows`` rows are written.

    ``segments[s]`` is a C-contiguous [SEGMENT_ROWS, d] array of the stored dtype (bfloat16 as uint16), usually mapped
    from a file; rows beyond ``n_rows`` must not be read.
    """

    segments: Sequence[StoredArray]
    n_rows: int
    dimension: int
    dtype: VectorDtype
    metric: Metric


@dataclass(frozen=True, slots=True)
class TopK:
    """rows int64 [B, k] and scores float32 [B, k], best first, padded with -1 and -inf."""

    rows: Int64Array
    scores: Float32Array


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows int64 [B, c] by quantised score float32 [B, c], best first, padded with -1 and -inf."""

    rows: Int64Array
    scores: Float32Array


@dataclass(frozen=True, slots=True)
class Rescored:
    """Hits by exact score, and what was done to find them, int64 [B] each: lists and rows scanned, rows rescored.

    ``work``: rows that budgets count, for a mask makes some of them cheap; see ``kernels.packed_lists.Probed``.
    ``gave_up`` bool [B]: queries that would have gone beyond their budget; they have no hits.
    """

    top: TopK
    lists_scanned: Int64Array
    rows_scanned: Int64Array
    work: Int64Array
    rescored: Int64Array
    gave_up: npt.NDArray[np.bool_]


class IvfPqIndex(Protocol):
    """A trained IVF-PQ index on a device. Row r of the index is row r of the version (rows are added in order)."""

    @property
    def n_rows(self) -> int:
        """Rows [0, n_rows) are in inverted lists."""
        ...

    @property
    def nlist(self) -> int: ...

    @property
    def numbers(self) -> Int32Array:
        """int32 [n_rows]: the list of each row."""
        ...

    @property
    def sizes(self) -> Int64Array:
        """int64 [nlist]: rows of each list; not to be changed, and changed by ``add``."""
        ...

    @property
    def code_bytes(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...

    def add(self, vectors: Float32Array) -> Float32Array:
        """Append float32 [m, d] as rows n_rows .. n_rows + m; how far each lies from its list's centroid, squared:
        float32 [m].
        """
        ...

    def scales(self, queries: Float32Array, kth: Float32Array) -> Float32Array:
        """What a reach and a slack of 1 mean for queries [B, d] whose k-th best quantised score is ``kth`` [B], as a
        difference of such scores: float32 [B].
        """
        ...

    def search(self, queries: Float32Array, *, limits: ProbeLimits, masks: Sequence[Uint8Array | None]) -> Candidates:
        """The nearest rows by quantised score as far as the limits go, among those whose mask bit is set (all where
        None); queries float32 [B, d].
        """
        ...

    def search_rescored(
        self,
        vectors: Vectors,
        queries: Float32Array,
        *,
        limits: ProbeLimits,
        masks: Sequence[Uint8Array | None],
        k: int,
        fusion: Fusion | None = None,
        extremes: ListExtremes | None = None,
    ) -> Rescored:
        """Exact top k of what ``search`` finds. With a fusion, which has no extras, both by fused score; ``extremes``
        bound what it adds to the rows of each list.
        """
        ...


@dataclass(frozen=True, slots=True)
class Proven:
    """Hits by exact score, and whether they are proven to be what ``masked_scan`` finds: bool [B]."""

    top: TopK
    proven: npt.NDArray[np.bool_]


class CoarseCodes(Protocol):
    """Int8 codes of a version's first rows on a device. Row r of the codes is row r of the version."""

    @property
    def n_rows(self) -> int:
        """Rows [0, n_rows) have codes."""
        ...

    @property
    def memory_bytes(self) -> int: ...

    def add(self, vectors: StoredArray, alive: npt.NDArray[np.bool_]) -> None:
        """Append stored rows [m, d] of one segment; proofs take no account of those of ``alive`` [m] that are dead."""
        ...

    def search(
        self,
        vectors: Vectors,
        queries: Float32Array,
        masks: Sequence[Uint8Array],
        *,
        k: int,
        depth: int,
        first_row: int = 0,
    ) -> Proven:
        """Exact top k of the best ``depth`` rows by codes, among those from ``first_row`` on that have codes and whose
        mask bit is set.
        """
        ...


class Backend(Protocol):
    """A device."""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """``cpu`` or ``cuda``; the CPU may take over from a GPU that fails."""
        ...

    @property
    def threads(self) -> int:
        """Queries of one call that are searched side by side."""
        ...

    def when_lost(self, tell: Callable[[str], None]) -> None:
        """Have ``tell`` called with the reason should the device fail: once and for good, in any thread."""
        ...

    def unit_queries(self, queries: Float32Array, *, metric: Metric) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        """Queries float32 [B, d] as the metric wants them, and which are sound; the others become zeros."""
        ...

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
        """Exact top k of rows [first_row, end_row) for queries float32 [B, d], one mask for each query; by fused score
        where there is a fusion.
        """
        ...

    def gather(
        self,
        vectors: Vectors,
        queries: Float32Array,
        rows: Sequence[Int64Array],
        *,
        k: int,
        fusion: Fusion | None = None,
    ) -> TopK:
        """Exact top k among ``rows[b]`` (ascending, no repeats) for each query b, as ``masked_scan`` scores them."""
        ...

    def merge_topk(self, parts: Sequence[TopK], *, k: int) -> TopK:
        """Top k of several answers to the same queries."""
        ...

    def load_ivfpq(self, path: Path) -> IvfPqIndex:
        """Open an index file in faiss CPU format.

        Raises:
            CorruptData: the file is not such an index.
        """
        ...

    def new_codes(self, dimension: int) -> CoarseCodes:
        """Codes of no rows yet."""
        ...

    def warm_up(self, vectors: Vectors) -> None:
        """Compile or load everything a first search of these vectors would otherwise wait for."""
        ...
