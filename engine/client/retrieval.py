"""Searches and encoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from engine import convert
from engine.client.connection import Connection
from engine.client.results import BatchResult, batch_result, status_error
from engine.errors import EngineError
from engine.scoring import Scoring
from engine.types import Examples, Float32Array, ItemId, Priority, SearchParams, SearchResult
from engine.v1 import common_pb2, retrieval_pb2

Queries = Float32Array | Sequence[str] | Sequence[Examples] | Mapping[str, Float32Array | Sequence[str]]
"""Vectors float32 [B, d], texts or examples, or vectors or texts by the names of embeddings."""

Query = str | Float32Array | Examples | Mapping[str, str | Float32Array]

_PRIORITIES = {
    Priority.INTERACTIVE: retrieval_pb2.PRIORITY_INTERACTIVE,
    Priority.WRITE: retrieval_pb2.PRIORITY_INTERACTIVE,
    Priority.BULK: retrieval_pb2.PRIORITY_BULK,
}


@dataclass(frozen=True, slots=True)
class SimilarTo:
    """A query for the neighbours of an item, itself left out."""

    id: ItemId


class RetrievalCalls(Connection):
    """The calls of the retrieval service."""

    def search(
        self,
        collection: str,
        query: Query | SimilarTo,
        *,
        params: SearchParams = SearchParams(),
        attributes: Sequence[str] = ("*",),
        text_fields: Sequence[str] = (),
        vectors: bool = False,
        version: str = "",
        min_sequence: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """The best items for a text, a vector float32 [d], either by the names of embeddings, an item or examples,
        with what is to be returned of each.
        """
        request = retrieval_pb2.SearchRequest(
            collection=collection,
            version=version,
            query=_query(query),
            params=convert.params_to(params),
            return_fields=retrieval_pb2.ReturnFields(attributes=attributes, text_fields=text_fields, vectors=vectors),
            min_sequence=min_sequence,
            priority=_PRIORITIES[priority],
        )
        reply = self._call(self._retrieval.Search, request, timeout_s)
        return SearchResult(
            [convert.hit_from(hit) for hit in reply.hits],
            convert.explanation_from(reply.explanation),
            [convert.facet_counts_from(one) for one in reply.facets],
            convert.next_page_from(reply.next_page),
        )

    def search_batch(
        self,
        collection: str,
        queries: Queries,
        *,
        params: SearchParams | Sequence[SearchParams] = SearchParams(),
        objectives: Sequence[Scoring] = (),
        explain: bool = False,
        version: str = "",
        min_sequence: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        timeout_s: float | None = None,
    ) -> BatchResult:
        """The best items for each of many vectors float32 [B, d], texts or examples, all of one kind, or of vectors or
        texts by the names of embeddings; one set of parameters, or one for each. With ``objectives`` the best by each
        of these, in place of the parameters' scoring, of every query, which is encoded once: ``result.rows(query,
        objective)``.
        """
        request = _batch_request(collection, queries, params, objectives, explain, version, min_sequence, priority)
        return batch_result(self._call(self._retrieval.SearchBatch, request, timeout_s), len(objectives) or 1)

    def search_similar_batch(
        self,
        collection: str,
        ids: Sequence[ItemId],
        *,
        params: SearchParams | Sequence[SearchParams] = SearchParams(),
        objectives: Sequence[Scoring] = (),
        explain: bool = False,
        timeout_s: float | None = None,
    ) -> BatchResult:
        """The neighbours of each of many items; ``objectives`` as for ``search_batch``."""
        request = _batch_request(collection, None, params, objectives, explain, "", None, Priority.INTERACTIVE)
        request.item_ids.CopyFrom(convert.item_ids_to(ids))
        return batch_result(self._call(self._retrieval.SearchBatch, request, timeout_s), len(objectives) or 1)

    def search_stream(
        self,
        collection: str,
        batches: Iterable[Queries],
        *,
        params: SearchParams | Sequence[SearchParams] = SearchParams(),
        objectives: Sequence[Scoring] = (),
        timeout_s: float | None = None,
    ) -> Iterator[BatchResult | EngineError]:
        """One outcome for each batch, in order; batches are sent ahead of the replies. No deadline unless given;
        ``objectives`` as for ``search_batch``.
        """

        def requests() -> Iterator[retrieval_pb2.SearchStreamRequest]:
            for tag, queries in enumerate(batches):
                batch = _batch_request(collection, queries, params, objectives, False, "", None, Priority.INTERACTIVE)
                yield retrieval_pb2.SearchStreamRequest(tag=tag, batch=batch)

        for reply in self._stream(self._retrieval.SearchStream, requests(), timeout_s):
            error = status_error(reply.status)
            yield error if error is not None else batch_result(reply.batch, len(objectives) or 1)

    def encode(self, collection: str, texts: Sequence[str], *, timeout_s: float | None = None) -> Float32Array:
        """float32 [n, d] of the texts as queries."""
        request = retrieval_pb2.EncodeRequest(collection=collection, texts=texts)
        reply = self._call(self._retrieval.Encode, request, timeout_s)
        return convert.tensor_to_array(reply.vectors, "vectors")


def _query(query: Query | SimilarTo) -> retrieval_pb2.Query:
    if isinstance(query, str):
        return retrieval_pb2.Query(text=query)
    if isinstance(query, SimilarTo):
        return retrieval_pb2.Query(item_id=convert.item_id_to(query.id))
    if isinstance(query, Examples):
        return retrieval_pb2.Query(examples=convert.examples_to(query))
    if isinstance(query, Mapping):
        texts = {name: one for name, one in query.items() if isinstance(one, str)}
        vectors = {name: _vector(one) for name, one in query.items() if not isinstance(one, str)}
        return retrieval_pb2.Query(named=retrieval_pb2.NamedQuery(texts=texts, vectors=vectors))
    return retrieval_pb2.Query(vector=_vector(query))


def _vector(vector: Float32Array) -> common_pb2.Vector:
    content = np.ascontiguousarray(vector, np.dtype("<f4")).tobytes()
    return common_pb2.Vector(encoded=common_pb2.VectorBytes(content=content, dtype=common_pb2.DTYPE_FLOAT32))


def _batch_request(
    collection: str,
    queries: Queries | None,
    params: SearchParams | Sequence[SearchParams],
    objectives: Sequence[Scoring],
    explain: bool,
    version: str,
    min_sequence: int | None,
    priority: Priority,
) -> retrieval_pb2.SearchBatchRequest:
    listed = [params] if isinstance(params, SearchParams) else params
    request = retrieval_pb2.SearchBatchRequest(
        collection=collection,
        version=version,
        params=[convert.params_to(one) for one in listed],
        objectives=map(convert.scoring_to, objectives),
        explain=explain,
        min_sequence=min_sequence,
        priority=_PRIORITIES[priority],
    )
    if isinstance(queries, np.ndarray):
        request.vectors.CopyFrom(convert.array_to_tensor(queries))
    elif isinstance(queries, Mapping):
        request.named.SetInParent()
        for name, own in queries.items():
            if isinstance(own, np.ndarray):
                request.named.vectors[name].CopyFrom(convert.array_to_tensor(own))
            else:
                request.named.texts[name].values.extend(own)
    elif queries is not None and len(queries) and isinstance(queries[0], Examples):
        request.examples.queries.extend(map(convert.examples_to, cast("Sequence[Examples]", queries)))
    elif queries is not None:
        request.texts.values.extend(cast("Sequence[str]", queries))
    return request
