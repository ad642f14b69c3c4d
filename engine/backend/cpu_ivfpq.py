"""An IVF-PQ index on the CPU: trained, encoded and kept on disk by faiss, searched by our own kernels.

Row r of the index is row r of the version. faiss wants the dimension to be a multiple of the number of parts, so
vectors are padded with zeros to a multiple of eight: that changes neither a dot product nor a distance, and gives any
dimension several code lengths.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from engine.backend.protocol import Candidates, Rescored, TopK, Vectors
from engine.errors import CorruptData
from engine.types import Float32Array, Int32Array, Int64Array, Metric, Uint8Array
from kernels import cpu as kernels
from kernels.fusion import FeatureStamps, Fusion, ListExtremes
from kernels.list_feature import ListFeature
from kernels.packed_lists import CENTROIDS, PackedLists, ProbeLimits

CODE_BITS = 4

_PAD_TO = 8
_FLOAT_BYTES = 4
_ROWS_TO_SPREAD = 1000
"""Rows to encode from which several threads pay: beside searches each waits for a core to be free."""
_MOST_FEATURES = 16
"""That lie beside the codes at once, those used last."""

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


class CpuIvfPq:
    """Wraps a trained ``faiss.IndexIVFPQ`` of 4-bit codes; used by one thread at a time.

    With dot a code stands for the residual r of a row to its list's centroid c, and <q, c> + <q, r> is the score; with
    l2 it stands for the row x itself, and <2q, x> - |x|^2 is the score but for -|q|^2, which changes no order.
    """

    def __init__(self, index: Any, *, threads: int) -> None:
        """Takes the rows out of the index, which goes on as quantiser alone."""
        self._index = index
        self._threads = threads
        self._is_l2 = index.metric_type == faiss.METRIC_L2
        self._centroids: Float32Array = index.quantizer.reconstruct_n(0, index.nlist)
        codebook: Float32Array = faiss.vector_to_array(index.pq.centroids)
        shaped = codebook.reshape(index.pq.M, CENTROIDS, index.pq.dsub)
        self._lists = PackedLists(shaped, self._centroids, "l2" if self._is_l2 else "dot")
        self._features: weakref.WeakKeyDictionary[FeatureStamps, ListFeature] = weakref.WeakKeyDictionary()
        self._unpack()

    @classmethod
    def load(cls, path: Path, *, threads: int, dimension: int | None = None, metric: Metric | None = None) -> CpuIvfPq:
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
        return self._lists.n_rows

    @property
    def nlist(self) -> int:
        return self._lists.nlist

    @property
    def numbers(self) -> Int32Array:
        """int32 [n_rows]: the list of each row."""
        return self._lists.numbers

    @property
    def sizes(self) -> Int64Array:
        """int64 [nlist]: rows of each list; not to be changed, and changed by ``add``."""
        return self._lists.sizes

    @property
    def code_bytes(self) -> int:
        return self._lists.code_bytes

    @property
    def memory_bytes(self) -> int:
        """Codes, row numbers and terms, room to grow among them; coarse centroids, ours and faiss's; features."""
        features = sum(feature.memory_bytes for feature in self._features.values())
        return int(self._lists.memory_bytes + 2 * self._centroids.nbytes + features)

    def add(self, vectors: Float32Array) -> Float32Array:
        """Append float32 [m, d] as rows n_rows .. n_rows + m; how far each lies from its list's centroid, squared:
        float32 [m].
        """
        if not len(vectors):
            return np.zeros(0, np.float32)
        padded = self._padded(vectors)
        numbers, residuals = self._assigned(padded)
        faiss.omp_set_num_threads(1 if len(vectors) < _ROWS_TO_SPREAD else self._threads)
        codes = self._index.pq.compute_codes(padded if self._is_l2 else residuals)
        rows = np.arange(self.n_rows, self.n_rows + len(padded), dtype=np.int64)
        self._lists.append(numbers, codes, rows, self._terms(codes))
        return _squares(residuals)

    def distances(self, vectors: Float32Array) -> Float32Array:
        """What ``add`` would return for float32 [m, d], none of which is added."""
        return _squares(self._assigned(self._padded(vectors))[1])

    def _assigned(self, padded: Float32Array) -> tuple[Int64Array, Float32Array]:
        """The list of each vector, int64 [m], and what it differs by from the centroid, float32 [m, padded d]."""
        numbers = kernels.nearest_lists(self._lists, 2 * padded if self._is_l2 else padded)
        with np.errstate(over="ignore"):
            return numbers, padded - self._centroids[numbers]

    def renumber(self, numbers: Int64Array) -> None:
        """Row r becomes row ``numbers[r]``, those of -1 leave; the others keep their order and are rows 0 .. m."""
        kept = PackedLists(self._lists.codebook, self._centroids, "l2" if self._is_l2 else "dot")
        for number in range(self.nlist):
            codes, rows, terms = self._lists.listed(number)
            new = numbers[rows]
            stays = new >= 0
            kept.append(np.full(int(stays.sum()), number), codes[stays], new[stays], terms[stays])
        self._lists = kept
        self._features.clear()

    def scales(self, queries: Float32Array, kth: Float32Array) -> Float32Array:
        """What a reach and a slack of 1 mean for queries [B, d] whose k-th best quantised score is ``kth`` [B], as a
        difference of such scores: float32 [B].
        """
        return kernels.query_scales(self._lists, self.asked(queries), kth)

    def search(self, queries: Float32Array, *, limits: ProbeLimits, masks: Sequence[Uint8Array | None]) -> Candidates:
        """The nearest rows by quantised score as far as the limits go, among those whose mask bit is set."""
        (rows, scores), _ = kernels.scan_lists(self._lists, self.asked(queries), masks, limits=limits)
        return Candidates(rows, scores)

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
        """Exact top k of what ``search`` finds, as ``IvfPqIndex`` says.

        ``rows_scanned`` counts the rows of the lists that were probed, whatever the masks hide of them.
        """
        top, probed = kernels.search_lists(
            self._lists,
            vectors.segments,
            queries,
            self.asked(queries),
            masks,
            limits=limits,
            metric=vectors.metric,
            k=k,
            end_row=min(vectors.n_rows, self._lists.end_row),
            fusion=fusion,
            extremes=extremes,
            feature=None if fusion is None else self._feature(fusion),
        )
        return Rescored(TopK(*top), probed.lists, probed.rows, probed.work, probed.candidates, probed.gave_up)

    def _feature(self, fusion: Fusion) -> ListFeature | None:
        """The fusion's one feature as the lists have it by now; None where it has several, or may not be copied."""
        stamps = fusion.stamps
        if fusion.weights.shape[1] != 1 or stamps is None or stamps.n_rows < self._lists.end_row:
            return None
        feature = self._features.pop(stamps, None) or ListFeature(self._lists)
        kernels.fill_list_feature(feature, self._lists, fusion.features, stamps)
        self._features[stamps] = feature  # last, so that it is dropped last
        if len(self._features) > _MOST_FEATURES:
            del self._features[next(iter(self._features))]
        return feature

    @property
    def lists(self) -> PackedLists:
        """Not to be changed but by ``add``."""
        return self._lists

    def asked(self, queries: Float32Array) -> Float32Array:
        """What codes and centroids are multiplied with."""
        padded = self._padded(queries)
        return 2 * padded if self._is_l2 else padded

    def save(self, path: Path) -> None:
        """Write the index beside ``path``, then put it there: after a crash there is the old file or the new one."""
        aside = path.with_name(path.name + ".new")
        self._pack()
        faiss.write_index(self._index, str(aside))
        self._index.reset()
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)

    def _terms(self, codes: Uint8Array) -> Float32Array:
        """The part of a row's score that no query changes: float32 [m]."""
        if not self._is_l2:
            return np.zeros(len(codes), np.float32)
        decoded = self._index.pq.decode(codes)
        terms: Float32Array = -np.einsum("md,md->m", decoded, decoded)
        return terms

    def _unpack(self) -> None:
        """From faiss's lists into our own."""
        lists, size = self._index.invlists, self._index.code_size
        for number in range(self._index.nlist):
            n = lists.list_size(number)
            if n:
                codes = faiss.rev_swig_ptr(lists.get_codes(number), n * size).reshape(n, size).copy()
                rows = faiss.rev_swig_ptr(lists.get_ids(number), n).astype(np.int64)
                numbers = np.full(n, number, np.int64)
                self._lists.append(numbers, codes, rows, self._terms(codes))
        self._index.reset()

    def _pack(self) -> None:
        """From our lists into faiss's."""
        lists: Any = faiss.ArrayInvertedLists(self.nlist, self._index.code_size)
        for number in range(self.nlist):
            codes, rows, _ = self._lists.listed(number)
            codes, rows = np.ascontiguousarray(codes), np.ascontiguousarray(rows, np.int64)
            if len(rows):
                lists.add_entries(number, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(codes))
        self._index.replace_invlists(lists, True)
        lists.this.disown()  # the index owns them now
        self._index.ntotal = self.n_rows

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


def _squares(residuals: Float32Array) -> Float32Array:
    squares: Float32Array = np.einsum("md,md->m", residuals, residuals)
    return squares


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
    if index.by_residual == (index.metric_type == faiss.METRIC_L2):
        return "its codes are not of residuals for a dot product, or are for l2"
    if metric is not None and index.metric_type != faiss_metric(metric):
        return f"its metric is not {metric}"
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
