"""Training a collection's inverted lists, and tuning them again: in a child process of idle priority over mapped rows,
then one switch between two batches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.backend.protocol import Backend, IvfPqIndex
from engine.config import Settings
from engine.errors import CorruptData
from engine.index.build import BuildJob, remove_leftovers, start
from engine.index.ivfpq import IvfPqImage, image_ids, index_path, read_image, remove_image
from engine.index.query_log import ENOUGH
from engine.index.version_index import Lists, VersionIndex
from engine.pipeline.operations import Report, follow
from engine.store import CollectionStore

if TYPE_CHECKING:
    from engine.pipeline.collection import Collection

logger = logging.getLogger(__name__)

Switched = Callable[[str], None]
"""Told the name of a collection that is searched by other lists from now on, in the search lane's thread."""


def restore_lists(backend: Backend, store: CollectionStore, index: VersionIndex) -> None:
    """Open the newest sound image of a version that is not served yet; damaged ones are passed over and said."""
    folder = store.segments(index.version.id).folder
    remove_leftovers(folder)
    for image_id in image_ids(folder):
        try:
            image = read_image(folder, image_id)
            ivfpq = backend.load_ivfpq(index_path(folder, image_id))
        except CorruptData as error:
            logger.warning("an index image is damaged and not used: %s", error)
            continue
        if image.n_rows <= index.rows.n_rows:
            index.lists = _lists(image, ivfpq)
            return


async def build(
    collection: Collection, backend: Backend, settings: Settings, *, switched: Switched, report: Report
) -> None:
    """Train over the rows there are now, then search by what came of it.

    Raises:
        TrainingFailed, CorruptData: searches go on as before.
    """
    job, image = await _in_child(collection, lambda: _job(collection, settings, backend.device), report)
    ivfpq = await asyncio.to_thread(backend.load_ivfpq, index_path(job.folder, image.id))
    await _switch(collection, lambda before: _lists(image, ivfpq), switched)
    await asyncio.to_thread(_remove_others, job.folder, image.id)
    logger.info(
        "collection %s: %d lists of %d-byte codes for %d rows, trained in %.1f s",
        collection.name,
        image.nlist,
        image.code_bytes,
        image.n_rows,
        image.build_seconds,
    )


async def tune(collection: Collection, settings: Settings, *, switched: Switched, report: Report) -> None:
    """Measure the lists there are with live queries, and search by what was found.

    Raises:
        TrainingFailed, CorruptData: searches go on as before.
    """
    lists = collection.index.lists
    assert lists is not None
    _, image = await _in_child(collection, lambda: replace(_job(collection, settings), image=lists.image_id), report)
    # Rows were folded meanwhile, and are part of the drift.
    await _switch(collection, lambda before: replace(before or lists, tuning=image.tuning), switched)
    tuning = image.tuning
    logger.info(
        "collection %s: tuned again among %d rows with %d live queries",
        *(collection.name, tuning.live_rows, tuning.logged_queries),
    )


async def _in_child(
    collection: Collection, job_of_now: Callable[[], BuildJob], report: Report
) -> tuple[BuildJob, IvfPqImage]:
    """Job, mask and queries are of one moment."""
    index = collection.index
    job, alive, logged = await collection.lanes.search.call(
        lambda: (job_of_now(), index.rows.alive.copy(), index.query_log.vectors)
    )
    return job, await follow(start(job, alive, logged if len(logged) >= ENOUGH else None), report)


async def _switch(collection: Collection, changed: Callable[[Lists | None], Lists], switched: Switched) -> None:
    """Between two batches; what was found of the recall before no longer counts."""

    def act() -> None:
        collection.index.switch_lists(changed(collection.index.lists))
        switched(collection.name)

    await collection.lanes.search.call(act)


def _job(collection: Collection, settings: Settings, device: Literal["cpu", "cuda"] = "cpu") -> BuildJob:
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
        recall_target=settings.recall_target,
        seed=version.created_micros % 2**31,
        threads=settings.compute_threads,
        device=device,
    )


def _lists(image: IvfPqImage, ivfpq: IvfPqIndex) -> Lists:
    return Lists(ivfpq, image.tuning, image.live_rows, image.id, image.drift)


def _remove_others(folder: Path, kept: str) -> None:
    for image_id in image_ids(folder):
        if image_id != kept:
            remove_image(folder, image_id)
