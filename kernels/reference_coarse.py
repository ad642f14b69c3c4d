"""The definition of searches by int8 codes, in NumPy; ``kernels.reference`` has what all definitions share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.arrays import SEGMENT_ROWS, Float32Array, Metric, RowCodes, Selection, StoredArray, Uint8Array
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
from kernels.reference_exact import rescore, rows_of_mask, select, stack, widen


def quantise_rows(vectors: StoredArray) -> RowCodes:
    """Codes of stored vectors [n, d], all of them finite: the largest value of a row becomes 127 or -127."""
    n, d = vectors.shape
    wide = widen(vectors)
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
    return stack(top, k)


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
    first_row: int,
    end_row: int,
) -> tuple[Selection, BoolArray]:
    """Top k of the best ``depth`` rows by codes among [first_row, end_row), and whether each is proven to be what
    ``masked_scan`` finds there: bool [B].

    ``depth`` is at least k; ``bounds`` are of all of ``codes``, or of those rows.
    """
    coarse = coarse_scan(codes, queries, masks, metric=metric, k=depth, first_row=first_row, end_row=end_row)
    exact = rescore(segments, queries, coarse[0], metric=metric, k=k, end_row=end_row)
    return exact, is_proven(queries, coarse, exact, metric=metric, bounds=bounds)


def _coarse_score(segments: Sequence[RowCodes], row: int, codes: QueryCodes, b: int) -> np.float32:
    of_row, at = segments[row // SEGMENT_ROWS], row % SEGMENT_ROWS
    values = of_row.values[at, : codes.values.shape[1]].astype(np.int32)
    products = np.float32(np.sum(values * codes.values[b], dtype=np.int32))
    scaled = products * of_row.scales[at] * codes.factors[b]
    return np.float32(scaled - of_row.norms[at] * codes.weight - codes.constants[b])
