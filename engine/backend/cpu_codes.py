"""Int8 codes of a version's rows on the CPU, in segments as its vectors are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import SEGMENT_ROWS, Proven, TopK, Vectors
from engine.dtypes import StoredArray
from engine.types import Float32Array, Uint8Array
from kernels import cpu as kernels
from kernels.arrays import RowCodes
from kernels.coarse import RowBounds, bounds_of, empty_codes, widest


class CpuCodes:
    """Implements ``engine.backend.protocol.CoarseCodes``."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._segments: list[RowCodes] = []
        self._bounds = RowBounds(0.0, 0.0)
        self._n_rows = 0

    @property
    def n_rows(self) -> int:
        """Rows [0, n_rows) have codes."""
        return self._n_rows

    @property
    def memory_bytes(self) -> int:
        """Of the rows there are: the rest of their last segment is not touched."""
        return self._n_rows * sum(array[:1].nbytes for codes in self._segments[:1] for array in codes)

    def add(self, vectors: StoredArray, alive: npt.NDArray[np.bool_]) -> None:
        """Append stored rows [m, d] of one segment; proofs take no account of those of ``alive`` [m] that are dead."""
        first = self._n_rows % SEGMENT_ROWS
        rows = slice(first, first + len(vectors))
        assert rows.stop <= SEGMENT_ROWS
        if first == 0:
            self._segments.append(empty_codes(SEGMENT_ROWS, self._dimension))
        codes = self._segments[-1]
        kernels.quantise_into(codes, vectors, first=first)
        self._bounds = widest([self._bounds, bounds_of(codes.norms[rows][alive], codes.errors[rows][alive])])
        self._n_rows += len(vectors)

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
        top, proven = kernels.two_pass_scan(
            vectors.segments,
            self._segments,
            queries,
            masks,
            metric=vectors.metric,
            k=k,
            depth=max(depth, k),
            bounds=self._bounds,
            first_row=first_row,
            end_row=self._n_rows,
        )
        return Proven(TopK(*top), proven)
