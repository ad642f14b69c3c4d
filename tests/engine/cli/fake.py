"""A server in memory, seen through the client's methods that the command line uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine import convert
from engine.client import CollectionInfo, DeleteResult, ItemRefusal, OperationStatus, UpsertResult, VersionStatus
from engine.column_checks import validate_columns
from engine.errors import (
    Cancelled,
    CollectionExists,
    CollectionNotFound,
    EngineError,
    InvalidArgument,
    Loading,
    NoPipeline,
    OperationNotFound,
    Unavailable,
)
from engine.item_columns import ItemColumns
from engine.limits import Limits
from engine.ranking import Pipeline
from engine.selection import Facet, FacetCounts
from engine.types import (
    AttributeSpec,
    Explanation,
    Filter,
    Hit,
    Item,
    NextPage,
    Schema,
    SearchParams,
    SearchResult,
    StageTimes,
    StoredItem,
    Strategy,
    Timestamp,
)
from engine.v1 import admin_pb2

REFUSED_TEXT = "refuse me"
CURSOR = b"\xfb\xff\xbe of the second page"
"""As text it begins with a dash and ends with padding."""


class FakeServer:
    """What outlives a client: collections and their items.

    ``fail_after``: batches of a stream that are acknowledged before the server is gone; None for all.
    ``operation_error``: what operations that are waited for fail with.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self.items: dict[str, dict[Any, Item]] = {}
        self.created_micros: dict[str, int] = {}
        self.sequence = 0
        self.fail_after: int | None = None
        self.batches: list[list[Any]] = []
        self.columnar_batches = 0
        self.searches: list[tuple[Any, SearchParams]] = []
        self.is_reachable = True
        self.is_loading = False
        self.operations: dict[str, OperationStatus] = {}
        self.snapshots: list[admin_pb2.Snapshot] = []
        self.copied_to: list[str] = []
        self.paused: set[str] = set()
        self.pauses: list[tuple[str, bool]] = []
        self.operation_error: EngineError | None = None

    def client(self, target: str) -> FakeClient:
        return FakeClient(self, target)


