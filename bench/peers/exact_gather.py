"""Exact search of the survivors, done well: their rows fetched into a buffer that fits the cache, scored by BLAS."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from bench.filtered_data import best_of
from bench.peers.arrow import ArrowColumns
from bench.peers.base import Built, Knobs, Rows, Threads, padded
from bench.predicates import Predicate
from engine.types import Float32Array, Int64Array

_BUFFER_BYTES = 512 << 10


class ExactGather:
    """No index. Above one row in ten a scan of everything is faster."""

    knob_names: Sequence[str] = ()
    has_ready = True
    largest_rate = 0.1

    def __init__(self, rows: Rows) -> None:
        from threadpoolctl import threadpool_limits

        # One thread of BLAS under each of ours.
        threadpool_limits(1, user_api="blas")
        self._rows = rows
        self._items = np.ascontiguousarray(rows.items)
        self._columns = ArrowColumns(rows.attributes)
        self._half_lengths: Float32Array = np.einsum("nd,nd->n", self._items, self._items) / 2
        self._threads = Threads(rows.threads)
        self._buffers = threading.local()

    def build(self) -> Built:
        return Built(0.0, self._items.nbytes, "float32 rows")

    def ladders(self, k: int) -> list[list[Knobs]]:
        return [[()]]

    def ready(self, predicate: Predicate) -> Int64Array:
        return self._columns.rows(predicate)

    def search(self, queries: Float32Array, filters: Sequence[Int64Array], *, k: int, knobs: Knobs) -> Int64Array:
        if len(queries) == 1:
            return padded([self._shared(queries[0], filters[0], k)], n=1, k=k)
        found = self._threads.each(lambda i: best_of(filters[i], self._scores(queries[i], filters[i]), k), len(queries))
        return padded(found, n=len(queries), k=k)

    def _shared(self, query: Float32Array, rows: Int64Array, k: int) -> Int64Array:
        """One query over all threads, where there is enough to share."""
        n_parts = self._rows.threads if len(rows) >= self._rows_at_once else 1
        parts = np.array_split(rows, n_parts)
        scores = self._threads.each(lambda i: self._scores(query, parts[i]), n_parts)
        return best_of(rows, np.concatenate(scores), k)

    @property
    def _rows_at_once(self) -> int:
        return max(64, _BUFFER_BYTES // (4 * int(self._items.shape[1])))

    def _scores(self, query: Float32Array, rows: Int64Array) -> Float32Array:
        scores = np.empty(len(rows), np.float32)
        for first in range(0, len(rows), self._rows_at_once):
            chosen = rows[first : first + self._rows_at_once]
            fetched = np.take(self._items, chosen, axis=0, out=self._buffer()[: len(chosen)], mode="clip")
            np.dot(fetched, query, out=scores[first : first + len(chosen)])
        return scores - self._half_lengths[rows] if self._rows.metric == "l2" else scores

    def _buffer(self) -> Float32Array:
        """This thread's own."""
        if not hasattr(self._buffers, "rows"):
            self._buffers.rows = np.empty((self._rows_at_once, self._items.shape[1]), np.float32)
        rows: Float32Array = self._buffers.rows
        return rows
