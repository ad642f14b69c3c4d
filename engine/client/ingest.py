"""Writes, and reads of what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from engine import convert
from engine.client.connection import Connection
from engine.client.results import DeleteResult, UpdateResult, UpsertResult, refusal, upsert_result
from engine.convert_columns import item_columns_to
from engine.item_columns import ItemColumns
from engine.types import Filter, Item, ItemId, ItemUpdate, StoredItem, Visibility
from engine.v1 import ingest_pb2

_VISIBILITIES = {
    Visibility.COMMITTED: ingest_pb2.VISIBILITY_COMMITTED,
    Visibility.DURABLE: ingest_pb2.VISIBILITY_DURABLE,
    Visibility.SEARCHABLE: ingest_pb2.VISIBILITY_SEARCHABLE,
}


class IngestCalls(Connection):
    """The calls of the ingest service."""

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
        return upsert_result(self._call(self._ingest.Upsert, request, timeout_s))

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
            yield upsert_result(reply)

    def upsert_columns(
        self,
        collection: str,
        batches: Iterable[ItemColumns],
        *,
        visibility: Visibility = Visibility.COMMITTED,
        timeout_s: float | None = None,
    ) -> Iterator[UpsertResult]:
        """Write batch after batch of items that have a vector and no text, acknowledged in order: many times as fast as
        ``upsert_stream``. No deadline unless one is given.
        """

        def requests() -> Iterator[ingest_pb2.UpsertColumnsRequest]:
            for columns in batches:
                request = item_columns_to(columns)
                request.collection, request.visibility = collection, _VISIBILITIES[visibility]
                yield request

        for reply in self._stream(self._ingest.UpsertColumns, requests(), timeout_s):
            errors = tuple(refusal(one) for one in reply.errors)
            yield UpsertResult(reply.sequence, reply.accepted, errors, 0, 0, 0)

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
        return UpdateResult(reply.sequence, reply.accepted, tuple(refusal(error) for error in reply.errors))

    def delete(
        self,
        collection: str,
        ids: Sequence[ItemId],
        *,
        visibility: Visibility = Visibility.COMMITTED,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> DeleteResult:
        """Delete items by id, ``upsert_items`` of the server's limits at most; ids that do not exist are no error."""
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
