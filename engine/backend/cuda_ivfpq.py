"""An IVF-PQ index on a GPU: a copy of the CPU's, which is trained, encoded and kept on disk as ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.cuda_slices import joined, slices
from engine.backend.protocol import Candidates, Rescored, TopK, Vectors
from engine.types import Float32Array, Int32Array, Int64Array, Uint8Array
from kernels import cpu as cpu_kernels
from kernels import cuda as kernels
from kernels.fusion import Fusion, ListExtremes
from kernels.packed_lists import PackedLists, Probed, ProbeLimits

if TYPE_CHECKING:
    from engine.backend.cuda import CudaBackend


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """What is asked of lists for some queries at a time; ``fusion`` lies on the device, None where nothing is fused."""

    vectors: Vectors
    queries: Float32Array
    limits: ProbeLimits
    masks: Sequence[Uint8Array | None]
    k: int
    fusion: kernels.DeviceFusion | None
    extremes: ListExtremes | None


class CudaIvfPq:
    """Implements ``engine.backend.protocol.IvfPqIndex``; used by one thread at a time. Its lists are on the device once
    they are copied and until they are dropped; where rows are not, the CPU rescores.

    The same lists, candidates and hits as the CPU's for limits that are counts. Where scores end a query, it may scan
    some lists more: it asks in waves (``reference.scan_lists_in_waves``).
    """

    def __init__(self, backend: CudaBackend, device: kernels.Device, cpu: CpuIvfPq) -> None:
        self._backend = backend
        self._device = device
        self._cpu = cpu
        self._copy: kernels.DeviceLists | None = None
        self._is_behind = False
        self.is_refused = False
        """The device had no room after all, and is not asked again."""

    @property
    def n_rows(self) -> int:
        return self._cpu.n_rows

    @property
    def nlist(self) -> int:
        return self._cpu.nlist

    @property
    def numbers(self) -> Int32Array:
        """int32 [n_rows]: the list of each row."""
        return self._cpu.numbers

    @property
    def sizes(self) -> Int64Array:
        return self._cpu.sizes

    @property
    def code_bytes(self) -> int:
        return self._cpu.code_bytes

    @property
    def memory_bytes(self) -> int:
        """Of the host; ``device_bytes`` is beside it."""
        return self._cpu.memory_bytes

    @property
    def device_bytes(self) -> int:
        return 0 if self._copy is None else self._copy.memory_bytes

    @property
    def lists(self) -> PackedLists:
        """The host's, of which the device may have a copy."""
        return self._cpu.lists

    def copy_lists(self) -> kernels.DeviceLists:
        """The copy, with what was added since; memory may have run out when it was."""
        if self._copy is None:
            self.is_refused = True
            self._copy = kernels.DeviceLists(self._device, self._cpu.lists)
            self.is_refused = False
        elif self._is_behind:
            self._copy.sync()
        self._is_behind = False
        return self._copy

    def drop_lists(self) -> None:
        self._copy = None

    def add(self, vectors: Float32Array) -> Float32Array:
        """As ``IvfPqIndex.add``: encoded on the CPU, then copied."""
        if self._backend.is_lost:
            return self._cpu.add(vectors)
        with self._backend.on_device():
            distances = self._cpu.add(vectors)
            self._is_behind = True
            if self._copy is not None:
                self.copy_lists()
        return distances

    def scales(self, queries: Float32Array, kth: Float32Array) -> Float32Array:
        """As ``IvfPqIndex.scales``."""
        return self._cpu.scales(queries, kth)

    def search(self, queries: Float32Array, *, limits: ProbeLimits, masks: Sequence[Uint8Array | None]) -> Candidates:
        """The nearest rows by quantised score as far as the limits go, among those whose mask bit is set."""
        asked = self._cpu.asked(queries)
        with self._backend.on_device():
            if self._copy is None or self._backend.is_left_to_cpu:
                return self._cpu.search(queries, limits=limits, masks=masks)
            lists = self.copy_lists()
            addresses, kept = kernels.put_masks(self._device, masks, end_row=self._cpu.lists.end_row)
            found, _ = kernels.scan_lists(self._device, lists, asked, addresses, limits=limits)
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
        fusion: Fusion | None = None,
        extremes: ListExtremes | None = None,
    ) -> Rescored:
        """Exact top k of what ``search`` finds."""
        with self._backend.on_device():
            where = self._backend.place(vectors, self)
            lists = None if where == "host" else self.copy_lists()
            rows = self._backend.rows(vectors) if where == "device" else None
            features = None if lists is None else self._backend.features(fusion, self._cpu.lists.end_row)
            if lists is None or (fusion is not None and features is None) or not len(queries):
                return self._cpu.search_rescored(
                    vectors, queries, limits=limits, masks=masks, k=k, fusion=fusion, extremes=extremes
                )
            each = kernels.list_bytes(self._cpu.lists, depth=int(limits.depths.max(initial=0)))
            parts = []
            for part in slices(len(queries), len(queries) * each):
                fused = self._backend.fused(fusion, features, part, self._cpu.lists.end_row)
                search = _Search(vectors, queries[part], limits.of(part), masks[part], k, fused, extremes)
                parts.append(self._search(lists, rows, search))
        tops, done = [top for top, _ in parts], [probed for _, probed in parts]
        told = Probed(*(np.concatenate(column) for column in zip(*done, strict=True)))
        return Rescored(joined(tops), told.lists, told.rows, told.work, told.candidates, told.gave_up)

    def _search(
        self, lists: kernels.DeviceLists, rows: kernels.DeviceRows | None, search: _Search
    ) -> tuple[TopK, Probed]:
        vectors, queries, fusion = search.vectors, search.queries, search.fusion
        addresses, kept = kernels.put_masks(self._device, search.masks, end_row=self._cpu.lists.end_row)
        asked, end = self._cpu.asked(queries), min(vectors.n_rows, self._cpu.lists.end_row)
        how: dict[str, Any] = {"metric": vectors.metric, "k": search.k, "end_row": end}
        keys, done = kernels.scan_lists(
            self._device, lists, asked, addresses, limits=search.limits, fusion=fusion, extremes=search.extremes
        )
        if rows is not None:
            keys = kernels.rescored(self._device, rows, queries, keys, fusion=fusion, **how)
        top, (did,) = self._backend.hits_and(keys, done)
        told = kernels.probed(did)
        del kept  # until here the device may have read them
        if rows is None:
            host = None if fusion is None else fusion.host
            top = TopK(*cpu_kernels.rescore(vectors.segments, queries, top.rows, fusion=host, **how))
        return top, told
