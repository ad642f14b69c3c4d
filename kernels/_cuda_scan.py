"""What every launch of ``exact.cu`` and ``tensor.cu`` is told: the rows, and which build reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels._cuda_device import Device, FusedArguments
from kernels._cuda_fusion import NOT_FUSED, DeviceFusion
from kernels._cuda_rows import CHUNK_BYTES, DeviceRows
from kernels.arrays import Metric

TILE_ROWS = 128
"""As in ``exact.cu``: four words of a mask."""

THREADS = 128
_LANES = (32, 16, 8)
_VALUES_IN_REGISTERS = 64
"""Of all queries that one lane holds, so that enough warps fit beside each other to keep the memory busy."""

_MOST_QUERIES = 8
KINDS = {np.dtype(np.float16): 0, np.dtype(np.uint16): 1, np.dtype(np.float32): 2}


@dataclass(frozen=True, slots=True)
class Shape:
    """One build of ``exact.cu``: a row is read by ``lanes`` lanes, ``chunks`` times 16 bytes each, and a feature each
    ``feature_rounds`` times, 0 where nothing is fused.
    """

    kind: int
    is_l2: bool
    lanes: int
    chunks: int
    queries: int
    feature_rounds: int = 0

    @property
    def defines(self) -> tuple[str, ...]:
        values = (self.kind, int(self.is_l2), self.lanes, self.chunks, self.queries, self.feature_rounds)
        names = ("KIND", "IS_L2", "LANES", "CHUNKS", "QUERIES", "FEATURE_ROUNDS")
        return tuple(f"{name}={value}" for name, value in zip(names, values, strict=True))


def shape_for(rows: DeviceRows, *, metric: Metric, n_queries: int, fusion: DeviceFusion | None = None) -> Shape:
    """As many lanes as leave the fewest idle, and as many queries at a time as fit in registers."""
    values = CHUNK_BYTES // rows.dtype.itemsize
    row_chunks = rows.width // values
    lanes = min(_LANES, key=lambda count: -(-row_chunks // count) * count)
    chunks = -(-row_chunks // lanes)
    fitting = max(1, min(_MOST_QUERIES, _VALUES_IN_REGISTERS // (chunks * values)))
    queries = 1
    while 2 * queries <= fitting and queries < n_queries:
        queries *= 2
    rounds = 0 if fusion is None else max(1, -(-fusion.features.n_features // lanes))
    return Shape(KINDS[rows.dtype], metric == "l2", lanes, chunks, queries, rounds)


def fused_arguments(fusion: DeviceFusion | None) -> FusedArguments:
    return NOT_FUSED if fusion is None else fusion.arguments


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What the launches of one dense scan share."""

    device: Device
    rows: DeviceRows
    queries: Any
    masks: Any
    n_queries: int
    first_row: int
    end_row: int
    metric: Metric
    fusion: DeviceFusion | None = None

    @property
    def first_tile(self) -> int:
        return self.first_row // TILE_ROWS

    @property
    def n_tiles(self) -> int:
        return -(-self.end_row // TILE_ROWS) - self.first_tile

    def start(self, kernel: str, arguments: Any, *, together: int, grid_x: int) -> None:
        """``together``: for how many queries a block reads a row once."""
        shape = shape_for(self.rows, metric=self.metric, n_queries=together, fusion=self.fusion)
        grid = (grid_x, -(-self.n_queries // shape.queries))
        self.device.launch(kernel, arguments, source="exact.cu", defines=shape.defines, grid=grid, threads=THREADS)

    def arguments(self, *arrays: Any) -> list[Any]:
        """What every structure begins with, up to the addresses of its own arrays."""
        addresses = [self.device.address(array) for array in (self.queries, self.masks, *arrays)]
        return [self.rows.arguments(), fused_arguments(self.fusion), *addresses]
