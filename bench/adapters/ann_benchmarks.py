"""The class that ann-benchmarks drives: vectors alone, queries one by one or as a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.adapters.local import LocalCollection
from engine.types import Filter, Float32Array, Int64Array, Metric

_METRICS: dict[str, Metric] = {"euclidean": "l2", "angular": "cosine"}
_KIB = 1024


class Ebr:
    """``fit``, then ``query`` or ``batch_query``.

    Args:
        method_param: settings of the server, by their names in ``engine.config``.
    """

    def __init__(self, metric: str, method_param: Mapping[str, object] | None = None) -> None:
        self._metric = _METRICS[metric]
        self._settings = dict(method_param or {})
        self._collection: LocalCollection | None = None
        self._recall_target: float | None = None
        self._found: Int64Array = np.zeros((0, 0), np.int64)
        self.name = str(self)

    def fit(self, X: npt.NDArray[Any]) -> None:  # noqa: N803  # the interface's own name
        vectors: Float32Array = np.asarray(X).astype(np.float32)
        self._collection = LocalCollection(dimension=vectors.shape[1], metric=self._metric, settings=self._settings)
        self._collection.load(vectors, ({} for _ in vectors))

    def set_query_arguments(self, recall_target: float) -> None:
        self._recall_target = recall_target
        self.name = str(self)

    def query(self, q: npt.NDArray[Any], n: int) -> Int64Array:
        """The n nearest rows at most, int64, best first."""
        self.batch_query(np.asarray(q)[None, :], n)
        found = self._found[0]
        nearest: Int64Array = found[found >= 0]
        return nearest

    def batch_query(self, X: npt.NDArray[Any], n: int) -> None:  # noqa: N803  # the interface's own name
        assert self._collection is not None, "fit comes first"
        queries: Float32Array = np.asarray(X).astype(np.float32)
        self._found = self._collection.search(queries, [Filter()], k=n, recall_target=self._recall_target)

    def get_batch_results(self) -> Int64Array:
        """Rows int64 [B, n], padded with -1."""
        return self._found

    def get_memory_usage(self) -> float:
        """KiB of the index, the vectors included."""
        assert self._collection is not None, "fit comes first"
        return self._collection.memory_bytes() / _KIB

    def done(self) -> None:
        if self._collection is not None:
            self._collection.close()

    def __str__(self) -> str:
        return f"ebr(recall_target={self._recall_target})"
