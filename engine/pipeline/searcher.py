"""The read path of a collection: check a call, encode its texts, search, put every query's outcome in its place.

Runs on the event loop and computes nothing itself. What is wrong with one query fails it alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from engine.embeddings import query_weights
from engine.errors import EngineError, InvalidArgument, LimitExceeded, VersionNotFound
from engine.index.facet_counts import FacetCounting
from engine.index.version_index import VersionIndex
from engine.items import validate_id
from engine.lanes.encode import EncodedText, EncodeLane
from engine.lanes.lane import Done, Lane
from engine.limits import Limits
from engine.models.protocol import Encoder
from engine.pipeline.calls import (
    SearchAnswer,
    SearchCall,
    check_call,
    check_params,
    field_of,
)
from engine.pipeline.compiling import Compiler
from engine.pipeline.cursors import Cursor, Seal, fingerprint
from engine.pipeline.examples import check_examples
from engine.pipeline.query_vectors import Encoded, QueryVectors
from engine.pipeline.rank_fusion import calls_of, fused_by_ranks, is_fused_by_ranks
from engine.pipeline.scoring import SIMILARITY_ALONE
from engine.pipeline.search import CompiledParams, JobResult, SearchJob
from engine.selection import FacetCounts
from engine.selections import check_facets, check_group, check_page, resolve_diversity
from engine.types import (
    Explanation,
    Float32Array,
    LegColumn,
    NextPage,
    Priority,
    Schema,
    StageTimes,
    Strategy,
    Timestamp,
    VersionInfo,
)

T = TypeVar("T")
SearchLane = Lane[SearchJob, JobResult]


class Searcher:
    """Searches one version: its index with its encoder.

    Args:
        recall_target: of queries that name none.
        lease_seconds: how long a page's moment is kept for the next one.
        visible: waits until a sequence number is searchable, or a deadline passes.
    """

    def __init__(
        self,
        index: VersionIndex,
        encoder: Encoder | None,
        *,
        encode_lane: EncodeLane,
        search_lane: SearchLane,
        limits: Limits,
        recall_target: float,
        lease_seconds: float,
        visible: Callable[[int, float | None], Coroutine[Any, Any, None]],
    ) -> None:
        self._index = index
        self._vectors = QueryVectors(index, encoder, encode_lane, limits)
        self._search_lane = search_lane
        self._limits = limits
        self._recall_target = recall_target
        self._lease_seconds = lease_seconds
        self._seal = Seal()
        self._visible = visible

    async def search(self, call: SearchCall) -> SearchAnswer:
        """Answer every query of the call, each on its own; what is wrong with the call as a whole is raised."""
        check_call(call, self._limits)
        if is_fused_by_ranks(call):
            dense, lexical = await asyncio.gather(*(self.search(leg) for leg in calls_of(call)))
            return await self._search_lane.call(lambda: fused_by_ranks(call, dense, lexical))
        self._check_version(call.version)
        compiled, errors = self._compile(call, self._vectors.offered(call))
        terms = self._terms(call, compiled, errors)
        if call.min_sequence is not None:
            await self._visible(call.min_sequence, call.deadline)
        encoded = await self._vectors.of(call, compiled)
        errors = {**errors, **encoded.errors}
        if call.names_items:
            errors |= self._unsound_items(call)
        places = [place for place in range(call.n_queries) if place not in errors] if errors else None
        if places is not None and not places:
            return self._unanswered(call, errors)
        job = self._job(call, compiled, encoded, places, terms)
        done = await self._search_lane.submit(
            job,
            group=id(self._index),
            cost=job.n_queries,
            priority=call.priority,
            deadline=call.deadline,
            max_queue_delay=call.max_queue_delay,
        )
        await self._count_facets(done.result.countings)
        return self._answer(call, compiled, done, encoded, errors, places)

    async def encode(
        self, texts: Sequence[str], *, version: str = "", priority: Priority, deadline: float | None
    ) -> list[EncodedText | EngineError]:
        """One outcome for each text; vectors float32 [1, d] as the query side encodes them."""
        self._check_version(version)
        fields = [f"{field_of('query', place, len(texts))}.text" for place in range(len(texts))]
        return await self._vectors.encode(texts, fields=fields, priority=priority, deadline=deadline)

    async def _count_facets(self, countings: Sequence[FacetCounting | None]) -> None:
        """In slices between batches: searches of others do not wait for it."""
        for counting in {id(one): one for one in countings if one is not None}.values():
            while await self._search_lane.call(counting.step):
                pass

    @property
    def _version(self) -> VersionInfo:
        return self._index.version

    @property
    def _schema(self) -> Schema:
        return self._index.schema

    def _check_version(self, version: str) -> None:
        if version and version != self._version.id:
            raise VersionNotFound(self._schema.name, version)

    def _unsound_items(self, call: SearchCall) -> dict[int, EngineError]:
        """What is wrong with queries made of items or of examples."""
        errors: dict[int, EngineError] = {}
        for place in range(call.n_queries):
            field = call.query_field(place)
            try:
                if call.item_ids:
                    validate_id(call.item_ids[place], self._schema, f"{field}.item_id")
                else:
                    check_examples(
                        _sound(call.examples[place]), self._schema, self._version, self._limits, f"{field}.examples"
                    )
            except EngineError as error:
                errors[place] = error
        return errors

    def _compile(
        self, call: SearchCall, offered: Collection[str]
    ) -> tuple[list[CompiledParams | None], dict[int, EngineError]]:
        """Parameters with their filters compiled; what is wrong with those of one query fails it alone."""
        compiled: list[CompiledParams | None] = []
        errors: dict[int, EngineError] = {}
        compiler = Compiler(self._schema, self._limits)
        for place in range(len(call.params)):
            try:
                compiled.append(self._compile_one(call, place, offered, compiler))
            except EngineError as error:
                if call.shares_params:
                    raise
                compiled.append(None)
                errors[place] = error
        return compiled, errors

    def _compile_one(
        self, call: SearchCall, place: int, offered: Collection[str], compiler: Compiler
    ) -> CompiledParams:
        params, field = _sound(call.params[place]), call.params_field(place)
        check_params(params, self._limits, field)
        for one in params.exclude_ids[:1]:
            validate_id(one if isinstance(one, str) else int(one), self._schema, f"{field}.exclude_ids")
        if params.group_by is not None:
            check_group(params.group_by, self._schema, self._limits, f"{field}.group_by")
        if params.diversity is not None:
            diversity = resolve_diversity(params.diversity, params.k, self._limits, f"{field}.diversity")
            params = replace(params, diversity=diversity)
        check_facets(params.facets, self._schema, self._limits, f"{field}.facets")
        scoring = compiler.scoring(params, f"{field}.scoring")
        if scoring is None and params.legs:
            scoring = SIMILARITY_ALONE
        weights = None
        if params.embedding_weights or self._schema.embeddings:
            weights = query_weights(params.embedding_weights, self._schema, offered, field)
        compiled = CompiledParams(
            params,
            compiler.program(params.filter),
            self._recall_target,
            scoring,
            is_narrowed=self._schema.takes_maximum and weights is not None and not weights.all(),
            lease_seconds=self._lease_seconds,
            weights=weights,
        )
        return self._with_page(call, compiled, place, field) if params.page or params.cursor else compiled

    def _with_page(self, call: SearchCall, compiled: CompiledParams, place: int, field: str) -> CompiledParams:
        """The parameters with what the cursor says that they have."""
        params, cursor = compiled.params, None
        if params.cursor:
            if len(call.params) < call.n_queries:
                raise InvalidArgument(f"{field}.cursor", "is of one query: give each query parameters of its own")
            asked = fingerprint(call.query(place), params, compiled.program, compiled.scoring, compiled.weights)
            cursor = self._seal.open(params.cursor, asked, f"{field}.cursor", now=self._index.clock())
        check_page(params, self._limits, field, seen=0 if cursor is None else cursor.seen)
        return replace(compiled, params=replace(params, page=True), cursor=cursor)

    def _next_pages(
        self,
        call: SearchCall,
        compiled: Sequence[CompiledParams | None],
        cursors: Sequence[Cursor | None],
        places: Sequence[int],
    ) -> list[NextPage | None]:
        """Of every query of the call, where some asks for pages."""
        told: list[NextPage | None] = [None] * call.n_queries if cursors else []
        for place, cursor in zip(places, cursors, strict=False):
            own = compiled[place if len(compiled) > 1 else 0]
            if cursor is not None and own is not None:
                asked = fingerprint(call.query(place), own.params, own.program, own.scoring, own.weights)
                told[place] = NextPage(self._seal.close(cursor, asked), Timestamp(cursor.expires_at))
        return told

    def _job(
        self,
        call: SearchCall,
        compiled: Sequence[CompiledParams | None],
        encoded: Encoded,
        places: Sequence[int] | None,
        terms: Sequence[str],
    ) -> SearchJob:
        """The call's sound queries; ``places`` None where all are."""
        are_as_given = places is None and call.n_objectives == 1
        chosen = range(call.n_queries) if places is None else places
        of_each = compiled if len(compiled) == 1 else [compiled[place % len(compiled)] for place in chosen]
        return SearchJob(
            self._index,
            [one for one in of_each if one is not None],
            vectors=None if call.names_items or encoded.named else _taken(encoded.vectors, places),
            item_ids=[call.item_ids[place] for place in chosen] if call.item_ids else (),
            examples=[_sound(call.examples[place]) for place in chosen] if call.examples else (),
            explain=call.explain,
            terms=[terms[place] for place in chosen] if terms else (),
            item_inputs=call.item_inputs,
            fields=() if are_as_given else [call.query_field(place) for place in chosen],
            named={name: _taken(own, places) for name, own in encoded.named.items()},
            forms=encoded.forms,
        )

    def _terms(
        self, call: SearchCall, compiled: Sequence[CompiledParams | None], errors: dict[int, EngineError]
    ) -> Sequence[str]:
        """What each query of the call is searched for by terms: the text given for that, or else its own; none where
        the lexical score counts for none. A query that asks for terms and has no text fails.
        """
        if not any(one is not None and one.scoring is not None and one.scoring.lexical > 0 for one in compiled):
            return ()
        each = call.of_each(compiled)
        terms = [
            (one.params.terms if one is not None else "") or call.own_text(place) for place, one in enumerate(each)
        ]
        for place, (own, one) in enumerate(zip(terms, each, strict=True)):
            field = f"{call.params_field(place)}.terms"
            size = len(own.encode())
            if one is not None and one.params.mode in ("lexical", "hybrid") and not own.strip():
                errors[place] = InvalidArgument(
                    field, f"is empty, and so is the query's text: mode is {one.params.mode}"
                )
            elif size > self._limits.text_bytes:
                errors[place] = LimitExceeded(field, value=size, limit=self._limits.text_bytes, unit="bytes")
        return terms

    def _answer(
        self,
        call: SearchCall,
        compiled: Sequence[CompiledParams | None],
        done: Done[JobResult],
        encoded: Encoded,
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
        told = _told(
            result.explanations, times, [encoded.truncated[place] for place in chosen] if encoded.truncated else ()
        )
        of_job = {chosen[i]: error for i, error in enumerate(result.errors) if error is not None}
        all_errors = {**errors, **of_job}
        if places is None:
            counts, explanations = result.counts, told
        else:
            counts = np.zeros(call.n_queries, np.uint32)
            counts[list(places)] = result.counts
            spread = dict(zip(places, told, strict=False))
            nothing = Explanation(Strategy.NONE, index_version=self._version.id, times=StageTimes())
            explanations = [spread.get(place, nothing) for place in range(call.n_queries)] if call.explain else []
        listed = [all_errors.get(place) for place in range(call.n_queries)] if all_errors else ()
        return SearchAnswer(
            counts,
            result.ids,
            result.scores,
            listed,
            explanations,
            self._version,
            result.sequence,
            times,
            result.legs if places is None else _spread_weights(result.legs, places, call.n_queries),
            _facets_of(result.countings, chosen, call.n_queries),
            result.item_inputs,
            next_pages=self._next_pages(call, compiled, result.cursors, chosen),
        )

    def _unanswered(self, call: SearchCall, errors: Mapping[int, EngineError]) -> SearchAnswer:
        nothing = Explanation(Strategy.NONE, index_version=self._version.id)
        ids: npt.NDArray[Any] = np.zeros(0, np.uint64 if self._schema.id_type == "uint64" else object)
        return SearchAnswer(
            counts=np.zeros(call.n_queries, np.uint32),
            ids=ids,
            scores=np.zeros(0, np.float32),
            errors=[errors.get(place) for place in range(call.n_queries)],
            explanations=[nothing] * call.n_queries if call.explain else (),
            version=self._version,
            sequence=self._index.sequence,
            times=StageTimes(),
        )


def _sound(given: T | EngineError) -> T:
    if isinstance(given, EngineError):
        raise given
    return given


def _facets_of(
    countings: Sequence[FacetCounting | None], places: Sequence[int], n_queries: int
) -> list[Sequence[FacetCounts]]:
    """Of every query of the call; none of those that ask for none or failed."""
    told: list[Sequence[FacetCounts]] = [()] * n_queries if countings else []
    for place, counting in zip(places, countings, strict=False):
        if counting is not None:
            told[place] = counting.counts
    return told


def _taken(vectors: Float32Array, places: Sequence[int] | None) -> Float32Array:
    """Those of some queries, or of all."""
    return vectors if places is None else vectors[list(places)]


def _spread_weights(legs: Sequence[LegColumn], places: Sequence[int], n_queries: int) -> list[LegColumn]:
    """The legs with the weights of the queries that were left out, 0, back in their places."""
    told = []
    for leg in legs:
        weights = np.zeros(n_queries, np.float32)
        weights[list(places)] = leg.weights
        told.append(replace(leg, weights=weights))
    return told


def _told(explanations: Sequence[Explanation], times: StageTimes, truncated: Sequence[int]) -> list[Explanation]:
    """The explanations with what only the whole call knows; queries that share one go on sharing it."""
    made: dict[tuple[int, int], Explanation] = {}
    told = []
    for place, one in enumerate(explanations):
        tokens = truncated[place] if truncated else 0
        key = (id(one), tokens)
        if key not in made:
            made[key] = replace(one, times=times, truncated_tokens=tokens)
        told.append(made[key])
    return told
