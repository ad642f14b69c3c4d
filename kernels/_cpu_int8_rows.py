"""Rows to int8 codes with a scale each, and queries to the panels that codes are scored with."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._cpu_int8_dot import QUERY_OFFSET
from kernels._cpu_int8_panel import LANES
from kernels._cpu_jit import compiled, inlined, load
from kernels.arrays import Float32Array, Int8Array, Metric, RowCodes, StoredArray, Uint8Array
from kernels.coarse import CODE_LIMIT, GREATEST_NORM, ROUNDED_UP, quantised_queries


class QueryPanels(NamedTuple):
    """Queries by sixteens: ``queries`` uint8 [B, stride] one by one, ``panels`` uint8 [B / 16, stride / 4, 16, 4], and
    ``terms`` float32 [B / 16, 4, 16]: factor, constant, limit and weight; the limit is +inf in lanes beyond B.
    """

    queries: Uint8Array
    panels: Uint8Array
    terms: Float32Array


@compiled
def quantise(kind: StoredArray, source: int, n_rows: int, d: int, codes: RowCodes) -> None:
    """Fill the first rows of ``codes``, which hold zeros, from stored vectors at address ``source``."""
    row = np.empty(d, np.float32)
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
    quantised = quantised_queries(queries, metric)
    n_queries, stride = len(queries), -(-queries.shape[1] // 16) * 16
    n_panels = -(-n_queries // LANES)
    rows: npt.NDArray[np.uint8] = np.full((n_panels * LANES, stride), QUERY_OFFSET, np.uint8)
    rows[:n_queries, : queries.shape[1]] = (quantised.values + np.int16(QUERY_OFFSET)).astype(np.uint8)
    panels = np.ascontiguousarray(rows.reshape(n_panels, LANES, stride // 4, 4).transpose(0, 2, 1, 3))
    terms = np.zeros((4, n_panels * LANES), np.float32)
    terms[0, :n_queries] = quantised.factors
    terms[1, :n_queries] = quantised.constants
    terms[2, n_queries:] = np.inf
    terms[2, :n_queries] = np.nan
    terms[3] = quantised.weight
    return QueryPanels(rows, panels, np.ascontiguousarray(terms.reshape(4, n_panels, LANES).transpose(1, 0, 2)))
