"""Small-integer vectors, on which float32 is exact and ties are real, and the arguments of searches over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from kernels.arrays import SEGMENT_ROWS, Float32Array, Int64Array, Metric, StoredArray, Uint8Array

DTYPES = ("float16", "bfloat16", "float32")
METRICS: tuple[Metric, ...] = ("cosine", "dot", "l2")


@dataclass(frozen=True)
class Case:
    """One search; ``masks`` may be longer than ``end_row`` or shorter, as packed by NumPy."""

    segments: list[StoredArray]
    queries: Float32Array
    masks: list[Uint8Array]
    metric: Metric
    k: int
    first_row: int
    end_row: int

    @property
    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.end_row)


def stored(vectors: Float32Array, dtype: str) -> StoredArray:
    """float32 [n, d], of values that bfloat16 can hold, as stored."""
    if dtype == "bfloat16":
        return (np.ascontiguousarray(vectors).view(np.uint32) >> 16).astype(np.uint16)
    return vectors.astype(dtype)


def in_segments(vectors: StoredArray) -> list[StoredArray]:
    """Rows [n, d] as segments, the last one short."""
    starts = range(0, len(vectors), SEGMENT_ROWS)
    return [np.ascontiguousarray(vectors[start : start + SEGMENT_ROWS]) for start in starts]


def pack(chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Uint8Array:
    return np.packbits(chosen, bitorder="little")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Sizes around words (64), tiles (66) and panels (6 x 16); densities that take every path of the scan."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([1, 5, 63, 64, 65, 127, 128, 130, 200, 321]))
    d = draw(st.sampled_from([1, 2, 3, 7, 8, 16, 17, 31, 33, 100, 260]))
    n_queries = draw(st.sampled_from([1, 2, 3, 8, 15, 16, 17, 33]))
    extra_bits = draw(st.sampled_from([0, 1, 64, 100]))
    densities = draw(st.lists(st.sampled_from([0.0, 0.02, 0.5, 0.95, 1.0]), min_size=1, max_size=3))
    vectors = generator.integers(-3, 4, (n, d)).astype(np.float32)
    first_row = draw(st.integers(0, n))
    return Case(
        segments=in_segments(stored(vectors, draw(st.sampled_from(DTYPES)))),
        queries=generator.integers(-3, 4, (n_queries, d)).astype(np.float32),
        masks=[pack(generator.random(n + extra_bits) < densities[b % len(densities)]) for b in range(n_queries)],
        metric=draw(st.sampled_from(METRICS)),
        k=draw(st.sampled_from([1, 2, 10, 64, 500])),
        first_row=first_row,
        end_row=draw(st.integers(first_row, n)),
    )


def row_lists(case: Case, *, length: int, lowest: int) -> list[Int64Array]:
    """For each query up to ``length`` rows from [lowest, end_row + 3), none twice, in any order."""
    pool = np.arange(lowest, case.end_row + 3)
    generator = case.generator
    return [generator.permutation(pool)[: generator.integers(0, length + 1)] for _ in case.queries]
