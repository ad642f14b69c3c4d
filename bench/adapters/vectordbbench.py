"""The client that VectorDBBench drives, over our gRPC client to a server that runs already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.serving import load_batches, wait_until_settled
from engine.client import RetrievalClient
from engine.errors import CollectionExists, CollectionNotFound, EngineError
from engine.types import AttributeSpec, AttributeType, Filter, Item, Match, Metric, Range, Schema, SearchParams

_NUMBER, _LABEL = "id", "labels"
_METRICS: dict[str, Metric] = {"L2": "l2", "COSINE": "cosine", "IP": "dot"}
_PORTION = 5000
_SETTLE_SECONDS = 86_400.0


class EbrClient:
    """The object is pickled into other processes, so that it connects in ``init`` and not before.

    Args:
        db_config: ``{"target": "HOST:PORT"}``, and ``recall_target`` where it shall not be the collection's default.
        db_case_config: has ``metric_type``, by its name or as an enum whose value is it.
    """

    name = "EBR"

    def __init__(
        self,
        dim: int,
        db_config: Mapping[str, Any],
        db_case_config: Any,
        collection_name: str = "vectordbbench",
        drop_old: bool = False,
        with_scalar_labels: bool = False,
        **_: Any,
    ) -> None:
        self._target = str(db_config["target"])
        self._recall_target = db_config.get("recall_target")
        self._collection = collection_name
        self._with_labels = with_scalar_labels
        self._filter = Filter()
        self._client: RetrievalClient | None = None
        metric = getattr(db_case_config, "metric_type", None)
        self._metric = _METRICS[str(getattr(metric, "value", metric) or "L2")]
        with RetrievalClient(self._target) as client:
            if drop_old:
                with contextlib.suppress(CollectionNotFound):
                    client.delete_collection(collection_name)
            with contextlib.suppress(CollectionExists):
                client.create_collection(self._schema(dim))

    def _schema(self, dim: int) -> Schema:
        attributes = [AttributeSpec(_NUMBER, AttributeType.INT, stored=False)]
        if self._with_labels:
            attributes.append(AttributeSpec(_LABEL, AttributeType.KEYWORD, stored=False))
        return Schema(
            self._collection, id_type="uint64", metric=self._metric, dimension=dim, attributes=tuple(attributes)
        )

    @contextlib.contextmanager
    def init(self) -> Iterator[None]:
        """Connected within this."""
        with RetrievalClient(self._target, timeout_s=300) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    def need_normalize_cosine(self) -> bool:
        """The engine does it."""
        return False

    def insert_embeddings(
        self,
        embeddings: Sequence[Sequence[float]],
        metadata: Sequence[int],
        labels_data: Sequence[str] | None = None,
        **_: Any,
    ) -> tuple[int, Exception | None]:
        """How many were written, and what stopped it."""
        vectors = np.asarray(embeddings, np.float32)
        numbers = [int(number) for number in metadata]
        labels = [{}] * len(numbers) if labels_data is None else [{_LABEL: label} for label in labels_data]
        items = [
            Item(number, attributes={_NUMBER: number, **label}, vector=vector)
            for number, label, vector in zip(numbers, labels, vectors, strict=True)
        ]
        try:
            portions = (items[first : first + _PORTION] for first in range(0, len(items), _PORTION))
            load_batches(self._connected, self._collection, portions)
        except (EngineError, RuntimeError) as error:
            return 0, error
        return len(items), None

    def optimize(self, data_size: int | None = None) -> None:
        """Wait until the index is at rest."""
        wait_until_settled(self._connected, self._collection, trained=False, seconds=_SETTLE_SECONDS)

    def prepare_filter(self, filters: Any) -> None:
        """For the searches that follow: at least a number, a label, or nothing."""
        if (number := getattr(filters, "int_value", None)) is not None:
            self._filter = Filter(must=(Range(_NUMBER, gte=int(number)),))
        elif (label := getattr(filters, "label_value", None)) is not None:
            self._filter = Filter(must=(Match(_LABEL, any_of=(str(label),)),))
        else:
            self._filter = Filter()

    def search_embedding(self, query: Sequence[float], k: int = 100, **_: Any) -> list[int]:
        """Ids, best first."""
        params = SearchParams(k=k, filter=self._filter, recall_target=self._recall_target)
        result = self._connected.search_batch(self._collection, np.asarray([query], np.float32), params=params)
        return [int(one) for one in result.rows(0)[0]]

    @property
    def _connected(self) -> RetrievalClient:
        assert self._client is not None, "within init() only"
        return self._client
