"""Giving back what dead rows take: a collection's rows written anew without them, an index for these made beside the
one that serves, and both switched to between two batches.

Copying runs in a thread of its own, lists are renumbered in a child process of idle priority, the new index is filled
in slices of about 2 ms when the search lane has nothing else to do. Searches and writes wait for none of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engine.backend.protocol import Backend
from engine.errors import FailedPrecondition
from engine.index.build import BuildJob, start_renumbering, write_numbers
from engine.index.ivfpq import index_path
from engine.index.lexical import LexicalIndex, renumbered
from engine.index.version_index import Lists, VersionIndex
from engine.item_columns import ColumnsChange
from engine.pipeline.operations import Report, follow
from engine.pipeline.row_images import keep_needed_changes
from engine.pipeline.snapshots import in_thread
from engine.store import Change
from engine.store.compaction import Compaction
from engine.store.faults import write_faults
from engine.types import Int64Array
from kernels.cpu import rows_of_mask

if TYPE_CHECKING:
    from engine.pipeline.collection import Collection

_SLICE_SECONDS = 0.002
_APPLIED_CHANGES = 128
_FIRST_SLICE_ITEMS = 32
_CATCH_UP_SECONDS = 0.5


class _Moment:
    """What lived at a sequence number. Made in the search lane's thread, of a copy of bits and of views that what is
    appended later does not change.

    ``live``: rows, ascending; ``places``: of each item's first among them; both once ``find_rows`` has run. ``ids``: of
    all rows.
    """

    def __init__(self, index: VersionIndex) -> None:
        rows = index.rows
        self.n_rows, self.sequence, self.ids = rows.n_rows, index.sequence, rows.ids
        self.live: Int64Array = np.empty(0, np.int64)
        self.places: Int64Array = np.empty(0, np.int64)
        self._living, self._first_rows = rows.living_bits(), rows.first_rows
        self._lexical = index.lexical.moment() if index.lexical is not None else None

    def find_rows(self) -> None:
        """In any thread; outside the GIL for the most part."""
        self.live = rows_of_mask(self._living, end_row=self.n_rows)
        self.places = np.flatnonzero(self._first_rows[self.live] == self.live)

    def renumbered(self) -> LexicalIndex | None:
        """Postings of the live rows as the new index numbers them; in any thread."""
        return None if self._lexical is None else renumbered(self._lexical, self.live)


async def compact(collection: Collection, backend: Backend, *, threads: int, report: Report) -> None:
    """Take the collection to rows of which all lived when this began.

    Raises:
        ReadOnly: the disk refused; everything is as it was.
        FailedPrecondition: the schema changed meanwhile; everything is as it was.
    """
    commit, store = collection.lanes.commit, collection.store
    schema = store.schema
    try:
        compaction = await commit.call(store.begin_compaction)
        new = await _prepared(collection, compaction, backend, threads, report)
        report("waiting for cursors of pages to lapse", 0.0)
        await _leases_ended(collection, compaction, new)
        await _caught_up(collection, compaction, new)
        report("switching", 0.0)
        if store.schema is not schema:
            raise FailedPrecondition("an attribute was added while rows were compacted")
        await commit.call(lambda: _finish(collection, new))
    except BaseException:
        # Whether it was cancelled while it began or in the midst; a switch that has happened leaves nothing to give up.
        commit.post(store.give_up_compaction)
        collection.lanes.search.post(collection.index.rows.shown.reopen)
        raise
    await collection.lanes.search.call(lambda: None)
    # Images of the rows before are of no use any more.
    keep_needed_changes(store)
    await asyncio.to_thread(store.remove_old_rows)


async def _prepared(
    collection: Collection, compaction: Compaction, backend: Backend, threads: int, report: Report
) -> VersionIndex:
    """The new index with all that was committed until a moment ago."""
    commit, search, index, store = collection.lanes.commit, collection.lanes.search, collection.index, collection.store
    await collection.visible(store.sequence, None)
    moment = await search.call(lambda: _Moment(index))
    await in_thread(lambda told: moment.find_rows(), report)
    compaction.begin(moment.live, sequence=moment.sequence)
    report("copying", 0.0)
    # Waited for where this is cancelled: files must not be closed under a thread that writes to them.
    while await in_thread(lambda told: compaction.copy(), report):
        report("copying", compaction.progress)
    report("staging", 0.0)
    while await commit.call(compaction.stage):
        pass
    new = index.beside(replace(index.version, generation=index.version.generation + 1), compaction.segments)
    lists, has_codes = index.lists, index.coarse.n_rows > 0
    if lists is not None:
        report("renumbering", 0.0)
        new.lists = await _renumbered(collection, compaction, backend, lists, moment, threads, report)
    new.columns.lexical = await in_thread(lambda told: moment.renumbered(), report)
    filling = _Filling(collection, new, moment, report)
    await search.call_idle(filling.step)
    await _caught_up(collection, compaction, new)
    if lists is not None:
        report("folding", 0.0)
        await search.call_idle(new.fold)
    if has_codes:
        report("coding", 0.0)
        await search.call_idle(lambda: new.add_codes(backend))
    await _caught_up(collection, compaction, new)
    return new


async def _leases_ended(collection: Collection, compaction: Compaction, new: VersionIndex) -> None:
    """Wait until no cursor is in use; leases given meanwhile end at that moment at the latest.

    What is committed meanwhile is done again at once: cursors given from that moment to the switch have lapsed when
    they are given, and what were left to be done would be a minute's writes.
    """
    index = collection.index
    ends_at = await collection.lanes.search.call(lambda: index.rows.shown.close(index.clock()))
    while (left_s := (ends_at - index.clock()) / 1e6) > 0:
        await asyncio.sleep(min(left_s, _CATCH_UP_SECONDS))
        await _caught_up(collection, compaction, new)


class _Filling:
    """Fills a new index with the rows that were copied, but for those that have died since."""

    def __init__(self, collection: Collection, new: VersionIndex, moment: _Moment, report: Report) -> None:
        self._store = collection.store
        self._times = collection.index.rows.schedule
        self._new = new
        self._moment = moment
        self._report = report
        self._done = 0
        self._slice_items = _FIRST_SLICE_ITEMS
        self._loop = asyncio.get_running_loop()

    def step(self) -> bool:
        """In the search lane's thread; True while there is more to do."""
        moment, first = self._moment, self._done
        end = min(first + self._slice_items, len(moment.places))
        began = time.perf_counter()
        self._fill(first, end)
        seconds = max(time.perf_counter() - began, 1e-6)
        self._done = end
        self._slice_items = max(1, min(2 * self._slice_items, int((end - first) * _SLICE_SECONDS / seconds)))
        self._loop.call_soon_threadsafe(self._report, "filling", end / max(len(moment.places), 1))
        return end < len(moment.places)

    def _fill(self, first: int, end: int) -> None:
        moment = self._moment
        places = moment.places[first:end].tolist()
        ids = moment.ids[moment.live[moment.places[first:end]]].tolist()
        found = {row.id: row for row in self._store.live_rows_of(ids)}
        live = []
        for item_id, place in zip(ids, places, strict=True):
            row = found.get(item_id)
            # An item that has other rows by now gets them when its change is done again.
            if row is not None and row.first_row == moment.live[place]:
                live.append(replace(row, first_row=place))
        next_row = int(moment.places[end]) if end < len(moment.places) else len(moment.live)
        self._new.recover(live, n_rows=next_row, sequence=moment.sequence)
        for row in live:
            # What has changed in them since the moment is done again with all else.
            timed = self._times.get(int(moment.live[row.first_row]))
            if timed is not None:
                self._new.rows.put_times(row.first_row, *timed)


