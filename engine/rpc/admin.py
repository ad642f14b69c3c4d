"""AdminService: collections, snapshots, operations and what the server is. Versions are not implemented yet."""

from __future__ import annotations

import asyncio
import resource
from bisect import bisect_right
from dataclasses import asdict, replace
from importlib import metadata

from engine import convert
from engine.errors import InvalidArgument, LimitExceeded
from engine.pipeline.collection import Collection
from engine.pipeline.engine import Engine
from engine.pipeline.operations import Operation
from engine.rpc.methods import Call
from engine.rpc.status import status_of
from engine.schema_file import validate_name
from engine.store import Manifest, list_snapshots
from engine.types import VersionInfo
from engine.v1 import admin_pb2, common_pb2

_LIBRARIES = (
    "numpy",
    "torch",
    "faiss-cpu",
    "onnxruntime",
    "numba",
    "grpcio",
    "protobuf",
    "tokenizers",
    "pyroaring",
    "pyarrow",
    "tantivy",
)


class AdminServicer:
    """See the proto file for each method."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create_collection(
        self, request: admin_pb2.CreateCollectionRequest, call: Call
    ) -> admin_pb2.CreateCollectionResponse:
        schema = convert.schema_from(request.schema, "schema")
        if request.schema.metric == common_pb2.METRIC_UNSPECIFIED:
            schema = replace(schema, metric=await self._engine.own_metric(schema))
        collection = await self._engine.create(schema)
        return admin_pb2.CreateCollectionResponse(collection=self._told(collection))

    async def get_collection(
        self, request: admin_pb2.GetCollectionRequest, call: Call
    ) -> admin_pb2.GetCollectionResponse:
        return admin_pb2.GetCollectionResponse(collection=self._told(self._engine.collection(request.collection)))

    async def list_collections(
        self, request: admin_pb2.ListCollectionsRequest, call: Call
    ) -> admin_pb2.ListCollectionsResponse:
        size = self._page_size(request.page_size, "collections")
        names = sorted(name for name in self._engine.collections if name > request.page_token)
        page = [self._told(self._engine.collections[name]) for name in names[:size]]
        return admin_pb2.ListCollectionsResponse(
            collections=page, next_page_token=names[size - 1] if len(names) > size else ""
        )

    async def delete_collection(
        self, request: admin_pb2.DeleteCollectionRequest, call: Call
    ) -> admin_pb2.DeleteCollectionResponse:
        await self._engine.delete(request.collection)
        return admin_pb2.DeleteCollectionResponse()

    async def add_attribute(self, request: admin_pb2.AddAttributeRequest, call: Call) -> admin_pb2.AddAttributeResponse:
        collection = self._engine.collection(request.collection)
        await collection.add_attribute(convert.attribute_from(request.attribute, "attribute"))
        return admin_pb2.AddAttributeResponse(collection=self._told(collection))

    async def set_profile(self, request: admin_pb2.SetProfileRequest, call: Call) -> admin_pb2.SetProfileResponse:
        profile = await self._engine.collection(request.collection).set_profile(
            convert.profile_from(request.profile, "profile"),
            default=request.default_profile if request.HasField("default_profile") else None,
        )
        return admin_pb2.SetProfileResponse(profile=convert.profile_to(profile))

    async def remove_profile(
        self, request: admin_pb2.RemoveProfileRequest, call: Call
    ) -> admin_pb2.RemoveProfileResponse:
        await self._engine.collection(request.collection).remove_profile(request.profile)
        return admin_pb2.RemoveProfileResponse()

    async def set_pipeline(self, request: admin_pb2.SetPipelineRequest, call: Call) -> admin_pb2.SetPipelineResponse:
        pipeline = convert.pipeline_from(request.pipeline, "pipeline")
        known = await self._engine.collection(request.collection).set_pipeline(pipeline)
        return admin_pb2.SetPipelineResponse(pipeline=convert.pipeline_to(known))

    async def remove_pipeline(
        self, request: admin_pb2.RemovePipelineRequest, call: Call
    ) -> admin_pb2.RemovePipelineResponse:
        await self._engine.collection(request.collection).remove_pipeline()
        return admin_pb2.RemovePipelineResponse()

    async def compact_collection(
        self, request: admin_pb2.CompactCollectionRequest, call: Call
    ) -> admin_pb2.CompactCollectionResponse:
        operation = self._engine.upkeep.compact(self._engine.collection(request.collection))
        return admin_pb2.CompactCollectionResponse(operation=_operation(operation))

    async def pause_upkeep(self, request: admin_pb2.PauseUpkeepRequest, call: Call) -> admin_pb2.PauseUpkeepResponse:
        upkeep = self._engine.upkeep
        if request.collection:
            running = upkeep.pause(self._engine.collection(request.collection))
        else:
            running = upkeep.pause_all()
        if request.cancel:
            running = [self._engine.operations.cancel(one.name) for one in running]
        return admin_pb2.PauseUpkeepResponse(operations=[_operation(one) for one in running])

    async def resume_upkeep(self, request: admin_pb2.ResumeUpkeepRequest, call: Call) -> admin_pb2.ResumeUpkeepResponse:
        if request.collection:
            self._engine.upkeep.resume(self._engine.collection(request.collection))
        else:
            self._engine.upkeep.resume_all()
        return admin_pb2.ResumeUpkeepResponse()

    async def create_snapshot(
        self, request: admin_pb2.CreateSnapshotRequest, call: Call
    ) -> admin_pb2.CreateSnapshotResponse:
        collection = self._engine.collection(request.collection)
        return admin_pb2.CreateSnapshotResponse(
            operation=_operation(self._engine.upkeep.snapshot(collection, to=request.to))
        )

    async def list_snapshots(
        self, request: admin_pb2.ListSnapshotsRequest, call: Call
    ) -> admin_pb2.ListSnapshotsResponse:
        size = self._page_size(request.page_size, "snapshots")
        name = validate_name(request.collection, "collection")
        found = await asyncio.to_thread(list_snapshots, self._engine.settings.snapshots, name)
        ids = [one.id for one in found]
        if request.page_token and request.page_token not in ids:
            raise InvalidArgument("page_token", "is none that this method gave", value=request.page_token)
        first = ids.index(request.page_token) + 1 if request.page_token else 0
        page = found[first : first + size]
        return admin_pb2.ListSnapshotsResponse(
            snapshots=[_snapshot(one) for one in page],
            next_page_token=page[-1].id if first + size < len(found) else "",
        )

    async def restore_snapshot(
        self, request: admin_pb2.RestoreSnapshotRequest, call: Call
    ) -> admin_pb2.RestoreSnapshotResponse:
        operation = self._engine.restore(
            request.collection, snapshot=request.snapshot, url=request.url, into=request.into or request.collection
        )
        return admin_pb2.RestoreSnapshotResponse(operation=_operation(operation))

    async def get_operation(self, request: admin_pb2.GetOperationRequest, call: Call) -> admin_pb2.GetOperationResponse:
        return admin_pb2.GetOperationResponse(operation=_operation(self._engine.operations.get(request.name)))

    async def list_operations(
        self, request: admin_pb2.ListOperationsRequest, call: Call
    ) -> admin_pb2.ListOperationsResponse:
        size = self._page_size(request.page_size, "operations")
        found = list(self._engine.operations)
        first = _place_after(request.page_token, [one.number for one in found])
        page = found[first : first + size]
        return admin_pb2.ListOperationsResponse(
            operations=[_operation(one) for one in page],
            next_page_token=str(page[-1].number) if first + size < len(found) else "",
        )

    async def cancel_operation(
        self, request: admin_pb2.CancelOperationRequest, call: Call
    ) -> admin_pb2.CancelOperationResponse:
        return admin_pb2.CancelOperationResponse(operation=_operation(self._engine.operations.cancel(request.name)))

    async def get_server(self, request: admin_pb2.GetServerRequest, call: Call) -> admin_pb2.GetServerResponse:
        engine = self._engine
        return admin_pb2.GetServerResponse(
            engine_version=_version_of("ebr-engine"),
            device=engine.backend.device,
            limits=admin_pb2.Limits(**asdict(engine.limits)),
            libraries=[
                admin_pb2.Library(name=name, version=version) for name in _LIBRARIES if (version := _version_of(name))
            ],
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            started_at=convert.timestamp(engine.started_micros),
            start_seconds=engine.start_seconds,
            upkeep_paused=engine.upkeep.pauses_all,
        )

    def _told(self, collection: Collection) -> admin_pb2.Collection:
        message = _collection(collection, self._engine.upkeep.stage(collection))
        message.upkeep_paused = self._engine.upkeep.is_paused(collection)
        return message

    def _page_size(self, asked: int, unit: str) -> int:
        limit = self._engine.limits.page_size
        if asked > limit:
            raise LimitExceeded("page_size", value=asked, limit=limit, unit=f"{unit} a page")
        return asked or limit


def _place_after(page_token: str, numbers: list[int]) -> int:
    """Where to go on: numbers ascend."""
    if not page_token:
        return 0
    if not page_token.isascii() or not page_token.isdigit():
        raise InvalidArgument("page_token", "is none that this method gave", value=page_token)
    return bisect_right(numbers, int(page_token))


def _snapshot(manifest: Manifest) -> admin_pb2.Snapshot:
    return admin_pb2.Snapshot(
        id=manifest.id,
        collection=manifest.collection,
        sequence=manifest.sequence,
        created_at=convert.timestamp(manifest.created_micros),
        size_bytes=manifest.n_bytes,
        items=manifest.items,
    )


def _operation(operation: Operation) -> admin_pb2.Operation:
    message = admin_pb2.Operation(
        name=operation.name,
        done=operation.is_done,
        progress=operation.progress,
        stage=operation.stage,
        kind=operation.kind,
        collection=operation.collection,
        began_at=convert.timestamp(operation.began_micros),
    )
    if operation.ended_micros is not None:
        message.ended_at.CopyFrom(convert.timestamp(operation.ended_micros))
    if isinstance(operation.result, Manifest):
        message.response.Pack(_snapshot(operation.result))
    if operation.error is not None:
        message.error.CopyFrom(status_of(operation.error))
    return message


def _version_of(distribution: str) -> str:
    """Empty where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _collection(collection: Collection, upkeep: str) -> admin_pb2.Collection:
    schema = convert.schema_to(collection.schema)
    if collection.ranking is not None:
        schema.pipeline.error = collection.ranking.error
    return admin_pb2.Collection(
        schema=schema,
        versions=[_version(collection, collection.version, upkeep)],
        items=collection.store.item_count,
        sequence=collection.store.sequence,
        searchable_sequence=collection.index.sequence,
        truncated_items=collection.truncated_items,
    )