class FakeClient:
    def __init__(self, server: FakeServer, target: str) -> None:
        self._server = server
        self._target = target

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def wait_until_serving(self, collection: str = "", *, timeout_s: float = 60.0) -> None:
        self._server.is_loading = False

    def server(self) -> admin_pb2.GetServerResponse:
        limits = Limits()
        return admin_pb2.GetServerResponse(
            device="cpu",
            limits=admin_pb2.Limits(
                text_bytes=limits.text_bytes,
                item_bytes=limits.item_bytes,
                upsert_items=limits.upsert_items,
                message_bytes=limits.message_bytes,
            ),
        )

    def create_collection(self, schema: Schema) -> CollectionInfo:
        if schema.name in self._server.schemas:
            raise CollectionExists(schema.name)
        self._server.schemas[schema.name] = schema
        self._server.items[schema.name] = {}
        self._server.created_micros[schema.name] = 1_000_000 * (len(self._server.created_micros) + 1)
        return self.get_collection(schema.name)

    def get_collection(self, name: str) -> CollectionInfo:
        if not self._server.is_reachable:
            raise Unavailable(f"no server answers at {self._target}: start one with `ebr serve`")
        if self._server.is_loading:
            raise Loading("the server is loading its collections")
        if name not in self._server.schemas:
            raise CollectionNotFound(name)
        schema = self._server.schemas[name]
        version = admin_pb2.Version(id="v1", dimension=schema.dimension or 2, active=True)
        version.created_at.FromMicroseconds(self._server.created_micros[name])
        version.memory.vectors, version.memory.row_count = 800, 100
        return CollectionInfo(
            schema,
            (VersionStatus("v1", "", schema.dimension or 2, True, version),),
            len(self._server.items[name]),
            self._server.sequence,
            self._server.sequence,
            admin_pb2.Collection(
                schema=convert.schema_to(schema),
                versions=[version],
                sequence=self._server.sequence,
                upkeep_paused=name in self._server.paused,
            ),
        )

    def list_collections(self) -> list[CollectionInfo]:
        return [self.get_collection(name) for name in sorted(self._server.schemas)]

    def delete_collection(self, name: str) -> None:
        del self._server.schemas[name]

    def add_attribute(self, name: str, spec: AttributeSpec) -> CollectionInfo:
        schema = self._server.schemas[name]
        fields = {one: getattr(schema, one) for one in schema.__dataclass_fields__}
        self._server.schemas[name] = Schema(**{**fields, "attributes": (*schema.attributes, spec)})
        return self.get_collection(name)

    def set_pipeline(self, name: str, pipeline: Pipeline) -> Pipeline:
        known = replace(pipeline, ranker_version="0123456789abcdef")
        self._server.schemas[name] = replace(self.get_collection(name).schema, pipeline=known)
        return known

    def remove_pipeline(self, name: str) -> None:
        if self.get_collection(name).schema.pipeline is None:
            raise NoPipeline(name)
        self._server.schemas[name] = replace(self._server.schemas[name], pipeline=None)

    def compact_collection(self, name: str) -> OperationStatus:
        self.get_collection(name)
        return self._operation("compact", name)

    def pause_upkeep(self, name: str = "", *, cancel: bool = False) -> list[OperationStatus]:
        running = []
        for one in [name] if name else self._server.schemas:
            self.get_collection(one)
            self._server.paused.add(one)
            running.append(self._operation("train", one))
        self._server.pauses.append((name, cancel))
        return running

    def resume_upkeep(self, name: str = "") -> None:
        self._server.paused -= {name} if name else set(self._server.schemas)

    def create_snapshot(self, name: str, *, to: str = "") -> OperationStatus:
        self.get_collection(name)
        self._server.copied_to.append(to)
        return self._operation("snapshot", name)

    def list_snapshots(self, name: str) -> list[admin_pb2.Snapshot]:
        return [one for one in self._server.snapshots if one.collection == name]

    def restore_snapshot(self, name: str, snapshot: str = "", *, url: str = "", into: str = "") -> OperationStatus:
        if bool(snapshot) == bool(url):
            raise InvalidArgument("snapshot", "the id of a snapshot is wanted, or its url, and not both")
        return self._operation("restore", into or name)

    def list_operations(self) -> list[OperationStatus]:
        return list(self._server.operations.values())

    def operation(self, name: str) -> OperationStatus:
        if name not in self._server.operations:
            raise OperationNotFound(name)
        return self._server.operations[name]

    def cancel_operation(self, name: str) -> OperationStatus:
        cancelled = replace(self.operation(name), is_done=True, error=Cancelled("the operation was cancelled"))
        self._server.operations[name] = cancelled
        return cancelled

    def wait_for_operation(
        self, operation: OperationStatus, *, told: Callable[[OperationStatus], None]
    ) -> OperationStatus:
        told(operation)
        if self._server.operation_error is not None:
            raise self._server.operation_error
        done = replace(operation, is_done=True, progress=1.0, stage="")
        self._server.operations[operation.name] = done
        return done

    def _operation(self, kind: str, collection: str) -> OperationStatus:
        name = f"{kind}-{len(self._server.operations) + 1}"
        message = admin_pb2.Operation(name=name, kind=kind, collection=collection)
        begun = OperationStatus(name, kind, collection, False, "copying", 0.25, None, message)
        self._server.operations[name] = begun
        return begun

    def upsert_stream(
        self, collection: str, batches: Iterable[Sequence[Item]], *, bulk: bool = False
    ) -> Iterator[UpsertResult]:
        """As the real one: reads ahead, and an error of the iterable would be lost."""
        assert bulk
        for n_done, batch in enumerate(list(batches)):
            if n_done == self._server.fail_after:
                raise Unavailable("the server went away")
            yield self._upsert(collection, batch)

    def upsert_columns(self, collection: str, batches: Iterable[ItemColumns]) -> Iterator[UpsertResult]:
        """As ``upsert_stream``."""
        for n_done, columns in enumerate(list(batches)):
            if n_done == self._server.fail_after:
                raise Unavailable("the server went away")
            self._server.columnar_batches += 1
            schema = self._server.schemas[collection]
            kept, wrong = validate_columns(columns, schema, schema.dimension or 2, Limits())
            done = self._upsert(collection, [kept.item(place) for place in range(len(kept))])
            errors = tuple(ItemRefusal(place, columns.id(place), error) for place, error in wrong)
            yield replace(done, errors=errors)

    def _upsert(self, collection: str, batch: Sequence[Item]) -> UpsertResult:
        errors: list[ItemRefusal] = []
        self._server.batches.append([item.id for item in batch])
        for index, item in enumerate(batch):
            if REFUSED_TEXT in item.text.values():
                errors.append(ItemRefusal(index, item.id, InvalidArgument("text", "is not liked")))
                continue
            self._server.sequence += 1
            self._server.items[collection][item.id] = item
        truncated = sum(len(text) > 1000 for item in batch for text in item.text.values())
        return UpsertResult(self._server.sequence, len(batch) - len(errors), tuple(errors), truncated, 7 * truncated, 0)

    def search(self, collection: str, query: Any, *, params: SearchParams, **_: Any) -> SearchResult:
        self._server.searches.append((query, params))
        stored = list(self._server.items[collection].values())[: params.k]
        hits = [Hit(item.id, 1.0 - 0.125 * rank, item.attributes, item.text) for rank, item in enumerate(stored)]
        times = StageTimes(queue=0.001, encode=0.002, search=0.5)
        return SearchResult(
            hits,
            Explanation(Strategy.FILTERED_IVFPQ, selectivity=0.25, nprobe=8, rows_scanned=1234, times=times),
            [self._counted(collection, one) for one in params.facets],
            NextPage(CURSOR, Timestamp(1_000_000)) if params.page and not params.cursor else None,
        )

    def _counted(self, collection: str, facet: Facet) -> FacetCounts:
        values = [item.attributes.get(facet.attribute) for item in self._server.items[collection].values()]
        counts = Counter(one for one in values if isinstance(one, str | bool | int))
        return FacetCounts(facet.attribute, tuple(counts.most_common(facet.limit)))

    def get(self, collection: str, ids: Sequence[Any], *, vectors: bool = False) -> list[StoredItem]:
        items = self._server.items[collection]
        return [_stored(items[one], vectors) for one in ids if one in items]

    def scroll(self, collection: str, tree: Filter, *, page_size: int, vectors: bool = False) -> Iterator[StoredItem]:
        for one in sorted(self._server.items[collection].values(), key=lambda item: str(item.id)):
            yield _stored(one, vectors)

    def count(self, collection: str, tree: Filter) -> int:
        return len(self._server.items[collection])

    def delete(self, collection: str, ids: Sequence[Any], **_: Any) -> DeleteResult:
        items = self._server.items[collection]
        return DeleteResult(self._server.sequence, sum(items.pop(one, None) is not None for one in ids))


def _stored(item: Item, vectors: bool) -> StoredItem:
    return StoredItem(item.id, 1, item.text, item.attributes, item.vector if vectors else None)
