"""What of versions lies in a device's memory: rows and lists first, copies of features in what these leave."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from typing import TYPE_CHECKING

from engine.backend.cuda_features import FeatureCopies
from engine.backend.placement import Placement, placement
from engine.backend.protocol import SEGMENT_ROWS, Vectors
from engine.dtypes import numpy_dtype
from kernels import cuda as kernels
from kernels.fusion import Fusion

if TYPE_CHECKING:
    from engine.backend.cuda_ivfpq import CudaIvfPq

_log = logging.getLogger(__name__)

_MEANS: dict[Placement, str] = {
    "device": "rows and lists fit, all is searched on the device",
    "lists": "lists alone fit, the CPU rescores what they find and searches exactly",
    "host": "they do not fit, searched on the CPU",
}


class DeviceMemory:
    """``most_bytes``: for all versions together. Used by one thread at a time."""

    def __init__(self, device: kernels.Device, most_bytes: int) -> None:
        self._device = device
        self._most_bytes = most_bytes
        self._rows: dict[int, kernels.DeviceRows] = {}
        self._gone: deque[int] = deque()
        self._features = FeatureCopies(device)
        self._indexes: weakref.WeakSet[CudaIvfPq] = weakref.WeakSet()
        self._told: dict[int, Placement] = {}

    @property
    def used_bytes(self) -> int:
        return self._lasting_bytes + self._features.memory_bytes

    @property
    def _lasting_bytes(self) -> int:
        """By rows and lists, which features give way to."""
        self._forget()
        lists = sum(index.device_bytes for index in self._indexes)
        return lists + sum(rows.memory_bytes for rows in self._rows.values())

    def add_index(self, index: CudaIvfPq) -> None:
        """Its lists are copied now if there is room."""
        needed = kernels.bytes_of(index.lists)
        if self._lasting_bytes + needed <= self._most_bytes:
            self._leave_room(needed)
            index.copy_lists()
        self._indexes.add(index)

    def place(self, vectors: Vectors, index: CudaIvfPq) -> Placement:
        """What of a version is on the device for a search of its lists; makes room for them where rows have it."""
        if index.is_refused or not vectors.n_rows:
            return "host"
        rows, key = self._rows_of(vectors)
        row_bytes, list_bytes = rows.bytes_of(vectors.n_rows), kernels.bytes_of(index.lists)
        budget = self._most_bytes - self._lasting_bytes + rows.memory_bytes + index.device_bytes
        where = placement(row_bytes, list_bytes, budget)
        if where == "lists" and rows.memory_bytes:
            self._rows[key] = self._no_rows(vectors)
        if where == "host":
            index.drop_lists()
        else:
            self._leave_room(list_bytes - index.device_bytes)
        self._tell(vectors, key, where)
        return where

    def rows(self, vectors: Vectors) -> kernels.DeviceRows | None:
        """The version's rows on the device, those that are new copied there; None where they do not fit.

        Rows never change once they are counted, so that only new ones are looked at.
        """
        if not vectors.n_rows:
            return None
        rows, key = self._rows_of(vectors)
        added = rows.bytes_of(vectors.n_rows) - rows.memory_bytes
        if self._lasting_bytes + added > self._most_bytes:
            # Until others leave room for it.
            if rows.memory_bytes:
                self._rows[key] = self._no_rows(vectors)
            if self._told.get(key) != "lists":
                self._tell(vectors, key, "host")
            return None
        self._leave_room(added)
        while rows.n_rows < vectors.n_rows:
            segment, start = divmod(rows.n_rows, SEGMENT_ROWS)
            end = min(SEGMENT_ROWS, vectors.n_rows - segment * SEGMENT_ROWS)
            rows.append(vectors.segments[segment][start:end])
        return rows

    def features(self, fusion: Fusion, *, end_row: int) -> kernels.DeviceFeatures | None:
        """Those of rows [0, end_row) on the device, as they are now; None where they do not fit or cannot be kept."""
        return self._features.of(fusion, end_row=end_row, most_bytes=self._most_bytes - self._lasting_bytes)

    def clear(self) -> None:
        """Lists go with their indexes."""
        self._rows.clear()
        self._features.shrink(0)

    def _leave_room(self, n_bytes: int) -> None:
        """For so many more of rows or lists, where they fit without features."""
        self._features.shrink(max(0, self._most_bytes - self._lasting_bytes - n_bytes))

    def _rows_of(self, vectors: Vectors) -> tuple[kernels.DeviceRows, int]:
        """Those on the device so far, and what they are known by."""
        self._forget()
        first = vectors.segments[0]
        key = id(first)
        if key not in self._rows:
            self._rows[key] = self._no_rows(vectors)
            # In whatever thread: what is gone is forgotten when nobody looks at the others.
            weakref.finalize(first, self._gone.append, key)
        return self._rows[key], key

    def _tell(self, vectors: Vectors, key: int, where: Placement) -> None:
        """Whenever it has become another."""
        if self._told.get(key, "device") != where:
            told = (vectors.n_rows, vectors.dimension, self._most_bytes, _MEANS[where])
            _log.warning("%d rows of dimension %d and %d bytes of device memory: %s", *told)
        self._told[key] = where

    def _no_rows(self, vectors: Vectors) -> kernels.DeviceRows:
        return kernels.DeviceRows(self._device, dtype=numpy_dtype(vectors.dtype), dimension=vectors.dimension)

    def _forget(self) -> None:
        while self._gone:
            key = self._gone.popleft()
            self._rows.pop(key, None)
            self._told.pop(key, None)
