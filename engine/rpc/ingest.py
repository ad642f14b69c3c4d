"""IngestService: thin. Messages in, items to the collection's writer, outcomes out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np

from engine import convert
from engine.convert_columns import item_columns_from
from engine.errors import EngineError, InvalidArgument, LimitExceeded
from engine.ingest.columns import PreparedColumns
from engine.ingest.replies import Refusal, Written
from engine.ingest.writer import PreparedItems
from engine.items import validate_id, validate_request_id
from engine.lanes.turns import ITEMS_A_TURN, in_turns
from engine.pipeline.collection import Collection
from engine.pipeline.engine import Engine
from engine.rpc.methods import Call, in_order
from engine.rpc.status import status_of
from engine.telemetry.metrics import Metrics
from engine.types import Filter, Item, ItemId, ItemUpdate, Priority, StoredItem, Visibility
from engine.v1 import common_pb2, ingest_pb2

_STREAMED_AT_ONCE = 64
"""Requests of one stream that may be under way."""

_COLUMNS_AHEAD = 3
"""Requests of columns of one stream that may wait for those before them: each has thousands of items."""

_DEFAULT_PAGE = 100
_PRIORITIES: Mapping[int, Priority] = {
    ingest_pb2.WRITE_PRIORITY_UNSPECIFIED: Priority.WRITE,
    ingest_pb2.WRITE_PRIORITY_NORMAL: Priority.WRITE,
    ingest_pb2.WRITE_PRIORITY_BULK: Priority.BULK,
}


class IngestServicer:
    """See the proto file for each method."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def upsert(self, request: ingest_pb2.UpsertRequest, call: Call) -> ingest_pb2.UpsertResponse:
        collection, prepared = await self._prepared(request, call)
        return await self._upsert(collection, request, prepared, call)

    async def _prepared(self, request: ingest_pb2.UpsertRequest, call: Call) -> tuple[Collection, PreparedItems]:
        """In turns: searches come in while thousands of items are read. With the collection that they were read for:
        there may be another of its name by then.
        """
        collection = self._engine.collection(request.collection)
        limit = self._engine.limits.upsert_items
        if len(request.items) > limit:
            raise LimitExceeded("items", value=len(request.items), limit=limit, unit="items a call")
        _visibility(request.visibility)
        _priority(request.priority)
        validate_request_id(request.request_id)
        items = (_item(message, place) for place, message in enumerate(request.items))
        return collection, await collection.prepare_items(items, deadline=call.deadline)

    async def _upsert(
        self, collection: Collection, request: ingest_pb2.UpsertRequest, prepared: PreparedItems, call: Call
    ) -> ingest_pb2.UpsertResponse:
        written = await collection.upsert(
            prepared,
            visibility=_visibility(request.visibility),
            request_id=request.request_id,
            priority=_priority(request.priority),
            deadline=call.deadline,
        )
        self._metrics.truncated_items(collection.name, written.truncated_items)
        errors = await _item_errors(written.refusals)
        return _upserted(written, errors, request.request_id)

    async def upsert_stream(
        self, requests: AsyncIterator[ingest_pb2.UpsertRequest], call: Call
    ) -> AsyncIterator[ingest_pb2.UpsertResponse]:
        """Requests are under way together where no item of theirs is to be encoded: they reach the commit lane in the
        order they came, and are committed as a group. Others wait for those before them, and so does what would make
        a group's worth of items under way more than that: a stream that brings many is held back, not refused.
        """
        under_way: asyncio.Queue[asyncio.Task[ingest_pb2.UpsertResponse] | None] = asyncio.Queue(_STREAMED_AT_ONCE)
        most_items, sizes = self._engine.settings.commit_batch_items, deque[int]()
        told = asyncio.Event()

        async def read() -> None:
            last: asyncio.Task[ingest_pb2.UpsertResponse] | None = None
            try:
                async for request in requests:
                    while sizes and sum(sizes) + len(request.items) > most_items:
                        told.clear()
                        await told.wait()
                    sizes.append(len(request.items))
                    is_encoded = all(item.HasField("vectors") for item in request.items)
                    if not is_encoded and last is not None:
                        await asyncio.wait([last])
                    collection, prepared = await self._prepared(request, call)
                    last = asyncio.create_task(self._upsert(collection, request, prepared, call))
                    await under_way.put(last)
                    if not is_encoded:
                        await asyncio.wait([last])
            finally:
                await under_way.put(None)

        reading = asyncio.create_task(read())
        try:
            while (task := await under_way.get()) is not None:
                yield await task
                sizes.popleft()
                told.set()
            await reading
        finally:
            reading.cancel()
            while not under_way.empty():
                if (left := under_way.get_nowait()) is not None:
                    left.cancel()
                    # Nobody is told any more.
                    left.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def upsert_columns(
        self, requests: AsyncIterator[ingest_pb2.UpsertColumnsRequest], call: Call
    ) -> AsyncIterator[ingest_pb2.UpsertColumnsResponse]:
        """One request is made ready while those before it are committed."""

        async def under_way() -> AsyncIterator[asyncio.Task[ingest_pb2.UpsertColumnsResponse]]:
            async for request in requests:
                collection = self._engine.collection(request.collection)
                prepared = await collection.prepare_columns(item_columns_from(request), deadline=call.deadline)
                yield asyncio.create_task(_upsert_columns(collection, request, prepared, call))

        async for reply in in_order(under_way(), ahead=_COLUMNS_AHEAD):
            yield reply

    async def update(self, request: ingest_pb2.UpdateRequest, call: Call) -> ingest_pb2.UpdateResponse:
        collection = self._engine.collection(request.collection)
        limit = self._engine.limits.upsert_items
        if len(request.updates) > limit:
            raise LimitExceeded("updates", value=len(request.updates), limit=limit, unit="items a call")
        validate_request_id(request.request_id)
        written = await collection.update(
            await collection.prepare_updates(
                (_update(message, place) for place, message in enumerate(request.updates)), deadline=call.deadline
            ),
            visibility=_visibility(request.visibility),
            request_id=request.request_id,
            deadline=call.deadline,
        )
        return ingest_pb2.UpdateResponse(
            sequence=written.sequence,
            accepted=written.accepted,
            errors=await _item_errors(written.refusals),
        )

    async def delete(self, request: ingest_pb2.DeleteRequest, call: Call) -> ingest_pb2.DeleteResponse:
        written = await self._engine.collection(request.collection).delete(
            _ids(request.ids, limit=self._engine.limits.upsert_items),
            visibility=_visibility(request.visibility),
            request_id=request.request_id,
            deadline=call.deadline,
        )
        return ingest_pb2.DeleteResponse(sequence=written.sequence, deleted=written.deleted)

    async def delete_by_filter(
        self, request: ingest_pb2.DeleteByFilterRequest, call: Call
    ) -> ingest_pb2.DeleteByFilterResponse:
        tree = convert.filter_from(request.filter)
        if tree.is_empty() and not request.everything:
            raise InvalidArgument("filter", "is empty and would delete every item: set everything if that is meant")
        if not tree.is_empty() and request.everything:
            raise InvalidArgument("everything", "is set beside a filter: give one of the two")
        written = await self._engine.collection(request.collection).delete_by_filter(
            tree,
            visibility=_visibility(request.visibility),
            request_id=request.request_id,
            deadline=call.deadline,
        )
        return ingest_pb2.DeleteByFilterResponse(sequence=written.sequence, deleted=written.deleted)

    async def get(self, request: ingest_pb2.GetRequest, call: Call) -> ingest_pb2.GetResponse:
        collection = self._engine.collection(request.collection)
        ids = _ids(request.ids, limit=self._engine.limits.page_size)
        found = await collection.get(ids, vectors=request.vectors)
        missing = [one for one, item in zip(ids, found, strict=True) if item is None]
        return ingest_pb2.GetResponse(
            items=[_stored(item, collection) for item in found if item is not None],
            missing=convert.item_ids_to(missing),
        )

    async def count(self, request: ingest_pb2.CountRequest, call: Call) -> ingest_pb2.CountResponse:
        collection = self._engine.collection(request.collection)
        number, sequence = await collection.count(_filter(request))
        return ingest_pb2.CountResponse(count=number, sequence=sequence)

    async def scroll(self, request: ingest_pb2.ScrollRequest, call: Call) -> ingest_pb2.ScrollResponse:
        collection = self._engine.collection(request.collection)
        size, limit = request.page_size or _DEFAULT_PAGE, self._engine.limits.page_size
        if size > limit:
            raise LimitExceeded("page_size", value=size, limit=limit, unit="items a page")
        after = _after(request.page_token, collection)
        page, last = await collection.scroll(after, tree=_filter(request), limit=size, vectors=request.vectors)
        token = "" if last is None else _page_token(last)
        return ingest_pb2.ScrollResponse(items=[_stored(item, collection) for item in page], next_page_token=token)


