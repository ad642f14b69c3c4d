"""The definition of exact searches, in NumPy; ``kernels.reference`` has what all definitions share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernels.arrays import SEGMENT_ROWS, Float32Array, Int64Array, Metric, Selection, StoredArray, Uint8Array
from kernels.fusion import Fusion


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


def unit_queries(
    queries: Float32Array, *, metric: Metric, most_length: float
) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Queries float32 [B, d] of length 1 for cosine, as they are else; and which are sound, bool [B].

    One with a NaN or an infinity is not sound, nor is one of zeros for cosine, nor one longer than ``most_length`` for
    others: it becomes zeros, which every search bears.
    """
    squares = np.sum(queries.astype(np.float64) ** 2, axis=1)
    is_sound = np.isfinite(squares) & (squares > 0 if metric == "cosine" else squares <= most_length**2)
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
    fusion: Fusion | None = None,
) -> Selection:
    """Top k of rows [first_row, end_row) whose bit is set in ``masks[b]``, for each query b of float32 [B, d]."""
    alive = [rows_of_mask(mask, end_row=end_row) for mask in masks]
    rows = [of_query[of_query >= first_row] for of_query in alive]
    return gather(segments, queries, rows, metric=metric, k=k, end_row=end_row, fusion=fusion)


def gather(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    rows: Sequence[Int64Array],
    *,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: Fusion | None = None,
) -> Selection:
    """Top k among ``rows[b]`` for each query b of float32 [B, d]; rows outside [0, end_row) are padding."""
    top = [
        _search_rows(segments, *one, metric, k, end_row, None if fusion is None else fusion.of(slice(b, b + 1)))
        for b, one in enumerate(zip(queries, rows, strict=True))
    ]
    return stack(top, k)


def rescore(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    candidates: Int64Array,
    *,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: Fusion | None = None,
) -> Selection:
    """Top k among candidates int64 [B, c], in any order; rows outside [0, end_row) are padding."""
    return gather(segments, queries, list(candidates), metric=metric, k=k, end_row=end_row, fusion=fusion)


def merge_topk(parts: Sequence[Selection], *, k: int) -> Selection:
    """Top k of several selections of the same B queries, each [B, any width]; rows of -1 are padding."""
    rows = np.concatenate([part[0] for part in parts], axis=1)
    scores = np.concatenate([part[1] for part in parts], axis=1)
    return stack([select(r[r >= 0], s[r >= 0], k) for r, s in zip(rows, scores, strict=True)], k)


def popcount(mask: Uint8Array, *, end_row: int) -> int:
    """How many rows below ``end_row`` have their bit set."""
    return int(rows_of_mask(mask, end_row=end_row).size)


def rows_of_mask(mask: Uint8Array, *, end_row: int) -> Int64Array:
    """The rows below ``end_row`` whose bit is set, ascending."""
    return np.flatnonzero(np.unpackbits(mask, bitorder="little")[:end_row])


def _search_rows(
    segments: Sequence[StoredArray],
    query: Float32Array,
    rows: Int64Array,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: Fusion | None,
) -> Selection:
    valid = rows[(rows >= 0) & (rows < end_row)]
    if valid.size == 0:
        return select(valid, np.empty(0, np.float32), k)
    scores = score(widen(take(segments, valid)), query, metric)
    return select(valid, scores if fusion is None else fused(scores, valid, fusion), k)


def fused(similarities: Float32Array, rows: Int64Array, fusion: Fusion) -> Float32Array:
    """The scores float32 [n] of rows [n] for the one query of a fusion."""
    scores = fusion.scales[0] * similarities + weighted_features(rows, fusion.weights[0], fusion.features)
    extra = fusion.extras[0]
    return np.asarray(scores if extra is None else scores + extra[rows], np.float32)


def weighted_features(rows: Int64Array, weights: Float32Array, features: Sequence[Float32Array]) -> Float32Array:
    """What the features of rows [n] add to their scores with weights [F]: float32 [n]."""
    if not len(weights) or not len(rows):
        return np.zeros(len(rows), np.float32)
    return np.asarray(np.sum(take(features, rows) * weights, axis=1), np.float32)


def widen(stored: StoredArray) -> Float32Array:
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def stack(top: Sequence[Selection], k: int) -> Selection:
    if not top:
        return np.empty((0, k), np.int64), np.empty((0, k), np.float32)
    return np.stack([rows for rows, _ in top]), np.stack([scores for _, scores in top])
