"""What every launch of ``exact.cu`` and ``tensor.cu`` is told: the rows, and which build reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels._cuda_device import Device
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
    """One build of ``exact.cu``: a row is read by ``lanes`` lanes, ``chunks`` times 16 bytes each."""

    kind: int
    is_l2: bool
    lanes: int
    chunks: int
    queries: int

    @property
    def defines(self) -> tuple[str, ...]:
        values = (self.kind, int(self.is_l2), self.lanes, self.chunks, self.queries)
        names = ("KIND", "IS_L2", "LANES", "CHUNKS", "QUERIES")
        return tuple(f"{name}={value}" for name, value in zip(names, values, strict=True))


def shape_for(rows: DeviceRows, *, metric: Metric, n_queries: int) -> Shape:
    """As many lanes as leave the fewest idle, and as many queries at a time as fit in registers."""
    values = CHUNK_BYTES // rows.dtype.itemsize
    row_chunks = rows.width // values
    lanes = min(_LANES, key=lambda count: -(-row_chunks // count) * count)
    chunks = -(-row_chunks // lanes)
    fitting = max(1, min(_MOST_QUERIES, _VALUES_IN_REGISTERS // (chunks * values)))
    queries = 1
    while 2 * queries <= fitting and queries < n_queries:
        queries *= 2
    return Shape(KINDS[rows.dtype], metric == "l2", lanes, chunks, queries)


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

    @property
    def first_tile(self) -> int:
        return self.first_row // TILE_ROWS

    @property
    def n_tiles(self) -> int:
        return -(-self.end_row // TILE_ROWS) - self.first_tile

    def start(self, kernel: str, arguments: Any, *, together: int, grid_x: int) -> None:
        """``together``: for how many queries a block reads a row once."""
        shape = shape_for(self.rows, metric=self.metric, n_queries=together)
        grid = (grid_x, -(-self.n_queries // shape.queries))
        self.device.launch(kernel, arguments, source="exact.cu", defines=shape.defines, grid=grid, threads=THREADS)

    def addresses(self, *arrays: Any) -> list[int]:
        return [self.device.address(array) for array in (self.queries, self.masks, *arrays)]
