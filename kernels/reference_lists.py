"""The definition of searches of inverted lists, in NumPy; ``kernels.reference`` has what all definitions share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kernels.arrays import Float32Array, Int32Array, Int64Array, Metric, Selection, StoredArray, Uint8Array
from kernels.fusion import Fusion, ListExtremes, expected_gains, list_ranges
from kernels.list_feature import ListFeature
from kernels.packed_lists import (
    BLOCK_ROWS,
    FEWEST_DOUBLINGS,
    FORESEEN_FROM,
    LOOK_WORK,
    MOST_STEPS,
    RARITY,
    ROUND_BLOCKS,
    ROW_WORK,
    SPARSE,
    WAVE_LISTS,
    WINDOW_ROWS,
    PackedLists,
    Probed,
    ProbeLimits,
    table_levels,
)
from kernels.reference_exact import rescore, rows_of_mask, select, stack, take, weighted_features


def scan_lists(
    lists: PackedLists,
    queries: Float32Array,
    masks: Sequence[Uint8Array | None],
    *,
    limits: ProbeLimits,
    fusion: Fusion | None = None,
    extremes: ListExtremes | None = None,
    feature: ListFeature | None = None,
) -> tuple[Selection, Probed]:
    """Each query's candidates by quantised score, among the rows whose bit is set in ``masks[b]``.

    ``kernels.packed_lists.ProbeLimits`` says how far a query goes. Queries float32 [B, d] are as the codes want them:
    for l2 twice the vector asked for. A mask of None passes every row. A query whose table or square is not
    finite finds nothing, nor is a row found whose score is not a number.

    With a fusion, which has no extras, scores are in units of similarity: a row's is that of its code and what its
    features add. To a centroid's score is added what its list is expected to gain by features, with the range that the
    reach gives at the nearest centroid; a row's own features are looked at once it would reach the limit with the most
    of each that any row of the list has, by ``extremes``. Where the fusion has one feature and ``feature`` has it
    beside the codes, it is part of every row's score, and none is looked at.

    Returns:
        Rows and scores [B, c] for the largest depth c, best first, and what each query did.
    """
    return _answers(_scans(_Scan, lists, queries, masks, limits, fusion, extremes, feature), limits)


def _scans(
    kind: type[_Scan],
    lists: PackedLists,
    queries: Float32Array,
    masks: Sequence[Uint8Array | None],
    limits: ProbeLimits,
    fusion: Fusion | None,
    extremes: ListExtremes | None,
    feature: ListFeature | None = None,
) -> list[_Scan]:
    ones = [slice(b, b + 1) for b in range(len(masks))]
    own = [None if fusion is None else fusion.of(one) for one in ones]
    return [
        kind(lists, queries[b], mask, limits.of(ones[b]), own[b], extremes, feature).run()
        for b, mask in enumerate(masks)
    ]


def _answers(scans: Sequence[_Scan], limits: ProbeLimits) -> tuple[Selection, Probed]:
    width = int(limits.depths.max(initial=0))
    probed = Probed(
        np.array([one.n_lists for one in scans], np.int64),
        np.array([one.n_rows for one in scans], np.int64),
        np.array([one.work // ROW_WORK for one in scans], np.int64),
        np.array([len(one.candidates[0]) for one in scans], np.int64),
        np.array([one.gave_up for one in scans], np.bool_),
    )
    return stack([_padded(*one.candidates, width) for one in scans], width), probed


def scan_lists_in_waves(
    lists: PackedLists,
    queries: Float32Array,
    masks: Sequence[Uint8Array | None],
    *,
    limits: ProbeLimits,
    fusion: Fusion | None = None,
    extremes: ListExtremes | None = None,
) -> tuple[Selection, Probed]:
    """As ``scan_lists``, for devices that score many rows at once: a query asks only before each wave whether the next
    list is worth it, so that it may scan some more; the mask is asked about every row, and all rows are the same work,
    whether or not their features are looked at.

    A wave is the next lists that have ``ROUND_BLOCKS`` blocks together, at least one list and ``WAVE_LISTS`` at most.
    """
    return _answers(_scans(_WaveScan, lists, queries, masks, limits, fusion, extremes), limits)


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
    fusion: Fusion | None = None,
    extremes: ListExtremes | None = None,
    feature: ListFeature | None = None,
) -> tuple[Selection, Probed]:
    """Exact top k for ``vectors`` float32 [B, d] of the rows that ``scan_lists`` finds."""
    (candidates, _), probed = scan_lists(
        lists, queries, masks, limits=limits, fusion=fusion, extremes=extremes, feature=feature
    )
    return rescore(segments, vectors, candidates, metric=metric, k=k, end_row=end_row, fusion=fusion), probed


def widen_extremes(
    extremes: ListExtremes,
    numbers: Int32Array,
    features: Sequence[Float32Array],
    alive: Uint8Array,
    *,
    first_row: int,
    end_row: int,
) -> None:
    """Take rows [first_row, end_row) whose bit is set in ``alive`` into the extremes of their lists, ``numbers``
    int32 [>= end_row]; ``features`` as a ``Fusion`` has them. A row taken twice counts twice in the means.
    """
    rows = rows_of_mask(alive, end_row=end_row)
    for row in rows[rows >= first_row].tolist():
        if extremes.lows.shape[1]:
            own = take(features, np.array([row]))[0]
            extremes.lows[numbers[row]] = np.minimum(extremes.lows[numbers[row]], own)
            extremes.highs[numbers[row]] = np.maximum(extremes.highs[numbers[row]], own)
            extremes.sums[numbers[row]] += own
        extremes.counts[numbers[row]] += 1


def centroid_scores(lists: PackedLists, queries: Float32Array) -> Float32Array:
    """What orders the lists: float32 [B, nlist], the product with the centroid, less its square for l2."""
    return np.asarray(queries @ lists.centroids.T + lists.centroid_terms, np.float32)


def nearest_lists(lists: PackedLists, queries: Float32Array) -> Int64Array:
    """The list whose centroid scores best, the first of equals: int64 [n]. Queries as for ``scan_lists``."""
    return np.asarray(centroid_scores(lists, queries).argmax(axis=1), np.int64)


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

    def __init__(
        self,
        lists: PackedLists,
        query: Float32Array,
        mask: Uint8Array | None,
        limits: ProbeLimits,
        fusion: Fusion | None,
        extremes: ListExtremes | None,
        feature: ListFeature | None,
    ) -> None:
        self.lists, self.query, self.feature = lists, query, feature
        self.features: Sequence[Float32Array] = () if fusion is None else fusion.features
        self.weights = np.zeros(0, np.float32) if fusion is None else fusion.in_similarity[0]
        self.bounds = self.gains = np.zeros(lists.nlist, np.float32)
        if extremes is not None and len(self.weights):
            own = self.weights[None]
            self.bounds = extremes.bounds(own)[0]
            nearest = centroid_scores(lists, query[None]).max(axis=1)
            ranges = list_ranges(limits.reaches, query_scales(lists, query[None], nearest))
            self.gains = expected_gains(self.bounds[None], extremes.means(own), ranges)[0]
        self.visible = (
            None if mask is None else np.isin(np.arange(lists.end_row), rows_of_mask(mask, end_row=lists.end_row))
        )
        self.depth = int(limits.depths[0])
        self.k = min(int(limits.ks[0]), self.depth)
        self.nprobe, self.budget = int(limits.nprobes[0]), int(limits.budgets[0])
        self.reach, self.slope, self.slack = limits.reaches[0], limits.slopes[0], limits.slacks[0]
        self.share, self.near_slope = float(limits.shares[0]), limits.near_slopes[0]
        self.rows: list[Int64Array] = []
        self.scores: list[Float32Array] = []
        self.best = np.empty(0, np.float32)
        self.seen = self.passed = self.pairs = self.pairs_passed = 0
        self.all_seen = self.all_passed = 0
        self.n_lists = self.n_rows = self.work = 0
        self.next_look = FORESEEN_FROM
        self.gave_up = False
        self.candidates: Selection = np.empty(0, np.int64), np.empty(0, np.float32)

    def run(self) -> _Scan:
        tables = quantised_tables(self.lists.codebook, self.query)
        square = np.sum(np.square(self.query), dtype=np.float32)
        if not (np.isfinite(tables[1]) and np.isfinite(square)) or self.depth == 0:
            return self
        similarity = centroid_scores(self.lists, self.query[None])[0]
        coarse = similarity + self.gains
        for wave in self._waves(np.lexsort((np.arange(len(coarse)), -coarse))[: self.nprobe]):
            if self._is_too_far(coarse[wave[0]]):
                break
            by_now = (self.work + ROW_WORK * int(self.lists.sizes[wave].sum())) // 2
            if self._is_foreseen_beyond_budget(coarse) or by_now // ROW_WORK > self.budget:
                self.gave_up = True
                return self
            for number in wave.tolist():
                self.n_lists += 1
                self.n_rows += int(self.lists.sizes[number])
                bound = self.bounds[number] if self.feature is None else np.float32(0)
                bias = bound if self.lists.is_l2 else similarity[number] + bound
                rows = self.lists.listed(number)[1]
                more = None if self.feature is None else self.weights[0] * self.feature.of_rows(rows)
                self._take_list(rows, quantised_scores(self.lists, number, tables, bias, more), bound)
        self.candidates = self._best_candidates()
        return self

    def _waves(self, order: Int64Array) -> Iterator[Int64Array]:
        """Lists between which nothing is asked: here each alone."""
        yield from order[:, None]

    @property
    def _looks_up(self) -> bool:
        """Whether features of single rows are."""
        return len(self.weights) > 0 and self.feature is None

    def _kth(self) -> np.float32:
        return self.best.min() if len(self.best) == self.k else np.float32(-np.inf)

    def _below_kth(self, scales: np.float32) -> np.float32:
        """So many scales below the k-th best score."""
        kth = self._kth()
        if np.isinf(kth) or np.isinf(scales):
            return np.float32(-np.inf)
        scale = query_scales(self.lists, self.query[None], np.array([kth - self.bounds.max()]))[0]
        return np.float32(kth - scales * scale)

    def _is_too_far(self, coarse: np.float32) -> bool:
        """Whether a list that scores so is not worth scanning any more."""
        return bool(coarse < self._least_worth())

    def _is_foreseen_beyond_budget(self, coarse: Float32Array) -> bool:
        is_due = self.n_lists >= self.next_look
        while self.next_look <= self.n_lists:
            self.next_look *= 2
        if not is_due or len(self.best) < self.k:
            return False
        lists = min(int(np.count_nonzero(coarse >= self._least_worth())), self.nprobe)
        return (self.work * lists // self.n_lists - self.work) // ROW_WORK > self.budget

    def _least_worth(self) -> np.float32:
        """What a list must score as things are."""
        lists, beside = float(self.n_lists), self.share
        if self.pairs:
            beside = self.pairs_passed / self.pairs
            lists *= beside
        if self.all_passed:
            lists *= max(self.share * (self.all_seen / self.all_passed), 1.0) ** RARITY
        grown = self.slope * np.float32(_doublings(lists, FEWEST_DOUBLINGS))
        nearer = np.float32(_doublings(beside / self.share, 0)) if self.share > 0 else np.float32(0)
        return self._below_kth(np.float32(np.float32(self.reach + grown) + self.near_slope * nearer))

    def _take_list(self, rows: Int64Array, scores: Float32Array, bound: np.float32) -> None:
        """Of the rows that the mask was asked about, pairs tell how alike they are who pass: whether a row that passes
        lies among others that do.
        """
        before = self.seen, self.passed
        for first in range(0, len(rows), BLOCK_ROWS):
            self._take_block(rows[first : first + BLOCK_ROWS], scores[first : first + BLOCK_ROWS], bound)
        seen, passed = self.seen - before[0], self.passed - before[1]
        self.all_seen += seen
        self.all_passed += passed
        self.pairs += passed * (seen - 1)
        self.pairs_passed += passed * (passed - 1)
        if self.seen > WINDOW_ROWS:
            self.seen, self.passed = self.seen >> 1, self.passed >> 1

    def _take_block(self, rows: Int64Array, scores: Float32Array, bound: np.float32) -> None:
        found = scores >= self._below_kth(self.slack)
        self.work += ROW_WORK * len(rows)
        if self.visible is not None:
            visible = self.visible[rows]
            is_asked = self.passed * SPARSE < self.seen
            asked = np.ones(len(rows), np.bool_) if is_asked else found
            if is_asked and not visible.any():
                self.work -= (ROW_WORK - 1) * len(rows)
            self.seen += int(asked.sum())
            self.passed += int((asked & visible).sum())
            found &= visible
        if self._looks_up:
            self.work += LOOK_WORK * int(found.sum())
        self._take_found(rows[found], scores[found], bound)

    def _take_found(self, rows: Int64Array, scores: Float32Array, bound: np.float32) -> None:
        if self._looks_up:
            scores = (scores - bound) + weighted_features(rows, self.weights, self.features)
            kept = scores >= self._below_kth(self.slack)
            rows, scores = rows[kept], scores[kept]
        self.rows.append(rows)
        self.scores.append(scores)
        self.best = np.sort(np.concatenate([self.best, scores]))[::-1][: self.k]

    def _best_candidates(self) -> Selection:
        rows, scores = (
            np.concatenate([np.empty(0, np.int64), *self.rows]),
            np.concatenate([np.empty(0, np.float32), *self.scores]),
        )
        kept = scores >= self._below_kth(self.slack)
        return select(rows[kept], scores[kept], min(self.depth, int(kept.sum())))


def _doublings(value: float, least: int) -> int:
    """The largest i, ``least`` or more, for which 2**i is not above the value."""
    doublings = least
    while value >= 2.0 ** (doublings + 1):
        doublings += 1
    return doublings


class _WaveScan(_Scan):
    """As ``scan_lists_in_waves`` has it."""

    def _waves(self, order: Int64Array) -> Iterator[Int64Array]:
        first = 0
        blocks = -(-self.lists.sizes[order] // BLOCK_ROWS)
        while first < len(order):
            enough = int(np.searchsorted(np.cumsum(blocks[first:]), ROUND_BLOCKS)) + 1
            end = first + min(enough, WAVE_LISTS)
            yield order[first:end]
            first = end

    def _take_block(self, rows: Int64Array, scores: Float32Array, bound: np.float32) -> None:
        found = scores >= self._below_kth(self.slack)
        self.work += ROW_WORK * len(rows)
        if self.visible is not None:
            self.seen += len(rows)
            self.passed += int(self.visible[rows].sum())
            found &= self.visible[rows]
        self._take_found(rows[found], scores[found], bound)


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
    lists: PackedLists,
    number: int,
    tables: tuple[Uint8Array, np.float32, np.float32],
    bias: np.float32,
    more: Float32Array | None = None,
) -> Float32Array:
    """Scores float32 [m] of a list's rows: ((bias + offset) + term) + scale * (sum of the code's table entries), where
    ``more`` [m] is added to the term's sum.
    """
    entries, scale, offset = tables
    codes, _, terms = lists.listed(number)
    parts = np.empty((len(codes), len(entries)), np.uint8)
    parts[:, 0::2], parts[:, 1::2] = codes & 15, codes >> 4
    sums = np.sum(entries[np.arange(len(entries)), parts], axis=1, dtype=np.int64).astype(np.float32)
    fixed = (bias + offset) + terms
    return np.asarray((fixed if more is None else fixed + more) + scale * sums, np.float32)


def _padded(rows: Int64Array, scores: Float32Array, width: int) -> Selection:
    missing = (0, width - len(rows))
    return np.pad(rows, missing, constant_values=-1), np.pad(scores, missing, constant_values=np.float32(-np.inf))
