"""faiss: inverted lists of whole vectors and of refined codes, with an IDSelectorBitmap for each query."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.harness import SEED
from bench.peers.arrow import ArrowColumns
from bench.peers.base import Built, Knobs, Rows, Threads, list_count, probes_up_to
from bench.predicates import Predicate
from engine.types import Float32Array, Int64Array, Uint8Array

_LEAST_FOR_THREADS = 8
"""Below so many queries faiss's own threads cost more than they bring."""


class _Ivf:
    """Of one query's filter a selector is made in the search: it is a pointer to the mask and no more."""

    has_ready = True
    largest_rate = 1.0

    def __init__(self, rows: Rows) -> None:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        import faiss

        self._faiss = faiss
        self._rows = rows
        self._columns = ArrowColumns(rows.attributes)
        self._nlist = list_count(len(rows.items))
        # The number of OpenMP threads is each calling thread's own.
        self._threads = Threads(rows.threads, initializer=lambda: faiss.omp_set_num_threads(1))

    def ready(self, predicate: Predicate) -> Uint8Array | None:
        return None if predicate.is_empty else self._columns.bits(predicate)

    def search(
        self, queries: Float32Array, filters: Sequence[Uint8Array | None], *, k: int, knobs: Knobs
    ) -> Int64Array:
        if filters[0] is None:
            few = len(queries) < _LEAST_FOR_THREADS
            self._faiss.omp_set_num_threads(1 if few else self._rows.threads)
            found: Int64Array = self._index().search(queries, k, params=self._params(knobs, None))[1]
            return found
        self._faiss.omp_set_num_threads(1)
        return np.concatenate(
            self._threads.each(lambda i: self._one(queries[i : i + 1], filters[i], k, knobs), len(queries))
        )

    def _one(self, query: Float32Array, bits: Uint8Array | None, k: int, knobs: Knobs) -> Int64Array:
        selector = vars(self._faiss)["IDSelectorBitmap"](bits)
        found: Int64Array = self._index().search(query, k, params=self._params(knobs, selector))[1]
        return found

    def _index(self) -> Any:
        raise NotImplementedError

    def _params(self, knobs: Knobs, selector: Any) -> Any:
        raise NotImplementedError

    def _made(self, spec: str) -> tuple[Any, float]:
        """The index of a factory string, from the folder where it was made before; and the seconds it took to make."""
        path = self._rows.folder / f"{spec.replace(',', '-')}-{self._faiss.__version__}.faiss"
        seconds = path.with_suffix(".seconds")
        if not path.is_file():
            began = time.perf_counter()
            self._faiss.omp_set_num_threads(self._rows.threads)
            index = self._trained(spec)
            took = time.perf_counter() - began
            half = path.with_suffix(".tmp")
            self._faiss.write_index(index, str(half))
            seconds.write_text(str(took), "ascii")
            half.replace(path)
        return self._faiss.read_index(str(path)), float(seconds.read_text("ascii"))

    def _trained(self, spec: str) -> Any:
        items = np.ascontiguousarray(self._rows.items)
        kind = self._faiss.METRIC_L2 if self._rows.metric == "l2" else self._faiss.METRIC_INNER_PRODUCT
        index = self._faiss.index_factory(items.shape[1], spec, kind)
        vars(self._faiss)["downcast_index"](index).cp.seed = SEED
        index.train(items)
        index.add(items)
        return index


class IvfFlat(_Ivf):
    """Lists of whole vectors."""

    knob_names = ("nprobe",)

    def build(self) -> Built:
        spec = f"IVF{self._nlist},Flat"
        self._ivf, seconds = self._made(spec)
        return Built(seconds, len(self._faiss.serialize_index(self._ivf)), spec)

    def ladders(self, k: int) -> list[list[Knobs]]:
        return [[(nprobe,) for nprobe in probes_up_to(self._nlist)]]

    def _index(self) -> Any:
        return self._ivf

    def _params(self, knobs: Knobs, selector: Any) -> Any:
        return self._faiss.SearchParametersIVF(nprobe=knobs[0], sel=selector)


class _Refined(_Ivf):
    """Lists of codes, and the best candidates scored again with the vectors themselves."""

    knob_names = ("nprobe", "k_factor")

    def build(self) -> Built:
        spec = f"IVF{self._nlist},{self._code()}"
        coded, seconds = self._made(spec)
        items = np.ascontiguousarray(self._rows.items)
        self._exact = self._faiss.IndexFlat(items.shape[1], coded.metric_type)
        self._exact.add(items)
        self._coded = coded
        self._refined = self._faiss.IndexRefine(coded, self._exact)
        return Built(seconds, len(self._faiss.serialize_index(coded)) + items.nbytes, f"{spec},RFlat")

    def ladders(self, k: int) -> list[list[Knobs]]:
        factors = (1, 2, 4, 8, 16, 32) if k <= 10 else (1, 2, 4, 8)
        return [[(nprobe, factor) for nprobe in probes_up_to(self._nlist)] for factor in factors]

    def _code(self) -> str:
        raise NotImplementedError

    def _index(self) -> Any:
        return self._refined

    def _params(self, knobs: Knobs, selector: Any) -> Any:
        nprobe, factor = knobs
        base = self._faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
        return self._faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=base)


class IvfPq(_Refined):
    """A byte for each four dimensions, eight of wide vectors."""

    def _code(self) -> str:
        d = self._rows.items.shape[1]
        return f"PQ{d // (4 if d <= 128 else 8)}"


class IvfPqFastScan(_Refined):
    """Four bits for each two dimensions, four of wide vectors: as many bytes, scanned in registers."""

    def _code(self) -> str:
        d = self._rows.items.shape[1]
        return f"PQ{d // (2 if d <= 128 else 4)}x4fs"