async def _renumbered(
    collection: Collection,
    compaction: Compaction,
    backend: Backend,
    lists: Lists,
    moment: _Moment,
    threads: int,
    report: Report,
) -> Lists:
    """The same lists over the copied rows, as an image beside these."""
    version, folder = collection.version, compaction.segments.folder
    job = BuildJob(
        id=f"{moment.sequence:016d}",
        folder=folder,
        segments=tuple(compaction.segments.paths(len(moment.live))),
        n_rows=len(moment.live),
        dimension=version.dimension,
        dtype=version.dtype,
        metric=version.metric,
        sequence=moment.sequence,
        recall_target=collection.recall_target,
        seed=version.created_micros % 2**31,
        threads=threads,
        image=lists.image_id,
        of=collection.store.segments(version.id).folder,
    )
    await in_thread(lambda told: _write_numbers(job, moment), report)
    image = await follow(start_renumbering(job), report)
    ivfpq = await asyncio.to_thread(backend.load_ivfpq, index_path(folder, image.id))
    return replace(lists, ivfpq=ivfpq, image_id=image.id, drift=image.drift)


def _write_numbers(job: BuildJob, moment: _Moment) -> None:
    with write_faults("renumbering lists"):
        write_numbers(job, moment.live, n_rows=moment.n_rows)


async def _caught_up(collection: Collection, compaction: Compaction, new: VersionIndex) -> None:
    """Do again what was committed so far, until as good as nothing is left."""
    sequence = new.sequence
    while compaction.is_behind:
        changes = await collection.lanes.commit.call(compaction.catch_up)
        for first in range(0, len(changes), _APPLIED_CHANGES):
            await _applied(collection, new, changes[first : first + _APPLIED_CHANGES], sequence)


async def _applied(
    collection: Collection, new: VersionIndex, changes: Sequence[Change | ColumnsChange], sequence: int
) -> None:
    analysed = await collection.lanes.commit.call(lambda: new.analyse(changes))
    await collection.lanes.search.call(lambda: new.apply(changes, sequence=sequence, analysed=analysed))


def _finish(collection: Collection, new: VersionIndex) -> None:
    """In the commit lane's thread: what is committed after this is applied after the switch."""
    store = collection.store
    changes = store.finish_compaction()
    sequence, analysed = store.sequence, new.analyse(changes)

    def switch() -> None:
        new.apply(changes, sequence=sequence, analysed=analysed)
        collection.index.become(new)

    collection.lanes.search.post(switch)
