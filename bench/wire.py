"""Requests of the wire API as bytes, ready for a load to send."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.load import Calls
from engine import convert
from engine.types import Float32Array, SearchParams
from engine.v1 import common_pb2, retrieval_pb2

SEARCH = "/engine.v1.RetrievalService/Search"
SEARCH_BATCH = "/engine.v1.RetrievalService/SearchBatch"


def calls_of_vectors(
    target: str, collection: str, queries: Float32Array, *, params: SearchParams = SearchParams(), batch: int
) -> Calls:
    """SearchBatch calls of float32 vectors; a remainder that fills no batch is left out."""
    requests = tuple(
        retrieval_pb2.SearchBatchRequest(
            collection=collection,
            vectors=convert.array_to_tensor(queries[first : first + batch]),
            params=[convert.params_to(params)],
        ).SerializeToString()
        for first in range(0, len(queries) - batch + 1, batch)
    )
    return Calls(target, SEARCH_BATCH, requests, batch)


def calls_of_texts(target: str, collection: str, texts: Sequence[str], *, batch: int) -> Calls:
    """SearchBatch calls of texts, k 10."""
    requests = tuple(
        retrieval_pb2.SearchBatchRequest(
            collection=collection, texts=retrieval_pb2.Texts(values=texts[first : first + batch])
        ).SerializeToString()
        for first in range(0, len(texts) - batch + 1, batch)
    )
    return Calls(target, SEARCH_BATCH, requests, batch)


def unary_calls_of_vectors(target: str, collection: str, queries: Float32Array) -> Calls:
    """Search calls, k 10, ids and scores alone in the reply."""
    return Calls(target, SEARCH, tuple(_unary(collection, _vector(query)) for query in queries))


def unary_calls_of_texts(target: str, collection: str, texts: Sequence[str]) -> Calls:
    """Search calls, k 10, ids and scores alone in the reply."""
    return Calls(target, SEARCH, tuple(_unary(collection, retrieval_pb2.Query(text=text)) for text in texts))


def _unary(collection: str, query: retrieval_pb2.Query) -> bytes:
    return retrieval_pb2.SearchRequest(collection=collection, query=query).SerializeToString()


def _vector(query: Float32Array) -> retrieval_pb2.Query:
    content = np.ascontiguousarray(query, np.dtype("<f4")).tobytes()
    encoded = common_pb2.VectorBytes(content=content, dtype=common_pb2.DTYPE_FLOAT32)
    return retrieval_pb2.Query(vector=common_pb2.Vector(encoded=encoded))
