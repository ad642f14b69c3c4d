"""A collection while it is served: its store, its index, its encoder, its read path and its write path.

Methods run on the event loop and compute nothing themselves.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from engine.embeddings import by_name
from engine.errors import CollectionNotFound, DeadlineExceeded, EngineError, LimitExceeded, NoPipeline
from engine.index.filters import compile_filter
from engine.index.query_log import query_log_path
from engine.index.version_index import VersionIndex
from engine.ingest.columns import PreparedColumns, prepare_columns
from engine.ingest.replies import Refusal, Written
from engine.ingest.writer import CommitLane, PreparedItems, Writer
from engine.item_columns import ColumnsChange, ItemColumns
from engine.items import validate_item, validate_request_id
from engine.lanes.encode import EncodedText, EncodeLane
from engine.lanes.turns import ITEMS_A_TURN
from engine.limits import Limits
from engine.models.protocol import Encoder
from engine.pipeline.calls import SearchAnswer, SearchCall
from engine.pipeline.objectives import for_each_objective
from engine.pipeline.rank import Ranking, without_pipeline
from engine.pipeline.rank_lane import RankLane
from engine.pipeline.rankers import OpenedRanker, load_ranking, open_source
from engine.pipeline.row_images import write_last_image
from engine.pipeline.search import count, matching_ids
from engine.pipeline.searcher import Searcher, SearchLane
from engine.ranking import Pipeline
from engine.rankings import check_pipeline
from engine.schema_file import validate_new_attribute, with_profile, without_profile
from engine.scoring import Scoring, ScoringProfile
from engine.store import Change, CollectionStore, WriteOutcome
from engine.types import (
    AttributeSpec,
    Filter,
    Item,
    ItemId,
    ItemUpdate,
    Priority,
    Schema,
    StoredItem,
    VersionInfo,
    Visibility,
)

logger = logging.getLogger(__name__)


_EXPIRED_AT_ONCE = 1000
_APPLIED_AT_ONCE = 512
"""Changes that searches wait for together: some 2 ms for deletes, which take longest."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """The threads that compute or commit, shared by all collections."""

    encode: EncodeLane
    search: SearchLane
    rank: RankLane
    commit: CommitLane


class Collection:
    """See the module. One version for now; ``index`` and ``encoder`` are the active one's."""

    def __init__(
        self,
        store: CollectionStore,
        index: VersionIndex,
        encoder: Encoder | None,
        *,
        lanes: Lanes,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        recall_target: float,
        lease_seconds: float,
        changed: Callable[[Collection], None],
        caught_up: Callable[[Collection, float | None], Awaitable[None]],
    ) -> None:
        self.store = store
        self.index = index
        self.encoder = encoder
        self.lanes = lanes
        self.limits = limits
        self.recall_target = recall_target
        self.truncated_items = 0
        self.ranking = load_ranking(store, lanes.rank)
        self._loop = loop
        self._changed = changed
        self._caught_up = caught_up
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()
        self._is_retired = False
        self._writer = Writer(
            store,
            encoder,
            encode_lane=lanes.encode,
            commit_lane=lanes.commit,
            validate=self._validate,
            committed=self._committed,
            are_busy=lambda: lanes.search.is_busy,
        )
        self._searcher = Searcher(
            index,
            encoder,
            encode_lane=lanes.encode,
            search_lane=lanes.search,
            limits=limits,
            recall_target=recall_target,
            lease_seconds=lease_seconds,
            visible=self.visible,
        )

    @property
    def name(self) -> str:
        return self.store.schema.name

    @property
    def schema(self) -> Schema:
        return self.store.schema

    @property
    def version(self) -> VersionInfo:
        return self.index.version

    # Reads

    async def search(self, call: SearchCall, *, objectives: Sequence[Scoring] = ()) -> SearchAnswer:
        """See ``Searcher.search``; hits are ranked where the collection has a pipeline. ``objectives``: scorings for
        each of which every query is answered, in the order of queries, then of objectives.
        """
        ranking = self.ranking
        with self._while_served():
            if objectives:
                call = for_each_objective(call, objectives, self.index.schema, self.limits)
            if ranking is None:
                return await self._searcher.search(without_pipeline(call, self.name))
            return await ranking.search(call, self._searcher.search, schema=self.index.schema, limits=self.limits)

    async def encode(
        self, texts: Sequence[str], *, version: str = "", priority: Priority, deadline: float | None
    ) -> list[EncodedText | EngineError]:
        """See ``Searcher.encode``."""
        return await self._searcher.encode(texts, version=version, priority=priority, deadline=deadline)

    async def get(self, ids: Sequence[ItemId], *, vectors: bool = False) -> list[StoredItem | None]:
        with self._while_served():
            return await asyncio.to_thread(self._get, ids, vectors)

    async def count(self, tree: Filter) -> tuple[int, int]:
        """Live items that pass the filter, and the sequence number this holds for."""
        program = compile_filter(tree, self.schema)
        return await self.lanes.search.call(lambda: (count(self.index, program), self.index.sequence))

    async def scroll(
        self, after: ItemId | None, *, tree: Filter, limit: int, vectors: bool
    ) -> tuple[list[StoredItem], ItemId | None]:
        """The next items in the order of ids that pass the filter, and the id to go on after, None at the end."""
        passing: set[ItemId] | None = None
        if not tree.is_empty():
            program = compile_filter(tree, self.schema)
            ids = await self.lanes.search.call(lambda: matching_ids(self.index, program))
            passing = set(ids.tolist())
        with self._while_served():
            return await asyncio.to_thread(self._scroll, after, passing, limit, vectors)

    def _scroll(
        self, after: ItemId | None, passing: set[ItemId] | None, limit: int, vectors: bool
    ) -> tuple[list[StoredItem], ItemId | None]:
        page: list[StoredItem] = []
        while len(page) < limit:
            items = self.store.scroll(after, limit=max(limit, 256))
            if not items:
                return self._with_vectors(page, vectors), None
            after = items[-1].id
            page.extend(item for item in items if passing is None or item.id in passing)
        # Of the page as it was found: an item deleted since has no vectors and is left out.
        return self._with_vectors(page[:limit], vectors), page[limit - 1].id

    def _get(self, ids: Sequence[ItemId], vectors: bool) -> list[StoredItem | None]:
        found = self.store.get(ids, vectors=vectors)
        return [None if item is None else by_name(item, self.schema) for item in found]

    def _with_vectors(self, page: list[StoredItem], vectors: bool) -> list[StoredItem]:
        if not vectors:
            return page
        found = self._get([item.id for item in page], vectors)
        return [item for item in found if item is not None]

    # Writes

    async def prepare_items(self, items: Iterable[Item | Refusal], *, deadline: float | None = None) -> PreparedItems:
        """Items (or refusals the caller made already) made ready for ``upsert``; see ``Writer.prepare``. Many of them
        once the index has caught up with those before.
        """
        prepared = await self._writer.prepare(items)
        if prepared.n_items > ITEMS_A_TURN:
            await self._caught_up(self, deadline)
        return prepared

    async def upsert(
        self,
        prepared: PreparedItems,
        *,
        visibility: Visibility,
        request_id: str = "",
        priority: Priority = Priority.WRITE,
        deadline: float | None = None,
    ) -> Written:
        """See ``Writer.upsert``."""
        if prepared.n_items > self.limits.upsert_items:
            raise LimitExceeded("items", value=prepared.n_items, limit=self.limits.upsert_items, unit="items a call")
        validate_request_id(request_id)
        with self._while_served():
            written = await self._writer.upsert(
                prepared, visibility=visibility, request_id=request_id, priority=priority, deadline=deadline
            )
        self.truncated_items += written.truncated_items
        if visibility is Visibility.SEARCHABLE:
            await self.visible(written.sequence, deadline)
        return written

    async def prepare_columns(self, items: ItemColumns, *, deadline: float | None = None) -> PreparedColumns:
        """Items as columns made ready for ``upsert_columns``, in a thread, once the index has caught up with others.

        Raises:
            InvalidArgument: what is wrong with all of them.
        """
        if len(items) > self.limits.upsert_items:
            raise LimitExceeded("ids", value=len(items), limit=self.limits.upsert_items, unit="items a request")
        await self._caught_up(self, deadline)
        return await asyncio.to_thread(prepare_columns, items, self.schema, self.version.dimension, self.limits)

    async def upsert_columns(
        self,
        prepared: PreparedColumns,
        *,
        visibility: Visibility,
        request_id: str = "",
        deadline: float | None = None,
    ) -> Written:
        """See ``Writer.upsert_columns``."""
        validate_request_id(request_id)
        with self._while_served():
            written = await self._writer.upsert_columns(
                prepared, visibility=visibility, request_id=request_id, deadline=deadline
            )
        if visibility is Visibility.SEARCHABLE:
            await self.visible(written.sequence, deadline)
        return written

    async def prepare_updates(
        self, updates: Iterable[ItemUpdate | Refusal], *, deadline: float | None = None
    ) -> list[ItemUpdate | Refusal]:
        """Updates (or refusals the caller made already) checked for ``update``; many of them as ``prepare_items``."""
        checked = await self._writer.check_updates(updates)
        if len(checked) > ITEMS_A_TURN:
            await self._caught_up(self, deadline)
        return checked

    async def update(
        self,
        updates: Sequence[ItemUpdate | Refusal],
        *,
        visibility: Visibility,
        request_id: str = "",
        deadline: float | None = None,
    ) -> Written:
        """Updates that ``prepare_updates`` has checked; see ``Writer.update``."""
        if len(updates) > self.limits.upsert_items:
            raise LimitExceeded("updates", value=len(updates), limit=self.limits.upsert_items, unit="items a call")
        validate_request_id(request_id)
        with self._while_served():
            written = await self._writer.update(
                updates, visibility=visibility, request_id=request_id, deadline=deadline
            )
        if visibility is Visibility.SEARCHABLE:
            await self.visible(written.sequence, deadline)
        return written

    async def delete(
        self, ids: Sequence[ItemId], *, visibility: Visibility, request_id: str = "", deadline: float | None = None
    ) -> Written:
        """See ``Writer.delete``; of any number, for a filter may find as many."""
        validate_request_id(request_id)
        with self._while_served():
            written = await self._writer.delete(ids, visibility=visibility, request_id=request_id, deadline=deadline)
        if visibility is Visibility.SEARCHABLE:
            await self.visible(written.sequence, deadline)
        return written

    async def delete_expired(self) -> None:
        """Delete what has expired, which no search finds any more, some at a time."""
        while await self._writer.delete_expired(self.index.clock(), limit=_EXPIRED_AT_ONCE) == _EXPIRED_AT_ONCE:
            pass

    async def delete_by_filter(
        self, tree: Filter, *, visibility: Visibility, request_id: str = "", deadline: float | None = None
    ) -> Written:
        """Delete what passes the filter once every write acknowledged before this call is visible to it."""
        program = compile_filter(tree, self.schema)
        await self.visible(self.store.sequence, deadline)
        ids = await self.lanes.search.call(lambda: matching_ids(self.index, program))
        return await self.delete(ids.tolist(), visibility=visibility, request_id=request_id, deadline=deadline)

    async def add_attribute(self, spec: AttributeSpec) -> Schema:
        """A new attribute on the live collection, null for every item so far."""
        validate_new_attribute(spec, self.schema, self.limits)
        return await self._change_schema(
            lambda: self.store.add_attribute(spec), lambda schema: self.index.add_attribute(spec, schema)
        )

    async def set_profile(self, profile: ScoringProfile, *, default: bool | None = None) -> ScoringProfile:
        """A scoring by name, in the place of the one of that name; ``default``: whether it is for queries that give
        none, as before unless told. Returns it with its revision.
        """
        schema = await self._change_schema(
            lambda: self.store.change_schema(with_profile(self.schema, profile, self.limits, default=default)),
            self.index.follow_schema,
        )
        return next(one for one in schema.profiles if one.name == profile.name)

    async def remove_profile(self, name: str) -> None:
        """
        Raises:
            InvalidArgument: there is none of that name.
        """
        await self._change_schema(
            lambda: self.store.change_schema(without_profile(self.schema, name)), self.index.follow_schema
        )

    async def set_pipeline(self, pipeline: Pipeline) -> Pipeline:
        """Rank searches that begin from now on by this pipeline, whose model's files are copied; what was there before
        ranks those under way.

        Raises:
            InvalidArgument: it does not fit the schema, or its model cannot be loaded or does not fit it.
        """
        check_pipeline(pipeline, self.schema, self.limits, "pipeline")
        opened = await asyncio.to_thread(open_source, pipeline)
        await asyncio.to_thread(self.store.place_ranker, opened.pipeline.ranker_version, opened.files)
        await self._change_pipeline(opened)
        return opened.pipeline

    async def remove_pipeline(self) -> None:
        """Searches that begin from now on have the fused order.

        Raises:
            NoPipeline: there is none.
        """
        if self.schema.pipeline is None:
            raise NoPipeline(self.name)
        await self._change_pipeline(None)

    async def _change_pipeline(self, opened: OpenedRanker | None) -> None:
        pipeline = None if opened is None else opened.pipeline
        await self._change_schema(
            lambda: self.store.change_schema(replace(self.schema, pipeline=pipeline)), self.index.follow_schema
        )
        self.ranking = None if opened is None else Ranking(opened.pipeline, opened.ranker, lane=self.lanes.rank)

    async def _change_schema(self, change: Callable[[], Schema], follow: Callable[[Schema], None]) -> Schema:
        """``change`` in the commit lane, then have the index follow; back when searches see it."""
        loop = asyncio.get_running_loop()
        changed: asyncio.Future[Schema] = loop.create_future()

        def act() -> None:
            try:
                schema = change()
                self.lanes.search.post(lambda: follow(schema))
                loop.call_soon_threadsafe(changed.set_result, schema)
            except EngineError as error:
                loop.call_soon_threadsafe(changed.set_exception, error)

        self.lanes.commit.post(act)
        schema = await changed
        await self.lanes.search.call(lambda: None)
        return schema

    async def visible(self, sequence: int, deadline: float | None) -> None:
        """Wait until writes up to ``sequence`` are visible to searches.

        Raises:
            DeadlineExceeded: the deadline passed first.
            CollectionNotFound: the collection was deleted first.
        """
        if self.index.sequence >= sequence:
            return
        if self._is_retired:
            raise CollectionNotFound(self.name)
        future: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._waiters, (sequence, next(self._ticket), future))
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
                await future
        except TimeoutError:
            raise DeadlineExceeded(f"sequence {sequence} was not searchable within the deadline") from None
        finally:
            self._forget_given_up()

    def retire(self) -> None:
        """The collection is being deleted: nobody waits for what will not come, and what fails now says why."""
        self._is_retired = True
        for _, _, future in self._waiters:
            if not future.done():
                future.set_exception(CollectionNotFound(self.name))
        self._waiters.clear()

    def close(self) -> None:
        """Once nothing searches or writes any more."""
        self.keep_query_log()
        self._keep_rows()
        self.store.close()

    def _keep_rows(self) -> None:
        """For a quick start; that it fails loses nothing either."""
        if self.index.sequence == self.index.image_sequence:
            return
        try:
            write_last_image(self.store, self.index)
        except EngineError as error:
            logger.warning("the rows of %s could not be written to an image: %s", self.name, error)

    def keep_query_log(self) -> None:
        """Write down which queries to tune with; that it fails loses no item and stops nothing."""
        if not len(self.index.query_log):
            return
        try:
            self.index.query_log.save(query_log_path(self.store.segments(self.version.id).folder))
        except OSError as error:
            logger.warning("the query log of %s could not be written: %s", self.name, error)

    def abandon(self) -> None:
        """See ``CollectionStore.abandon``."""
        self.store.abandon()

    # Behind the methods above

    def _committed(self, outcome: WriteOutcome) -> None:
        """In the commit lane's thread, in the order of sequence numbers: the changes go to the search lane, not more at
        once than searches may wait for.
        """
        changes = outcome.changes
        for first in range(0, max(1, len(changes)), _APPLIED_AT_ONCE):
            part = changes[first : first + _APPLIED_AT_ONCE]
            is_last = first + len(part) == len(changes)
            self._apply_soon(part, outcome.sequence if is_last else part[-1].sequence)

    def _apply_soon(self, changes: Sequence[Change | ColumnsChange], sequence: int) -> None:
        analysed = self.index.analyse(changes)

        def apply() -> None:
            self.index.apply(changes, sequence=sequence, analysed=analysed)
            self._loop.call_soon_threadsafe(self._wake)

        self.lanes.search.post(apply)

    @contextmanager
    def _while_served(self) -> Iterator[None]:
        try:
            yield
        except (EngineError, OSError) as error:
            if self._is_retired:
                raise CollectionNotFound(self.name) from error
            raise

    def _forget_given_up(self) -> None:
        """Drop waiters that left, once they are most of all: a sequence that is never reached would keep them."""
        waiting = [one for one in self._waiters if not one[2].done()]
        if len(self._waiters) > 2 * len(waiting) + 16:
            heapq.heapify(waiting)
            self._waiters = waiting

    def _wake(self) -> None:
        while self._waiters and self._waiters[0][0] <= self.index.sequence:
            _, _, future = heapq.heappop(self._waiters)
            if not future.done():
                future.set_result(None)
        self._changed(self)

    def _validate(self, item: Item, schema: Schema) -> Item:
        return validate_item(item, schema, self.version.dimension, self.limits)
