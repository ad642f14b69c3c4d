"""An IVF-PQ index on a GPU: a copy of the CPU's, which is trained, encoded and kept on disk as ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.protocol import Candidates, Rescored, Vectors
from engine.types import Float32Array, Uint8Array
from kernels import cuda as kernels
from kernels.packed_lists import ProbeLimits

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
        self._cpu.add(vectors)
        with self._backend.device_memory():
            self._lists.sync()

    def scales(self, queries: Float32Array, kth: Float32Array) -> Float32Array:
        """As ``IvfPqIndex.scales``."""
        return self._cpu.scales(queries, kth)

    def search(self, queries: Float32Array, *, limits: ProbeLimits, masks: Sequence[Uint8Array | None]) -> Candidates:
        """The nearest rows by quantised score as far as the limits go, among those whose mask bit is set."""
        with self._backend.device_memory():
            addresses, kept = kernels.put_masks(self._device, masks, end_row=self._cpu.lists.end_row)
            asked = self._cpu.asked(queries)
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
        with self._backend.device_memory():
            rows = self._backend.rows(vectors)
            if rows is None:
                return self._cpu.search_rescored(vectors, queries, limits=limits, masks=masks, k=k)
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
            top, probed = self._backend.hits(keys), kernels.probed(self._device.get(done))
            del kept  # until here the device may have read them
            return Rescored(top, probed.lists, probed.rows, probed.work, probed.candidates, probed.gave_up)