async def _upsert_columns(
    collection: Collection, request: ingest_pb2.UpsertColumnsRequest, prepared: PreparedColumns, call: Call
) -> ingest_pb2.UpsertColumnsResponse:
    written = await collection.upsert_columns(
        prepared,
        visibility=_visibility(request.visibility),
        request_id=request.request_id,
        deadline=call.deadline,
    )
    return ingest_pb2.UpsertColumnsResponse(
        sequence=written.sequence,
        accepted=written.accepted,
        errors=await _item_errors(written.refusals),
        request_id=request.request_id,
    )


def _item(message: common_pb2.Item, place: int) -> Item | Refusal:
    try:
        return convert.item_from(message, f"items[{place}]")
    except EngineError as error:
        return Refusal(place, _id_of(message.id), error)


def _update(message: ingest_pb2.ItemUpdate, place: int) -> ItemUpdate | Refusal:
    try:
        return convert.update_from(message, f"updates[{place}]")
    except EngineError as error:
        return Refusal(place, _id_of(message.id), error)


def _ids(message: common_pb2.ItemIds, *, limit: int) -> tuple[ItemId, ...]:
    """Counted before any is read: a million of them would hold the event loop for long."""
    n = len(message.numbers) // 8 + len(message.texts)
    if n > limit:
        raise LimitExceeded("ids", value=n, limit=limit, unit="ids a call")
    return convert.item_ids_from(message, "ids")


