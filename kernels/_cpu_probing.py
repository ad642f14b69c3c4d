"""What the search of inverted lists is told, and the memory that it works in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._cpu_jit import compiled_as_written
from kernels._cpu_shuffle import TABLE_BYTES
from kernels.arrays import Float32Array, Float64Array, Int64Array, Uint8Array
from kernels.packed_lists import BLOCK_ROWS, CENTROIDS

RUN = 16
"""Blocks whose rows the mask is asked about ahead, so that their codes are on their way when they are scored."""


class Probing(NamedTuple):
    """What is scanned, for whom; see ``kernels.packed_lists``.

    ``codebook`` float32 [M, d / M, 16]; ``chunks``: addresses; ``masks`` [B]: addresses of ``mask_bytes`` each, 0 where
    every row passes; ``centroid_scores`` float32 [B or more, nlist to whole groups].

    Where features are fused, in units of similarity, the scores of centroids have the gains that their lists expect
    added; ``bases`` [B, nlist] are what rows of a list score at most but for their codes, ``bounds`` what of it
    features add at most, [1, nlist] where all queries have the same, and ``most_bounds`` [B] the largest of these,
    zeros where nothing is fused. Where the one feature lies beside the codes, ``feature_chunks`` has the addresses and
    ``feature_weights`` [B] what it counts; then bases have no bounds in them.
    """

    codebook: Float32Array
    levels: int
    unit: np.float32
    is_l2: bool
    chunks: Int64Array
    n_columns: int
    next_blocks: npt.NDArray[np.int32]
    first_blocks: npt.NDArray[np.int32]
    sizes: Int64Array
    queries: Float32Array
    centroid_scores: Float32Array
    masks: Int64Array
    mask_bytes: int
    ks: Int64Array
    nprobes: Int64Array
    reaches: Float32Array
    slopes: Float32Array
    shares: Float64Array
    near_slopes: Float32Array
    depths: Int64Array
    slacks: Float32Array
    budgets: Int64Array
    bases: Float32Array
    bounds: Float32Array
    most_bounds: Float32Array
    feature_chunks: Int64Array
    feature_weights: Float32Array


class Counts(NamedTuple):
    """Of each query: int64 [B] as in ``kernels.packed_lists.Probed``."""

    lists: Int64Array
    rows: Int64Array
    work: Int64Array
    candidates: Int64Array
    gave_up: Int64Array


class Scratch(NamedTuple):
    """Working memory of each thread, by its number.

    ``tables`` uint8 [W, bytes], ``products`` float32 [W, M, 16], ``scores`` float32 [W, 32]; ``keys`` and ``groups`` as
    in ``Order``; ``best`` float32 [W, k]: a heap of the best scores, the worst on top. ``tallies`` int64 [W, N]: of
    the query, how many best scores there are; of the rows that the mask was asked about of late, how many and how many
    passed; the pairs of a row that passed and another of its list, and those of which both did. Of the list, its next
    block, the rows from there on, those that the mask was asked about and those of them that passed. Of what is
    fetched, the next block, how many were not scored yet, and whether it is one of the next list. ``runs`` and
    ``run_asked`` [W, 16]: blocks that have a row which passes, and which rows those are.
    """

    tables: Uint8Array
    products: Float32Array
    scores: Float32Array
    keys: Int64Array
    groups: Int64Array
    best: Float32Array
    tallies: Int64Array
    runs: Int64Array
    run_asked: npt.NDArray[np.uint64]


# Places of the tallies
N_BEST, SEEN, PASSED, PAIRS, PAIRS_PASSED = range(5)
NEXT_BLOCK, ROWS_LEFT, OWN_SEEN, OWN_PASSED, FETCH_BLOCK, N_FETCHED, FETCHES_NEXT = range(5, 12)
ALL_SEEN, ALL_PASSED, WORK = range(12, 15)
_N_TALLIES = 15


def new_scratch(n_workers: int, n_parts: int, n_groups: int, k: int) -> Scratch:
    n_pairs = -(-n_parts // 4)
    return Scratch(
        np.zeros((n_workers, n_pairs * TABLE_BYTES), np.uint8),
        np.empty((n_workers, n_parts, CENTROIDS), np.float32),
        np.empty((n_workers, BLOCK_ROWS), np.float32),
        np.empty((n_workers, n_groups * CENTROIDS), np.int64),
        np.empty((n_workers, n_groups), np.int64),
        np.empty((n_workers, max(1, k)), np.float32),
        np.zeros((n_workers, _N_TALLIES), np.int64),
        np.empty((n_workers, RUN), np.int64),
        np.empty((n_workers, RUN), np.uint64),
    )


@compiled_as_written
def square_of(probing: Probing, query: int) -> np.float32:
    square = np.float32(0)
    for i in range(probing.queries.shape[1]):
        square += probing.queries[query, i] * probing.queries[query, i]
    return square


@compiled_as_written
def scale_of(probing: Probing, query: int, square: np.float32, kth: np.float32) -> np.float32:
    """See ``reference.query_scales``; ``square``: of the query's length. Of a fused score similarity is at least what
    the bounds leave.
    """
    if probing.is_l2:
        distance = np.sqrt(max(square / np.float32(4) - (kth - probing.most_bounds[query]), np.float32(0)))
        return np.float32(probing.unit * np.float32(2) * distance)
    return np.float32(probing.unit * np.sqrt(square))
