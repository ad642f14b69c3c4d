"""Stored vectors in a device's memory, in segments as the store has them: rows are appended in place and never move."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels._cuda_device import Device, StoredArguments
from kernels.arrays import SEGMENT_ROWS, StoredArray

CHUNK_BYTES = 16


class DeviceRows:
    """Rows of a dtype (bfloat16 as uint16), each padded with zeros to whole chunks of 16 bytes.

    ``most_rows``: how many there will ever be, where they are fewer than a segment.
    """

    def __init__(self, device: Device, *, dtype: np.dtype[Any], dimension: int, most_rows: int = SEGMENT_ROWS) -> None:
        self.dtype = dtype
        self.dimension = dimension
        self.width = padded_width(dimension, dtype)
        self.n_rows = 0
        self._device = device
        self._segment_rows = min(most_rows, SEGMENT_ROWS)
        self._segments: list[Any] = []
        self._table = device.put(np.zeros(1, np.uint64))

    @property
    def memory_bytes(self) -> int:
        return len(self._segments) * self._segment_rows * self.width * self.dtype.itemsize

    def bytes_of(self, n_rows: int) -> int:
        """What so many rows take, in whole segments."""
        return -(-n_rows // SEGMENT_ROWS) * self._segment_rows * self.width * self.dtype.itemsize

    def append(self, vectors: StoredArray) -> None:
        """Rows [m, d] behind those there are."""
        done = 0
        while done < len(vectors):
            segment, first = self._free_place()
            taken = vectors[done : done + SEGMENT_ROWS - first]
            self._device.write(segment, first, padded(taken, self.width))
            done += len(taken)
            self.n_rows += len(taken)

    def append_on_device(self, address: int, n_rows: int) -> None:
        """Rows [m, width], of the dtype and C-contiguous, that the device has from an address on."""
        row_bytes, done = self.width * self.dtype.itemsize, 0
        while done < n_rows:
            segment, first = self._free_place()
            taken = min(n_rows - done, SEGMENT_ROWS - first)
            self._device.copy(segment, first, address + done * row_bytes, taken * row_bytes)
            done += taken
            self.n_rows += taken

    def _free_place(self) -> tuple[Any, int]:
        """(segment, place in it) of the next row."""
        segment, first = divmod(self.n_rows, SEGMENT_ROWS)
        if segment == len(self._segments):
            self._add_segment()
        return self._segments[segment], first

    def arguments(self) -> StoredArguments:
        row_chunks = self.width * self.dtype.itemsize // CHUNK_BYTES
        return StoredArguments(self._device.address(self._table), row_chunks, self.width)

    def _add_segment(self) -> None:
        """Both of it or, where memory runs out, neither."""
        segments = [*self._segments, self._device.empty((self._segment_rows, self.width), self.dtype)]
        addresses = [self._device.address(segment) for segment in segments]
        self._table = self._device.put(np.array(addresses, np.uint64))
        self._segments = segments


def padded_width(dimension: int, dtype: np.dtype[Any]) -> int:
    """The dimension rounded up to whole chunks."""
    values = CHUNK_BYTES // dtype.itemsize
    return -(-dimension // values) * values


def padded(vectors: StoredArray, width: int) -> StoredArray:
    """Rows [n, d] with zeros up to ``width`` values, C-contiguous."""
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, width - vectors.shape[1]))))
