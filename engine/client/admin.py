"""Collections, snapshots, operations and the server itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine import convert
from engine.client.connection import Connection
from engine.client.results import CollectionInfo, OperationStatus, collection_info, operation_status
from engine.errors import DeadlineExceeded
from engine.ranking import Pipeline
from engine.scoring import ScoringProfile
from engine.types import AttributeSpec, Schema
from engine.v1 import admin_pb2

_CREATE_SECONDS = 300.0
_ASK_AGAIN_SECONDS = 0.1


class AdminCalls(Connection):
    """The calls of the admin service."""

    def create_collection(self, schema: Schema, *, timeout_s: float = _CREATE_SECONDS) -> CollectionInfo:
        """A new, empty collection. The server opens its encoder first, which takes a while for one not yet in use."""
        request = admin_pb2.CreateCollectionRequest(schema=convert.schema_to(schema))
        return collection_info(self._call(self._admin.CreateCollection, request, timeout_s).collection)

    def get_collection(self, collection: str, *, timeout_s: float | None = None) -> CollectionInfo:
        request = admin_pb2.GetCollectionRequest(collection=collection)
        return collection_info(self._call(self._admin.GetCollection, request, timeout_s).collection)

    def list_collections(self, *, timeout_s: float | None = None) -> list[CollectionInfo]:
        found: list[CollectionInfo] = []
        token = ""
        while True:
            request = admin_pb2.ListCollectionsRequest(page_token=token)
            reply = self._call(self._admin.ListCollections, request, timeout_s)
            found.extend(collection_info(one) for one in reply.collections)
            token = reply.next_page_token
            if not token:
                return found

    def delete_collection(self, collection: str, *, timeout_s: float | None = None) -> None:
        request = admin_pb2.DeleteCollectionRequest(collection=collection)
        self._call(self._admin.DeleteCollection, request, timeout_s)

    def add_attribute(self, collection: str, spec: AttributeSpec, *, timeout_s: float | None = None) -> CollectionInfo:
        """A new attribute on the live collection, null for every item so far."""
        request = admin_pb2.AddAttributeRequest(collection=collection, attribute=convert.attribute_to(spec))
        return collection_info(self._call(self._admin.AddAttribute, request, timeout_s).collection)

    def set_profile(
        self, collection: str, profile: ScoringProfile, *, default: bool | None = None, timeout_s: float | None = None
    ) -> ScoringProfile:
        """A scoring by name, in the place of one of that name; ``default``: whether it is for queries that give none,
        as before unless told. Returns it with its revision.
        """
        request = admin_pb2.SetProfileRequest(collection=collection, profile=convert.profile_to(profile))
        if default is not None:
            request.default_profile = default
        return convert.profile_from(self._call(self._admin.SetProfile, request, timeout_s).profile, "profile")

    def remove_profile(self, collection: str, name: str, *, timeout_s: float | None = None) -> None:
        request = admin_pb2.RemoveProfileRequest(collection=collection, profile=name)
        self._call(self._admin.RemoveProfile, request, timeout_s)

    def set_pipeline(
        self, collection: str, pipeline: Pipeline, *, timeout_s: float | None = _CREATE_SECONDS
    ) -> Pipeline:
        """Rank searches from now on; the model is a path on the server, which copies it. Told with its version."""
        request = admin_pb2.SetPipelineRequest(collection=collection, pipeline=convert.pipeline_to(pipeline))
        return convert.pipeline_from(self._call(self._admin.SetPipeline, request, timeout_s).pipeline, "pipeline")

    def remove_pipeline(self, collection: str, *, timeout_s: float | None = None) -> None:
        self._call(self._admin.RemovePipeline, admin_pb2.RemovePipelineRequest(collection=collection), timeout_s)

    def compact_collection(self, collection: str, *, timeout_s: float | None = None) -> OperationStatus:
        """Begin to write the collection's rows anew without the dead ones."""
        request = admin_pb2.CompactCollectionRequest(collection=collection)
        return operation_status(self._call(self._admin.CompactCollection, request, timeout_s).operation)

    def pause_upkeep(
        self, collection: str = "", *, cancel: bool = False, timeout_s: float | None = None
    ) -> list[OperationStatus]:
        """Have upkeep of the collection, of all by default, begin nothing; its operations that are under way, which
        ``cancel`` asks to end.
        """
        request = admin_pb2.PauseUpkeepRequest(collection=collection, cancel=cancel)
        return [operation_status(one) for one in self._call(self._admin.PauseUpkeep, request, timeout_s).operations]

    def resume_upkeep(self, collection: str = "", *, timeout_s: float | None = None) -> None:
        """The inverse of ``pause_upkeep``; of all collections by default, though some were paused alone."""
        self._call(self._admin.ResumeUpkeep, admin_pb2.ResumeUpkeepRequest(collection=collection), timeout_s)

    def create_snapshot(self, collection: str, *, to: str = "", timeout_s: float | None = None) -> OperationStatus:
        """Begin a consistent copy of the collection; ``to``: a folder or address that it is copied to as well."""
        request = admin_pb2.CreateSnapshotRequest(collection=collection, to=to)
        return operation_status(self._call(self._admin.CreateSnapshot, request, timeout_s).operation)

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
        return operation_status(self._call(self._admin.RestoreSnapshot, request, timeout_s).operation)

    def operation(self, name: str, *, timeout_s: float | None = None) -> OperationStatus:
        request = admin_pb2.GetOperationRequest(name=name)
        return operation_status(self._call(self._admin.GetOperation, request, timeout_s).operation)

    def list_operations(self, *, timeout_s: float | None = None) -> list[OperationStatus]:
        """In the order they began."""
        found: list[OperationStatus] = []
        token = ""
        while True:
            request = admin_pb2.ListOperationsRequest(page_token=token)
            reply = self._call(self._admin.ListOperations, request, timeout_s)
            found.extend(operation_status(one) for one in reply.operations)
            token = reply.next_page_token
            if not token:
                return found

    def cancel_operation(self, name: str, *, timeout_s: float | None = None) -> OperationStatus:
        """Ask it to end, and leave everything as it was before it; does not wait for that."""
        request = admin_pb2.CancelOperationRequest(name=name)
        return operation_status(self._call(self._admin.CancelOperation, request, timeout_s).operation)

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
