"""Writing a feature beside the blocks of inverted lists: see ``kernels.list_feature``."""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, int64, load, store
from kernels._cpu_shuffle import int32_at
from kernels.arrays import Int32Array, Int64Array
from kernels.packed_lists import BLOCK_ROWS, CHUNK_BLOCKS

_FLOAT32 = np.zeros(0, np.float32)
_CHUNK_SHIFT = CHUNK_BLOCKS.bit_length() - 1
_BLOCK_SHIFT = BLOCK_ROWS.bit_length() - 1
_BLOCK_BYTES = 4 * BLOCK_ROWS


@compiled
def feature_block(chunks: Int64Array, block: int) -> int:
    """Where the features of a block lie."""
    return int64(chunks[block >> _CHUNK_SHIFT] + (block & (CHUNK_BLOCKS - 1)) * _BLOCK_BYTES)


@compiled
def fill_new(
    records: Int64Array,
    n_columns: int,
    first_blocks: Int32Array,
    next_blocks: Int32Array,
    sizes: Int64Array,
    features: Int64Array,
    filled: Int64Array,
    last_blocks: Int32Array,
    places: Int32Array,
    chunks: Int64Array,
) -> None:
    """Of all rows that lists have and ``filled`` does not count; ``records``, ``features`` and ``chunks``: addresses
    of the lists' chunks, of each segment of features and of what is written.
    """
    record_bytes = BLOCK_ROWS * (n_columns + 8)
    for number in range(sizes.size):
        at, size, block = filled[number], sizes[number], int64(last_blocks[number])
        while at < size:
            slot = at & (BLOCK_ROWS - 1)
            if slot == 0:
                block = int64(first_blocks[number] if at == 0 else next_blocks[block])
            record = records[block >> _CHUNK_SHIFT] + (block & (CHUNK_BLOCKS - 1)) * record_bytes
            row = int32_at(int64(record + BLOCK_ROWS * n_columns), slot)
            places[row] = block * BLOCK_ROWS + slot
            store(feature_block(chunks, block), slot, load(_FLOAT32, features[row >> 16], row & 65535))
            at += 1
        filled[number], last_blocks[number] = size, block


@compiled
def fill_again(first_row: int, end_row: int, features: Int64Array, places: Int32Array, chunks: Int64Array) -> None:
    """Of rows [first_row, end_row), those that have been written before."""
    for row in range(first_row, end_row):
        place = int64(places[row])
        if place >= 0:
            value = load(_FLOAT32, features[row >> 16], row & 65535)
            store(feature_block(chunks, place >> _BLOCK_SHIFT), place & (BLOCK_ROWS - 1), value)
