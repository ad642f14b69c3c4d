"""The client a ranking service uses: numpy in, numpy out, errors as the engine's own classes.

Imports gRPC, protobuf and NumPy and nothing else of weight. One client is safe to share between threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine import convert
from engine.errors import DeadlineExceeded, EngineError, Unavailable, from_wire
from engine.types import (
    AttributeSpec,
    Explanation,
    Filter,
    Float32Array,
    Item,
    ItemId,
    ItemUpdate,
    Priority,
    Schema,
    SearchParams,
    SearchResult,
    StoredItem,
    Visibility,
)
from engine.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    common_pb2,
    ingest_pb2,
    ingest_pb2_grpc,
    retrieval_pb2,
    retrieval_pb2_grpc,
)

__all__ = [
    "BatchResult",
    "CollectionInfo",
    "DeleteResult",
    "ItemRefusal",
    "OperationStatus",
    "RetrievalClient",
    "SimilarTo",
    "UpdateResult",
    "UpsertResult",
    "VersionStatus",
]

T = TypeVar("T")
Vectors = Float32Array
Queries = Float32Array | Sequence[str]
_DETAILS = "grpc-status-details-bin"
_FIRST_RETRY_SECONDS = 0.02
_LONGEST_RETRY_SECONDS = 0.5
_CREATE_SECONDS = 300.0
_ASK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class SimilarTo:
    """A query for the neighbours of an item, itself left out."""

    id: ItemId


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The hits of several queries as columns: ids and scores of all hits, query after query, best first.

    ``counts`` uint32 [B]; ``ids`` uint64 [hits] or a list of strings; ``scores`` float32 [hits]; ``errors`` has one
    entry for each query, None where it was answered; ``explanations`` likewise where they were asked for.
    """

    counts: npt.NDArray[np.uint32]
    ids: npt.NDArray[np.uint64] | list[str]
    scores: Float32Array
    errors: Sequence[EngineError | None]
    explanations: Sequence[Explanation]
    index_version: str
    sequence: int

    def rows(self, query: int) -> tuple[npt.NDArray[np.uint64] | list[str], Float32Array]:
        """The ids and scores of one query.

        Raises:
            EngineError: that query failed.
        """
        error = self.errors[query]
        if error is not None:
            raise error
        end = int(self.counts[: query + 1].sum())
        first = end - int(self.counts[query])
        return self.ids[first:end], self.scores[first:end]


@dataclass(frozen=True, slots=True)
class ItemRefusal:
    """One item of a request that was not written."""

    index: int
    id: ItemId | None
    error: EngineError


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What became of a batch of items."""

    sequence: int
    accepted: int
    errors: tuple[ItemRefusal, ...]
    truncated_items: int
    truncated_tokens: int
    unchanged_texts: int


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What became of a batch of updates."""

    sequence: int
    accepted: int
    errors: tuple[ItemRefusal, ...]


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """``deleted`` counts the items that existed."""

    sequence: int
    deleted: int


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version of encoder and index; ``message`` has its memory and index by part."""

    id: str
    encoder_version: str
    dimension: int
    active: bool
    message: admin_pb2.Version


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as it is now; ``message`` is the whole reply."""

    schema: Schema
    versions: tuple[VersionStatus, ...]
    items: int
    sequence: int
    searchable_sequence: int
    message: admin_pb2.Collection


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """A long-running operation as it is now; ``progress`` is of its stage. ``error`` is None until it has failed."""

    name: str
    kind: str
    collection: str
    is_done: bool
    stage: str
    progress: float
    error: EngineError | None
    message: admin_pb2.Operation

    @property
    def snapshot(self) -> admin_pb2.Snapshot | None:
        """What it has written or restored, once it has."""
        told = admin_pb2.Snapshot()
        return told if self.message.response.Unpack(told) else None