def _id_of(message: common_pb2.ItemId) -> ItemId | None:
    kind = message.WhichOneof("kind")
    return getattr(message, kind) if kind else None


def _visibility(value: int) -> Visibility:
    if value == ingest_pb2.VISIBILITY_UNSPECIFIED:
        return Visibility.COMMITTED
    try:
        return Visibility(value)
    except ValueError:
        raise InvalidArgument("visibility", f"unknown visibility {value}") from None


def _priority(value: int) -> Priority:
    if value not in _PRIORITIES:
        raise InvalidArgument("priority", f"unknown value {value}")
    return _PRIORITIES[value]


def _filter(request: ingest_pb2.CountRequest | ingest_pb2.ScrollRequest) -> Filter:
    return convert.filter_from(request.filter) if request.HasField("filter") else Filter()


def _upserted(written: Written, errors: Sequence[ingest_pb2.ItemError], request_id: str) -> ingest_pb2.UpsertResponse:
    return ingest_pb2.UpsertResponse(
        sequence=written.sequence,
        accepted=written.accepted,
        errors=errors,
        truncated_items=written.truncated_items,
        truncated_tokens=written.truncated_tokens,
        unchanged_texts=written.unchanged_texts,
        request_id=request_id,
    )


async def _item_errors(refusals: Sequence[Refusal]) -> list[ingest_pb2.ItemError]:
    return await in_turns(refusals, lambda _, refusal: _item_error(refusal), a_turn=ITEMS_A_TURN)


def _item_error(refusal: Refusal) -> ingest_pb2.ItemError:
    error = ingest_pb2.ItemError(index=refusal.index, status=status_of(refusal.error))
    if refusal.id is not None:
        error.id.CopyFrom(convert.item_id_to(refusal.id))
    return error


def _stored(item: StoredItem, collection: Collection) -> ingest_pb2.StoredItem:
    returned = {spec.name for spec in collection.schema.attributes if spec.stored}
    attributes = {name: value for name, value in item.attributes.items() if name in returned}
    vectors = None if item.vectors is None else np.atleast_2d(item.vectors)
    plain = Item(item.id, item.text, attributes, vectors, times=item.times, named_vectors=item.named_vectors)
    return ingest_pb2.StoredItem(item=convert.item_to(plain), sequence=item.sequence)


def _page_token(last: ItemId) -> str:
    return base64.urlsafe_b64encode(json.dumps(last).encode()).decode()


def _after(token: str, collection: Collection) -> ItemId | None:
    """The id a page begins after."""
    if not token:
        return None
    try:
        last: ItemId = json.loads(base64.urlsafe_b64decode(token))
        validate_id(last, collection.schema, "page_token")
    except (ValueError, RecursionError, InvalidArgument):
        raise InvalidArgument("page_token", "is not one that this collection's Scroll gave") from None
    return last
