"""A collection while it is served: its store, its index, its encoder, and how calls go through the lanes.

Methods run on the event loop and compute nothing themselves.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import DeadlineExceeded, EngineError, InvalidArgument, LimitExceeded, NoEncoder, VersionNotFound
from engine.index.filters import compile_filter
from engine.index.version_index import VersionIndex
from engine.ingest.texts import normalised
from engine.ingest.writer import CommitLane, Writer, Written
from engine.items import validate_item
from engine.lanes.encode import EncodedText, EncodeLane
from engine.lanes.lane import Done, Lane
from engine.limits import Limits
from engine.models.protocol import Encoder
from engine.pipeline.calls import SearchAnswer, SearchCall, check_call, check_params, check_vectors, field_of, unsound_vectors
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, count, matching_ids
from engine.store import CollectionStore, WriteOutcome
from engine.types import (
    AttributeSpec,
    Explanation,
    Filter,
    Float32Array,
    Item,
    ItemId,
    Priority,
    Schema,
    SearchParams,
    StageTimes,
    StoredItem,
    Strategy,
    VersionInfo,
    Visibility,
)


SearchLane = Lane[SearchJob, JobResult]


@dataclass(frozen=True, slots=True)
class Lanes:
    """The threads that compute or commit, shared by all collections."""

    encode: EncodeLane
    search: SearchLane
    commit: CommitLane


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Query vectors float32 [B, d] (zeros where a text failed), and what encoding told of each query."""

    vectors: Float32Array
    errors: Mapping[int, EngineError]
    truncated: Sequence[int]
    queue_seconds: float
    encode_seconds: float


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
        changed: Callable[[Collection], None],
    ) -> None:
        self.store = store
        self.index = index
        self.encoder = encoder
        self.lanes = lanes
        self.limits = limits
        self.recall_target = recall_target
        self.truncated_items = 0
        self.upkeep_stage = ""
        self._loop = loop
        self._changed = changed
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()
        self._writer = Writer(
            store,
            encoder,
            encode_lane=lanes.encode,
            commit_lane=lanes.commit,
            validate=self._validate,
            committed=self._committed,
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

    async def search(self, call: SearchCall) -> SearchAnswer:
        """Answer every query of the call, each on its own; what is wrong with the call as a whole is raised."""
        check_call(call, self.limits)
        self._check_version(call.version)
        compiled, errors = self._compile(call)
        if call.min_sequence is not None:
            await self.visible(call.min_sequence, call.deadline)
        encoded = await self._vectors_of(call, errors)
        errors = {**errors, **encoded.errors}
        if call.vectors is None and not call.texts:
            errors |= self._unsound_ids(call.item_ids)
        places = [place for place in range(call.n_queries) if place not in errors] if errors else None
        if places is not None and not places:
            return self._unanswered(call, errors)
        job = self._job(call, compiled, encoded.vectors, places)
        done = await self.lanes.search.submit(
            job,
            group=id(self.index),
            cost=job.n_queries,
            priority=call.priority,
            deadline=call.deadline,
            max_queue_delay=call.max_queue_delay,
        )
        return self._answer(call, done, encoded, errors, places)

    async def encode(
        self, texts: Sequence[str], *, version: str = "", priority: Priority, deadline: float | None
    ) -> list[EncodedText | EngineError]:
        """One outcome for each text; vectors float32 [1, d] as the query side encodes them."""
        self._check_version(version)
        return await self._encode_queries(texts, priority=priority, deadline=deadline, max_queue_delay=None)

    async def get(self, ids: Sequence[ItemId], *, vectors: bool = False) -> list[StoredItem | None]:
        return await asyncio.to_thread(self.store.get, ids, vectors=vectors)

    async def count(self, tree: Filter) -> tuple[int, int]:
        """Live items that pass the filter, and the sequence number this holds for."""
        program = compile_filter(tree, self.schema)
        return await self.lanes.search.call(lambda: (count(self.index, program), self.index.sequence))

    async def scroll(
        self, after: ItemId | None, *, tree: Filter, limit: int, vectors: bool
    ) -> tuple[list[StoredItem], bool]:
        """The next items in the order of ids that pass the filter, and whether there may be more."""
        passing: set[ItemId] | None = None
        if not tree.is_empty():
            program = compile_filter(tree, self.schema)
            ids = await self.lanes.search.call(lambda: matching_ids(self.index, program))
            passing = set(ids.tolist())
        return await asyncio.to_thread(self._scroll, after, passing, limit, vectors)

    def _scroll(
        self, after: ItemId | None, passing: set[ItemId] | None, limit: int, vectors: bool
    ) -> tuple[list[StoredItem], bool]:
        page: list[StoredItem] = []
        while len(page) < limit:
            items = self.store.scroll(after, limit=max(limit, 256))
            if not items:
                return self._with_vectors(page, vectors), False
            after = items[-1].id
            page.extend(item for item in items if passing is None or item.id in passing)
        return self._with_vectors(page[:limit], vectors), True

    def _with_vectors(self, page: list[StoredItem], vectors: bool) -> list[StoredItem]:
        if not vectors:
            return page
        found = self.store.get([item.id for item in page], vectors=True)
        return [item for item in found if item is not None]

    # Writes

    async def upsert(
        self,
        items: Sequence[Any],
        *,
        visibility: Visibility,
        request_id: str = "",
        priority: Priority = Priority.WRITE,
        deadline: float | None = None,
    ) -> Written:
        """Items (or refusals the caller made already); see ``Writer.upsert``."""
        if len(items) > self.limits.upsert_items:
            raise LimitExceeded("items", value=len(items), limit=self.limits.upsert_items, unit="items a call")
        written = await self._writer.upsert(
            items, visibility=visibility, request_id=request_id, priority=priority, deadline=deadline
        )
        self.truncated_items += written.truncated_items
        if visibility is Visibility.SEARCHABLE:
            await self.visible(written.sequence, deadline)
        return written

    async def delete(
        self, ids: Sequence[ItemId], *, visibility: Visibility, request_id: str = "", deadline: float | None = None
    ) -> Written:
        for place, one in enumerate(ids):
            self._check_id(one, f"ids[{place}]")
        written = await self._writer.delete(ids, visibility=visibility, request_id=request_id, deadline=deadline)
        if visibility is Visibility.SEARCHABLE:
            await self.visible(written.sequence, deadline)
        return written

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
        loop = asyncio.get_running_loop()
        added: asyncio.Future[Schema] = loop.create_future()

        def add() -> None:
            try:
                schema = self.store.add_attribute(spec)
                self.lanes.search.post(lambda: self.index.add_attribute(spec, schema))
                loop.call_soon_threadsafe(added.set_result, schema)
            except EngineError as error:
                loop.call_soon_threadsafe(added.set_exception, error)

        self.lanes.commit.post(add)
        schema = await added
        await self.lanes.search.call(lambda: None)
        return schema

    async def visible(self, sequence: int, deadline: float | None) -> None:
        """Wait until writes up to ``sequence`` are visible to searches.

        Raises:
            DeadlineExceeded: the deadline passed first.
        """
        if self.index.sequence >= sequence:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._waiters, (sequence, next(self._ticket), future))
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
                await future
        except TimeoutError:
            raise DeadlineExceeded(f"sequence {sequence} was not searchable within the deadline") from None

    def close(self) -> None:
        self.store.close()

    # Behind the methods above

    def _committed(self, outcome: WriteOutcome) -> None:
        """In the commit lane's thread, in the order of sequence numbers: the changes go to the search lane."""

        def apply() -> None:
            self.index.apply(outcome.changes, sequence=outcome.sequence)
            self._loop.call_soon_threadsafe(self._wake)

        self.lanes.search.post(apply)

    def _wake(self) -> None:
        while self._waiters and self._waiters[0][0] <= self.index.sequence:
            _, _, future = heapq.heappop(self._waiters)
            if not future.done():
                future.set_result(None)
        self._changed(self)

    def _validate(self, item: Item, schema: Schema) -> Item:
        return validate_item(item, schema, self.version.dimension, self.limits)

    def _check_version(self, version: str) -> None:
        if version and version != self.version.id:
            raise VersionNotFound(self.name, version)

    def _check_id(self, item_id: ItemId, field: str) -> None:
        if isinstance(item_id, int) != (self.schema.id_type == "uint64"):
            raise InvalidArgument(field, f"{item_id!r} is not a {self.schema.id_type} id, which this collection has")

    def _unsound_ids(self, ids: Sequence[ItemId]) -> dict[int, EngineError]:
        errors: dict[int, EngineError] = {}
        for place, one in enumerate(ids):
            try:
                self._check_id(one, f"{field_of('query', place, len(ids))}.item_id")
            except InvalidArgument as error:
                errors[place] = error
        return errors

    def _compile(self, call: SearchCall) -> tuple[list[CompiledParams | None], dict[int, EngineError]]:
        """Parameters with their filters compiled; what is wrong with those of one query fails it alone."""
        compiled: list[CompiledParams | None] = []
        errors: dict[int, EngineError] = {}
        for place, params in enumerate(call.params):
            try:
                compiled.append(self._compile_one(params, field_of("params", place, len(call.params))))
            except EngineError as error:
                if len(call.params) == 1:
                    raise
                compiled.append(None)
                errors[place] = error
        return compiled, errors

    def _compile_one(self, params: SearchParams | EngineError, field: str) -> CompiledParams:
        if isinstance(params, EngineError):
            raise params
        check_params(params, self.limits, field)
        for one in params.exclude_ids[:1]:
            self._check_id(one if isinstance(one, str) else int(one), f"{field}.exclude_ids")
        if params.recall_target is None:
            params = replace(params, recall_target=self.recall_target)
        return CompiledParams(params, compile_filter(params.filter, self.schema))

    async def _vectors_of(self, call: SearchCall, errors: Mapping[int, EngineError]) -> _Encoded:
        if call.texts:
            return await self._encoded(call, errors)
        if call.vectors is None:
            return _Encoded(np.zeros((0, 0), np.float32), {}, (), 0.0, 0.0)
        check_vectors(call.vectors, self.version)
        unsound = unsound_vectors(call.vectors, self.version)
        return _Encoded(self._as_stored(call.vectors), unsound, (), 0.0, 0.0)

    async def _encoded(self, call: SearchCall, errors: Mapping[int, EngineError]) -> _Encoded:
        outcomes = await self._encode_queries(
            call.texts, priority=call.priority, deadline=call.deadline, max_queue_delay=call.max_queue_delay
        )
        vectors = np.zeros((len(outcomes), self.version.dimension), np.float32)
        failed: dict[int, EngineError] = {}
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, EngineError):
                failed[place] = outcome
            else:
                vectors[place] = outcome.vectors[0]
        good = [one for one in outcomes if isinstance(one, EncodedText)]
        return _Encoded(
            self._as_stored(vectors),
            failed,
            [one.truncated_tokens if isinstance(one, EncodedText) else 0 for one in outcomes],
            max((one.queue_seconds for one in good), default=0.0),
            max((one.encode_seconds for one in good), default=0.0),
        )

    async def _encode_queries(
        self, texts: Sequence[str], *, priority: Priority, deadline: float | None, max_queue_delay: float | None
    ) -> list[EncodedText | EngineError]:
        """Empty and oversized texts fail alone, before they cost anything."""
        if self.encoder is None:
            raise NoEncoder(f"collection {self.name!r} has no encoder: search it with vectors or item ids")
        outcomes: list[EncodedText | EngineError | None] = [
            self._text_error(f"{field_of('query', place, len(texts))}.text", text) for place, text in enumerate(texts)
        ]
        sound = [place for place, outcome in enumerate(outcomes) if outcome is None]
        encoded = await self.lanes.encode.encode(
            self.encoder,
            [texts[place] for place in sound],
            role="query",
            priority=priority,
            deadline=deadline,
            max_queue_delay=max_queue_delay,
        )
        for place, one in zip(sound, encoded, strict=True):
            outcomes[place] = one
        return [one for one in outcomes if one is not None]

    def _text_error(self, field: str, text: str) -> EngineError | None:
        if not text.strip():
            return InvalidArgument(field, "is empty")
        size = len(text.encode())
        if size > self.limits.text_bytes:
            return LimitExceeded(field, value=size, limit=self.limits.text_bytes, unit="bytes")
        return None

    def _as_stored(self, vectors: Float32Array) -> Float32Array:
        return normalised(vectors) if self.version.metric == "cosine" else vectors

    def _job(
        self,
        call: SearchCall,
        compiled: Sequence[CompiledParams | None],
        vectors: Float32Array,
        places: Sequence[int] | None,
    ) -> SearchJob:
        """The call's sound queries; ``places`` None where all are."""
        is_by_id = call.vectors is None and not call.texts
        chosen = range(call.n_queries) if places is None else places
        of_each = compiled if len(compiled) == 1 else [compiled[place] for place in chosen]
        return SearchJob(
            self.index,
            [one for one in of_each if one is not None],
            vectors=None if is_by_id else vectors if places is None else vectors[list(places)],
            item_ids=[call.item_ids[place] for place in chosen] if is_by_id else (),
            explain=call.explain,
        )

    def _answer(
        self,
        call: SearchCall,
        done: Done[JobResult],
        encoded: _Encoded,
        errors: Mapping[int, EngineError],
        places: Sequence[int] | None,
    ) -> SearchAnswer:
        """The job's result with the queries that were left out back in their places."""
        result = done.result
        times = replace(
            result.times,
            queue=done.queue_seconds + encoded.queue_seconds,
            encode=encoded.encode_seconds,
        )
        chosen = range(call.n_queries) if places is None else places
        told = [
            replace(one, times=times, truncated_tokens=encoded.truncated[place] if encoded.truncated else 0)
            for place, one in zip(chosen, result.explanations, strict=bool(result.explanations))
        ]
        of_job = {chosen[i]: error for i, error in enumerate(result.errors) if error is not None}
        all_errors = {**errors, **of_job}
        if places is None:
            counts, explanations = result.counts, told
        else:
            counts = np.zeros(call.n_queries, np.uint32)
            counts[list(places)] = result.counts
            spread = dict(zip(places, told, strict=False))
            nothing = Explanation(Strategy.NONE, index_version=self.version.id, times=StageTimes())
            explanations = [spread.get(place, nothing) for place in range(call.n_queries)] if call.explain else []
        listed = [all_errors.get(place) for place in range(call.n_queries)] if all_errors else ()
        return SearchAnswer(
            counts, result.ids, result.scores, listed, explanations, self.version, result.sequence, times
        )

    def _unanswered(self, call: SearchCall, errors: Mapping[int, EngineError]) -> SearchAnswer:
        nothing = Explanation(Strategy.NONE, index_version=self.version.id)
        ids: npt.NDArray[Any] = np.zeros(0, np.uint64 if self.schema.id_type == "uint64" else object)
        return SearchAnswer(
            counts=np.zeros(call.n_queries, np.uint32),
            ids=ids,
            scores=np.zeros(0, np.float32),
            errors=[errors.get(place) for place in range(call.n_queries)],
            explanations=[nothing] * call.n_queries if call.explain else (),
            version=self.version,
            sequence=self.index.sequence,
            times=StageTimes(),
        )
