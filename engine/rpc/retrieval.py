"""RetrievalService: thin. Messages in, a SearchCall to the collection, columns out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np

from engine import convert
from engine.errors import EngineError, InvalidArgument, LimitExceeded, Unimplemented
from engine.pipeline.calls import SearchAnswer, SearchCall, field_of
from engine.pipeline.collection import Collection
from engine.pipeline.engine import Engine
from engine.rpc.methods import Call, in_order
from engine.rpc.status import OK, status_of
from engine.telemetry.metrics import Metrics
from engine.types import Examples, Hit, ItemId, Priority, SearchParams, StoredItem
from engine.v1 import retrieval_pb2

_STREAM_AHEAD = 16
_PRIORITIES: Mapping[int, Priority] = {
    retrieval_pb2.PRIORITY_UNSPECIFIED: Priority.INTERACTIVE,
    retrieval_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    retrieval_pb2.PRIORITY_BULK: Priority.BULK,
}


class RetrievalServicer:
    """See the proto file for each method."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def search(self, request: retrieval_pb2.SearchRequest, call: Call) -> retrieval_pb2.SearchResponse:
        collection = self._engine.collection(request.collection)
        answer = await collection.search(_unary_call(request, call))
        self._count(collection, answer)
        error = answer.errors[0] if answer.errors else None
        if error is not None:
            raise error
        response = retrieval_pb2.SearchResponse(explanation=convert.explanation_to(answer.explanations[0]))
        if _is_bare(request.return_fields):
            convert.add_hits(response, answer.ids, answer.scores)
        else:
            hits = await _hits(collection, answer, request.return_fields)
            response.hits.extend(convert.hit_to(hit) for hit in hits)
        convert.add_legs(response, answer.legs)
        for facets in answer.facets:
            response.facets.extend(map(convert.facet_counts_to, facets))
        for page in answer.next_pages:
            if page is not None:
                response.next_page.CopyFrom(convert.next_page_to(page))
        return response

    async def search_batch(
        self, request: retrieval_pb2.SearchBatchRequest, call: Call
    ) -> retrieval_pb2.SearchBatchResponse:
        collection = self._engine.collection(request.collection)
        objectives = [convert.scoring_from(one, f"objectives[{place}]") for place, one in enumerate(request.objectives)]
        answer = await collection.search(_batch_call(request, call), objectives=objectives)
        self._count(collection, answer)
        return _columns(answer)

    async def search_stream(
        self, requests: AsyncIterator[retrieval_pb2.SearchStreamRequest], call: Call
    ) -> AsyncIterator[retrieval_pb2.SearchStreamResponse]:
        async def tasks() -> AsyncIterator[asyncio.Task[Any]]:
            async for request in requests:
                yield asyncio.create_task(self._one_of_stream(request, call))

        async for response in in_order(tasks(), ahead=_STREAM_AHEAD):
            yield response

    async def encode(self, request: retrieval_pb2.EncodeRequest, call: Call) -> retrieval_pb2.EncodeResponse:
        collection = self._engine.collection(request.collection)
        limit = self._engine.limits.batch_queries
        if len(request.texts) > limit:
            raise LimitExceeded("texts", value=len(request.texts), limit=limit, unit="texts a call")
        if not request.texts:
            raise InvalidArgument("texts", "the call has no text")
        outcomes = await collection.encode(
            request.texts, version=request.version, priority=_priority(request.priority), deadline=call.deadline
        )
        vectors, truncated = [], []
        for outcome in outcomes:
            if isinstance(outcome, EngineError):
                raise outcome
            vectors.append(outcome.vectors[0])
            truncated.append(outcome.truncated_tokens)
        return retrieval_pb2.EncodeResponse(
            vectors=convert.array_to_tensor(np.stack(vectors)),
            truncated_tokens=truncated,
            encoder_version=collection.version.encoder_version,
        )

    async def _one_of_stream(
        self, request: retrieval_pb2.SearchStreamRequest, call: Call
    ) -> retrieval_pb2.SearchStreamResponse:
        try:
            batch = await self.search_batch(request.batch, call)
        except EngineError as error:
            return retrieval_pb2.SearchStreamResponse(tag=request.tag, status=status_of(error))
        return retrieval_pb2.SearchStreamResponse(tag=request.tag, status=OK, batch=batch)

    def _count(self, collection: Collection, answer: SearchAnswer) -> None:
        self._metrics.queries(collection.name, len(answer.counts), answer.times)
        self._metrics.rank_fallbacks(collection.name, answer.rank_fallbacks)


def _unary_call(request: retrieval_pb2.SearchRequest, call: Call) -> SearchCall:
    query, kind = request.query, request.query.WhichOneof("kind")
    if kind is None:
        raise InvalidArgument("query", "is empty: set vector, text, item_id, examples or named")
    return SearchCall(
        params=[_params(request.params, "params")],
        vectors=convert.vector_to_array(query.vector, "query.vector")[None, :] if kind == "vector" else None,
        texts=[query.text] if kind == "text" else (),
        item_ids=[convert.item_id_from(query.item_id, "query.item_id")] if kind == "item_id" else (),
        examples=[convert.examples_from(query.examples, "query.examples")] if kind == "examples" else (),
        named_texts={name: [text] for name, text in query.named.texts.items()},
        named_vectors={
            name: convert.vector_to_array(vector, f"query.named.vectors[{name}]")[None, :]
            for name, vector in query.named.vectors.items()
        },
        version=request.version,
        explain=True,
        min_sequence=request.min_sequence if request.HasField("min_sequence") else None,
        priority=_priority(request.priority),
        deadline=call.deadline,
        max_queue_delay=_max_queue_delay(request),
    )


