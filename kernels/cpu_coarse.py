"""Searches by int8 codes on the CPU, compiled by numba: ``kernels.cpu`` is the door."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from kernels._cpu_addresses import array_address, kind_of, mask_address, whole_words
from kernels._cpu_groups import in_groups
from kernels._cpu_int8_rows import pack_query_codes, quantise
from kernels._cpu_int8_scan import CodeScan, scan_codes_parallel, scan_codes_serial
from kernels._cpu_threads import all_threads, claim_threads
from kernels._cpu_topk import Heaps
from kernels.arrays import SEGMENT_ROWS, Float32Array, Int64Array, Metric, RowCodes, Selection, StoredArray, Uint8Array
from kernels.coarse import BoolArray, RowBounds, empty_codes, is_proven, part_of
from kernels.cpu_exact import rescore

_CODES_A_VALUE = 4
"""Codes that are scanned in the time of one stored value, about."""


def quantise_rows(vectors: StoredArray) -> RowCodes:
    """Codes of stored vectors [n, d], all of them finite: the largest value of a row becomes 127 or -127."""
    codes = empty_codes(*vectors.shape)
    quantise_into(codes, vectors, first=0)
    return codes


def quantise_into(codes: RowCodes, vectors: StoredArray, *, first: int) -> None:
    """Write what ``quantise_rows`` makes of the vectors [n, d] over the zeros of ``codes`` from row ``first`` on."""
    assert vectors.flags.c_contiguous
    n, d = vectors.shape
    part = part_of(codes, first, first + n)
    assert len(part.values) == n
    quantise(kind_of([vectors]), vectors.ctypes.data, n, d, part)


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
    """As ``masked_scan``, by codes: the queries are quantised as the rows are, and scores are of what both became."""
    assert len(masks) == len(queries)
    n_rows = max(0, end_row - first_row)
    words = [whole_words(mask, end_row) for mask in masks]
    addresses = np.array([mask_address(mask) for mask in words], np.int64)
    bases, row_bytes = _codes_addresses(segments, end_row), -(-queries.shape[1] // 16) * 16
    assert all(codes.values.shape[1] == row_bytes for codes in segments)
    threads = claim_threads(queries.size * n_rows // _CODES_A_VALUE)

    def scan(group: slice, heaps: Heaps) -> None:
        panels = pack_query_codes(queries[group], metric)
        work = CodeScan(bases, row_bytes, *panels, addresses[group], first_row, end_row)
        (scan_codes_serial if threads == 1 else scan_codes_parallel)(work, heaps, np.zeros(1, np.int64))

    return in_groups(scan, len(queries), k, width=n_rows, n_parts=threads)


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


def warm_up(dtype: np.dtype[Any]) -> None:
    """Compile, or load from disk, all that searches by codes of vectors stored as ``dtype`` need besides."""
    codes, queries = [quantise_rows(np.zeros((1, 1), dtype))], np.zeros((1, 1), np.float32)
    for spread in (nullcontext, all_threads):
        with spread():
            coarse_scan(codes, queries, [np.ones(8, np.uint8)], metric="dot", k=1, first_row=0, end_row=1)


def _codes_addresses(segments: Sequence[RowCodes], end_row: int) -> Int64Array:
    """int64 [segments, 4]: where codes, scales, sums and norms lie; together they cover [0, end_row)."""
    assert end_row <= (len(segments) - 1) * SEGMENT_ROWS + (len(segments[-1].scales) if segments else SEGMENT_ROWS)
    parts: list[list[StoredArray]] = [[codes.values, codes.scales, codes.sums, codes.norms] for codes in segments]
    assert all(array.flags.c_contiguous for of_segment in parts for array in of_segment)
    return np.array([[array_address(array) for array in one] for one in parts], np.int64).reshape(len(parts), 4)
