"""Which tiles may have one of the best, found on tensor cores by ``tensor.cu``, for dense scans of many queries.

Tiles that cannot are left out by a bound that holds for every row, so that an exact search of the others finds what one
of all tiles does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels._cuda_device import KEY, NearTiles, RoundQueries, TensorBest
from kernels._cuda_rows import CHUNK_BYTES, DeviceRows
from kernels._cuda_scan import KINDS, THREADS, Scan

FEWEST_QUERIES = 16
"""A group is multiplied whole. With fewer queries the plain form reads the rows twice at most."""

GROUP = 64
PART_QUERIES = 8 * GROUP
"""As in ``tensor.cu``."""

_NEAR_THREADS = 1024
_WARPS = 4
_STEP_BYTES = 64
_MOST_STEPS = 4
_FLOAT32 = np.dtype(np.float32)


def suits_tensors(scan: Scan) -> bool:
    """Not for l2: its bounds would be shares of the lengths of row and query, which distances may be far below. Nor for
    fused scores: the bounds are of similarities, and what features add differs from row to row of a tile.
    """
    return (
        scan.fusion is None and scan.n_queries >= FEWEST_QUERIES and scan.rows.dtype != _FLOAT32 and scan.metric != "l2"
    )


def build_for(rows: DeviceRows) -> tuple[int, int]:
    """Steps of 32 values in a slab, and slabs in a row: as few as there can be, of the same size."""
    steps = -(-rows.width * rows.dtype.itemsize // _STEP_BYTES)
    slabs = -(-steps // _MOST_STEPS)
    return -(-steps // slabs), slabs


def defines_for(rows: DeviceRows) -> tuple[str, ...]:
    steps, slabs = build_for(rows)
    return (f"KIND={KINDS[rows.dtype]}", f"STEPS={steps}", f"SLABS={slabs}")


def near_tiles(scan: Scan, *, k: int) -> tuple[Any, Any]:
    """Keys [B, n_tiles], the first of them those of all tiles that may be among the k best, in any order; and where
    these end, uint64 [B], counted from the first query's first.
    """
    device, n = scan.device, scan.n_queries
    keys, slacks, lengths = least_keys(scan)
    ends = device.empty((n,), np.dtype(np.uint64))
    addresses = [device.address(array) for array in (keys, slacks, lengths, ends)]
    arguments = NearTiles(*addresses, scan.n_tiles, k, PART_QUERIES)
    device.launch("near_tiles", arguments, source="select.cu", grid=(n, 1), threads=_NEAR_THREADS)
    return keys, ends


def least_keys(scan: Scan) -> tuple[Any, Any, Any]:
    """Keys [B, n_tiles] of what the best of each tile scores at least, 0 where no row is wanted; and slacks float32 [B]
    and lengths float32 [parts of the queries, n_tiles]: twice the product is how much more it may score.
    """
    device, n = scan.device, scan.n_queries
    rounded, units, slacks = _rounded(scan)
    n_parts = -(-n // PART_QUERIES)
    keys, lengths = device.empty((n, scan.n_tiles), KEY), device.empty((n_parts, scan.n_tiles), _FLOAT32)
    given = [device.address(array) for array in (rounded, units, slacks, scan.masks, keys, lengths)]
    limits = (n, n_parts, scan.first_row, scan.end_row, scan.first_tile, scan.n_tiles)
    arguments = TensorBest(scan.rows.arguments(), *given, *limits)
    _start(scan, "tensor_best", arguments, blocks=scan.n_tiles * n_parts)
    return keys, slacks, lengths


def _rounded(scan: Scan) -> tuple[Any, Any, Any]:
    """The queries as tensor cores take them, in whole groups; their units and slacks, float32 [B]."""
    device, n = scan.device, scan.n_queries
    steps, slabs = build_for(scan.rows)
    n_padded = -(-n // GROUP) * GROUP
    rounded = device.empty((n_padded * steps * slabs * _STEP_BYTES // CHUNK_BYTES, 4), np.dtype(np.uint32))
    units, slacks = (device.empty((n,), _FLOAT32) for _ in range(2))
    addresses = [device.address(array) for array in (scan.queries, rounded, units, slacks)]
    _start(scan, "round_queries", RoundQueries(*addresses, n, scan.rows.width), blocks=n_padded // _WARPS)
    return rounded, units, slacks


def _start(scan: Scan, kernel: str, arguments: Any, *, blocks: int) -> None:
    defines = defines_for(scan.rows)
    scan.device.launch(kernel, arguments, source="tensor.cu", defines=defines, grid=(blocks, 1), threads=THREADS)
