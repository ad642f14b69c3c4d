"""Graph indexes: hnswlib with its Python callback for filters, and usearch, which has none here and so over-fetches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.peers.arrow import ArrowColumns
from bench.peers.base import Built, Knobs, Rows, padded
from bench.predicates import BoolArray, Predicate
from engine.types import Float32Array, Int64Array

_NEIGHBOURS = 16
_BUILD_WIDTH = 128


class _Graph:
    """An index file beside the seconds it took to make."""

    has_ready = True
    largest_rate = 1.0

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._columns = ArrowColumns(rows.attributes)

    def build(self) -> Built:
        path = self._rows.folder / f"{type(self).__name__.lower()}-{self._version()}.graph"
        seconds = path.with_suffix(".seconds")
        if not path.is_file():
            began = time.perf_counter()
            index = self._made()
            took = time.perf_counter() - began
            half = path.with_suffix(".tmp")
            self._save(index, str(half))
            seconds.write_text(str(took), "ascii")
            half.replace(path)
        self._open(str(path))
        spec = f"HNSW M={_NEIGHBOURS} ef_construction={_BUILD_WIDTH}"
        return Built(float(seconds.read_text("ascii")), path.stat().st_size, spec)

    def _version(self) -> str:
        raise NotImplementedError

    def _made(self) -> Any:
        raise NotImplementedError

    def _save(self, index: Any, path: str) -> None:
        raise NotImplementedError

    def _open(self, path: str) -> None:
        raise NotImplementedError


class Hnswlib(_Graph):
    """A filter is a Python function that the search calls for every row it meets."""

    knob_names = ("ef",)

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._space = "l2" if rows.metric == "l2" else "ip"

    def ladders(self, k: int) -> list[list[Knobs]]:
        return [[(ef,) for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048) if ef >= k]]

    def ready(self, predicate: Predicate) -> bytes | None:
        """A byte a row: ``bytes.__getitem__`` is the cheapest function that Python has for it."""
        if predicate.is_empty:
            return None
        bits = self._columns.bits(predicate)
        return np.unpackbits(bits, bitorder="little").tobytes()

    def search(self, queries: Float32Array, filters: Sequence[bytes | None], *, k: int, knobs: Knobs) -> Int64Array:
        self._index.set_ef(max(knobs[0], k))
        if filters[0] is None:
            threads = self._rows.threads if len(queries) > 1 else 1
            found: Int64Array = self._index.knn_query(queries, k, num_threads=threads)[0].astype(np.int64)
            return found
        return padded(
            [self._one(query, own, k) for query, own in zip(queries, filters, strict=True)], n=len(queries), k=k
        )

    def _one(self, query: Float32Array, passing: bytes | None, k: int) -> Int64Array:
        assert passing is not None
        try:
            found: Int64Array = self._index.knn_query(query, k, num_threads=1, filter=passing.__getitem__)[0][0]
        except RuntimeError:
            # It met fewer than k rows that pass, and gives none of them.
            return np.zeros(0, np.int64)
        return found.astype(np.int64)

    def _version(self) -> str:
        from importlib.metadata import version

        return version("hnswlib")

    def _made(self) -> Any:
        import hnswlib

        index = hnswlib.Index(self._space, self._rows.items.shape[1])
        index.init_index(len(self._rows.items), M=_NEIGHBOURS, ef_construction=_BUILD_WIDTH, random_seed=1)
        index.add_items(np.ascontiguousarray(self._rows.items), num_threads=self._rows.threads)
        return index

    def _save(self, index: Any, path: str) -> None:
        index.save_index(path)

    def _open(self, path: str) -> None:
        import hnswlib

        self._index = hnswlib.Index(self._space, self._rows.items.shape[1])
        self._index.load_index(path)


class Usearch(_Graph):
    """So many neighbours are asked for that k of them pass; the others are dropped."""

    knob_names = ("fetched",)

    def ladders(self, k: int) -> list[list[Knobs]]:
        return [[(n,) for n in (10, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384) if n >= k]]

    def ready(self, predicate: Predicate) -> BoolArray | None:
        if predicate.is_empty:
            return None
        return np.unpackbits(self._columns.bits(predicate), bitorder="little").view(np.bool_)

    def search(self, queries: Float32Array, filters: Sequence[BoolArray | None], *, k: int, knobs: Knobs) -> Int64Array:
        self._index.expansion_search = knobs[0]
        wanted = k if filters[0] is None else knobs[0]
        threads = self._rows.threads if len(queries) > 1 else 1
        keys = self._index.search(queries, wanted, threads=threads).keys.reshape(len(queries), -1).astype(np.int64)
        if filters[0] is None:
            return padded(keys, n=len(queries), k=k)
        passing = (row[own[row]] for row, own in zip(keys, filters, strict=True) if own is not None)
        return padded(passing, n=len(queries), k=k)

    def _version(self) -> str:
        from importlib.metadata import version

        return version("usearch")

    def _empty(self) -> Any:
        from usearch.index import Index

        return Index(
            ndim=self._rows.items.shape[1],
            metric="l2sq" if self._rows.metric == "l2" else "ip",
            dtype="f32",
            connectivity=_NEIGHBOURS,
            expansion_add=_BUILD_WIDTH,
        )

    def _made(self) -> Any:
        index = self._empty()
        items = np.ascontiguousarray(self._rows.items)
        index.add(np.arange(len(items)), items, threads=self._rows.threads)
        return index

    def _save(self, index: Any, path: str) -> None:
        index.save(path)

    def _open(self, path: str) -> None:
        self._index = self._empty()
        self._index.load(path)
