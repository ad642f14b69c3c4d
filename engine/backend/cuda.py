"""The CUDA backend: rows and lists are copied to a GPU once and searched there; hits alone come back.

What lies in host memory stays the original. ``engine.backend.placement`` says what of a version is copied: where rows
do not fit beside lists, the lists alone, and the CPU rescores. Everything is the CPU's once the device has failed.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from engine.backend.cpu import CpuBackend
from engine.backend.cpu_codes import CpuCodes
from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.cuda_check import check
from engine.backend.cuda_ivfpq import CudaIvfPq
from engine.backend.cuda_slices import joined, slices
from engine.backend.placement import Placement, placement
from engine.backend.protocol import SEGMENT_ROWS, TopK, Vectors
from engine.dtypes import numpy_dtype
from engine.errors import DeviceLost, DeviceOutOfMemory
from engine.types import Float32Array, Int64Array, Metric, Uint8Array
from kernels import cuda as kernels
from kernels.fusion import Fusion

_log = logging.getLogger(__name__)

_SIDE_BY_SIDE = 1
"""Queries of a batch are predicted to cost what each costs alone: what a GPU gains by batches was never measured."""

_MEANS: dict[Placement, str] = {
    "device": "rows and lists fit, all is searched on the device",
    "lists": "lists alone fit, the CPU rescores what they find and searches exactly",
    "host": "they do not fit, searched on the CPU",
}

_LISTED_BYTES = 12
"""Of a row that is gathered: its number and its key."""


class CudaBackend:
    """Implements ``engine.backend.protocol.Backend`` on ``device``; ``cpu`` does what is small, and what does not fit.

    ``memory_bytes``: for rows and lists, of all versions together. ``device_lost``: who searches once the device has
    failed, the CPU or nobody. Threads may call it at once: they take turns.

    Raises:
        ConfigError: the device does not answer as the definition does.
    """

    def __init__(
        self,
        device: kernels.Device,
        cpu: CpuBackend,
        *,
        memory_bytes: int,
        device_lost: Literal["cpu", "fail"] = "cpu",
    ) -> None:
        check(device)
        self._device = device
        self._cpu = cpu
        self._memory_bytes = memory_bytes
        self._rows: dict[int, kernels.DeviceRows] = {}
        self._gone: deque[int] = deque()
        self._indexes: weakref.WeakSet[CudaIvfPq] = weakref.WeakSet()
        self._told: dict[int, Placement] = {}
        self._turn = threading.RLock()
        self._goes_over = device_lost == "cpu"
        self._lost = ""
        self._tell_lost: Callable[[str], None] = lambda reason: None

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        return "cpu" if self.is_left_to_cpu else "cuda"

    @property
    def threads(self) -> int:
        return self._cpu.threads if self.is_left_to_cpu else _SIDE_BY_SIDE

    @property
    def is_lost(self) -> bool:
        """Whether the device has failed."""
        return bool(self._lost)

    @property
    def is_left_to_cpu(self) -> bool:
        """Once the device has failed, where that is what was asked for."""
        return self.is_lost and self._goes_over

    def when_lost(self, tell: Callable[[str], None]) -> None:
        """As ``Backend.when_lost``."""
        self._tell_lost = tell

    @property
    def used_bytes(self) -> int:
        """Of device memory, by rows and lists."""
        with self._turn:
            if self._lost:
                return 0
            self._forget()
            lists = sum(index.device_bytes for index in self._indexes)
            return lists + sum(rows.memory_bytes for rows in self._rows.values())

    def unit_queries(self, queries: Float32Array, *, metric: Metric) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        """Queries float32 [B, d] as the metric wants them, and which are sound; the others become zeros."""
        self._require()
        return self._cpu.unit_queries(queries, metric=metric)

    def masked_scan(
        self,
        vectors: Vectors,
        queries: Float32Array,
        masks: Sequence[Uint8Array],
        *,
        k: int,
        first_row: int = 0,
        end_row: int | None = None,
        fusion: Fusion | None = None,
    ) -> TopK:
        """Exact top k of rows [first_row, end_row) for queries float32 [B, d], one mask for each query; fused scores
        are the CPU's.
        """
        end = vectors.n_rows if end_row is None else min(end_row, vectors.n_rows)
        with self.on_device():
            rows = self.rows(vectors) if fusion is None else None
            if rows is None or first_row >= end or not len(queries):
                return self._cpu.masked_scan(
                    vectors, queries, masks, k=k, first_row=first_row, end_row=end, fusion=fusion
                )
            metric, parts = vectors.metric, []
            for part in slices(len(queries), kernels.scan_bytes(len(queries), end - first_row, k=k)):
                at, kept = kernels.put_masks(self._device, masks[part], end_row=end)
                how: dict[str, Any] = {"metric": metric, "k": k, "first_row": first_row, "end_row": end}
                parts.append(self.hits(kernels.masked_scan(self._device, rows, queries[part], at, **how)))
                del kept  # until here the device may have read them
            return joined(parts)

    def gather(
        self,
        vectors: Vectors,
        queries: Float32Array,
        rows: Sequence[Int64Array],
        *,
        k: int,
        fusion: Fusion | None = None,
    ) -> TopK:
        """Exact top k among ``rows[b]`` for each query b; fused scores are the CPU's."""
        with self.on_device():
            on_device = self.rows(vectors) if fusion is None else None
            if on_device is None or not len(queries):
                return self._cpu.gather(vectors, queries, rows, k=k, fusion=fusion)
            how: dict[str, Any] = {"metric": vectors.metric, "k": k, "end_row": vectors.n_rows}
            parts = [
                self.hits(kernels.gather(self._device, on_device, queries[part], rows[part], **how))
                for part in slices(len(queries), _LISTED_BYTES * sum(len(one) for one in rows))
            ]
            return joined(parts)

    def merge_topk(self, parts: Sequence[TopK], *, k: int) -> TopK:
        """Top k of several answers to the same queries."""
        return self._cpu.merge_topk(parts, k=k)

    def load_ivfpq(
        self, path: Path, *, dimension: int | None = None, metric: Metric | None = None
    ) -> CudaIvfPq | CpuIvfPq:
        """Open an index file in faiss CPU format, of that dimension and metric where they are given.

        Its lists are copied now if there is room, or else in the first search, which may make some.

        Raises:
            CorruptData: the file is not such an index.
        """
        loaded = self._cpu.load_ivfpq(path, dimension=dimension, metric=metric)
        needed = kernels.bytes_of(loaded.lists)
        if self._lost:
            return loaded
        try:
            with self.on_device():
                index = CudaIvfPq(self, self._device, loaded)
                if self.used_bytes + needed <= self._memory_bytes:
                    index.copy_lists()
                self._indexes.add(index)
                return index
        except (DeviceOutOfMemory, DeviceLost) as error:
            _log.warning("lists of %d bytes are searched on the CPU: %s", needed, error.message)
        return loaded

    def place(self, vectors: Vectors, index: CudaIvfPq) -> Placement:
        """What of a version is on the device for a search of its lists; makes room for them where rows have it."""
        if self._lost or index.is_refused or not vectors.n_rows:
            return "host"
        rows, key = self._rows_of(vectors)
        budget = self._memory_bytes - self.used_bytes + rows.memory_bytes + index.device_bytes
        where = placement(rows.bytes_of(vectors.n_rows), kernels.bytes_of(index.lists), budget)
        if where == "lists" and rows.memory_bytes:
            self._rows[key] = self._no_rows(vectors)
        if where == "host":
            index.drop_lists()
        self._tell(vectors, key, where)
        return where

    def new_codes(self, dimension: int) -> CpuCodes:
        """Codes of no rows yet, on the CPU: exact search in two passes gains nothing where one runs at the speed of a
        GPU's memory.
        """
        return self._cpu.new_codes(dimension)

    def warm_up(self, vectors: Vectors) -> None:
        """Compile what searches of these vectors need, and copy those that there are."""
        self._cpu.warm_up(vectors)
        one = np.zeros((1, vectors.dimension), np.float32)
        mask = np.full(-(-max(vectors.n_rows, 1) // 8), 255, np.uint8)
        for n_queries in (1, 2, 4, 8):
            self.masked_scan(vectors, np.repeat(one, n_queries, axis=0), [mask] * n_queries, k=1)
        self.gather(vectors, one, [np.zeros(1, np.int64)], k=1)

    def rows(self, vectors: Vectors) -> kernels.DeviceRows | None:
        """The version's rows on the device, those that are new copied there; None where the CPU has to search.

        Rows never change once they are counted, so that only new ones are looked at.
        """
        if self._lost or not vectors.n_rows:
            return None
        rows, key = self._rows_of(vectors)
        if self.used_bytes - rows.memory_bytes + rows.bytes_of(vectors.n_rows) > self._memory_bytes:
            # Until others leave room for it.
            if rows.memory_bytes:
                self._rows[key] = self._no_rows(vectors)
            if self._told.get(key) != "lists":
                self._tell(vectors, key, "host")
            return None
        while rows.n_rows < vectors.n_rows:
            segment, start = divmod(rows.n_rows, SEGMENT_ROWS)
            end = min(SEGMENT_ROWS, vectors.n_rows - segment * SEGMENT_ROWS)
            rows.append(vectors.segments[segment][start:end])
        return rows

    def hits(self, keys: Any) -> TopK:
        """What keys [B, k] stand for, once they are there."""
        return self.hits_and(keys)[0]

    def hits_and(self, keys: Any, *others: Any) -> tuple[TopK, list[npt.NDArray[Any]]]:
        """The same, and copies of other arrays of the device, with one wait."""
        rows, scores, *copies = self._device.get_all([*kernels.hits_of_keys(self._device, keys, keys.shape), *others])
        return TopK(rows, scores), copies

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """One thread at a time.

        Raises:
            DeviceOutOfMemory: the device says that it has no memory left.
            DeviceLost: the device fails, or has failed and nobody else is to search.
        """
        with self._turn:
            self._require()
            try:
                yield
            except MemoryError as error:
                raise DeviceOutOfMemory(f"the device has no memory left: {error}") from error
            except kernels.DeviceFailed as error:
                self._lose(str(error))
                raise DeviceLost(f"the GPU failed: {error}") from error

    def _require(self) -> None:
        if self._lost and not self._goes_over:
            raise DeviceLost(f"the GPU failed: {self._lost}")

    def _lose(self, reason: str) -> None:
        self._rows.clear()
        if not self._lost:
            self._lost = reason
            self._tell_lost(reason)

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
            told = (vectors.n_rows, vectors.dimension, self._memory_bytes, _MEANS[where])
            _log.warning("%d rows of dimension %d and %d bytes of device memory: %s", *told)
        self._told[key] = where

    def _no_rows(self, vectors: Vectors) -> kernels.DeviceRows:
        return kernels.DeviceRows(self._device, dtype=numpy_dtype(vectors.dtype), dimension=vectors.dimension)

    def _forget(self) -> None:
        while self._gone:
            key = self._gone.popleft()
            self._rows.pop(key, None)
            self._told.pop(key, None)