class RetrievalClient:
    """A connection to a server.

    Args:
        target: host:port.
        timeout_s: the deadline of a call that names none.
        max_message_bytes: of a reply; the server publishes its own limit for requests.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout_s: float = 30.0,
        max_message_bytes: int = 256 << 20,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # A server that is just starting should be found within a moment of its port opening.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._retrieval = retrieval_pb2_grpc.RetrievalServiceStub(self._channel)
        self._ingest = ingest_pb2_grpc.IngestServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def __enter__(self) -> RetrievalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    # Health

    def is_serving(self, collection: str = "") -> bool:
        """Whether the server, or one collection of it, serves now; False where nothing answers or is known."""
        try:
            request = health_pb2.HealthCheckRequest(service=collection)
            reply = self._health.Check(request, timeout=min(self.timeout_s, 5.0))
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_until_serving(self, collection: str = "", *, timeout_s: float = 60.0) -> None:
        """Ask again and again, ever more slowly, until the server or the collection serves.

        Raises:
            DeadlineExceeded: it did not within ``timeout_s``.
        """
        end = time.monotonic() + timeout_s
        pause = _FIRST_RETRY_SECONDS
        while not self.is_serving(collection):
            if time.monotonic() + pause > end:
                what = f"collection {collection!r}" if collection else "the server"
                raise DeadlineExceeded(f"{what} at {self.target} was not serving within {timeout_s:g} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)

    # Retrieval

    def search(
        self,
        collection: str,
        query: str | Float32Array | SimilarTo,
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
        """The best items for a text, a vector float32 [d] or an item, with the attributes and texts asked for."""
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
        return SearchResult([convert.hit_from(hit) for hit in reply.hits], convert.explanation_from(reply.explanation))

    def search_batch(
        self,
        collection: str,
        queries: Queries,
        *,
        params: SearchParams | Sequence[SearchParams] = SearchParams(),
        explain: bool = False,
        version: str = "",
        min_sequence: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        timeout_s: float | None = None,
    ) -> BatchResult:
        """The best items for each of many vectors float32 [B, d] or texts; one set of parameters, or one for each."""
        request = _batch_request(collection, queries, params, explain, version, min_sequence, priority)
        return _batch_result(self._call(self._retrieval.SearchBatch, request, timeout_s))

    def search_similar_batch(
        self,
        collection: str,
        ids: Sequence[ItemId],
        *,
        params: SearchParams | Sequence[SearchParams] = SearchParams(),
        explain: bool = False,
        timeout_s: float | None = None,
    ) -> BatchResult:
        """The neighbours of each of many items."""
        request = _batch_request(collection, None, params, explain, "", None, Priority.INTERACTIVE)
        request.item_ids.CopyFrom(convert.item_ids_to(ids))
        return _batch_result(self._call(self._retrieval.SearchBatch, request, timeout_s))

    def search_stream(
        self,
        collection: str,
        batches: Iterable[Queries],
        *,
        params: SearchParams | Sequence[SearchParams] = SearchParams(),
        timeout_s: float | None = None,
    ) -> Iterator[BatchResult | EngineError]:
        """One outcome for each batch, in order; batches are sent ahead of the replies. No deadline unless given."""

        def requests() -> Iterator[retrieval_pb2.SearchStreamRequest]:
            for tag, queries in enumerate(batches):
                batch = _batch_request(collection, queries, params, False, "", None, Priority.INTERACTIVE)
                yield retrieval_pb2.SearchStreamRequest(tag=tag, batch=batch)

        for reply in self._stream(self._retrieval.SearchStream, requests(), timeout_s):
            error = _status_error(reply.status)
            yield error if error is not None else _batch_result(reply.batch)

    def encode(self, collection: str, texts: Sequence[str], *, timeout_s: float | None = None) -> Float32Array:
        """float32 [n, d] of the texts as queries."""
        request = retrieval_pb2.EncodeRequest(collection=collection, texts=texts)
        reply = self._call(self._retrieval.Encode, request, timeout_s)
        return convert.tensor_to_array(reply.vectors, "vectors")

    # Items

    def upsert(
        self,
        collection: str,
        items: Sequence[Item],
        *,
        visibility: Visibility = Visibility.COMMITTED,
        request_id: str = "",
        bulk: bool = False,
        timeout_s: float | None = None,
    ) -> UpsertResult:
        """Write items whole; those refused are in the result's ``errors``."""
        request = _upsert_request(collection, items, visibility, bulk, request_id)
        return _upsert_result(self._call(self._ingest.Upsert, request, timeout_s))

    def upsert_stream(
        self,
        collection: str,
        batches: Iterable[Sequence[Item]],
        *,
        visibility: Visibility = Visibility.COMMITTED,
        bulk: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[UpsertResult]:
        """Write batch after batch, acknowledged in order; no deadline unless one is given."""
        requests = (_upsert_request(collection, items, visibility, bulk, "") for items in batches)
        for reply in self._stream(self._ingest.UpsertStream, requests, timeout_s):
            yield _upsert_result(reply)

    def update(
        self,
        collection: str,
        updates: Sequence[ItemUpdate],
        *,
        visibility: Visibility = Visibility.COMMITTED,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> UpdateResult:
        """Set and clear attributes of items that are there; those refused are told and lose no others."""
        request = ingest_pb2.UpdateRequest(
            collection=collection,
            updates=[convert.update_to(update) for update in updates],
            visibility=_VISIBILITIES[visibility],
            request_id=request_id,
        )
        reply = self._call(self._ingest.Update, request, timeout_s)
        return UpdateResult(reply.sequence, reply.accepted, tuple(_refusal(error) for error in reply.errors))

    def delete(
        self,
        collection: str,
        ids: Sequence[ItemId],
        *,
        visibility: Visibility = Visibility.COMMITTED,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> DeleteResult:
        request = ingest_pb2.DeleteRequest(
            collection=collection,
            ids=convert.item_ids_to(ids),
            visibility=_VISIBILITIES[visibility],
            request_id=request_id,
        )
        reply = self._call(self._ingest.Delete, request, timeout_s)
        return DeleteResult(reply.sequence, reply.deleted)

    def delete_by_filter(
        self,
        collection: str,
        tree: Filter,
        *,
        everything: bool = False,
        visibility: Visibility = Visibility.COMMITTED,
        timeout_s: float | None = None,
    ) -> DeleteResult:
        """Delete what passes the filter; an empty one is refused unless ``everything``."""
        request = ingest_pb2.DeleteByFilterRequest(
            collection=collection,
            filter=convert.filter_to(tree),
            everything=everything,
            visibility=_VISIBILITIES[visibility],
        )
        reply = self._call(self._ingest.DeleteByFilter, request, timeout_s)
        return DeleteResult(reply.sequence, reply.deleted)

    def get(
        self, collection: str, ids: Sequence[ItemId], *, vectors: bool = False, timeout_s: float | None = None
    ) -> list[StoredItem]:
        """The items of ``ids`` that exist, in that order."""
        request = ingest_pb2.GetRequest(collection=collection, ids=convert.item_ids_to(ids), vectors=vectors)
        reply = self._call(self._ingest.Get, request, timeout_s)
        return [convert.stored_item_from(one.item, one.sequence) for one in reply.items]

    def count(self, collection: str, tree: Filter = Filter(), *, timeout_s: float | None = None) -> int:
        """Live items that pass the filter."""
        request = ingest_pb2.CountRequest(collection=collection, filter=convert.filter_to(tree))
        return int(self._call(self._ingest.Count, request, timeout_s).count)

    def scroll(
        self,
        collection: str,
        tree: Filter = Filter(),
        *,
        page_size: int = 100,
        vectors: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[StoredItem]:
        """Every item that passes the filter, in the order of ids, page by page."""
        token = ""
        while True:
            request = ingest_pb2.ScrollRequest(
                collection=collection,
                filter=convert.filter_to(tree),
                page_size=page_size,
                page_token=token,
                vectors=vectors,
            )
            reply = self._call(self._ingest.Scroll, request, timeout_s)
            yield from (convert.stored_item_from(one.item, one.sequence) for one in reply.items)
            token = reply.next_page_token
            if not token:
                return

    # Collections

    def create_collection(self, schema: Schema, *, timeout_s: float = _CREATE_SECONDS) -> CollectionInfo:
        """A new, empty collection. The server opens its encoder first, which takes a while for one not yet in use."""
        request = admin_pb2.CreateCollectionRequest(schema=convert.schema_to(schema))
        return _collection_info(self._call(self._admin.CreateCollection, request, timeout_s).collection)

    def get_collection(self, collection: str, *, timeout_s: float | None = None) -> CollectionInfo:
        request = admin_pb2.GetCollectionRequest(collection=collection)
        return _collection_info(self._call(self._admin.GetCollection, request, timeout_s).collection)

    def list_collections(self, *, timeout_s: float | None = None) -> list[CollectionInfo]:
        found: list[CollectionInfo] = []
        token = ""
        while True:
            request = admin_pb2.ListCollectionsRequest(page_token=token)
            reply = self._call(self._admin.ListCollections, request, timeout_s)
            found.extend(_collection_info(one) for one in reply.collections)
            token = reply.next_page_token
            if not token:
                return found

    def delete_collection(self, collection: str, *, timeout_s: float | None = None) -> None:
        request = admin_pb2.DeleteCollectionRequest(collection=collection)
        self._call(self._admin.DeleteCollection, request, timeout_s)

    def add_attribute(self, collection: str, spec: AttributeSpec, *, timeout_s: float | None = None) -> CollectionInfo:
        """A new attribute on the live collection, null for every item so far."""
        request = admin_pb2.AddAttributeRequest(collection=collection, attribute=convert.attribute_to(spec))
        return _collection_info(self._call(self._admin.AddAttribute, request, timeout_s).collection)

    # Long-running operations

    def compact_collection(self, collection: str, *, timeout_s: float | None = None) -> OperationStatus:
        """Begin to write the collection's rows anew without the dead ones."""
        request = admin_pb2.CompactCollectionRequest(collection=collection)
        return _operation_status(self._call(self._admin.CompactCollection, request, timeout_s).operation)

    def pause_upkeep(
        self, collection: str = "", *, cancel: bool = False, timeout_s: float | None = None
    ) -> list[OperationStatus]:
        """Have upkeep of the collection, of all by default, begin nothing; its operations that are under way, which
        ``cancel`` asks to end.
        """
        request = admin_pb2.PauseUpkeepRequest(collection=collection, cancel=cancel)
        return [_operation_status(one) for one in self._call(self._admin.PauseUpkeep, request, timeout_s).operations]

    def resume_upkeep(self, collection: str = "", *, timeout_s: float | None = None) -> None:
        """The inverse of ``pause_upkeep``; of all collections by default, though some were paused alone."""
        self._call(self._admin.ResumeUpkeep, admin_pb2.ResumeUpkeepRequest(collection=collection), timeout_s)

    def create_snapshot(self, collection: str, *, to: str = "", timeout_s: float | None = None) -> OperationStatus:
        """Begin a consistent copy of the collection; ``to``: a folder or address that it is copied to as well."""
        request = admin_pb2.CreateSnapshotRequest(collection=collection, to=to)
        return _operation_status(self._call(self._admin.CreateSnapshot, request, timeout_s).operation)

    def list_snapshots(self, collection: str, *, timeout_s: float | None = None) -> list[admin_pb2.Snapshot]:
        """Those that the server keeps, the newest first."""
        found: list[admin_pb2.Snapshot] = []
        token = ""
        while True:
            request = admin_pb2.ListSnapshotsRequest(collection=collection, page_token=token)
            reply = self._call(self._admin.ListSnapshots, request, timeout_s)
            found.extend(reply.snapshots)
            token = reply.next_page_token
            if not token:
                return found

    def restore_snapshot(
        self, collection: str, snapshot: str = "", *, url: str = "", into: str = "", timeout_s: float | None = None
    ) -> OperationStatus:
        """Begin to make a collection of a snapshot: of one that the server keeps, or of a copy at an address."""
        request = admin_pb2.RestoreSnapshotRequest(collection=collection, snapshot=snapshot, url=url, into=into)
        return _operation_status(self._call(self._admin.RestoreSnapshot, request, timeout_s).operation)

    def operation(self, name: str, *, timeout_s: float | None = None) -> OperationStatus:
        request = admin_pb2.GetOperationRequest(name=name)
        return _operation_status(self._call(self._admin.GetOperation, request, timeout_s).operation)

    def list_operations(self, *, timeout_s: float | None = None) -> list[OperationStatus]:
        """In the order they began."""
        found: list[OperationStatus] = []
        token = ""
        while True:
            request = admin_pb2.ListOperationsRequest(page_token=token)
            reply = self._call(self._admin.ListOperations, request, timeout_s)
            found.extend(_operation_status(one) for one in reply.operations)
            token = reply.next_page_token
            if not token:
                return found

    def cancel_operation(self, name: str, *, timeout_s: float | None = None) -> OperationStatus:
        """Ask it to end, and leave everything as it was before it; does not wait for that."""
        request = admin_pb2.CancelOperationRequest(name=name)
        return _operation_status(self._call(self._admin.CancelOperation, request, timeout_s).operation)

    def wait_for_operation(
        self,
        operation: OperationStatus,
        *,
        timeout_s: float = 3600.0,
        told: Callable[[OperationStatus], None] = lambda status: None,
    ) -> OperationStatus:
        """Ask until it is done; ``told`` is called with what is answered each time.

        Raises:
            DeadlineExceeded: it is not done in time, and goes on.
            EngineError: what it failed with.
        """
        end = time.monotonic() + timeout_s
        while not operation.is_done:
            if time.monotonic() >= end:
                raise DeadlineExceeded(f"{operation.name} was not done in {timeout_s:g} s; it goes on")
            time.sleep(_ASK_AGAIN_SECONDS)
            operation = self.operation(operation.name)
            told(operation)
        if operation.error is not None:
            raise operation.error
        return operation

    def server(self, *, timeout_s: float | None = None) -> admin_pb2.GetServerResponse:
        """What the server is, what it runs on and the limits it enforces."""
        reply: admin_pb2.GetServerResponse = self._call(self._admin.GetServer, admin_pb2.GetServerRequest(), timeout_s)
        return reply

    # Calls

    def _call(self, method: Callable[..., Any], request: object, timeout_s: float | None) -> Any:
        try:
            return method(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
        except grpc.RpcError as error:
            raise self._engine_error(error) from None

    def _stream(self, method: Callable[..., Any], requests: Iterator[Any], timeout_s: float | None) -> Iterator[Any]:
        call = method(requests, timeout=timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._engine_error(error) from None
        finally:
            call.cancel()

    def _engine_error(self, error: Any) -> EngineError:
        """The engine's error for a failed call; one that never reached a server says where none answered."""
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS:
                told = _status_error(status_pb2.Status.FromString(value))
                if told is not None:
                    return told
        code, details = error.code().name, error.details() or ""
        if code == "UNAVAILABLE" and "connect" in details.lower():
            return Unavailable(f"no server answers at {self.target}: start one with `ebr serve`", target=self.target)
        if code == "UNAVAILABLE" and "resol" in details.lower():
            return Unavailable(f"no host is found at {self.target}: HOST:PORT is wanted", target=self.target)
        return from_wire(code, "", details, {})


_PRIORITIES = {
    Priority.INTERACTIVE: retrieval_pb2.PRIORITY_INTERACTIVE,
    Priority.WRITE: retrieval_pb2.PRIORITY_INTERACTIVE,
    Priority.BULK: retrieval_pb2.PRIORITY_BULK,
}
_VISIBILITIES = {
    Visibility.COMMITTED: ingest_pb2.VISIBILITY_COMMITTED,
    Visibility.DURABLE: ingest_pb2.VISIBILITY_DURABLE,
    Visibility.SEARCHABLE: ingest_pb2.VISIBILITY_SEARCHABLE,
}


def _status_error(status: status_pb2.Status) -> EngineError | None:
    if status.code == code_pb2.OK:
        return None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return from_wire(code_pb2.Code.Name(status.code), info.reason, status.message, dict(info.metadata))


def _query(query: str | Float32Array | SimilarTo) -> retrieval_pb2.Query:
    if isinstance(query, str):
        return retrieval_pb2.Query(text=query)
    if isinstance(query, SimilarTo):
        return retrieval_pb2.Query(item_id=convert.item_id_to(query.id))
    content = np.ascontiguousarray(query, np.dtype("<f4")).tobytes()
    encoded = common_pb2.VectorBytes(content=content, dtype=common_pb2.DTYPE_FLOAT32)
    return retrieval_pb2.Query(vector=common_pb2.Vector(encoded=encoded))


def _batch_request(
    collection: str,
    queries: Queries | None,
    params: SearchParams | Sequence[SearchParams],
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
        explain=explain,
        min_sequence=min_sequence,
        priority=_PRIORITIES[priority],
    )
    if isinstance(queries, np.ndarray):
        request.vectors.CopyFrom(convert.array_to_tensor(queries))
    elif queries is not None:
        request.texts.values.extend(queries)
    return request


def _batch_result(reply: retrieval_pb2.SearchBatchResponse) -> BatchResult:
    counts = np.array(reply.counts, np.uint32)
    numbers = np.frombuffer(reply.ids.numbers, np.dtype("<u8"))
    errors = [_status_error(status) for status in reply.statuses] or [None] * len(counts)
    return BatchResult(
        counts=counts,
        ids=numbers if len(numbers) else list(reply.ids.texts),
        scores=np.frombuffer(reply.scores, np.dtype("<f4")),
        errors=errors,
        explanations=[convert.explanation_from(one) for one in reply.explanations],
        index_version=reply.index_version,
        sequence=reply.sequence,
    )


def _upsert_request(
    collection: str, items: Sequence[Item], visibility: Visibility, bulk: bool, request_id: str
) -> ingest_pb2.UpsertRequest:
    return ingest_pb2.UpsertRequest(
        collection=collection,
        items=[convert.item_to(item) for item in items],
        visibility=_VISIBILITIES[visibility],
        request_id=request_id,
        priority=ingest_pb2.WRITE_PRIORITY_BULK if bulk else ingest_pb2.WRITE_PRIORITY_NORMAL,
    )


def _upsert_result(reply: ingest_pb2.UpsertResponse) -> UpsertResult:
    return UpsertResult(
        sequence=reply.sequence,
        accepted=reply.accepted,
        errors=tuple(_refusal(one) for one in reply.errors),
        truncated_items=reply.truncated_items,
        truncated_tokens=reply.truncated_tokens,
        unchanged_texts=reply.unchanged_texts,
    )


def _refusal(error: ingest_pb2.ItemError) -> ItemRefusal:
    item_id = convert.item_id_from(error.id, "id") if error.HasField("id") else None
    told = _status_error(error.status)
    assert told is not None
    return ItemRefusal(error.index, item_id, told)


def _collection_info(message: admin_pb2.Collection) -> CollectionInfo:
    versions = tuple(
        VersionStatus(one.id, one.encoder_version, one.dimension, one.active, one) for one in message.versions
    )
    return CollectionInfo(
        convert.schema_from(message.schema, "schema"),
        versions,
        message.items,
        message.sequence,
        message.searchable_sequence,
        message,
    )


def _operation_status(message: admin_pb2.Operation) -> OperationStatus:
    return OperationStatus(
        message.name,
        message.kind,
        message.collection,
        message.done,
        message.stage,
        message.progress,
        _status_error(message.error) if message.HasField("error") else None,
        message,
    )
