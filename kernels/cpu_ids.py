"""The id table on the CPU; ``engine.index.id_table`` keeps one. Its definition is a dictionary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels._cpu_buffers import mask_buffer
from kernels._cpu_ids import BLOCK, drop_id, find_id, find_ids, list_rows, move_ids, put_id, put_ids
from kernels.arrays import Int64Array

__all__ = ["drop_id", "find_id", "move_ids", "put_id", "put_ids", "rows_of_ids", "warm_up"]


def rows_of_ids(table: npt.NDArray[np.uint64], shift: int, ids: npt.NDArray[np.uint64]) -> Int64Array:
    """All rows of the ids that are there, in the order of the ids."""
    found = mask_buffer(8 * len(ids)).view(np.uint64)
    n_found, n_rows = find_ids(table, shift, ids, found, mask_buffer(8 * BLOCK).view(np.int64))
    rows = found[:n_found].view(np.int64) if n_rows == n_found else np.empty(n_rows, np.int64)
    list_rows(found[:n_found], rows)
    return rows


def warm_up() -> None:
    """Compile, or load from disk."""
    table, ids = np.zeros((4, 2), np.uint64), np.ones(1, np.uint64)
    frozen = np.ones(1, np.uint64)
    frozen.flags.writeable = False
    put_id(table, 62, ids[0], 1, 2)
    put_ids(table, 62, ids, np.ones(1, np.int64), np.ones(1, np.int64))
    rows_of_ids(table, 62, ids)
    rows_of_ids(table, 62, frozen)
    find_id(table, 62, ids[0])
    move_ids(table, np.zeros((8, 2), np.uint64), 61)
    drop_id(table, 62, ids[0])