def _batch_call(request: retrieval_pb2.SearchBatchRequest, call: Call) -> SearchCall:
    kind = request.WhichOneof("queries")
    if kind is None:
        raise InvalidArgument("queries", "the call has no query: set vectors, texts, item_ids, examples or named")
    return SearchCall(
        params=_batch_params(request),
        vectors=convert.tensor_to_array(request.vectors, "vectors") if kind == "vectors" else None,
        texts=request.texts.values if kind == "texts" else (),
        item_ids=convert.item_ids_from(request.item_ids, "item_ids") if kind == "item_ids" else (),
        examples=_batch_examples(request.examples) if kind == "examples" else (),
        named_texts={name: texts.values for name, texts in request.named.texts.items()},
        named_vectors={
            name: convert.tensor_to_array(tensor, f"named.vectors[{name}]")
            for name, tensor in request.named.vectors.items()
        },
        version=request.version,
        explain=request.explain,
        min_sequence=request.min_sequence if request.HasField("min_sequence") else None,
        priority=_priority(request.priority),
        deadline=call.deadline,
        max_queue_delay=_max_queue_delay(request),
    )


def _batch_examples(message: retrieval_pb2.ExampleQueries) -> list[Examples | EngineError]:
    parsed: list[Examples | EngineError] = []
    for place, one in enumerate(message.queries):
        try:
            parsed.append(convert.examples_from(one, f"{field_of('query', place, len(message.queries))}.examples"))
        except EngineError as error:
            parsed.append(error)
    return parsed


def _batch_params(request: retrieval_pb2.SearchBatchRequest) -> list[SearchParams | EngineError]:
    """One for all, or one for each; what is wrong with one of several fails its query alone."""
    if len(request.params) <= 1:
        return [_params(request.params[0], "params[0]") if request.params else SearchParams()]
    parsed: list[SearchParams | EngineError] = []
    for place, message in enumerate(request.params):
        try:
            parsed.append(_params(message, f"params[{place}]"))
        except EngineError as error:
            parsed.append(error)
    return parsed


def _params(message: retrieval_pb2.SearchParams, field: str) -> SearchParams:
    if message.exclude_list:
        raise Unimplemented(f"{field}.exclude_list: named exclusion lists are not implemented yet")
    return convert.params_from(message, field)


def _priority(value: int) -> Priority:
    if value not in _PRIORITIES:
        raise InvalidArgument("priority", f"unknown value {value}")
    return _PRIORITIES[value]


def _max_queue_delay(request: retrieval_pb2.SearchRequest | retrieval_pb2.SearchBatchRequest) -> float | None:
    if not request.HasField("max_queue_delay"):
        return None
    seconds = convert.seconds(request.max_queue_delay)
    if seconds < 0:
        raise InvalidArgument("max_queue_delay", f"{seconds} s is negative")
    return seconds


def _columns(answer: SearchAnswer) -> retrieval_pb2.SearchBatchResponse:
    return retrieval_pb2.SearchBatchResponse(
        counts=answer.counts.tolist(),
        ids=convert.item_ids_to(answer.ids),
        scores=answer.scores.astype("<f4", copy=False).tobytes(),
        statuses=[OK if error is None else status_of(error) for error in answer.errors],
        explanations=convert.explanations_to(answer.explanations),
        index_version=answer.version.id,
        encoder_version=answer.version.encoder_version,
        sequence=answer.sequence,
        legs=[convert.leg_column_to(leg) for leg in answer.legs],
        facets=[retrieval_pb2.QueryFacets(facets=map(convert.facet_counts_to, one)) for one in answer.facets],
        ranker_version=answer.ranker_version,
        rank_fallbacks=map(convert.rank_fallback_to, answer.rank_fallbacks),
        next_pages=map(convert.next_page_to, answer.next_pages),
    )


def _is_bare(fields: retrieval_pb2.ReturnFields) -> bool:
    """Whether ids and scores are all that is asked for."""
    return not (fields.attributes or fields.text_fields or fields.vectors)


async def _hits(collection: Collection, answer: SearchAnswer, fields: retrieval_pb2.ReturnFields) -> Sequence[Hit]:
    """Hits with what the caller asked to be returned; an item deleted since the search has none of it."""
    ids: list[ItemId] = answer.ids.tolist()
    stored = await collection.get(ids, vectors=fields.vectors)
    return [
        _hit(item_id, score, item, fields, collection)
        for item_id, score, item in zip(ids, answer.scores.tolist(), stored, strict=True)
    ]


def _hit(
    item_id: ItemId,
    score: float,
    item: StoredItem | None,
    fields: retrieval_pb2.ReturnFields,
    collection: Collection,
) -> Hit:
    if item is None:
        return Hit(item_id, score)
    returned = {spec.name for spec in collection.schema.attributes if spec.stored}
    attributes = {
        name: value
        for name, value in item.attributes.items()
        if name in returned and ("*" in fields.attributes or name in fields.attributes)
    }
    text = {name: value for name, value in item.text.items() if "*" in fields.text_fields or name in fields.text_fields}
    return Hit(item_id, score, attributes, text, item.vectors, named_vectors=item.named_vectors)
