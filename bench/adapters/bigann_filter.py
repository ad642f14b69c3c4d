"""The class that big-ann-benchmarks' filter track drives: rows with bags of tags, queries that want all of theirs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.adapters.local import LocalCollection
from engine.types import AttributeSpec, AttributeType, Filter, Float32Array, Int64Array, Match, Metric

_TAGS = "tags"
_METRICS: dict[str, Metric] = {"euclidean": "l2", "angular": "cosine", "ip": "dot"}


class Tags(Protocol):
    """A sparse matrix in CSR form, as SciPy has it: the tags of row r are ``indices[indptr[r] : indptr[r + 1]]``."""

    @property
    def indptr(self) -> npt.NDArray[Any]: ...

    @property
    def indices(self) -> npt.NDArray[Any]: ...


class Dataset(Protocol):
    """What is asked of a data set of that project."""

    def get_dataset(self) -> npt.NDArray[Any]: ...

    def get_dataset_metadata(self) -> Tags: ...


def installed_dataset(name: str) -> Dataset:
    """Of that name in big-ann-benchmarks, which must be installed for it."""
    registry = importlib.import_module("benchmark.datasets").DATASETS
    made: Dataset = registry[name]()
    return made


class EbrFilter:
    """``fit`` loads a data set by name, ``filtered_query`` searches, ``get_results`` gives what it found.

    Args:
        index_params: settings of the server, by their names in ``engine.config``.
        open_dataset: how a name becomes a data set.
    """

    def __init__(
        self,
        metric: str = "euclidean",
        index_params: Mapping[str, object] | None = None,
        *,
        open_dataset: Callable[[str], Dataset] = installed_dataset,
    ) -> None:
        self._metric = _METRICS[metric]
        self._settings = dict(index_params or {})
        self._open_dataset = open_dataset
        self._collection: LocalCollection | None = None
        self._recall_target: float | None = None
        self._found: Int64Array = np.zeros((0, 0), np.int64)

    def track(self) -> str:
        return "filter"

    def fit(self, dataset: str) -> None:
        opened = self._open_dataset(dataset)
        vectors, tags = np.asarray(opened.get_dataset()), opened.get_dataset_metadata()
        attribute = AttributeSpec(_TAGS, AttributeType.KEYWORD_LIST, stored=False)
        self._collection = LocalCollection(
            dimension=vectors.shape[1], metric=self._metric, attributes=(attribute,), settings=self._settings
        )
        rows = ({_TAGS: tuple(tags_of(tags, row))} for row in range(len(vectors)))
        self._collection.load(vectors.astype(np.float32), rows)

    def load_index(self, dataset: str) -> bool:
        """Never: a server lives as long as the object that started it."""
        return False

    def set_query_arguments(self, query_args: Mapping[str, Any]) -> None:
        """``{"recall_target": 0.9}``; the collection's default unless given."""
        self._recall_target = query_args.get("recall_target")

    def filtered_query(self, X: npt.NDArray[Any], filter: Tags, k: int) -> None:  # noqa: N803  # the interface's own name
        assert self._collection is not None, "fit comes first"
        filters = [filter_of(tags_of(filter, query)) for query in range(len(X))]
        queries: Float32Array = np.asarray(X).astype(np.float32)
        self._found = self._collection.search(queries, filters, k=k, recall_target=self._recall_target)

    def get_results(self) -> Int64Array:
        """Rows int64 [B, k], padded with -1."""
        return self._found

    def get_additional(self) -> dict[str, object]:
        return {}

    def done(self) -> None:
        if self._collection is not None:
            self._collection.close()

    def __str__(self) -> str:
        return f"ebr(recall_target={self._recall_target})"


def tags_of(tags: Tags, row: int) -> list[str]:
    return [str(tag) for tag in tags.indices[tags.indptr[row] : tags.indptr[row + 1]].tolist()]


def filter_of(tags: list[str]) -> Filter:
    """An item must have all of them."""
    return Filter(must=tuple(Match(_TAGS, any_of=(tag,)) for tag in tags))
