"""An IVF-PQ index on a GPU: a copy of the CPU's, which is trained, encoded and kept on disk as ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.cuda_slices import joined, slices
from engine.backend.protocol import Candidates, Rescored, TopK, Vectors
from engine.types import Float32Array, Uint8Array
from kernels import cuda as kernels
from kernels.packed_lists import Probed, ProbeLimits

if TYPE_CHECKING:
    from engine.backend.cuda import CudaBackend


class CudaIvfPq:
    """Implements ``engine.backend.protocol.IvfPqIndex``; used by one thread at a time.

    The same lists, candidates and hits as the CPU's for limits that are counts. Where scores end a query, it may scan
    some lists more: it asks in waves (``reference.scan_lists_in_waves``).
    """

    def __init__(self, backend: CudaBackend, device: kernels.Device, cpu: CpuIvfPq) -> None:
        self._backend = backend
        self._device = device
        self._cpu = cpu
        self._lists = kernels.DeviceLists(device, cpu.lists)
        self._is_behind = False

    @property
    def n_rows(self) -> int:
        return self._cpu.n_rows

    @property
    def nlist(self) -> int:
        return self._cpu.nlist

    @property
    def code_bytes(self) -> int:
        return self._cpu.code_bytes

    @property
    def memory_bytes(self) -> int:
        """Of the host; ``device_bytes`` is beside it."""
        return self._cpu.memory_bytes

    @property
    def device_bytes(self) -> int:
        return self._lists.memory_bytes

    def add(self, vectors: Float32Array) -> None:
        """Append float32 [m, d] as rows n_rows .. n_rows + m: encoded on the CPU, then copied."""
        with self._backend.on_device():
            self._cpu.add(vectors)
            self._is_behind = True
            if not self._backend.is_left_to_cpu:
                self._catch_up()

    def scales(self, queries: Float32Array, kth: Float32Array) -> Float32Array:
        """As ``IvfPqIndex.scales``."""
        return self._cpu.scales(queries, kth)

    def search(self, queries: Float32Array, *, limits: ProbeLimits, masks: Sequence[Uint8Array | None]) -> Candidates:
        """The nearest rows by quantised score as far as the limits go, among those whose mask bit is set."""
        asked = self._cpu.asked(queries)
        with self._backend.on_device():
            if self._backend.is_left_to_cpu:
                return self._cpu.search(queries, limits=limits, masks=masks)
            self._catch_up()
            addresses, kept = kernels.put_masks(self._device, masks, end_row=self._cpu.lists.end_row)
            found, _ = kernels.scan_lists(self._device, self._lists, asked, addresses, limits=limits)
            top = self._backend.hits(kernels.best_candidates(self._device, found))
            del kept  # until here the device may have read them
            return Candidates(top.rows, top.scores)

    def search_rescored(
        self,
        vectors: Vectors,
        queries: Float32Array,
        *,
        limits: ProbeLimits,
        masks: Sequence[Uint8Array | None],
        k: int,
    ) -> Rescored:
        """Exact top k of what ``search`` finds."""
        with self._backend.on_device():
            rows = self._backend.rows(vectors)
            if rows is None or not len(queries):
                return self._cpu.search_rescored(vectors, queries, limits=limits, masks=masks, k=k)
            self._catch_up()
            each = kernels.list_bytes(self._cpu.lists, depth=int(limits.depths.max(initial=0)))
            parts = [
                self._search(rows, vectors, queries[part], limits.of(part), masks[part], k)
                for part in slices(len(queries), len(queries) * each)
            ]
        tops, done = [top for top, _ in parts], [probed for _, probed in parts]
        told = Probed(*(np.concatenate(column) for column in zip(*done, strict=True)))
        return Rescored(joined(tops), told.lists, told.rows, told.work, told.candidates, told.gave_up)

    def _search(
        self,
        rows: kernels.DeviceRows,
        vectors: Vectors,
        queries: Float32Array,
        limits: ProbeLimits,
        masks: Sequence[Uint8Array | None],
        k: int,
    ) -> tuple[TopK, Probed]:
        addresses, kept = kernels.put_masks(self._device, masks, end_row=self._cpu.lists.end_row)
        keys, done = kernels.search_lists(
            self._device,
            self._lists,
            rows,
            queries,
            self._cpu.asked(queries),
            addresses,
            limits=limits,
            metric=vectors.metric,
            k=k,
            end_row=min(vectors.n_rows, self._cpu.lists.end_row),
        )
        found = self._backend.hits(keys), kernels.probed(self._device.get(done))
        del kept  # until here the device may have read them
        return found

    def _catch_up(self) -> None:
        """Copy what was added, unless that is done: memory may have run out when it was."""
        if self._is_behind:
            self._lists.sync()
            self._is_behind = False
