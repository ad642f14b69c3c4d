"""Index upkeep in the background: training inverted lists when they pay, switching them in, folding the tail, tuning
them again with live queries; making int8 codes of the rows where they pay.

Training runs in a child process of idle priority; folding and coding in slices of about 2 ms when the search lane has
nothing else to do. Searches wait for none of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.backend.protocol import Backend, IvfPqIndex
from engine.config import Settings
from engine.errors import CorruptData, EngineError
from engine.index.build import BuildJob, BuildProcess, remove_leftovers, start
from engine.index.ivfpq import IvfPqImage, image_ids, index_path, read_image, remove_image
from engine.index.query_log import ENOUGH
from engine.index.version_index import Lists, VersionIndex
from engine.pipeline.recall_monitor import RecallWindows
from engine.store import CollectionStore

if TYPE_CHECKING:
    from engine.pipeline.collection import Collection, Lanes

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_GROWTH_TO_RETRAIN = 2.0
"""Lists are trained anew when there are this many times the rows they were trained among."""
_TAIL_SHARE = 0.1
"""The tail is folded once scanning it costs this share of probing the lists."""
_FIRST_RETRY_SECONDS = 30.0
_LOOK_SECONDS = 5.0
"""Between two looks at collections that nobody writes to."""
_TUNED_FOR_SECONDS = 600.0
"""Lists tuned with live queries are not tuned again before, however low their recall is found."""


@dataclass(slots=True)
class _Watched:
    """What upkeep knows of one collection; ``retry_at`` and ``tuned_at`` are on the clock of ``time.monotonic``."""

    collection: Collection
    task: asyncio.Task[None] | None = None
    is_folding: bool = False
    is_coding: bool = False
    failures: int = 0
    retry_at: float = 0.0
    tuned_at: float = -math.inf


class Upkeep:
    """See the module. On the event loop, but for ``restore_lists``."""

    def __init__(self, settings: Settings, lanes: Lanes, backend: Backend, recall: RecallWindows) -> None:
        self._settings = settings
        self._lanes = lanes
        self._backend = backend
        self._recall = recall
        self._looking: asyncio.Task[None] | None = None
        self._watched: dict[str, _Watched] = {}
        self._training = asyncio.Semaphore(1)

    def restore_lists(self, store: CollectionStore, index: VersionIndex) -> None:
        """Open the newest sound image of a version that is not served yet; damaged ones are passed over and said."""
        folder = store.segments(index.version.id).folder
        remove_leftovers(folder)
        for image_id in image_ids(folder):
            try:
                image = read_image(folder, image_id)
                ivfpq = self._backend.load_ivfpq(index_path(folder, image_id))
            except CorruptData as error:
                logger.warning("an index image is damaged and not used: %s", error)
                continue
            if image.n_rows <= index.rows.n_rows:
                index.lists = _lists(image, ivfpq)
                return

    def start(self) -> None:
        """Look at every collection from time to time from now on."""
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def watch(self, collection: Collection) -> None:
        self._watched[collection.name] = _Watched(collection)
        self.consider(collection)

    async def forget(self, collection: Collection) -> None:
        """End what is under way for the collection."""
        watched = self._watched.pop(collection.name, None)
        if watched is not None and watched.task is not None:
            watched.task.cancel()
            await asyncio.gather(watched.task, return_exceptions=True)

    async def stop(self) -> None:
        """End everything that is under way."""
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        if self._looking is not None:
            tasks.append(self._looking)
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def consider(self, collection: Collection) -> None:
        """Begin what the collection needs now; called after every change of it."""
        watched = self._watched.get(collection.name)
        if watched is None:
            return
        if watched.task is None and time.monotonic() >= watched.retry_at:
            if self._wants_training(collection.index):
                watched.task = asyncio.get_running_loop().create_task(self._train(watched, self._build))
            elif self._wants_tuning(watched):
                watched.task = asyncio.get_running_loop().create_task(self._train(watched, self._tune))
        if not watched.is_folding and self._wants_folding(collection.index):
            watched.is_folding = True
            self._lanes.search.post_idle(lambda: self._fold(collection, watched))
        if not watched.is_coding and self._settings.coarse_codes == "auto" and collection.index.wants_codes:
            watched.is_coding = True
            self._lanes.search.post_idle(lambda: self._code(collection, watched))

    def _wants_training(self, index: VersionIndex) -> bool:
        if index.lists is not None:
            return index.rows.n_alive >= _GROWTH_TO_RETRAIN * index.lists.live_rows
        least = self._settings.min_rows_to_train
        if least is None:
            least = index.least_rows_to_train
        return index.rows.n_alive >= least

    def _wants_tuning(self, watched: _Watched) -> bool:
        """Once there are queries enough to tune with, and again where recall is found to be below its target."""
        index = watched.collection.index
        if not self._settings.log_queries or index.lists is None or len(index.query_log) < ENOUGH:
            return False
        if index.lists.tuning.is_provisional:
            return True
        is_due = time.monotonic() >= watched.tuned_at + _TUNED_FOR_SECONDS
        return is_due and self._recall.is_below_target(watched.collection.name)

    def _wants_folding(self, index: VersionIndex) -> bool:
        if index.lists is None:
            return False
        tail = index.rows.n_rows - index.indexed_rows
        setting = index.lists.tuning.lookup(10, 1.0, self._settings.recall_target)
        scan = index.costs.scan_seconds(tail, tail, index.version.dimension)
        return tail > 0 and (setting is None or scan >= _TAIL_SHARE * setting.seconds_b1)

    def _fold(self, collection: Collection, watched: _Watched) -> bool:
        """In the search lane's thread, when it is idle; True while there is more to fold."""
        more = False
        try:
            more = collection.index.fold()
        finally:
            watched.is_folding = more
        return more

    def _code(self, collection: Collection, watched: _Watched) -> bool:
        """As ``_fold``, for int8 codes; True while there are more to make."""
        more = False
        try:
            more = collection.index.add_codes(self._backend)
        finally:
            watched.is_coding = more
        return more

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for watched in tuple(self._watched.values()):
                self.consider(watched.collection)

    async def _train(self, watched: _Watched, work: Callable[[Collection], Coroutine[Any, Any, None]]) -> None:
        """Build or tune, one collection at a time."""
        collection = watched.collection
        collection.upkeep_stage = "waiting to train"
        try:
            async with self._training:
                await work(collection)
            watched.tuned_at = time.monotonic()
            watched.failures, watched.retry_at = 0, 0.0
        except (EngineError, OSError) as error:
            watched.failures += 1
            watched.retry_at = time.monotonic() + _FIRST_RETRY_SECONDS * 2 ** min(watched.failures, 6)
            logger.error("training the index of %s failed, searches go on without: %s", collection.name, error)
        finally:
            collection.upkeep_stage = ""
            watched.task = None
        self.consider(collection)

    async def _build(self, collection: Collection) -> None:
        """Train in a child over the rows there are now, then switch the lists in between two batches."""
        job = await self._lanes.search.call(lambda: self._job(collection))
        image = await self._in_child(collection, job)
        ivfpq = await asyncio.to_thread(self._backend.load_ivfpq, index_path(job.folder, image.id))
        await self._switch(collection, _lists(image, ivfpq))
        await asyncio.to_thread(_remove_others, job.folder, image.id)
        logger.info(
            "collection %s: %d lists of %d-byte codes for %d rows, trained in %.1f s",
            collection.name,
            image.nlist,
            image.code_bytes,
            image.n_rows,
            image.build_seconds,
        )

    async def _tune(self, collection: Collection) -> None:
        """Measure the lists there are with live queries, in a child, and search by what was found."""
        lists = collection.index.lists
        assert lists is not None
        job = await self._lanes.search.call(lambda: self._job(collection))
        image = await self._in_child(collection, replace(job, image=lists.image_id))
        await self._switch(collection, replace(lists, tuning=image.tuning))
        logger.info("collection %s: tuned again with %d live queries", collection.name, image.tuning.logged_queries)

    async def _in_child(self, collection: Collection, job: BuildJob) -> IvfPqImage:
        index = collection.index
        alive, logged = await self._lanes.search.call(lambda: (index.rows.alive.copy(), index.query_log.vectors))
        process = start(job, alive, logged if len(logged) >= ENOUGH else None)
        try:
            while not process.poll():
                collection.upkeep_stage = _stage(process)
                await asyncio.sleep(_POLL_SECONDS)
            return await asyncio.to_thread(process.result)
        except BaseException:
            process.cancel()
            raise

    async def _switch(self, collection: Collection, lists: Lists) -> None:
        """Between two batches; what was found of the recall before no longer counts."""

        def act() -> None:
            collection.index.switch_lists(lists)
            self._recall.forget(collection.name)

        await self._lanes.search.call(act)

    def _job(self, collection: Collection) -> BuildJob:
        """In the search lane's thread, so that rows, mask and sequence are of one moment."""
        index, store = collection.index, collection.store
        version = index.version
        segments = store.segments(version.id)
        return BuildJob(
            id=f"{index.sequence:016d}",
            folder=segments.folder,
            segments=tuple(segments.paths(index.rows.n_rows)),
            n_rows=index.rows.n_rows,
            dimension=version.dimension,
            dtype=version.dtype,
            metric=version.metric,
            sequence=index.sequence,
            recall_target=self._settings.recall_target,
            seed=version.created_micros % 2**31,
            threads=self._settings.compute_threads,
            device=self._backend.device,
        )


def _lists(image: IvfPqImage, ivfpq: IvfPqIndex) -> Lists:
    return Lists(ivfpq, image.tuning, image.live_rows, image.id)


def _stage(process: BuildProcess) -> str:
    return f"{process.progress.stage} {process.progress.fraction:.0%}"


def _remove_others(folder: Path, kept: str) -> None:
    for image_id in image_ids(folder):
        if image_id != kept:
            remove_image(folder, image_id)
