"""The definition of each kernel, in NumPy: slow, plain, and what every other implementation is tested against.

Shapes: n rows, d dimension, B queries, k hits, c candidates. Vectors lie in segments: C-contiguous arrays
[``SEGMENT_ROWS``, d] of float16, float32, or bfloat16 held as uint16; the last one may be shorter. A mask is packed
bits, least significant first, uint8; what lies beyond its last byte or at ``end_row`` and above is not set.

Every search returns (rows int64 [B, k], scores float32 [B, k]): larger scores first, ties to the smaller row, padded
with -1 and -inf. Scores are accumulated in float32 from the stored dtype; one that is not a number ranks as -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from kernels.arrays import (
    SEGMENT_ROWS,
    Float32Array,
    Int64Array,
    Metric,
    RowCodes,
    Selection,
    StoredArray,
    Uint8Array,
)
from kernels.coarse import (
    CODE_LIMIT,
    GREATEST_NORM,
    ROUNDED_UP,
    BoolArray,
    QueryCodes,
    RowBounds,
    empty_codes,
    is_proven,
    part_of,
    quantised_queries,
)
from kernels.packed_lists import (
    BLOCK_ROWS,
    FEWEST_DOUBLINGS,
    FORESEEN_FROM,
    MOST_STEPS,
    SPARSE,
    WINDOW_ROWS,
    PackedLists,
    Probed,
    ProbeLimits,
    table_levels,
)


def score(vectors: Float32Array, query: Float32Array, metric: Metric) -> Float32Array:
    """Scores float32 [n] of float32 [n, d] for one query [d]; cosine takes both as normalised already."""
    if metric == "l2":
        difference = vectors - query
        return np.asarray(np.float32(0) - np.sum(difference * difference, axis=1), np.float32)
    return np.asarray(np.sum(vectors * query, axis=1), np.float32)


def select(rows: Int64Array, scores: Float32Array, k: int) -> Selection:
    """The best k of one query's rows [n] and scores [n], in order and padded to k."""
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    best = np.lexsort((rows, -scores))[:k]
    top_rows = np.full(k, -1, np.int64)
    top_scores = np.full(k, -np.inf, np.float32)
    top_rows[: best.size] = rows[best]
    top_scores[: best.size] = scores[best]
    return top_rows, top_scores


