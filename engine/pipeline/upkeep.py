"""Index upkeep in the background: which collection needs what, and when. Training inverted lists when they pay, tuning
them again with live queries, writing rows anew without the dead ones, keeping an image of them for a quick start,
folding the tail, making int8 codes, merging postings.

Training runs in a child process of idle priority; folding, coding and the filling of a new index in slices of about
2 ms when the search lane has nothing else to do; postings are merged in a thread. Searches wait for none of it, but
for folding where rows in no list make them slower by more than it would. On the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.backend.protocol import Backend
from engine.config import Settings
from engine.errors import EngineError
from engine.index.query_log import ENOUGH
from engine.index.version_index import LEAST_FOLDED
from engine.pipeline import snapshots
from engine.pipeline.compaction import compact
from engine.pipeline.list_building import build, tune
from engine.pipeline.merging import merge_postings
from engine.pipeline.needs import (
    has_outgrown_tuning,
    has_tail,
    needs_codes,
    needs_compaction,
    needs_folding,
    needs_image,
    needs_merge,
    needs_training,
    tail_share,
)
from engine.pipeline.operations import Operation, Operations
from engine.pipeline.recall_monitor import RecallWindows
from engine.pipeline.row_images import write_image

if TYPE_CHECKING:
    from engine.pipeline.collection import Collection, Lanes

logger = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 30.0
_LOOK_SECONDS = 5.0
"""Between two looks at collections that nobody writes to."""
_FOLD_SECONDS = 0.25
"""Between two times that rows are folded which are too few to be in the way."""
_TUNED_FOR_SECONDS = 600.0
"""Lists tuned with live queries are not tuned again before, however low their recall is found."""
_MOST_TAIL_SHARE = 0.25
"""Of the time of searches: with so many rows in no list, who writes many waits for folding."""
_HELD_BACK_SECONDS = 2.0
"""A request, at most: a folding that fails stops no writer."""
_HELD_BACK_STEP = 0.01
_Work = Callable[["Collection", Operation], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Watched:
    """What upkeep knows of one collection. ``own``: the last of its operations that nobody asked for. ``next_fold``:
    when rows in no list are folded, however few there are. ``retry_at`` and ``tuned_at`` are on the clock of
    ``time.monotonic``.
    """

    collection: Collection
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    operations: list[Operation] = field(default_factory=list)
    own: Operation | None = None
    is_paused: bool = False
    is_folding: bool = False
    next_fold: asyncio.TimerHandle | None = None
    is_coding: bool = False
    merging: asyncio.Task[None] | None = None
    failures: int = 0
    retry_at: float = 0.0
    tuned_at: float = -math.inf
    held_back: float = 0.0
    """Seconds, of all requests."""

    @property
    def is_busy(self) -> bool:
        self.operations = [one for one in self.operations if not one.is_done]
        return bool(self.operations)


class Upkeep:
    """See the module."""

    def __init__(
        self, settings: Settings, lanes: Lanes, backend: Backend, recall: RecallWindows, operations: Operations
    ) -> None:
        self._settings = settings
        self._lanes = lanes
        self._backend = backend
        self._recall = recall
        self._operations = operations
        self._looking: asyncio.Task[None] | None = None
        self._watched: dict[str, _Watched] = {}
        self.pauses_all = False
        """Whether collections that are watched from now on are paused; any of them may be resumed by itself."""
        self._heavy = asyncio.Semaphore(1)

    def start(self) -> None:
        """Look at every collection from time to time from now on."""
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def watch(self, collection: Collection) -> None:
        self._watched[collection.name] = _Watched(collection, is_paused=self.pauses_all)
        self.consider(collection)

    async def forget(self, collection: Collection) -> None:
        """End what is under way for the collection."""
        watched = self._watched.pop(collection.name, None)
        if watched is not None:
            await self._end(watched.operations, [watched])

    async def stop(self) -> None:
        """End everything that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        watched, self._watched = [*self._watched.values()], {}
        await self._end([operation for one in watched for operation in one.operations], watched)

    def consider(self, collection: Collection) -> None:
        """Begin what the collection needs now; called after every change of it."""
        watched = self._watched.get(collection.name)
        if watched is None or watched.is_paused:
            return
        if not watched.is_busy and time.monotonic() >= watched.retry_at:
            self._begin_heavy(watched)
        if not watched.is_folding and needs_folding(collection.index, self._settings):
            self._begin_folding(watched)
        if watched.next_fold is None and has_tail(collection.index):
            watched.next_fold = asyncio.get_running_loop().call_later(_FOLD_SECONDS, self._fold_rest, watched)
        if not watched.is_coding and needs_codes(collection.index, self._settings):
            watched.is_coding = True
            self._lanes.search.post_idle(
                lambda: self._code(collection, watched), share=lambda: self._share_of_codes(collection)
            )
        if watched.merging is None and needs_merge(collection.index):
            watched.merging = asyncio.get_running_loop().create_task(self._merge(collection, watched))

    def pause(self, collection: Collection) -> list[Operation]:
        """Begin nothing for the collection until it is resumed; operations of upkeep's own that are under way.

        Kept nowhere: a start resumes. A pause that is forgotten costs more than one that has to be asked for again.
        """
        watched = self._watched[collection.name]
        watched.is_paused = True
        return [watched.own] if watched.own is not None and not watched.own.is_done else []

    def pause_all(self) -> list[Operation]:
        """``pause`` every collection, those that are made later too."""
        self.pauses_all = True
        return [operation for one in self._watched.values() for operation in self.pause(one.collection)]

    def resume(self, collection: Collection) -> None:
        """Begin what the collection needs, though all were paused, and what was cancelled before."""
        watched = self._watched[collection.name]
        watched.is_paused, watched.retry_at = False, 0.0
        self.consider(collection)

    def resume_all(self) -> None:
        """``resume`` every collection, however it was paused."""
        self.pauses_all = False
        for one in self._watched.values():
            self.resume(one.collection)

    def is_paused(self, collection: Collection) -> bool:
        watched = self._watched.get(collection.name)
        return watched is not None and watched.is_paused

    def paused(self) -> dict[str, float]:
        """1 for each collection that is paused, 0 for the others, by name. From any thread."""
        return {name: float(one.is_paused) for name, one in tuple(self._watched.items())}

    async def caught_up(self, collection: Collection, deadline: float | None) -> None:
        """Wait, not for ever and for half of what is left to the ``deadline`` at most, while searches lose much time to
        rows in no list: who writes many items is held back to what can be folded, as searches would get ever slower.
        """
        began = time.monotonic()
        left = math.inf if deadline is None else (deadline - began) / 2
        end = began + min(_HELD_BACK_SECONDS, left)
        while time.monotonic() < end and self._is_behind(collection):
            await asyncio.sleep(_HELD_BACK_STEP)
            if (watched := self._watched.get(collection.name)) is not None:
                watched.held_back += _HELD_BACK_STEP

    def _is_behind(self, collection: Collection) -> bool:
        watched = self._watched.get(collection.name)
        if watched is None or watched.is_paused:
            return False
        return tail_share(collection.index, self._settings) > _MOST_TAIL_SHARE

    def held_back(self) -> dict[str, float]:
        """Seconds that requests of many items have waited for folding since the start, by name. From any thread."""
        return {name: one.held_back for name, one in tuple(self._watched.items())}

    def stage(self, collection: Collection) -> str:
        """What is under way for the collection, in words; empty where nothing is."""
        watched = self._watched.get(collection.name)
        if watched is None or not watched.is_busy:
            return ""
        operation = watched.operations[0]
        return f"{operation.stage} {operation.progress:.0%}"

    def compact(self, collection: Collection) -> Operation:
        """Write the collection's rows anew without the dead ones, however few these are."""
        return self._begin(self._watched[collection.name], "compact", self._compact)

    def snapshot(self, collection: Collection, *, to: str = "") -> Operation:
        """Write a snapshot of what is committed when its turn comes; ``to``: an address that it is copied to."""

        async def work(collection: Collection, operation: Operation) -> None:
            if needs_image(collection.index, self._settings):
                await self._checkpoint(collection, operation)
            root, kept = self._settings.snapshots, self._settings.snapshots_kept
            manifest = await snapshots.create(collection, root, kept=kept, to=to, report=operation.report)
            operation.result = manifest
            logger.info("collection %s: snapshot %s of %d bytes", collection.name, manifest.id, manifest.n_bytes)

        return self._begin(self._watched[collection.name], "snapshot", work)

    def _begin_heavy(self, watched: _Watched) -> None:
        index, settings = watched.collection.index, self._settings
        if needs_training(index, settings):
            self._begin_own(watched, "train", self._build)
        elif needs_compaction(index, settings):
            self._begin_own(watched, "compact", self._compact)
        elif needs_image(index, settings):
            self._begin_own(watched, "checkpoint", self._checkpoint)
        elif self._wants_tuning(watched):
            self._begin_own(watched, "tune", self._tune)

    def _wants_tuning(self, watched: _Watched) -> bool:
        """Once there are queries enough to tune with, and again where the collection has grown or recall is found to be
        below its target.
        """
        index = watched.collection.index
        if has_outgrown_tuning(index):
            return True
        if not self._settings.log_queries or index.lists is None or len(index.query_log) < ENOUGH:
            return False
        if index.lists.tuning.is_provisional:
            return True
        is_due = time.monotonic() >= watched.tuned_at + _TUNED_FOR_SECONDS
        return is_due and self._recall.is_below_target(watched.collection.name)

    def _begin_folding(self, watched: _Watched) -> None:
        watched.is_folding = True
        index = watched.collection.index
        self._lanes.search.post_idle(
            lambda: self._fold(watched.collection, watched), share=lambda: tail_share(index, self._settings)
        )

    def _fold_rest(self, watched: _Watched) -> None:
        """However little there is."""
        watched.next_fold = None
        if not has_tail(watched.collection.index) or watched.is_paused:
            return
        if watched.is_folding:
            watched.next_fold = asyncio.get_running_loop().call_later(_FOLD_SECONDS, self._fold_rest, watched)
        else:
            self._begin_folding(watched)

    def _fold(self, collection: Collection, watched: _Watched) -> bool:
        """In the search lane's thread, when it is idle; True while there is a slice to fold and no pause.

        What comes meanwhile, a few rows a slice, waits for the next time: else it would never end beside writes.
        """
        more = False
        try:
            more = not watched.is_paused and collection.index.fold() and collection.index.tail_rows >= LEAST_FOLDED
        finally:
            watched.is_folding = more
        return more

    def _code(self, collection: Collection, watched: _Watched) -> bool:
        """As ``_fold``, for int8 codes; True while there are more to make and no pause."""
        more = False
        try:
            more = not watched.is_paused and collection.index.add_codes(self._backend)
        finally:
            watched.is_coding = more
        return more

    def _share_of_codes(self, collection: Collection) -> float:
        """Of the time of a busy lane: as for folding, which takes longer for the same rows and so comes after it."""
        index = collection.index
        return 2 * tail_share(index, self._settings) if index.indexed_rows else 0.0

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for watched in tuple(self._watched.values()):
                self.consider(watched.collection)
                await self._delete_expired(watched.collection)

    async def _delete_expired(self, collection: Collection) -> None:
        if not len(collection.index.rows.schedule):
            return
        try:
            await collection.delete_expired()
        except EngineError as error:
            logger.warning("expired items of %s are not deleted yet: %s", collection.name, error)

    def _begin(self, watched: _Watched, kind: str, work: _Work) -> Operation:
        operation = self._operations.start(kind, watched.collection.name, partial(self._run, watched, work))
        watched.operations.append(operation)
        return operation

    def _begin_own(self, watched: _Watched, kind: str, work: _Work) -> None:
        """``_begin`` what nobody asked for, which a pause ends before it has its turn."""

        async def unless_paused(collection: Collection, operation: Operation) -> None:
            if watched.is_paused:
                raise asyncio.CancelledError
            await work(collection, operation)

        watched.own = self._begin(watched, kind, unless_paused)

    async def _run(self, watched: _Watched, work: _Work, operation: Operation) -> None:
        """One at a time: of a collection, and of all of them."""
        collection = watched.collection
        operation.stage = f"waiting to {operation.kind}"
        try:
            async with watched.turn, self._heavy:
                await work(collection, operation)
            watched.failures, watched.retry_at = 0, 0.0
        except asyncio.CancelledError:
            # Who has cancelled it does not want it begun again at once.
            watched.retry_at = time.monotonic() + _FIRST_RETRY_SECONDS
            raise
        except Exception as error:
            watched.failures += 1
            watched.retry_at = time.monotonic() + _FIRST_RETRY_SECONDS * 2 ** min(watched.failures, 6)
            logger.error("%s of %s failed, searches go on as before: %s", operation.kind, collection.name, error)
            raise
        finally:
            asyncio.get_running_loop().call_soon(self.consider, collection)

    async def _build(self, collection: Collection, operation: Operation) -> None:
        await build(collection, self._backend, self._settings, switched=self._recall.forget, report=operation.report)
        self._count_as_tuned(collection)

    async def _tune(self, collection: Collection, operation: Operation) -> None:
        await tune(collection, self._settings, switched=self._recall.forget, report=operation.report)
        self._count_as_tuned(collection)

    async def _compact(self, collection: Collection, operation: Operation) -> None:
        before = collection.index.rows.n_rows
        began = time.perf_counter()
        await compact(collection, self._backend, threads=self._settings.compute_threads, report=operation.report)
        rows, seconds = collection.index.rows.n_rows, time.perf_counter() - began
        logger.info("collection %s: compacted from %d to %d rows in %.1f s", collection.name, before, rows, seconds)

    async def _checkpoint(self, collection: Collection, operation: Operation) -> None:
        began = time.perf_counter()
        await write_image(collection, operation.report)
        sequence, seconds = collection.index.image_sequence, time.perf_counter() - began
        logger.info("collection %s: an image of its rows at sequence %d in %.1f s", collection.name, sequence, seconds)

    def _count_as_tuned(self, collection: Collection) -> None:
        watched = self._watched.get(collection.name)
        if watched is not None:
            watched.tuned_at = time.monotonic()

    async def _merge(self, collection: Collection, watched: _Watched) -> None:
        """And once more where there is more to merge by then; what fails is tried again after the next change."""
        more = False
        try:
            more = await merge_postings(self._lanes.search, collection.index)
        except Exception:
            logger.exception("postings of %s could not be merged, searches go on as before", collection.name)
        finally:
            watched.merging = None
        if more:
            self.consider(collection)

    async def _end(self, operations: list[Operation], watched: Sequence[_Watched]) -> None:
        tasks = [one.task for one in operations if one.task is not None and not one.is_done]
        tasks += [one.merging for one in watched if one.merging is not None]
        for task in tasks:
            task.cancel()
        for one in watched:
            if one.next_fold is not None:
                one.next_fold.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
