"""The CUDA backend: rows and lists are copied to a GPU once and searched there; hits alone come back.

What lies in host memory stays the original. ``engine.backend.placement`` says what of a version is copied: where rows
do not fit beside lists, the lists alone, and the CPU rescores. Everything is the CPU's once the device has failed.
"""

from __future__ import annotations

import logging
import threading
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
from engine.backend.cuda_memory import DeviceMemory
from engine.backend.cuda_slices import joined, slices
from engine.backend.placement import Placement
from engine.backend.protocol import TopK, Vectors
from engine.errors import DeviceLost, DeviceOutOfMemory
from engine.types import Float32Array, Int64Array, Metric, Uint8Array
from kernels import cuda as kernels
from kernels.fusion import Fusion

_log = logging.getLogger(__name__)

_SIDE_BY_SIDE = 1
"""Queries of a batch are predicted to cost what each costs alone: what a GPU gains by batches was never measured."""

_LISTED_BYTES = 12
"""Of a row that is gathered: its number and its key."""


class CudaBackend:
    """Implements ``engine.backend.protocol.Backend`` on ``device``; ``cpu`` does what is small, and what does not fit.

    ``memory_bytes``: for rows and lists, of all versions together, and for features in what these leave.
    ``device_lost``: who searches once the device has failed, the CPU or nobody. Threads may call it at once: they take
    turns.

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
        self._memory = DeviceMemory(device, memory_bytes)
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
        """Of device memory, by rows, lists and features."""
        with self._turn:
            return 0 if self._lost else self._memory.used_bytes

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
        """Exact top k of rows [first_row, end_row) for queries float32 [B, d], one mask for each query."""
        end = vectors.n_rows if end_row is None else min(end_row, vectors.n_rows)
        with self.on_device():
            rows = self.rows(vectors)
            features = None if rows is None else self.features(fusion, end)
            if rows is None or (fusion is not None and features is None) or first_row >= end or not len(queries):
                return self._cpu.masked_scan(
                    vectors, queries, masks, k=k, first_row=first_row, end_row=end, fusion=fusion
                )
            metric, parts = vectors.metric, []
            working = kernels.scan_bytes(len(queries), end - first_row, k=k) + kernels.extra_bytes(fusion, end)
            for part in slices(len(queries), working):
                fused = self.fused(fusion, features, part, end)
                at, kept = kernels.put_masks(self._device, masks[part], end_row=end)
                how: dict[str, Any] = {"metric": metric, "k": k, "first_row": first_row, "end_row": end}
                how["fusion"] = fused
                parts.append(self.hits(kernels.masked_scan(self._device, rows, queries[part], at, **how)))
                del kept, fused  # until here the device may have read them
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
        """Exact top k among ``rows[b]`` for each query b."""
        end = vectors.n_rows
        with self.on_device():
            on_device = self.rows(vectors)
            features = None if on_device is None else self.features(fusion, end)
            if on_device is None or (fusion is not None and features is None) or not len(queries):
                return self._cpu.gather(vectors, queries, rows, k=k, fusion=fusion)
            parts = []
            working = _LISTED_BYTES * sum(len(one) for one in rows) + kernels.extra_bytes(fusion, end)
            for part in slices(len(queries), working):
                fused = self.fused(fusion, features, part, end)
                how: dict[str, Any] = {"metric": vectors.metric, "k": k, "end_row": end, "fusion": fused}
                parts.append(self.hits(kernels.gather(self._device, on_device, queries[part], rows[part], **how)))
                del fused  # until here the device may have read it
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
        if self._lost:
            return loaded
        try:
            with self.on_device():
                index = CudaIvfPq(self, self._device, loaded)
                self._memory.add_index(index)
                return index
        except (DeviceOutOfMemory, DeviceLost) as error:
            needed = kernels.bytes_of(loaded.lists)
            _log.warning("lists of %d bytes are searched on the CPU: %s", needed, error.message)
        return loaded

    def place(self, vectors: Vectors, index: CudaIvfPq) -> Placement:
        """What of a version is on the device for a search of its lists; makes room for them where rows have it."""
        return "host" if self._lost else self._memory.place(vectors, index)

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
        # A few features are read by what reads none.
        fusion = Fusion(np.ones(8, np.float32), np.zeros((8, 0), np.float32), (), [None] * 8)
        for n in (1, 2, 4, 8):
            for fused in (None, fusion.of(slice(n))):
                self.masked_scan(vectors, np.repeat(one, n, axis=0), [mask] * n, k=1, fusion=fused)
        for fused in (None, fusion.of(slice(1))):
            self.gather(vectors, one, [np.zeros(1, np.int64)], k=1, fusion=fused)

    def rows(self, vectors: Vectors) -> kernels.DeviceRows | None:
        """The version's rows on the device, those that are new copied there; None where the CPU has to search."""
        return None if self._lost else self._memory.rows(vectors)

    def features(self, fusion: Fusion | None, end_row: int) -> kernels.DeviceFeatures | None:
        """Those of rows [0, end_row) on the device; None where there is no fusion, or where the CPU has to search."""
        return None if self._lost or fusion is None else self._memory.features(fusion, end_row=end_row)

    def fused(
        self, fusion: Fusion | None, features: kernels.DeviceFeatures | None, part: slice, end_row: int
    ) -> kernels.DeviceFusion | None:
        """The fusion of some queries on the device, to be kept until that has searched."""
        if fusion is None or features is None:
            return None
        return kernels.put_fusion(self._device, fusion.of(part), features, end_row=end_row)

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
        self._memory.clear()
        if not self._lost:
            self._lost = reason
            self._tell_lost(reason)