def take(segments: Sequence[StoredArray], rows: Int64Array) -> StoredArray:
    """The stored vectors [n, d] of rows [n]."""
    return np.stack([segments[row // SEGMENT_ROWS][row % SEGMENT_ROWS] for row in rows.tolist()])


def unit_queries(queries: Float32Array, *, metric: Metric) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Queries float32 [B, d] of length 1 for cosine, as they are else; and which are sound, bool [B].

    One with a NaN or an infinity is not sound, nor is one of zeros for cosine: it becomes zeros, which every search
    bears.
    """
    squares = np.sum(queries.astype(np.float64) ** 2, axis=1)
    is_sound = np.isfinite(squares) & ((squares > 0) | (metric != "cosine"))
    lengths = np.sqrt(np.where(is_sound & (squares > 0), squares, 1))[:, None] if metric == "cosine" else 1.0
    units = np.where(is_sound[:, None], np.where(is_sound[:, None], queries, 0) / lengths, 0)
    return units.astype(np.float32), is_sound


def masked_scan(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    metric: Metric,
    k: int,
    first_row: int,
    end_row: int,
) -> Selection:
    """Top k of rows [first_row, end_row) whose bit is set in ``masks[b]``, for each query b of float32 [B, d]."""
    alive = [rows_of_mask(mask, end_row=end_row) for mask in masks]
    rows = [of_query[of_query >= first_row] for of_query in alive]
    return gather(segments, queries, rows, metric=metric, k=k, end_row=end_row)


def gather(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    rows: Sequence[Int64Array],
    *,
    metric: Metric,
    k: int,
    end_row: int,
) -> Selection:
    """Top k among ``rows[b]`` for each query b of float32 [B, d]; rows outside [0, end_row) are padding."""
    top = [_search_rows(segments, *one, metric, k, end_row) for one in zip(queries, rows, strict=True)]
    return _stack(top, k)


def rescore(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    candidates: Int64Array,
    *,
    metric: Metric,
    k: int,
    end_row: int,
) -> Selection:
    """Top k among candidates int64 [B, c], in any order; rows outside [0, end_row) are padding."""
    return gather(segments, queries, list(candidates), metric=metric, k=k, end_row=end_row)


def merge_topk(parts: Sequence[Selection], *, k: int) -> Selection:
    """Top k of several selections of the same B queries, each [B, any width]; rows of -1 are padding."""
    rows = np.concatenate([part[0] for part in parts], axis=1)
    scores = np.concatenate([part[1] for part in parts], axis=1)
    return _stack([select(r[r >= 0], s[r >= 0], k) for r, s in zip(rows, scores, strict=True)], k)


def popcount(mask: Uint8Array, *, end_row: int) -> int:
    """How many rows below ``end_row`` have their bit set."""
    return int(rows_of_mask(mask, end_row=end_row).size)


def rows_of_mask(mask: Uint8Array, *, end_row: int) -> Int64Array:
    """The rows below ``end_row`` whose bit is set, ascending."""
    return np.flatnonzero(np.unpackbits(mask, bitorder="little")[:end_row])


# Inverted lists


def scan_lists(
    lists: PackedLists, queries: Float32Array, masks: Sequence[Uint8Array | None], *, limits: ProbeLimits
) -> tuple[Selection, Probed]:
    """Each query's candidates by quantised score, among the rows whose bit is set in ``masks[b]``.

    ``kernels.packed_lists.ProbeLimits`` says how far a query goes. Queries float32 [B, d] are as the codes want them:
    for l2 twice the vector asked for. A mask of None passes every row. A query whose table or square is not
    finite finds nothing, nor is a row found whose score is not a number.

    Returns:
        Rows and scores [B, c] for the largest depth c, best first, and what each query did.
    """
    width = int(limits.depths.max(initial=0))
    scans = [_Scan(lists, queries[b], mask, limits.of(slice(b, b + 1))).run() for b, mask in enumerate(masks)]
    probed = Probed(
        np.array([one.n_lists for one in scans], np.int64),
        np.array([one.n_rows for one in scans], np.int64),
        np.array([len(one.candidates[0]) for one in scans], np.int64),
        np.array([one.gave_up for one in scans], np.bool_),
    )
    return _stack([_padded(*one.candidates, width) for one in scans], width), probed


def search_lists(
    lists: PackedLists,
    segments: Sequence[StoredArray],
    vectors: Float32Array,
    queries: Float32Array,
    masks: Sequence[Uint8Array | None],
    *,
    limits: ProbeLimits,
    metric: Metric,
    k: int,
    end_row: int,
) -> tuple[Selection, Probed]:
    """Exact top k for ``vectors`` float32 [B, d] of the rows that ``scan_lists`` finds."""
    (candidates, _), probed = scan_lists(lists, queries, masks, limits=limits)
    return rescore(segments, vectors, candidates, metric=metric, k=k, end_row=end_row), probed


def centroid_scores(lists: PackedLists, queries: Float32Array) -> Float32Array:
    """What orders the lists: float32 [B, nlist], the product with the centroid, less its square for l2."""
    return np.asarray(queries @ lists.centroids.T + lists.centroid_terms, np.float32)


def query_scales(lists: PackedLists, queries: Float32Array, kth: Float32Array) -> Float32Array:
    """What a reach and a slack of 1 mean for each query, as a difference of scores: float32 [B].

    The product of a query with what its list leaves open of a row is about as large as the query's length and the
    spread of codes. For l2 that query is twice the vector to the k-th best row so far, whose score is ``kth`` [B].
    """
    squares = np.sum(np.square(queries), axis=1, dtype=np.float32)
    if not lists.is_l2:
        return np.asarray(lists.unit * np.sqrt(squares), np.float32)
    distances = np.sqrt(np.maximum(squares / np.float32(4) - kth, np.float32(0)))
    return np.asarray(lists.unit * np.float32(2) * distances, np.float32)


class _Scan:
    """One query's way through the lists, block by block."""

    def __init__(self, lists: PackedLists, query: Float32Array, mask: Uint8Array | None, limits: ProbeLimits) -> None:
        self.lists, self.query = lists, query
        self.visible = (
            None if mask is None else np.isin(np.arange(lists.end_row), rows_of_mask(mask, end_row=lists.end_row))
        )
        self.depth = int(limits.depths[0])
        self.k = min(int(limits.ks[0]), self.depth)
        self.nprobe, self.budget = int(limits.nprobes[0]), int(limits.budgets[0])
        self.reach, self.slope, self.slack = limits.reaches[0], limits.slopes[0], limits.slacks[0]
        self.rows: list[Int64Array] = []
        self.scores: list[Float32Array] = []
        self.best = np.empty(0, np.float32)
        self.seen = self.passed = self.pairs = self.pairs_passed = 0
        self.n_lists = self.n_rows = 0
        self.gave_up = False
        self.candidates: Selection = np.empty(0, np.int64), np.empty(0, np.float32)

    def run(self) -> _Scan:
        tables = quantised_tables(self.lists.codebook, self.query)
        square = np.sum(np.square(self.query), dtype=np.float32)
        if not (np.isfinite(tables[1]) and np.isfinite(square)) or self.depth == 0:
            return self
        coarse = centroid_scores(self.lists, self.query[None])[0]
        for number in np.lexsort((np.arange(len(coarse)), -coarse))[: self.nprobe].tolist():
            if self._is_too_far(coarse[number]):
                break
            if self._is_foreseen_beyond_budget(coarse) or (self.n_rows + self.lists.sizes[number]) // 2 > self.budget:
                self.gave_up = True
                return self
            self.n_lists += 1
            self.n_rows += int(self.lists.sizes[number])
            bias = np.float32(0) if self.lists.is_l2 else coarse[number]
            self._take_list(*self.lists.listed(number)[1:2], quantised_scores(self.lists, number, tables, bias))
        self.candidates = self._best_candidates()
        return self

    def _kth(self) -> np.float32:
        return self.best.min() if len(self.best) == self.k else np.float32(-np.inf)

    def _below_kth(self, scales: np.float32) -> np.float32:
        """So many scales below the k-th best score."""
        kth = self._kth()
        if np.isinf(kth) or np.isinf(scales):
            return np.float32(-np.inf)
        scale = query_scales(self.lists, self.query[None], np.array([kth]))[0]
        return np.float32(kth - scales * scale)

    def _is_too_far(self, coarse: np.float32) -> bool:
        """Whether a list that scores so is not worth scanning any more."""
        return bool(coarse < self._least_worth())

    def _is_foreseen_beyond_budget(self, coarse: Float32Array) -> bool:
        looks = [FORESEEN_FROM << turn for turn in range(32)]
        if self.n_lists not in looks or len(self.best) < self.k:
            return False
        lists = min(int(np.count_nonzero(coarse >= self._least_worth())), self.nprobe)
        return self.n_rows * lists // self.n_lists - self.n_rows > self.budget

    def _least_worth(self) -> np.float32:
        """What a list must score as things are."""
        share = Fraction(self.pairs_passed, self.pairs) if self.pairs else Fraction(1)
        lists = self.n_lists * share
        doublings = FEWEST_DOUBLINGS
        while lists >= Fraction(2) ** (doublings + 1):
            doublings += 1
        return self._below_kth(np.float32(self.reach + self.slope * np.float32(doublings)))

    def _take_list(self, rows: Int64Array, scores: Float32Array) -> None:
        """Of the rows that the mask was asked about, pairs tell how alike they are who pass: whether a row that passes
        lies among others that do.
        """
        before = self.seen, self.passed
        for first in range(0, len(rows), BLOCK_ROWS):
            self._take_block(rows[first : first + BLOCK_ROWS], scores[first : first + BLOCK_ROWS])
        seen, passed = self.seen - before[0], self.passed - before[1]
        self.pairs += passed * (seen - 1)
        self.pairs_passed += passed * (passed - 1)
        if self.seen > WINDOW_ROWS:
            self.seen, self.passed = self.seen >> 1, self.passed >> 1

    def _take_block(self, rows: Int64Array, scores: Float32Array) -> None:
        found = scores >= self._below_kth(self.slack)
        if self.visible is not None:
            visible = self.visible[rows]
            asked = np.ones(len(rows), np.bool_) if self.passed * SPARSE < self.seen else found
            self.seen += int(asked.sum())
            self.passed += int((asked & visible).sum())
            found &= visible
        self.rows.append(rows[found])
        self.scores.append(scores[found])
        self.best = np.sort(np.concatenate([self.best, scores[found]]))[::-1][: self.k]

    def _best_candidates(self) -> Selection:
        rows, scores = (
            np.concatenate([np.empty(0, np.int64), *self.rows]),
            np.concatenate([np.empty(0, np.float32), *self.scores]),
        )
        kept = scores >= self._below_kth(self.slack)
        return select(rows[kept], scores[kept], min(self.depth, int(kept.sum())))


def quantised_tables(codebook: Float32Array, query: Float32Array) -> tuple[Uint8Array, np.float32, np.float32]:
    """Dot products of each part of a query [d] with its 16 centroids, as (entries uint8 [M, 16], scale, offset).

    A product is about ``entry * scale`` plus the least product of its part, and ``offset`` is the sum of the least
    ones, taken in order. The scale, shared by all parts, is a power of two, so that products with it are not rounded
    whether or not a machine fuses them with a sum; it is NaN where a product is not finite.
    """
    n_parts, _, width = codebook.shape
    products = np.sum(codebook * query.reshape(n_parts, 1, width), axis=2, dtype=np.float32)
    least = products.min(axis=1)
    spread = (products.max(axis=1) - least).max()
    offset = np.add.accumulate(least, dtype=np.float32)[-1]
    if not np.isfinite(spread):
        return np.zeros(products.shape, np.uint8), np.float32(np.nan), offset
    levels = np.float32(table_levels(n_parts))
    steps = largest_power(levels / spread) if spread > 0 else MOST_STEPS
    entries = np.floor((products - least[:, None]) * steps + np.float32(0.5))
    return entries.astype(np.uint8), np.float32(1) / steps, offset


def largest_power(value: np.float32) -> np.float32:
    """The largest power of two that is not above a value of at least 2**-126, and at most ``MOST_STEPS``."""
    bits = np.asarray(min(value, MOST_STEPS), np.float32).view(np.int32) & np.int32(0x7F800000)
    return np.float32(bits.view(np.float32))


def quantised_scores(
    lists: PackedLists, number: int, tables: tuple[Uint8Array, np.float32, np.float32], bias: np.float32
) -> Float32Array:
    """Scores float32 [m] of a list's rows: ((bias + offset) + term) + scale * (sum of the code's table entries)."""
    entries, scale, offset = tables
    codes, _, terms = lists.listed(number)
    parts = np.empty((len(codes), len(entries)), np.uint8)
    parts[:, 0::2], parts[:, 1::2] = codes & 15, codes >> 4
    sums = np.sum(entries[np.arange(len(entries)), parts], axis=1, dtype=np.int64).astype(np.float32)
    return np.asarray(((bias + offset) + terms) + scale * sums, np.float32)


def _padded(rows: Int64Array, scores: Float32Array, width: int) -> Selection:
    missing = (0, width - len(rows))
    return np.pad(rows, missing, constant_values=-1), np.pad(scores, missing, constant_values=np.float32(-np.inf))


def quantise_rows(vectors: StoredArray) -> RowCodes:
    """Codes of stored vectors [n, d], all of them finite: the largest value of a row becomes 127 or -127."""
    n, d = vectors.shape
    wide = _widen(vectors)
    codes = empty_codes(n, d)
    codes.scales[:n] = np.abs(wide).max(axis=1, initial=0) / CODE_LIMIT
    divisors = np.where(codes.scales[:n] > 0, codes.scales[:n], np.float32(1))[:, None]
    codes.values[:n, :d] = np.clip(np.rint(wide / divisors), -CODE_LIMIT, CODE_LIMIT)
    codes.sums[:] = codes.values.sum(axis=1, dtype=np.int32)
    kept = codes.values[:n, :d] * codes.scales[:n, None].astype(np.float64)
    squares = (codes.values.astype(np.int64) ** 2).sum(axis=1)[:n]
    codes.norms[:n] = np.minimum(codes.scales[:n].astype(np.float64) ** 2 * squares, GREATEST_NORM)
    codes.errors[:n] = np.linalg.norm(wide - kept, axis=1) * ROUNDED_UP
    return codes


def quantise_into(codes: RowCodes, vectors: StoredArray, *, first: int) -> None:
    """Write what ``quantise_rows`` makes of the vectors [n, d] over the zeros of ``codes`` from row ``first`` on."""
    n = len(vectors)
    part, made = part_of(codes, first, first + n), part_of(quantise_rows(vectors), 0, n)
    part.values[:], part.scales[:], part.sums[:] = made.values, made.scales, made.sums
    part.norms[:], part.errors[:] = made.norms, made.errors


def coarse_scan(
    segments: Sequence[RowCodes],
    queries: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    metric: Metric,
    k: int,
    first_row: int,
    end_row: int,
) -> Selection:
    """As ``masked_scan``, by codes: the queries are quantised as the rows are, and scores are of what both became.

    The products of codes are summed as integers; then (sum * row's scale) * query's factor, less the row's norm and
    the query's constant for l2, each a float32 operation.
    """
    codes = quantised_queries(queries, metric)
    top = []
    for b, mask in enumerate(masks):
        rows = rows_of_mask(mask, end_row=end_row)
        rows = rows[rows >= first_row]
        scores = np.array([_coarse_score(segments, row, codes, b) for row in rows.tolist()], np.float32)
        top.append(select(rows, scores, k))
    return _stack(top, k)


def two_pass_scan(
    segments: Sequence[StoredArray],
    codes: Sequence[RowCodes],
    queries: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    metric: Metric,
    k: int,
    depth: int,
    bounds: RowBounds,
    end_row: int,
) -> tuple[Selection, BoolArray]:
    """Top k of the best ``depth`` rows by codes, and whether each is proven to be what ``masked_scan`` finds: bool [B].

    ``depth`` is at least k; ``bounds`` are of all of ``codes``.
    """
    coarse = coarse_scan(codes, queries, masks, metric=metric, k=depth, first_row=0, end_row=end_row)
    exact = rescore(segments, queries, coarse[0], metric=metric, k=k, end_row=end_row)
    return exact, is_proven(queries, coarse, exact, metric=metric, bounds=bounds)


def _coarse_score(segments: Sequence[RowCodes], row: int, codes: QueryCodes, b: int) -> np.float32:
    of_row, at = segments[row // SEGMENT_ROWS], row % SEGMENT_ROWS
    values = of_row.values[at, : codes.values.shape[1]].astype(np.int32)
    products = np.float32(np.sum(values * codes.values[b], dtype=np.int32))
    scaled = products * of_row.scales[at] * codes.factors[b]
    return np.float32(scaled - of_row.norms[at] * codes.weight - codes.constants[b])


def _search_rows(
    segments: Sequence[StoredArray], query: Float32Array, rows: Int64Array, metric: Metric, k: int, end_row: int
) -> Selection:
    valid = rows[(rows >= 0) & (rows < end_row)]
    if valid.size == 0:
        return select(valid, np.empty(0, np.float32), k)
    return select(valid, score(_widen(take(segments, valid)), query, metric), k)


def _widen(stored: StoredArray) -> Float32Array:
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def _stack(top: Sequence[Selection], k: int) -> Selection:
    if not top:
        return np.empty((0, k), np.int64), np.empty((0, k), np.float32)
    return np.stack([rows for rows, _ in top]), np.stack([scores for _, scores in top])
