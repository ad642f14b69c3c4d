"""Searches of inverted lists as launches of ``lists.cu``, and the lists in a device's memory.

The host's ``PackedLists`` is the original, which grows; what has changed of it is copied. Only codes, row numbers and
terms lie on the device block by block; which blocks a list has is told anew each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import _cuda_exact
from kernels._cuda_device import KEY, Device, PutRecords, ScanLists
from kernels._cuda_fusion import NOT_FUSED, DeviceFusion
from kernels._cuda_list_bounds import ListBounds, put_bounds
from kernels._cuda_rows import DeviceRows, padded
from kernels.arrays import Float32Array, Int64Array, Metric
from kernels.fusion import ListExtremes
from kernels.packed_lists import (
    BLOCK_ROWS,
    CHUNK_BLOCKS,
    FEWEST_DOUBLINGS,
    FORESEEN_FROM,
    MOST_PARTS,
    MOST_STEPS,
    RARITY,
    ROUND_BLOCKS,
    WAVE_LISTS,
    PackedLists,
    Probed,
    ProbeLimits,
)

assert RARITY == 2  # the kernel squares

DEFINES = (
    f"CHUNK_BLOCKS={CHUNK_BLOCKS}",
    f"FEWEST_DOUBLINGS=({FEWEST_DOUBLINGS})",
    f"LEAST_BOUND={2.0 ** (FEWEST_DOUBLINGS + 1)}",
    f"FORESEEN_FROM={FORESEEN_FROM}",
    f"MOST_PARTS={MOST_PARTS}",
    f"MOST_STEPS={MOST_STEPS}f",
    f"ROUND_BLOCKS={ROUND_BLOCKS}",
    f"WAVE_LISTS={WAVE_LISTS}",
)
_THREADS = 256
_ROUND_ROWS = ROUND_BLOCKS * BLOCK_ROWS
_BOUNDS_BYTES = 12
"""Of a list, where scores are fused."""

_ROUNDS_KEPT = 3
"""Of rows that may be candidates, before those that no longer may are dropped."""

_LIMITS = np.dtype(
    [
        *(("share", "f8"), ("budget", "u8"), ("reach", "f4"), ("slope", "f4"), ("near_slope", "f4"), ("slack", "f4")),
        *(("k", "u4"), ("nprobe", "u4"), ("depth", "u4"), ("most_bound", "f4")),
    ]
)
_DONE = np.dtype([("rows", "u8"), ("lists", "u4"), ("candidates", "u4"), ("gave_up", "u4"), ("unused", "u4")])


class DeviceLists:
    """A copy of the lists, as they were when ``sync`` last came to its end; to be searched with no others."""

    def __init__(self, device: Device, lists: PackedLists) -> None:
        self.lists = lists
        self.codebook = device.put(lists.codebook)
        self.chunks = self.starts = self.blocks = device.put(np.zeros(1, np.uint64))
        self._device = device
        self._chunks: list[Any] = []
        self._sizes = np.zeros(lists.nlist, np.int64)
        self._n_blocks = 0
        # A query has a 1 for each list's own term, below its centroid.
        with_terms = np.concatenate([lists.centroids, lists.centroid_terms[:, None]], axis=1)
        nlist, d = with_terms.shape
        self.centroids = DeviceRows(device, dtype=np.dtype(np.float32), dimension=d, most_rows=nlist)
        self.centroids.append(with_terms)
        self.sync()

    @property
    def memory_bytes(self) -> int:
        return bytes_of(self.lists)

    def sync(self) -> None:
        """Copy the blocks that are new or have new rows."""
        lists, device = self.lists, self._device
        while len(self._chunks) < len(lists.chunks):
            self._chunks.append(device.empty((CHUNK_BLOCKS, lists.record_bytes), np.dtype(np.uint8)))
        if self._chunks:
            self.chunks = device.put(np.array([device.address(one) for one in self._chunks], np.uint64))
        starts, blocks = directory(lists)
        self._copy_records(self._changed(starts, blocks))
        self.starts = device.put(starts.astype(np.uint32))
        self.blocks = device.put(blocks.astype(np.uint32))
        self.sizes = device.put(lists.sizes.astype(np.uint32))
        self._sizes, self._n_blocks = lists.sizes.copy(), lists.n_blocks

    def _changed(self, starts: Int64Array, blocks: Int64Array) -> Int64Array:
        """New blocks, and those that were the last of their list and had room."""
        before = self._sizes
        had_room = np.flatnonzero((self.lists.sizes > before) & (before % BLOCK_ROWS > 0))
        last = blocks[starts[had_room] + before[had_room] // BLOCK_ROWS]
        return np.concatenate([last, np.arange(self._n_blocks, self.lists.n_blocks)])

    def _copy_records(self, changed: Int64Array) -> None:
        lists, device = self.lists, self._device
        for first in range(0, len(changed), CHUNK_BLOCKS):
            numbers = changed[first : first + CHUNK_BLOCKS]
            records = np.stack([lists.chunks[one // CHUNK_BLOCKS][one % CHUNK_BLOCKS] for one in numbers.tolist()])
            on_device, which = device.put(records), device.put(numbers.astype(np.uint32))
            addresses = [device.address(array) for array in (on_device, which, self.chunks)]
            device.launch(
                "put_records",
                PutRecords(*addresses, lists.record_bytes // 16),
                source="lists.cu",
                defines=defines_for(is_fused=False),
                grid=(len(numbers), 1),
                threads=_THREADS,
            )


def bytes_of(lists: PackedLists) -> int:
    """What a copy takes of a device."""
    per_list = 4 * (2 * lists.nlist + 1 + lists.n_blocks)
    centroids = lists.centroids.nbytes + 16 * lists.nlist
    return len(lists.chunks) * CHUNK_BLOCKS * lists.record_bytes + per_list + lists.codebook.nbytes + centroids


def working_bytes(lists: PackedLists, *, depth: int) -> int:
    """What a query takes of a device while it is searched."""
    keys = 2 * (depth + _ROUNDS_KEPT * _ROUND_ROWS) + 2 * depth + 3 * lists.nlist
    return KEY.itemsize * keys + _BOUNDS_BYTES * lists.nlist


def directory(lists: PackedLists) -> tuple[Int64Array, Int64Array]:
    """(starts [nlist + 1], blocks): list l has ``blocks[starts[l]:starts[l + 1]]``, in their order."""
    counts = -(-lists.sizes // BLOCK_ROWS)
    starts = np.concatenate([[0], np.cumsum(counts)])
    blocks = np.empty(starts[-1], np.int64)
    going = np.flatnonzero(counts)
    at = lists.first_blocks[going].astype(np.int64)
    for turn in range(int(counts.max(initial=0))):
        blocks[starts[going] + turn] = at
        is_longer = counts[going] > turn + 1
        going, at = going[is_longer], lists.next_blocks[at[is_longer]].astype(np.int64)
    return starts, blocks


def defines_for(*, is_fused: bool) -> tuple[str, ...]:
    return (*DEFINES, f"IS_FUSED={int(is_fused)}")


def scan_lists(
    device: Device,
    on_device: DeviceLists,
    queries: Float32Array,
    masks: Any,
    *,
    limits: ProbeLimits,
    fusion: DeviceFusion | None = None,
    extremes: ListExtremes | None = None,
) -> tuple[Any, Any]:
    """Keys [B, c] of candidates by quantised score, in no order, for the largest depth c, and what each query did.

    ``queries``: float32 [B, d] as the codes want them; ``masks`` as for ``_cuda_exact.masked_scan``, over all rows that
    are listed. As ``reference_lists.scan_lists_in_waves``, where ``extremes`` hold of every row that passes.
    """
    lists, n = on_device.lists, len(queries)
    depth = int(limits.depths.max(initial=0))
    found, done = device.empty((n, depth), KEY), device.put(np.zeros(n, _DONE).view(np.uint8))
    if not (n and depth):
        return found, done
    n_order = int(min(limits.nprobes.max(initial=1), lists.nlist))
    asked = device.put(np.ascontiguousarray(queries, np.float32))
    with_ones = np.concatenate([queries, np.ones((n, 1), np.float32)], axis=1)
    wide = device.put(padded(with_ones, on_device.centroids.width))
    keys = _cuda_exact.scored(device, on_device.centroids, wide, n_queries=n)
    bounded = None
    if fusion is not None and fusion.features.n_features:
        assert extremes is not None
        bounded = put_bounds(device, lists, fusion, extremes)
    given = device.put(_packed(limits, bounded).view(np.uint8))
    if bounded is not None:
        bounded.add_gains(device, lists, asked, given, keys, defines=defines_for(is_fused=True))
    order = _cuda_exact.select_best(device, keys, _cuda_exact.even_starts(n, lists.nlist), k=n_order)
    fused = (NOT_FUSED, 0, 0) if bounded is None else bounded.addresses(device)
    capacity = depth + _ROUNDS_KEPT * _ROUND_ROWS
    room = device.empty((n, 2, capacity), KEY)
    arrays = (asked, on_device.codebook, order, on_device.chunks, on_device.starts, on_device.blocks, on_device.sizes)
    addresses = [device.address(array) for array in (*arrays, masks, given, room, found, done)]
    shape = (len(lists.codebook), lists.codebook.shape[2], lists.n_columns, n_order, capacity, depth)
    device.launch(
        "scan_lists",
        ScanLists(*fused, *addresses, float(lists.unit), *shape, int(lists.is_l2), lists.nlist),
        source="lists.cu",
        defines=defines_for(is_fused=bounded is not None),
        grid=(n, 1),
        threads=_THREADS,
    )
    return found, done


def search_lists(
    device: Device,
    on_device: DeviceLists,
    rows: DeviceRows,
    vectors: Float32Array,
    queries: Float32Array,
    masks: Any,
    *,
    limits: ProbeLimits,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: DeviceFusion | None = None,
    extremes: ListExtremes | None = None,
) -> tuple[Any, Any]:
    """Keys [B, k] of what ``scan_lists`` finds, by exact score for ``vectors`` float32 [B, d]; what each query did."""
    found, done = scan_lists(device, on_device, queries, masks, limits=limits, fusion=fusion, extremes=extremes)
    keys = _cuda_exact.rescored(device, rows, vectors, found, metric=metric, k=k, end_row=end_row, fusion=fusion)
    return keys, done


def probed(done: np.ndarray[Any, np.dtype[np.uint8]]) -> Probed:
    """What each query did, from what the device wrote."""
    told = done.reshape(-1).view(_DONE)
    rows = told["rows"].astype(np.int64)
    return Probed(
        told["lists"].astype(np.int64),
        rows,
        rows,
        told["candidates"].astype(np.int64),
        told["gave_up"].astype(np.bool_),
    )


def _packed(limits: ProbeLimits, bounded: ListBounds | None) -> np.ndarray[Any, Any]:
    most = np.iinfo(np.uint32).max
    packed = np.zeros(len(limits.ks), _LIMITS)
    packed["share"], packed["budget"] = limits.shares, np.maximum(limits.budgets, 0)
    packed["reach"], packed["slope"], packed["slack"] = limits.reaches, limits.slopes, limits.slacks
    packed["near_slope"] = limits.near_slopes
    packed["k"], packed["nprobe"] = np.minimum(limits.ks, most), np.clip(limits.nprobes, 0, most)
    packed["depth"] = limits.depths
    if bounded is not None:
        packed["most_bound"] = bounded.most
    return packed


def best_candidates(device: Device, found: Any) -> Any:
    """Keys [B, c] in their order, best first, from what ``scan_lists`` found."""
    n, depth = found.shape
    return _cuda_exact.select_best(device, found, _cuda_exact.even_starts(n, depth), k=depth)