def _version(collection: Collection, version: VersionInfo, upkeep: str) -> admin_pb2.Version:
    index, memory = collection.index, collection.index.memory()
    message = admin_pb2.Version(
        id=version.id,
        encoder_version=version.encoder_version,
        dimension=version.dimension,
        metric=convert.METRIC_VALUES[version.metric],
        dtype=convert.DTYPE_VALUES[version.dtype],
        active=True,
        created_at=convert.timestamp(version.created_micros),
        memory=admin_pb2.MemoryUse(
            vectors=memory.vectors,
            codes=memory.codes,
            coarse_codes=memory.coarse_codes,
            attributes=memory.attributes,
            lexical=memory.lexical,
            rows=memory.rows,
            row_count=memory.n_rows,
        ),
        upkeep=upkeep,
        max_tokens=collection.encoder.max_tokens if collection.encoder else 0,
    )
    if index.lists is not None:
        drift = index.lists.drift
        setting = index.lists.tuning.lookup(10, 1.0, collection.recall_target)
        message.ivfpq.CopyFrom(
            admin_pb2.IvfPq(
                nlist=index.lists.ivfpq.nlist,
                code_bytes=index.lists.ivfpq.code_bytes,
                rows=index.indexed_rows,
                nprobe=round(setting.lists) if setting else 0,
                rescore_depth=round(setting.rescored) if setting else 0,
                expected_recall=setting.expected_recall if setting else 0.0,
                drift=drift.excess if drift else 0.0,
                imbalance=drift.imbalance_over_trained(index.lists.ivfpq.sizes) if drift else 0.0,
            )
        )
    return message
