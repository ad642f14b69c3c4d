"""One feature of all rows once more, in the order of inverted lists: what scores add beside each block of codes.

Where it lies by row, a look at it is a cache line fetched for four bytes of it, and most rows of a list are worth none.
Beside the codes it comes with them, and no bound has to tell which rows to look at.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Float32Array, Int32Array, Int64Array
from kernels.packed_lists import BLOCK_ROWS, CHUNK_BLOCKS, PackedLists


class ListFeature:
    """``chunks``: float32 [CHUNK_BLOCKS, 32] beside each chunk of the lists; slots without a row have anything.

    ``places`` int32 [>= end_row]: block * 32 + slot of each row, -1 of those in none. ``filled`` and ``last_blocks``
    [nlist]: how many rows of each list have their feature here, and the block of the last of these. ``n_changes``: of
    the stamps that it follows, how many are in it. Filled by ``kernels.cpu.fill_list_feature``.
    """

    def __init__(self, lists: PackedLists) -> None:
        self.chunks: list[Float32Array] = []
        self.addresses: Int64Array = np.empty(0, np.int64)
        self.places: Int32Array = np.empty(0, np.int32)
        self.filled: Int64Array = np.zeros(lists.nlist, np.int64)
        self.last_blocks: Int32Array = np.full(lists.nlist, -1, np.int32)
        self.n_rows = 0
        self.n_changes = 0

    @property
    def memory_bytes(self) -> int:
        per_list = self.filled.nbytes + self.last_blocks.nbytes
        return sum(chunk.nbytes for chunk in self.chunks) + self.places.nbytes + per_list

    def grow(self, lists: PackedLists) -> None:
        """Have room for all that is listed."""
        while len(self.chunks) < len(lists.chunks):
            self.chunks.append(np.zeros((CHUNK_BLOCKS, BLOCK_ROWS), np.float32))
            self.addresses = np.array([chunk.ctypes.data for chunk in self.chunks], np.int64)
        if len(self.places) < lists.end_row:
            assert lists.n_blocks * BLOCK_ROWS < 1 << 31
            grown = np.full(max(lists.end_row, len(self.places) * 5 // 4), -1, np.int32)
            grown[: len(self.places)] = self.places
            self.places = grown

    def of_rows(self, rows: Int64Array) -> Float32Array:
        """float32 [m] of rows [m] that have it."""
        places = self.places[rows].astype(np.int64)
        found = np.empty(len(rows), np.float32)
        numbers, within = np.divmod(places, CHUNK_BLOCKS * BLOCK_ROWS)
        for number in np.unique(numbers):
            here = numbers == number
            found[here] = self.chunks[number].ravel()[within[here]]
        return found
