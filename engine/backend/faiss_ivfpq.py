"""An IVF-PQ index of faiss: load, search under a mask, add, save. Row r of the index is row r of the version.

faiss wants the dimension to be a multiple of the code's bytes, so vectors are padded with zeros to a multiple of eight:
that changes neither a dot product nor a distance, and gives any dimension several code lengths.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from engine.backend.protocol import Candidates
from engine.errors import CorruptData
from engine.types import Float32Array, Metric, Uint8Array

CODE_BITS = 8

_globals: Any = faiss.cvar
_PAD_TO = 8
_ID_BYTES = 8
_FLOAT_BYTES = 4

_SERIAL_BELOW = 8
"""Queries below which faiss searches on the calling thread: waking another was measured to cost up to 11 ms."""

_FAISS_METRIC: dict[Metric, int] = {
    "cosine": faiss.METRIC_INNER_PRODUCT,
    "dot": faiss.METRIC_INNER_PRODUCT,
    "l2": faiss.METRIC_L2,
}


def faiss_metric(metric: Metric) -> int:
    """What faiss calls the metric; cosine is the inner product of normalised vectors."""
    return _FAISS_METRIC[metric]


def padded_dimension(dimension: int) -> int:
    """The dimension that faiss sees."""
    return -(-dimension // _PAD_TO) * _PAD_TO


class FaissIvfPq:
    """Wraps a trained ``faiss.IndexIVFPQ`` of 8-bit codes; used by one thread at a time.

    faiss's count of what it scanned is global: ``rows_scanned`` is right while no other index is searched meanwhile.
    """

    def __init__(self, index: Any, *, threads: int) -> None:
        self._index = index
        self._threads = threads

    @classmethod
    def load(
        cls, path: Path, *, threads: int, dimension: int | None = None, metric: Metric | None = None
    ) -> FaissIvfPq:
        """Read an index file; ``dimension`` and ``metric``, where given, must be its own.

        Raises:
            CorruptData: the file is not such an index.
        """
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise CorruptData(f"{path}: faiss cannot read it: {error}", path=path) from error
        fault = _fault(index, dimension, metric)
        if fault is not None:
            raise CorruptData(f"{path}: {fault}", path=path)
        return cls(index, threads=threads)

    @property
    def n_rows(self) -> int:
        return int(self._index.ntotal)

    @property
    def nlist(self) -> int:
        return int(self._index.nlist)

    @property
    def code_bytes(self) -> int:
        return int(self._index.pq.M)

    @property
    def memory_bytes(self) -> int:
        """Codes, row ids, coarse and product centroids, and the tables precomputed for l2."""
        index = self._index
        floats = (index.nlist + (1 << CODE_BITS)) * index.d + index.precomputed_table.size()
        return int(index.ntotal * (index.code_size + _ID_BYTES) + floats * _FLOAT_BYTES)

    def add(self, vectors: Float32Array) -> None:
        """Append float32 [m, d] as rows n_rows .. n_rows + m, with all threads."""
        faiss.omp_set_num_threads(self._threads)
        self._index.add(self._padded(vectors))

    def search(self, queries: Float32Array, *, nprobe: int, depth: int, mask: Uint8Array | None) -> Candidates:
        """The ``depth`` nearest rows by quantised distance, best first, among those whose mask bit is set.

        ``rows_scanned`` counts the distances computed: rows that the mask hides are skipped before that.
        """
        faiss.omp_set_num_threads(1 if len(queries) < _SERIAL_BELOW else self._threads)
        params = faiss.SearchParametersIVF()
        params.nprobe = nprobe
        if mask is not None:
            visible = np.ascontiguousarray(mask)
            params.sel = faiss.IDSelectorBitmap(visible.size, faiss.swig_ptr(visible))
        counts = _globals.indexIVF_stats
        lists, scanned = counts.nlist, counts.ndis
        _, rows = self._index.search(self._padded(queries), depth, params=params)
        return Candidates(rows, lists_scanned=counts.nlist - lists, rows_scanned=counts.ndis - scanned)

    def save(self, path: Path) -> None:
        """Write the index beside ``path``, then put it there: after a crash there is the old file or the new one."""
        aside = path.with_name(path.name + ".new")
        faiss.write_index(self._index, str(aside))
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)

    def _padded(self, vectors: Float32Array) -> Float32Array:
        """float32 [n, d] with zeros up to the index's dimension."""
        n, d = vectors.shape
        if padded_dimension(d) != self._index.d:
            raise CorruptData(f"the index holds vectors of dimension {self._index.d}, asked for {d}")
        if d == self._index.d:
            return vectors
        padded = np.zeros((n, self._index.d), np.float32)
        padded[:, :d] = vectors
        return padded


def _fault(index: Any, dimension: int | None, metric: Metric | None) -> str | None:
    """What is wrong with an index read from a file, or None."""
    if not isinstance(index, faiss.IndexIVFPQ) or index.pq.nbits != CODE_BITS:
        return f"a {type(index).__name__} is not an IVF-PQ index of {CODE_BITS}-bit codes"
    if not index.is_trained or index.quantizer.ntotal != index.nlist:
        return "the index is not trained"
    listed = sum(index.get_list_size(i) for i in range(index.nlist))
    if listed != index.ntotal:
        return f"{listed} rows lie in lists, {index.ntotal} were added"
    if dimension is not None and index.d != padded_dimension(dimension):
        return f"its dimension is {index.d}, not {padded_dimension(dimension)}"
    if metric is not None and index.metric_type != faiss_metric(metric):
        return f"its metric is not {metric}"
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
