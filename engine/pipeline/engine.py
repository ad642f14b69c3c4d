"""Everything a server serves: the collections of a data directory, the lanes they share and the device they run on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.backend import open_backend
from engine.backend.protocol import Backend, Vectors
from engine.config import Settings
from engine.dtypes import to_stored
from engine.embeddings import row_dimension, with_dimensions
from engine.errors import (
    CollectionExists,
    CollectionNotFound,
    CorruptData,
    DeviceLost,
    EngineError,
    InvalidArgument,
    Loading,
    ReadOnly,
    SearchFailed,
    VersionMismatch,
    WriteFailed,
)
from engine.index.costs import Costs, measure_costs, read_costs
from engine.index.filters import compile_filter
from engine.index.masks import MaskCache
from engine.index.query_log import QueryLog, query_log_path
from engine.index.version_index import VersionIndex
from engine.ingest.writer import commit_batch
from engine.lanes.batching import BatchLimits
from engine.lanes.encode import EncodeLane
from engine.lanes.halving import halving
from engine.lanes.lane import Lane
from engine.limits import Limits
from engine.models.bundle import open_encoder
from engine.models.protocol import Encoder
from engine.pipeline.collection import Collection, Lanes
from engine.pipeline.device_loss import DeviceLoss
from engine.pipeline.list_building import restore_lists
from engine.pipeline.operations import Operation, Operations
from engine.pipeline.rank_lane import open_rank_lane
from engine.pipeline.rankers import open_source
from engine.pipeline.recall_monitor import RecallCheck, RecallMonitor
from engine.pipeline.row_images import recover_rows
from engine.pipeline.search import CompiledParams, SearchJob, search_jobs
from engine.pipeline.snapshots import in_thread, restore
from engine.pipeline.upkeep import Upkeep
from engine.schema_file import validate_name, validate_schema
from engine.store import (
    CollectionStore,
    DirectoryLock,
    StoreLimits,
    delete_collection_folder,
    list_collections,
    remove_leftovers,
    withdraw,
)
from engine.types import Filter, Metric, Schema, SearchParams, VectorDtype, VersionInfo

logger = logging.getLogger(__name__)

T = TypeVar("T")

OpenEncoder = Callable[..., Encoder]

_RECALL_SECONDS = 0.05
"""Between two slices of checking recall: what a slice keeps a search waiting is then a small part."""


class Engine:
    """See the module. Made and changed on the event loop; ``load`` and what it calls run in a thread of their own.

    Args:
        health: told (collection name, is serving) whenever that changes; the empty name stands for the server.
        recall_checked: told of every live query that was checked and the mean recall of the last ones like it, in the
            search lane's thread.
        open_encoder: how an encoder is opened from what a schema names.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        *,
        health: Callable[[str, bool], None],
        recall_checked: Callable[[RecallCheck, float], None] = lambda check, mean: None,
        open_encoder: OpenEncoder = open_encoder,
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.collections: dict[str, Collection] = {}
        self.start_seconds: dict[str, float] = {"imports": 0.0, "kernels": 0.0, "model": 0.0, "index": 0.0}
        self.started_micros = time.time_ns() // 1000
        self.is_loaded = False
        self._failed: dict[str, EngineError] = {}
        self._health = health
        self._open_encoder = open_encoder
        self._loop = asyncio.get_running_loop()
        self._creating = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self._costs: dict[tuple[str, int, str, str], Costs] = {}
        self._given_costs = read_costs(settings.costs_file) if settings.costs_file else None
        self._encoders: dict[tuple[str, str], Encoder] = {}
        self._root = settings.data_dir / "collections"
        self._store_limits = StoreLimits(changes_kept=settings.change_log_kept)
        self._lock = DirectoryLock(settings.data_dir)
        remove_leftovers(self._root)
        self.backend: Backend = open_backend(
            settings.device,
            threads=settings.compute_threads,
            device_memory_bytes=settings.device_memory_bytes,
            device_lost=settings.device_lost,
        )
        self.masks = MaskCache(settings.mask_cache_bytes)
        self.recall_monitor = RecallMonitor(
            self.backend,
            share=settings.recall_check_share,
            cpu_share=settings.recall_check_cpu_share,
            report=recall_checked,
            logs_queries=settings.log_queries,
        )
        self.lanes = _open_lanes(settings, self.backend, self.recall_monitor)
        self._recall_task: asyncio.Task[None] | None = None
        self.operations = Operations()
        self.upkeep = Upkeep(settings, self.lanes, self.backend, self.recall_monitor.windows, self.operations)
        self.device_loss = DeviceLoss(
            self.backend,
            self.lanes,
            policy=settings.device_lost,
            collections=self.collections,
            is_loaded=lambda: self.is_loaded,
            health=health,
            costs_of=self._costs_of,
            warm_up=lambda index: _warm_up(self.backend, index, None),
        )

    def collection(self, name: str) -> Collection:
        """The collection of that name.

        Raises:
            CollectionNotFound: there is none.
            Loading: the server is still opening its data.
            VersionMismatch: it could not be opened: its encoder is not the one it was built with.
        """
        found = self.collections.get(name)
        if found is not None:
            return found
        if name in self._failed:
            # Without what earlier raises have left on it, which grows and keeps every caller's frame.
            raise self._failed[name].with_traceback(None)
        if not self.is_loaded:
            raise Loading("the server is loading its collections")
        raise CollectionNotFound(name)

    async def load(self) -> None:
        """Open every collection of the data directory and warm it up; only then does it serve."""
        began = time.perf_counter()
        logger.info(
            "getting the kernels ready: compiled at the first start on a data directory, for a minute or two, then kept"
        )
        # The default dtype's, so that creating a first collection need not wait for the compiler.
        await asyncio.to_thread(self.backend.warm_up, _one_row("float16"))
        self._add_seconds("kernels", time.perf_counter() - began)
        for name in await asyncio.to_thread(list_collections, self._root):
            opened = await asyncio.to_thread(self._open_or_say_why, name)
            if isinstance(opened, EngineError):
                self._failed[name] = opened
                self._health(name, False)
            else:
                self._serve(opened)
        self._recall_task = self._loop.create_task(self._check_recall())
        self.upkeep.start()
        self.is_loaded = True

    async def create(self, schema: Schema) -> Collection:
        """A new, empty collection with its first version; a caller that goes away does not stop it halfway.

        Raises:
            CollectionExists: the name is taken.
            InvalidArgument: the schema is unusable.
            ConfigError: its encoder cannot be opened.
        """
        return await self._to_its_end(self._create_and_serve(schema))

    async def own_metric(self, schema: Schema) -> Metric:
        """What the schema's encoder was trained for; cosine without one.

        Raises:
            ConfigError: the encoder cannot be opened.
        """
        encoder = await asyncio.to_thread(self._encoder, schema, self.settings.encoder_dtype)
        return encoder.metric if encoder else "cosine"

    async def delete(self, name: str) -> None:
        """Take the collection out of service, then remove what it stored; one that could not be opened too.

        A caller that goes away does not stop it halfway.
        """
        await self._to_its_end(self._delete(name))

    def restore(self, name: str, *, snapshot: str, url: str, into: str) -> Operation:
        """Make a collection ``into`` of a snapshot of ``name``, by its id or its address, and serve it.

        Raises:
            InvalidArgument: neither an id nor an address is given, or both, or a name is none.
            CollectionExists: there is one of that name.
        """
        if bool(snapshot) == bool(url):
            raise InvalidArgument("snapshot", "the id of a snapshot is wanted, or its url, and not both")
        validate_name(into, "into")
        if into in self.collections or into in self._failed:
            raise CollectionExists(into)
        source = url or self.settings.snapshots / validate_name(name, "collection") / Path(snapshot).name
        return self.operations.start("restore", into, partial(self._restore, source, into))

    async def _restore(self, source: Path | str, into: str, operation: Operation) -> None:
        async with self._creating:
            if not self.is_loaded:
                raise Loading("the server is loading its collections")
            if into in self.collections or into in self._failed:
                raise CollectionExists(into)
            folder = self._root / into
            operation.result = await in_thread(lambda told: restore(source, folder, report=told), operation.report)
            opened = await asyncio.to_thread(self._open_or_say_why, into)
            if isinstance(opened, EngineError):
                # It is there, and can be deleted by its name.
                self._failed[into] = opened
                raise opened
            self._serve(opened)

    def coarse_queries(self) -> tuple[int, int]:
        """Queries that coarse scans answered so far, and those whose answers were not proven, over all collections."""
        coarse = [collection.index.coarse for collection in tuple(self.collections.values())]
        return sum(one.asked for one in coarse), sum(one.unproven for one in coarse)

    def drifts(self) -> dict[str, float]:
        """How far rows have drifted from those that lists were trained among, by collection, where that is known."""
        lists = {name: collection.index.lists for name, collection in tuple(self.collections.items())}
        return {name: one.drift.excess for name, one in lists.items() if one is not None and one.drift is not None}

    def imbalances(self) -> dict[str, float]:
        """How uneven lists are over what they were when they were trained, by collection, where that is known."""
        lists = {name: collection.index.lists for name, collection in tuple(self.collections.items())}
        return {
            name: one.drift.imbalance_over_trained(one.ivfpq.sizes)
            for name, one in lists.items()
            if one is not None and one.drift is not None and one.drift.imbalance is not None
        }

    async def close(self) -> None:
        """Finish what waits in the lanes, then close the stores."""
        await asyncio.gather(*self._changes, return_exceptions=True)
        await self._stop_checking_recall()
        await self.upkeep.stop()
        await self.operations.stop()
        await self.device_loss.stop()
        await asyncio.to_thread(self.lanes.encode.drain)
        await asyncio.to_thread(self.lanes.commit.drain)
        await asyncio.to_thread(self.lanes.search.drain)
        await asyncio.to_thread(self.lanes.rank.drain)
        for collection in self.collections.values():
            await asyncio.to_thread(_close, collection)
        self._lock.release()

    async def _check_recall(self) -> None:
        """A slice of checking at a time, between two batches of searches."""
        while True:
            await asyncio.sleep(_RECALL_SECONDS)
            if self.recall_monitor.may_step:
                try:
                    await self.lanes.search.call(self.recall_monitor.step)
                except Exception:
                    logger.exception("a query could not be checked for its recall")

    async def _stop_checking_recall(self) -> None:
        if self._recall_task is not None:
            self._recall_task.cancel()
            await asyncio.gather(self._recall_task, return_exceptions=True)

    async def _to_its_end(self, change: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _create_and_serve(self, schema: Schema) -> Collection:
        async with self._creating:
            if not self.is_loaded:
                raise Loading("the server is loading its collections")
            if schema.name in self.collections or schema.name in self._failed:
                raise CollectionExists(schema.name)
            try:
                collection = await asyncio.to_thread(self._create, schema)
            except EngineError as refusal:
                if (self._root / schema.name).exists():
                    # The disk kept it from being taken back: named, so that it can be deleted.
                    self._failed[schema.name] = refusal
                raise
            self._serve(collection)
            return collection

    async def _delete(self, name: str) -> None:
        async with self._creating:
            if name not in self._failed:
                await self._retire(self.collection(name))
            refusal = await asyncio.to_thread(_remove, self._root / name)
            self._failed.pop(name, None)
            if refusal is not None:
                # Named still, so that deleting it can be tried again.
                self._failed[name] = refusal
                raise refusal

    async def _retire(self, collection: Collection) -> None:
        """Out of service, with nothing under way and no file open."""
        del self.collections[collection.name]
        collection.retire()
        self._health(collection.name, False)
        await self.upkeep.forget(collection)
        await self.lanes.commit.call(lambda: None)
        await self.lanes.search.call(lambda: self._forget(collection))
        await asyncio.to_thread(collection.abandon)

    def _forget(self, collection: Collection) -> None:
        """In the search lane's thread: what a later collection of that name must not find."""
        self.masks.forget(collection.index.columns)
        self.recall_monitor.windows.forget(collection.name)

    def _serve(self, collection: Collection) -> None:
        self.collections[collection.name] = collection
        self.upkeep.watch(collection)
        self._health(collection.name, True)

    def _create(self, schema: Schema) -> Collection:
        encoder = self._encoder(schema, self.settings.encoder_dtype)
        schema = validate_schema(schema, self.limits, encoder_dimension=encoder.dimension if encoder else None)
        files: Mapping[str, Path] = {}
        if schema.pipeline is not None:
            opened = open_source(schema.pipeline)
            schema, files = replace(schema, pipeline=opened.pipeline), opened.files
        dimension, metric = encoder.dimension if encoder else schema.dimension or 0, schema.metric
        if schema.embeddings:
            schema = with_dimensions(schema, dimension)
            # Rows and queries of several unit vectors are longer than 1: their dot product is the sum of the cosines.
            dimension, metric = row_dimension(schema), "dot"
        version = VersionInfo(
            id="v1",
            encoder_version=encoder.version if encoder else "",
            dimension=dimension,
            metric=metric,
            dtype=schema.dtype,
            created_micros=time.time_ns() // 1000,
            encoder_dtype=self.settings.encoder_dtype,
        )
        store = CollectionStore.create(
            self._root / schema.name, schema, version, limits=self._store_limits, ranker_files=files
        )
        try:
            return self._collection(store, encoder)
        except BaseException:
            store.abandon()
            withdraw(self._root / schema.name)
            raise

    def _open_or_say_why(self, name: str) -> Collection | EngineError:
        """One collection that cannot be opened, whatever the reason, does not keep the others from being served."""
        try:
            return self._open(name)
        except CorruptData as error:
            told = self._with_remedy(name, error.message)
            logger.error("collection %s cannot be served: %s", name, told)
            return told
        except EngineError as error:
            logger.error("collection %s cannot be served: %s", name, error)
            return error
        except Exception as error:
            logger.exception("collection %s cannot be served", name)
            return self._with_remedy(name, f"opening collection {name!r} failed: {error!r}")

    def _with_remedy(self, name: str, message: str) -> CorruptData:
        command = f"ebr verify --data-dir {self.settings.data_dir} --collection {name}"
        return CorruptData(f"{message}; stop the server and see `{command}`", collection=name)

    def _open(self, name: str) -> Collection:
        store = CollectionStore.open(self._root / name, limits=self._store_limits)
        try:
            try:
                return self._opened(name, store)
            except DeviceLost:
                return self._opened(name, store)  # by the CPU, where it goes on
        except BaseException:
            store.close()
            raise

    def _opened(self, name: str, store: CollectionStore) -> Collection:
        began = time.perf_counter()
        version = store.versions[0]
        encoder = self._encoder(store.schema, version.encoder_dtype)
        self._add_seconds("model", time.perf_counter() - began)
        if encoder is not None and encoder.version != version.encoder_version:
            raise VersionMismatch(
                f"collection {name!r} was built with encoder {version.encoder_version}, but "
                f"{store.schema.encoder!r} is now {encoder.version}: restore that encoder, or load a new collection",
                collection=name,
                index_encoder=version.encoder_version,
                encoder=encoder.version,
            )
        began = time.perf_counter()
        collection = self._collection(store, encoder)
        self._add_seconds("index", time.perf_counter() - began)
        return collection

    def _collection(self, store: CollectionStore, encoder: Encoder | None) -> Collection:
        version = store.versions[0]
        index = VersionIndex(
            store.schema,
            version,
            store.segments(version.id),
            self._costs_of(version),
            costs_are_given=self._given_costs is not None,
        )
        index.masks = self.masks
        recover_rows(store, index)
        for first_row, n_rows, times in store.timed_rows():
            index.rows.put_times(first_row, n_rows, times)
        log = query_log_path(store.segments(version.id).folder)
        if self.settings.log_queries:
            index.query_log = QueryLog.load(log, version.dimension)
        else:
            log.unlink(missing_ok=True)
        restore_lists(self.backend, store, index)
        _warm_up(self.backend, index, encoder)
        return Collection(
            store,
            index,
            encoder,
            lanes=self.lanes,
            limits=self.limits,
            loop=self._loop,
            recall_target=self.settings.recall_target,
            lease_seconds=self.settings.cursor_lease_seconds,
            changed=self.upkeep.consider,
            caught_up=self.upkeep.caught_up,
        )

    def _costs_of(self, version: VersionInfo) -> Costs:
        """What exact searches of such vectors cost here: as given, or measured once."""
        if self._given_costs is not None:
            return self._given_costs
        key = (self.backend.device, version.dimension, version.dtype, version.metric)
        if key not in self._costs:
            self._costs[key] = measure_costs(
                self.backend, dimension=version.dimension, dtype=version.dtype, metric=version.metric
            )
        return self._costs[key]

    def _encoder(self, schema: Schema, dtype: str) -> Encoder | None:
        if schema.encoder is None:
            return None
        key = (schema.encoder, dtype)
        if key not in self._encoders:
            encoder = self._open_encoder(
                schema.encoder,
                compute_dtype=dtype,
                threads=self.settings.compute_threads,
                device=self.backend.device,
            )
            logger.info("encoder %s: %s on %s, %s", schema.encoder, dtype, encoder.device, encoder.engine)
            self._encoders[key] = encoder
        return self._encoders[key]

    def _add_seconds(self, part: str, seconds: float) -> None:
        self.start_seconds[part] += seconds


def _close(collection: Collection) -> None:
    """A disk that refuses is told in the log: it must not keep other collections open, or the server alive."""
    try:
        collection.close()
    except EngineError as error:
        logger.error("collection %s: %s; what was acknowledged is in its log", collection.name, error)


def _remove(folder: Path) -> ReadOnly | None:
    """Remove a collection's folder; what the disk said where it is there still.

    Raises:
        CollectionNotFound: there is no such folder.
        ReadOnly: the disk refused, but for a leftover the collection is gone.
    """
    try:
        delete_collection_folder(folder)
    except ReadOnly as refusal:
        if not folder.exists():
            raise
        return refusal
    return None


def _one_row(dtype: VectorDtype) -> Vectors:
    """The least that kernels can be compiled for."""
    row = to_stored(np.ones((1, 8), np.float32), dtype)
    return Vectors([row], 1, 8, dtype, "dot")


def _warm_up(backend: Backend, index: VersionIndex, encoder: Encoder | None) -> None:
    """What a first query would otherwise wait for, before the collection serves."""
    compiled = CompiledParams(SearchParams(recall_target=0.5), compile_filter(Filter(), index.schema))
    query = np.ones((1, index.version.dimension), np.float32)
    search_jobs(backend, [SearchJob(index, [compiled], vectors=query, explain=True)])
    if encoder is not None:
        encoder.forward(encoder.tokenize(["warm-up"], role="query")[0].windows)


def _open_lanes(settings: Settings, backend: Backend, monitor: RecallMonitor) -> Lanes:
    return Lanes(
        encode=EncodeLane(
            batch_seconds=settings.encode_batch_ms / 1000,
            queue_seconds=settings.encode_queue_seconds,
            batch_texts=settings.encode_batch_texts,
        ),
        search=Lane(
            "search",
            halving(partial(search_jobs, backend, monitor=monitor)),
            limits=BatchLimits(entries=settings.search_batch_queries, cost=settings.search_batch_queries),
            queue_cost=settings.search_queue_queries,
            on_failure=lambda error: SearchFailed(f"the search failed: {error}"),
        ),
        rank=open_rank_lane(
            batch_seconds=settings.rank_batch_ms / 1000,
            queue_seconds=settings.rank_queue_seconds,
        ),
        commit=Lane(
            "commit",
            commit_batch,
            limits=BatchLimits(entries=1024, cost=settings.commit_batch_items),
            queue_cost=settings.commit_queue_items,
            on_failure=lambda error: WriteFailed(f"the write failed: {error}"),
        ),
    )
