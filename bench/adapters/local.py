"""A collection on a server of its own, started and stopped with it: what stands behind the adapters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bench.serving import data_folder, load_batches, served, wait_until_settled
from engine.client import RetrievalClient
from engine.types import (
    AttributeSpec,
    AttributeValue,
    Filter,
    Float32Array,
    Int64Array,
    Item,
    Metric,
    Schema,
    SearchParams,
)

_NAME = "rows"
_PORTION = 5000
_QUERIES_A_CALL = 256
_SETTLE_SECONDS = 3600.0


class LocalCollection:
    """Items whose ids are row numbers. ``close`` it, or use it in a with statement."""

    def __init__(
        self,
        *,
        dimension: int,
        metric: Metric,
        attributes: tuple[AttributeSpec, ...] = (),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(data_folder())
        running = self._stack.enter_context(served(folder, settings=settings))
        self.client: RetrievalClient = running.client
        schema = Schema(_NAME, id_type="uint64", metric=metric, dimension=dimension, attributes=attributes)
        self.client.create_collection(schema)

    def __enter__(self) -> LocalCollection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def load(self, vectors: Float32Array, attributes: Iterable[Mapping[str, AttributeValue]]) -> None:
        """Row r as item r; searchable, and its index at rest, when this returns."""
        each = iter(attributes)
        portions = (range(first, min(first + _PORTION, len(vectors))) for first in range(0, len(vectors), _PORTION))
        batches = ([Item(row, attributes=next(each), vector=vectors[row]) for row in rows] for rows in portions)
        load_batches(self.client, _NAME, batches)
        self.settle()

    def settle(self) -> None:
        """Wait until upkeep has nothing to do."""
        wait_until_settled(self.client, _NAME, trained=False, seconds=_SETTLE_SECONDS)

    def upsert(self, items: Sequence[Item]) -> None:
        load_batches(self.client, _NAME, [items])

    def search(
        self, queries: Float32Array, filters: Sequence[Filter], *, k: int, recall_target: float | None
    ) -> Int64Array:
        """Rows int64 [B, k], padded with -1; ``filters`` has one for all queries or one for each."""
        found = np.full((len(queries), k), -1, np.int64)
        for first in range(0, len(queries), _QUERIES_A_CALL):
            own = filters if len(filters) == 1 else filters[first : first + _QUERIES_A_CALL]
            params = [SearchParams(k=k, filter=one, recall_target=recall_target) for one in own]
            part = queries[first : first + _QUERIES_A_CALL]
            result = self.client.search_batch(_NAME, part, params=params[0] if len(params) == 1 else params)
            for place in range(len(part)):
                ids = np.asarray(result.rows(place)[0], np.int64)
                found[first + place, : len(ids)] = ids
        return found

    def memory_bytes(self) -> int:
        """Of the index, the vectors included."""
        use = self.client.get_collection(_NAME).message.versions[0].memory
        return int(use.vectors + use.codes + use.coarse_codes + use.attributes + use.rows)
