"""Exact searches as launches of ``exact.cu`` and ``select.cu``: rows in, keys out, in a device's memory.

A dense scan has two passes: the best key of each tile of 128 rows, then every row of the k best tiles. All of the true
best k lie in those: a tile with one of them has a best key no worse than the k-th. Of many queries, tensor cores find
first which tiles may be among those. Where the second pass would score half of the rows, the first one writes every key
instead, and they are selected from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels._cuda_device import (
    KEY,
    BestOfTiles,
    Device,
    HitsOfKeys,
    ScoreAll,
    ScoreKeys,
    ScoreRows,
    ScoreTiles,
    SelectBest,
    TileBest,
)
from kernels._cuda_fusion import DeviceFusion
from kernels._cuda_rows import DeviceRows, padded
from kernels._cuda_scan import THREADS, TILE_ROWS, Scan, fused_arguments, shape_for
from kernels._cuda_tensor import PART_QUERIES, near_tiles, suits_tensors
from kernels.arrays import Float32Array, Int64Array, Metric

_SELECT_THREADS = 1024
_SELECT_BLOCKS = 128
"""About as many as a card has multiprocessors."""

_FEWEST_KEYS = 4096
_KEYS_OF_BEST = 8
"""Of a block that selects: four for each thread, and so many for each that it keeps."""

_GATHER_BLOCKS = 64


def masked_scan(
    device: Device,
    rows: DeviceRows,
    queries: Float32Array,
    masks: Any,
    *,
    metric: Metric,
    k: int,
    first_row: int,
    end_row: int,
    fusion: DeviceFusion | None = None,
) -> Any:
    """Keys [B, k] of the best rows in [first_row, end_row) for queries float32 [B, d].

    ``masks``: uint64 [B] of the device, addresses of packed bits in whole words of 32; 0 where every row passes.
    """
    n_queries, n_rows = len(queries), max(0, end_row - first_row)
    if not (n_queries and n_rows and k):
        return select_best(device, device.empty((0,), KEY), even_starts(n_queries, 0), k=k)
    asked = device.put(padded(queries, rows.width))
    scan = Scan(device, rows, asked, masks, n_queries, first_row, end_row, metric, fusion)
    return by_tiles(scan, k) if _is_by_tiles(n_rows, k) else by_keys(scan, k)


def _is_by_tiles(n_rows: int, k: int) -> bool:
    """Where a query's tiles have less than half of the rows: those cost no more than to write and select every key."""
    return 2 * k * TILE_ROWS < n_rows


