"""Rows to int8 codes with a scale each, and queries to the panels that codes are scored with."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels._cpu_int8_dot import QUERY_OFFSET
from kernels._cpu_int8_emit import LANES
from kernels._cpu_jit import compiled, compiled_allocating, compiled_as_written, inlined, load
from kernels.arrays import Float32Array, Int8Array, Metric, RowCodes, StoredArray, Uint8Array
from kernels.coarse import CODE_LIMIT, GREATEST_NORM, ROUNDED_UP, quantised_queries


class QueryPanels(NamedTuple):
    """Queries by sixteens: ``queries`` uint8 [B, stride] one by one, ``panels`` uint8 [B / 16, stride / 4, 16, 4], and
    ``terms`` float32 [B / 16, 4, 16]: factor, constant, limit and weight; the limit is +inf in lanes beyond B.
    """

    queries: Uint8Array
    panels: Uint8Array
    terms: Float32Array


@compiled_allocating
def quantise(kind: StoredArray, source: int, n_rows: int, d: int, codes: RowCodes) -> None:
    """Fill the first rows of ``codes``, which hold zeros, from stored vectors at address ``source``."""
    _quantise(kind, source, n_rows, np.empty(d, np.float32), codes)


@compiled
def _quantise(kind: StoredArray, source: int, n_rows: int, row: Float32Array, codes: RowCodes) -> None:
    d = row.size
    for r in range(n_rows):
        greatest = np.float32(0)
        for i in range(d):
            value = load(kind, source, r * d + i)
            row[i] = value
            greatest = max(greatest, abs(value))
        scale = greatest / CODE_LIMIT
        codes.scales[r] = scale
        if scale > 0:
            _round_row(row, scale, codes.values[r])
        _sum_row(row, scale, codes, r)


@inlined
def _round_row(row: Float32Array, scale: np.float32, values: Int8Array) -> None:
    for i in range(row.size):
        code = np.rint(row[i] / scale)
        values[i] = np.int8(min(max(code, -CODE_LIMIT), CODE_LIMIT))


@inlined
def _sum_row(row: Float32Array, scale: np.float32, codes: RowCodes, r: int) -> None:
    total = squares = np.int64(0)
    lost = 0.0
    for i in range(row.size):
        code = np.int64(codes.values[r, i])
        total += code
        squares += code * code
        difference = np.float64(row[i]) - np.float64(scale) * code
        lost += difference * difference
    codes.sums[r] = total
    codes.norms[r] = min(np.float64(scale) * np.float64(scale) * squares, GREATEST_NORM)
    codes.errors[r] = math.sqrt(lost) * ROUNDED_UP


def pack_query_codes(queries: Float32Array, metric: Metric) -> QueryPanels:
    """float32 [B, d] as the compiled scan takes them."""
    n_queries, stride = len(queries), -(-queries.shape[1] // 16) * 16
    n_panels = -(-n_queries // LANES)
    packed = QueryPanels(
        np.empty((n_panels * LANES, stride), np.uint8),
        np.empty((n_panels, stride // 4, LANES, 4), np.uint8),
        np.empty((n_panels, 4, LANES), np.float32),
    )
    _pack(np.ascontiguousarray(queries, np.float32), packed, metric == "l2")
    if metric == "l2":
        packed.terms[:, 1].flat[:n_queries] = quantised_queries(queries, metric).constants
    return packed


@compiled_as_written
def _pack(queries: Float32Array, packed: QueryPanels, is_l2: bool) -> None:
    """All but the constants of l2; codes and factors by the operations of ``quantised_queries``."""
    packed.queries[:] = QUERY_OFFSET
    packed.terms[:] = 0
    packed.terms[:, 2] = np.inf
    packed.terms[:, 3] = np.float32(is_l2)
    for b in range(queries.shape[0]):
        greatest = np.float32(0)
        for value in queries[b]:
            greatest = max(greatest, abs(value))
        scale = greatest / CODE_LIMIT
        if scale > 0:
            for i in range(queries.shape[1]):
                code = min(max(np.rint(queries[b, i] / scale), -CODE_LIMIT), CODE_LIMIT)
                packed.queries[b, i] = np.uint8(np.int64(code) + QUERY_OFFSET)
        packed.terms[b // LANES, 0, b % LANES] = scale * np.float32(2 if is_l2 else 1)
        packed.terms[b // LANES, 2, b % LANES] = np.nan
    for b in range(packed.queries.shape[0]):
        for i in range(packed.queries.shape[1]):
            packed.panels[b // LANES, i // 4, b % LANES, i % 4] = packed.queries[b, i]
