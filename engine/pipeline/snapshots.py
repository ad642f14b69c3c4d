"""Snapshots while a collection serves, and collections made of them. On the event loop; files are left to a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import Cancelled
from engine.pipeline.operations import Report
from engine.store.remote import check_address, copy_out, fetched
from engine.store.snapshots import Manifest, Moment, remove_old_snapshots, restore_snapshot, write_snapshot

if TYPE_CHECKING:
    from engine.pipeline.collection import Collection

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def create(collection: Collection, root: Path, *, kept: int, to: str, report: Report) -> Manifest:
    """Write what is committed now to a snapshot under ``root``, copy it ``to`` an address where one is given, and
    remove all but the ``kept`` newest.

    Raises:
        InvalidArgument: no such kind of address; nothing was written.
        ReadOnly, Unavailable: the disk, or the address, refused.
    """
    if to:
        await asyncio.to_thread(check_address, to)
    moment = await _held(collection.lanes.commit.call(collection.store.hold_moment))
    return await in_thread(lambda told: _written(moment, root, kept, to, told), report)


async def _held(holding: Coroutine[Any, Any, Moment]) -> Moment:
    """The moment; where this is cancelled, it is released as soon as it is held."""
    task = asyncio.ensure_future(holding)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_release)
        raise


def _release(task: asyncio.Future[Moment]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().release()


def _written(moment: Moment, root: Path, kept: int, to: str, report: Report) -> Manifest:
    try:
        manifest = write_snapshot(root, moment, report=report)
    finally:
        moment.release()
    if to:
        copy_out(root / manifest.collection / manifest.id, to, report=report)
    remove_old_snapshots(root, manifest.collection, kept=kept)
    return manifest


def restore(source: Path | str, folder: Path, *, report: Report) -> Manifest:
    """Make a collection's folder of the snapshot in a folder or at an address; blocks.

    Raises:
        CollectionExists: the folder is there already.
        SnapshotNotFound, CorruptData: there is no sound snapshot.
        ReadOnly, Unavailable: the disk, or the address, refused.
    """
    if isinstance(source, Path):
        return restore_snapshot(source, folder, report=report)
    with fetched(source, folder.parent, report=report) as (copied, _):
        return restore_snapshot(copied, folder, report=report)


async def in_thread(work: Callable[[Report], T], report: Report) -> T:
    """Run ``work`` in a thread; where this is cancelled it ends the next time that it reports, and is waited for."""
    loop, is_ending = asyncio.get_running_loop(), threading.Event()

    def told(stage: str, progress: float) -> None:
        if is_ending.is_set():
            raise Cancelled("the operation was cancelled")
        loop.call_soon_threadsafe(report, stage, progress)

    running = asyncio.ensure_future(asyncio.to_thread(work, told))
    try:
        await asyncio.wait([running])
    except asyncio.CancelledError:
        is_ending.set()
        await _ended(running)
        raise
    return running.result()


async def _ended(running: asyncio.Future[Any]) -> None:
    """Wait until it has, however often the wait is cancelled: a thread goes on whoever has stopped waiting for it.
    What it raises then is for nobody but the log.
    """
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    error = None if running.cancelled() else running.exception()
    if error is not None and not isinstance(error, Cancelled):
        logger.warning("what was cancelled failed before it had ended: %r", error)