def working_bytes(n_queries: int, n_rows: int, *, k: int) -> int:
    """What a dense scan takes of a device, masks of its own for each query included."""
    n_tiles = -(-n_rows // TILE_ROWS)
    n_keys = n_tiles + 2 * k * TILE_ROWS if _is_by_tiles(n_rows, k) else n_rows
    lengths = -(-n_queries // PART_QUERIES) * n_tiles * 4
    return n_queries * (KEY.itemsize * (n_keys + 3 * k) + n_rows // 8) + lengths


def by_tiles(scan: Scan, k: int) -> Any:
    """The best key of each tile, then every row of the k best tiles."""
    device, n, n_chosen = scan.device, scan.n_queries, min(k, scan.n_tiles)
    tiles = _tiles_by_tensors(scan, n_chosen) if suits_tensors(scan) else _tiles(scan, n_chosen)
    keys = device.empty((n, n_chosen * TILE_ROWS), KEY)
    chosen = ScoreTiles(*scan.arguments(tiles, keys), n_chosen, scan.first_row, scan.end_row)
    scan.start("score_tiles", chosen, together=1, grid_x=n_chosen)
    return select_best(device, keys, even_starts(n, n_chosen * TILE_ROWS), k=k)


def _tiles(scan: Scan, k: int) -> Any:
    """Keys [B, k] of the best rows of the k best tiles."""
    best = scan.device.empty((scan.n_queries, scan.n_tiles), KEY)
    ends = (scan.first_row, scan.end_row, scan.first_tile, scan.n_tiles)
    arguments = TileBest(*scan.arguments(best), scan.n_queries, *ends)
    scan.start("tile_best", arguments, together=scan.n_queries, grid_x=scan.n_tiles)
    return select_best(scan.device, best, even_starts(scan.n_queries, scan.n_tiles), k=k)


def _tiles_by_tensors(scan: Scan, k: int) -> Any:
    """As ``_tiles``, which is asked of those tiles alone that may be among the best."""
    device, n = scan.device, scan.n_queries
    starts = device.put(even_starts(n, scan.n_tiles))
    keys, ends = near_tiles(scan, k=k)
    arguments = BestOfTiles(*scan.arguments(keys, starts, ends), scan.first_row, scan.end_row)
    scan.start("best_of_tiles", arguments, together=1, grid_x=min(_GATHER_BLOCKS, scan.n_tiles))
    return _select(device, keys, (device.address(starts), device.address(ends)), n_queries=n, k=k)


def by_keys(scan: Scan, k: int) -> Any:
    """The key of every row is written, where tiles would have to be scored for most rows again."""
    n_rows = scan.end_row - scan.first_row
    return select_best(scan.device, _all_keys(scan), even_starts(scan.n_queries, n_rows), k=k)


def _all_keys(scan: Scan) -> Any:
    n_rows = scan.end_row - scan.first_row
    keys = scan.device.empty((scan.n_queries, n_rows), KEY)
    arguments = ScoreAll(*scan.arguments(keys), scan.n_queries, scan.first_row, scan.end_row)
    scan.start("score_all", arguments, together=scan.n_queries, grid_x=-(-n_rows // TILE_ROWS))
    return keys


def scored(device: Device, rows: DeviceRows, queries: Any, *, n_queries: int) -> Any:
    """Keys [B, n] of all rows in their order, by dot product, for padded queries that lie on the device."""
    everything = device.put(np.zeros(n_queries, np.uint64))
    return _all_keys(Scan(device, rows, queries, everything, n_queries, 0, rows.n_rows, "dot"))


def rescored(
    device: Device,
    rows: DeviceRows,
    queries: Float32Array,
    keys: Any,
    *,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: DeviceFusion | None = None,
) -> Any:
    """Keys [B, k] of the best by exact score of the rows that keys [B, c] name, in any order; these are overwritten."""
    n_queries, width = keys.shape
    asked = device.put(padded(queries, rows.width))
    if n_queries and width:
        addresses = [device.address(array) for array in (asked, keys)]
        device.launch(
            "score_keys",
            ScoreKeys(rows.arguments(), fused_arguments(fusion), *addresses, width, end_row),
            source="exact.cu",
            defines=shape_for(rows, metric=metric, n_queries=1, fusion=fusion).defines,
            grid=(_GATHER_BLOCKS, n_queries),
            threads=THREADS,
        )
    return select_best(device, keys, even_starts(n_queries, width), k=k)


def gather(
    device: Device,
    rows: DeviceRows,
    queries: Float32Array,
    listed: Sequence[Int64Array],
    *,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: DeviceFusion | None = None,
) -> Any:
    """Keys [B, k] of the best among ``listed[b]`` for each query b; rows outside [0, end_row) are padding."""
    n_queries = len(queries)
    starts = np.cumsum([0, *(len(one) for one in listed)], dtype=np.uint64)
    # Padding becomes the largest row there could be, which lies beyond every end.
    flat = np.concatenate([np.empty(0, np.int64), *listed])
    flat = np.where((flat < 0) | (flat >= end_row), np.iinfo(np.uint32).max, flat).astype(np.uint32)
    keys = device.empty((len(flat),), KEY)
    asked, on_device, given = device.put(padded(queries, rows.width)), device.put(flat), device.put(starts)
    if n_queries and len(flat):
        addresses = [device.address(array) for array in (asked, on_device, given, keys)]
        device.launch(
            "score_rows",
            ScoreRows(rows.arguments(), fused_arguments(fusion), *addresses, end_row),
            source="exact.cu",
            defines=shape_for(rows, metric=metric, n_queries=1, fusion=fusion).defines,
            grid=(_GATHER_BLOCKS, n_queries),
            threads=THREADS,
        )
    return select_best(device, keys, starts, k=k)


def select_best(device: Device, keys: Any, starts: np.ndarray[Any, np.dtype[np.uint64]], *, k: int) -> Any:
    """The best k of each query's keys[starts[b]:starts[b + 1]], best first and padded with 0: [B, k]."""
    n_queries = len(starts) - 1
    if not (n_queries and k):
        return device.empty((n_queries, k), KEY)
    pieces = _pieces(starts, k)
    if pieces > 1:
        cuts = np.arange(pieces, dtype=np.uint64) * np.diff(starts)[:, None] // np.uint64(pieces) + starts[:-1, None]
        keys = select_best(device, keys, np.append(cuts, starts[-1]), k=k)
        starts = even_starts(n_queries, pieces * k)
    given = device.put(starts)
    first = device.address(given)
    return _select(device, keys, (first, first + starts.itemsize), n_queries=n_queries, k=k)


def _pieces(starts: np.ndarray[Any, np.dtype[np.uint64]], k: int) -> int:
    """Into how many each query's keys are cut, a block of threads for each: several where few queries have many."""
    most_keys = int(np.diff(starts).max())
    return min(_SELECT_BLOCKS // (len(starts) - 1), most_keys // max(_FEWEST_KEYS, _KEYS_OF_BEST * k))


def _select(device: Device, keys: Any, ends: tuple[int, int], *, n_queries: int, k: int) -> Any:
    """``ends``: addresses of where each query's keys start, and of where they end."""
    width = 1 << (k - 1).bit_length()
    kept, best = device.empty((n_queries, width), KEY), device.empty((n_queries, k), KEY)
    ours, found = device.address(kept), device.address(best)
    device.launch(
        "select_best",
        SelectBest(device.address(keys), *ends, ours, found, k, width),
        source="select.cu",
        grid=(n_queries, 1),
        threads=_SELECT_THREADS,
    )
    return best


def hits_of_keys(device: Device, keys: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Rows int64 and scores float32 of keys [B, k], padded with -1 and -inf."""
    rows, scores = device.empty(shape, np.dtype(np.int64)), device.empty(shape, np.dtype(np.float32))
    n = shape[0] * shape[1]
    if n:
        addresses = [device.address(array) for array in (keys, rows, scores)]
        grid = (-(-n // _SELECT_THREADS), 1)
        device.launch("hits_of_keys", HitsOfKeys(*addresses, n), source="select.cu", grid=grid, threads=_SELECT_THREADS)
    return rows, scores


def even_starts(n_queries: int, each: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.arange(n_queries + 1, dtype=np.uint64) * np.uint64(each)
