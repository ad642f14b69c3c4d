"""Index upkeep in the background: training inverted lists when they pay, switching them in, folding the tail.

Training runs in a child process of idle priority; folding in slices of about 2 ms when the search lane has nothing
else to do. Searches wait for neither.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.backend.protocol import Backend, IvfPqIndex
from engine.config import Settings
from engine.errors import CorruptData, EngineError
from engine.index.build import BuildJob, BuildProcess, remove_leftovers, start
from engine.index.ivfpq import IvfPqImage, image_ids, index_path, read_image, remove_image
from engine.index.version_index import Lists, VersionIndex
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


@dataclass(slots=True)
class _Watched:
    """What upkeep knows of one collection; ``retry_at`` is on the clock of ``time.monotonic``."""

    task: asyncio.Task[None] | None = None
    is_folding: bool = False
    failures: int = 0
    retry_at: float = 0.0


class Upkeep:
    """See the module. On the event loop, but for ``restore_lists``."""

    def __init__(self, settings: Settings, lanes: Lanes, backend: Backend) -> None:
        self._settings = settings
        self._lanes = lanes
        self._backend = backend
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

    def watch(self, collection: Collection) -> None:
        self._watched[collection.name] = _Watched()
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
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def consider(self, collection: Collection) -> None:
        """Begin what the collection needs now; called after every change of it."""
        watched = self._watched.get(collection.name)
        if watched is None:
            return
        if watched.task is None and time.monotonic() >= watched.retry_at and self._wants_training(collection.index):
            watched.task = asyncio.get_running_loop().create_task(self._train(collection, watched))
        if not watched.is_folding and self._wants_folding(collection.index):
            watched.is_folding = True
            self._lanes.search.post_idle(lambda: self._fold(collection, watched))

    def _wants_training(self, index: VersionIndex) -> bool:
        if index.lists is not None:
            return index.rows.n_alive >= _GROWTH_TO_RETRAIN * index.lists.live_rows
        least = self._settings.min_rows_to_train
        if least is None:
            least = index.least_rows_to_train
        return index.rows.n_alive >= least

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

    async def _train(self, collection: Collection, watched: _Watched) -> None:
        collection.upkeep_stage = "waiting to train"
        try:
            async with self._training:
                await self._build(collection)
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
        index = collection.index
        job, alive = await self._lanes.search.call(lambda: (self._job(collection), index.rows.alive.copy()))
        process = start(job, alive)
        try:
            while not process.poll():
                collection.upkeep_stage = _stage(process)
                await asyncio.sleep(_POLL_SECONDS)
            image = await asyncio.to_thread(process.result)
        except BaseException:
            process.cancel()
            raise
        ivfpq = await asyncio.to_thread(self._backend.load_ivfpq, index_path(job.folder, image.id))
        await self._lanes.search.call(lambda: index.switch_lists(_lists(image, ivfpq)))
        await asyncio.to_thread(_remove_others, job.folder, image.id)
        logger.info(
            "collection %s: %d lists of %d-byte codes for %d rows, trained in %.1f s",
            collection.name,
            image.nlist,
            image.code_bytes,
            image.n_rows,
            image.build_seconds,
        )

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
        )


def _lists(image: IvfPqImage, ivfpq: IvfPqIndex) -> Lists:
    return Lists(ivfpq, image.tuning, image.live_rows)


def _stage(process: BuildProcess) -> str:
    return f"{process.progress.stage} {process.progress.fraction:.0%}"


def _remove_others(folder: Path, kept: str) -> None:
    for image_id in image_ids(folder):
        if image_id != kept:
            remove_image(folder, image_id)
