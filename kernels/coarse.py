"""What a coarse search by int8 codes may get wrong, and when its answer is proven to be the exact one.

NumPy over a handful of numbers a query: the same for every implementation of the kernels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.arrays import Float32Array, Metric, RowCodes, Selection

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CODE_LIMIT = np.float32(127)
"""Codes lie in -127..127."""
GREATEST_NORM = float(np.finfo(np.float32).max)
"""Kept for rows whose squared length is beyond float32; nothing is proven where there are such."""
_BEYOND = 1e150
_ROUNDING = 2.0**-24
"""The relative error of one float32 operation."""
_LINE = 64
ROUNDED_UP = 1 + 1e-6
"""Makes of a length, rounded to float32, one that is no less than the true one."""


class QueryCodes(NamedTuple):
    """Queries as codes float32 [B, d], integers in -127..127, and what makes a score of a sum of products p:
    ``(p * scale of the row) * factors[b] - norm of the row * weight - constants[b]``.

    ``lengths`` and ``errors`` float64 [B]: of each query as quantised, and of what it loses.
    """

    values: npt.NDArray[np.int16]
    factors: Float32Array
    constants: Float32Array
    weight: np.float32
    lengths: Float64Array
    errors: Float64Array


class RowBounds(NamedTuple):
    """The greatest length of any row as quantised, and of what any row loses."""

    length: float
    error: float


def empty_codes(n_rows: int, d: int) -> RowCodes:
    """Room for the codes of so many rows, all zeros."""
    n, stride = -(-n_rows // 64) * 64, -(-d // 16) * 16
    values, *terms = _aligned_zeros(n * stride, *[4 * n] * 4)
    scales, sums, norms, errors = terms
    return RowCodes(
        values.view(np.int8).reshape(n, stride),
        scales.view(np.float32),
        sums.view(np.int32),
        norms.view(np.float32),
        errors.view(np.float32),
    )


def _aligned_zeros(*sizes: int) -> list[npt.NDArray[np.uint8]]:
    """Zeros, each part of so many bytes at the start of a cache line: loads of 64 bytes then never cross two."""
    ends = list(itertools.accumulate(-(-size // _LINE) * _LINE for size in sizes))
    room = np.zeros((ends[-1] if ends else 0) + _LINE, np.uint8)
    first = -room.ctypes.data % _LINE
    return [room[first + start : first + start + size] for start, size in zip([0, *ends[:-1]], sizes, strict=True)]


def part_of(codes: RowCodes, first: int, end: int) -> RowCodes:
    """Rows [first, end) of codes, without copying."""
    return RowCodes(
        codes.values[first:end],
        codes.scales[first:end],
        codes.sums[first:end],
        codes.norms[first:end],
        codes.errors[first:end],
    )


def quantised_queries(queries: Float32Array, metric: Metric) -> QueryCodes:
    """Codes of finite queries float32 [B, d]."""
    scales = np.abs(queries).max(axis=1, initial=0) / CODE_LIMIT
    divisors = np.where(scales > 0, scales, np.float32(1))[:, None]
    values = np.clip(np.rint(queries / divisors), -CODE_LIMIT, CODE_LIMIT)
    kept = values.astype(np.float64) * scales[:, None]
    lengths = np.linalg.norm(kept, axis=1)
    errors = np.linalg.norm(queries - kept, axis=1) * ROUNDED_UP
    is_l2 = metric == "l2"
    return QueryCodes(
        values.astype(np.int16),
        scales * np.float32(2 if is_l2 else 1),
        (lengths**2 * is_l2).astype(np.float32),
        np.float32(is_l2),
        lengths,
        errors,
    )


def bounds_of(norms: Float32Array, errors: Float32Array) -> RowBounds:
    """Of the rows with these norms and errors, as ``RowCodes`` has them."""
    norm = float(norms.max(initial=0))
    length = norm**0.5 * ROUNDED_UP if norm < GREATEST_NORM else _BEYOND
    return RowBounds(length, float(errors.max(initial=0)))


def widest(bounds: Sequence[RowBounds]) -> RowBounds:
    """Of all the rows that these are of."""
    return RowBounds(max((one.length for one in bounds), default=0.0), max((one.error for one in bounds), default=0.0))


def row_bounds(segments: Sequence[RowCodes]) -> RowBounds:
    """Of all rows of the segments, those no longer alive among them."""
    return widest([bounds_of(codes.norms, codes.errors) for codes in segments])


def is_proven(
    queries: Float32Array, coarse: Selection, exact: Selection, *, metric: Metric, bounds: RowBounds
) -> BoolArray:
    """For each query, whether no row that the coarse search left out can be among the exact best k: bool [B].

    Args:
        coarse: the best c rows by codes, scores and all; fewer where fewer passed the mask.
        exact: the best k of those by their stored vectors.
        bounds: of all the rows that were searched.
    """
    everything = coarse[0][:, -1] < 0
    worst, found = (np.where(everything, 0.0, top[1][:, -1].astype(np.float64)) for top in (coarse, exact))
    best_left_out = (_best_l2 if metric == "l2" else _best_dot)(queries, worst, metric, bounds)
    certain: BoolArray = everything | (found - _rounding(queries, found, metric, bounds) > best_left_out)
    return certain


def _best_dot(queries: Float32Array, worst: Float64Array, metric: Metric, bounds: RowBounds) -> Float64Array:
    """The greatest exact score that a row can have whose coarse score is at most ``worst``.

    q.r - q'.r' is q.(r - r') + (q - q').r', and a product of two vectors is at most that of their lengths.
    """
    codes = quantised_queries(queries, metric)
    lengths = codes.lengths + codes.errors
    error = lengths * bounds.error + codes.errors * bounds.length
    rounding = 4 * _ROUNDING * codes.lengths * bounds.length
    best: Float64Array = worst + error + rounding + _rounding(queries, worst, metric, bounds)
    return best


def _best_l2(queries: Float32Array, worst: Float64Array, metric: Metric, bounds: RowBounds) -> Float64Array:
    """As ``_best_dot``: the distance of q and r is that of q' and r', but for the lengths that each of them lost."""
    codes = quantised_queries(queries, metric)
    rounding = 8 * _ROUNDING * (codes.lengths + bounds.length) ** 2
    distance = np.sqrt(np.maximum(-worst - rounding, 0)) - codes.errors - bounds.error
    best = -(np.maximum(distance, 0) ** 2)
    return best + _rounding(queries, best, metric, bounds)


def _rounding(queries: Float32Array, scores: Float64Array, metric: Metric, bounds: RowBounds) -> Float64Array:
    """By how much exact scores in float32 are off at most, in whatever order they are summed."""
    n_operations = queries.shape[1] + 4
    if metric == "l2":
        lengths: Float64Array = np.abs(scores)
    else:
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1) * (bounds.length + bounds.error)
    rounding: Float64Array = n_operations * _ROUNDING * lengths
    return rounding
