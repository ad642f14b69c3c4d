"""The second stage: candidates of a search, ranked by the collection's model in a lane of its own, and the best k kept.

Whatever keeps a query from being ranked in time leaves its hits in the fused order, and says so: it is never an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import (
    DeadlineExceeded,
    Draining,
    EngineError,
    InvalidArgument,
    LimitExceeded,
    NoPipeline,
    QueueFull,
)
from engine.limits import Limits
from engine.pipeline.calls import SearchAnswer, SearchCall
from engine.pipeline.query_vectors import offered_embeddings
from engine.pipeline.rank_columns import Candidates, ItemInputs
from engine.pipeline.rank_lane import ModelOrder, RankJob, RankLane
from engine.pipeline.scoring import compile_scoring
from engine.ranking import LegInput, Pipeline, RankFallback
from engine.rankings import query_columns
from engine.scorings import FUSED, LEXICAL, SIMILARITY, similarity_leg
from engine.types import Float32Array, Int64Array, LegColumn, Schema, SearchParams

if TYPE_CHECKING:
    from engine.models.ranker import Ranker


_LEAST_PATIENCE_S, _PATIENCE = 30.0, 10
"""A caller waits no longer than so many seconds, or than so many times what is foreseen: a model may hang."""


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """What is to be ranked of a call. By query: k, and why it is not to be ranked, None where it is.

    ``queries``: query inputs of those that are, in their order.
    """

    ks: Int64Array
    fallbacks: list[RankFallback | None]
    queries: list[Float32Array]

    def leave_out(self, place: int) -> None:
        """A query that failed."""
        del self.queries[self.fallbacks[:place].count(None)]
        self.fallbacks[place] = "off"


class Ranking:
    """A collection's pipeline while it is served.

    Args:
        ranker: None where it could not be loaded, for the reason ``error``: hits then stay in the fused order.
    """

    def __init__(self, pipeline: Pipeline, ranker: Ranker | None, *, lane: RankLane, error: str = "") -> None:
        self.pipeline = pipeline
        self.ranker = ranker
        self.error = error
        self._lane = lane
        self._items = ItemInputs.of(pipeline.rank.inputs)
        self._legs = {one.leg for one in pipeline.rank.inputs if isinstance(one, LegInput)} - {FUSED}

    async def search(
        self,
        call: SearchCall,
        search: Callable[[SearchCall], Awaitable[SearchAnswer]],
        *,
        schema: Schema,
        limits: Limits,
    ) -> SearchAnswer:
        """Search for candidates, rank them, keep the best k of each query."""
        wanted, asked = self._prepared(call, limits)
        answer = await search(asked)
        for place, error in enumerate(answer.errors):
            if error is not None and wanted.fallbacks[place] is None:
                wanted.leave_out(place)
        began = time.perf_counter()
        ranked = await self._ranked(call, wanted, answer, schema, limits)
        return self._told(call, wanted, answer, ranked, time.perf_counter() - began)

    # Before the search

    def _prepared(self, call: SearchCall, limits: Limits) -> tuple[_Wanted, SearchCall]:
        """The call with as many candidates as are to be ranked; what is wrong with query features fails its query."""
        asked: list[SearchParams | EngineError] = []
        fallbacks: list[RankFallback | None] = []
        queries: list[Float32Array] = []
        for place, params in enumerate(call.params):
            fallback = self._fallback(params)
            widened = params
            try:
                if isinstance(params, SearchParams):
                    _check_mixture(params, call.params_field(place))
                    if fallback is None:
                        queries.append(query_columns(self.pipeline, params.query_features, call.params_field(place)))
                        widened = self._widened(params)
            except EngineError as error:
                if call.shares_params:
                    raise
                widened, fallback = error, "off"
            asked.append(widened)
            fallbacks.append(fallback)
        ks = call.of_each([one.k if isinstance(one, SearchParams) else 0 for one in call.params])
        n_alike = call.n_queries // len(call.params)
        fallbacks, queries = fallbacks * n_alike, queries * n_alike
        candidates = sum(one.k for one in asked if isinstance(one, SearchParams)) * n_alike
        if queries and candidates > limits.reply_hits >= sum(ks):
            raise LimitExceeded(
                "pipeline.retrieve", value=candidates, limit=limits.reply_hits, unit="candidates a call (x queries)"
            )
        wide = replace(call, params=asked, item_inputs=self._items if queries and self._items.inputs else None)
        return _Wanted(np.array(ks, np.int64), fallbacks, queries), wide

    def _fallback(self, params: SearchParams | EngineError) -> RankFallback | None:
        if isinstance(params, EngineError) or params.rank is False or params.k < 1 or _is_ordered(params):
            return "off"
        if params.k > self.pipeline.rank.max_candidates:
            return "too_many"
        return "failed" if self.ranker is None else None

    def _widened(self, params: SearchParams) -> SearchParams:
        return replace(params, k=max(params.k, self.pipeline.retrieve), legs=params.legs or bool(self._legs))

    # After it

    async def _ranked(
        self, call: SearchCall, wanted: _Wanted, answer: SearchAnswer, schema: Schema, limits: Limits
    ) -> tuple[Int64Array, ModelOrder] | None:
        """Positions of the candidates among the hits, and what became of them; None where there are none, or they were
        not ranked, which the fallbacks then say.
        """
        if self.ranker is None or not wanted.queries:
            return None
        positions, candidates = self._candidates(call, wanted, answer, schema, limits)
        if not len(positions):
            return None
        outcome = await self._outcome(self.ranker, candidates, call)
        places = [place for place, fallback in enumerate(wanted.fallbacks) if fallback is None]
        if isinstance(outcome, ModelOrder):
            for place in np.array(places)[outcome.failed].tolist():
                wanted.fallbacks[place] = "failed"
            return positions, outcome
        for place in places:
            wanted.fallbacks[place] = outcome
        return None

    async def _outcome(self, ranker: Ranker, candidates: Candidates, call: SearchCall) -> ModelOrder | RankFallback:
        now, seconds = time.monotonic(), ranker.profile.seconds(len(candidates.fused))
        foreseen = self._lane.waiting_cost + seconds
        left = max(_LEAST_PATIENCE_S, _PATIENCE * foreseen)
        if call.deadline is not None:
            left = min(left, (call.deadline - now) * self.pipeline.rank.deadline_share)
        if foreseen > left:
            return "late"
        job = RankJob(ranker, candidates)
        try:
            async with asyncio.timeout(left):
                done = await self._lane.submit(
                    job,
                    group=ranker.version,
                    cost=seconds,
                    priority=call.priority,
                    deadline=now + left,
                    max_queue_delay=call.max_queue_delay,
                )
        except (TimeoutError, DeadlineExceeded, QueueFull, Draining):
            return "late"
        except EngineError:
            return "failed"
        finally:
            job.leave()
        return done.result

    def _candidates(
        self, call: SearchCall, wanted: _Wanted, answer: SearchAnswer, schema: Schema, limits: Limits
    ) -> tuple[Int64Array, Candidates]:
        is_wanted = np.array([one is None for one in wanted.fallbacks], np.bool_)
        counts = answer.counts.astype(np.int64)
        positions = np.flatnonzero(np.repeat(is_wanted, counts))
        legs = {
            leg.name: LegColumn(leg.name, leg.raw[positions], leg.normalised[positions], leg.weights)
            for leg in answer.legs
            if leg.name in self._legs
        }
        has_legs = _legs_of_queries(call, schema, limits) if legs else []
        chosen = [has_legs[place] for place in np.flatnonzero(is_wanted).tolist()] if legs else []
        items = answer.item_inputs
        return positions, Candidates(
            counts[is_wanted],
            answer.scores[positions],
            legs,
            {name: np.array([name in one for one in chosen], np.bool_) for name in legs},
            np.zeros((len(positions), 0), np.float32) if items is None else items[positions],
            np.array(wanted.queries, np.float32).reshape(len(wanted.queries), -1),
        )

    def _told(
        self,
        call: SearchCall,
        wanted: _Wanted,
        answer: SearchAnswer,
        ranked: tuple[Int64Array, ModelOrder] | None,
        seconds: float,
    ) -> SearchAnswer:
        counts = answer.counts.astype(np.int64)
        of_query = np.repeat(np.arange(len(counts)), counts)
        scores, order = answer.scores, np.arange(len(of_query))
        if ranked is not None:
            scores, order = _reordered(answer.scores, *ranked, counts=counts, fallbacks=wanted.fallbacks)
        place = np.arange(len(of_query)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = order[place < wanted.ks[of_query]]
        times = replace(answer.times, rank=seconds)
        wants_legs = any(isinstance(one, SearchParams) and one.legs for one in call.params)
        legs = _legs_told(answer, kept, has_fused=ranked is not None) if wants_legs else ()
        explanations = [
            replace(
                one,
                times=replace(one.times, rank=seconds),
                ranked=fallback is None,
                rank_fallback=fallback,
                candidates_ranked=count if fallback is None else 0,
                ranker_version=self.pipeline.ranker_version,
            )
            for one, fallback, count in zip(answer.explanations, wanted.fallbacks, counts.tolist(), strict=False)
        ]
        return replace(
            answer,
            counts=np.minimum(counts, wanted.ks).astype(np.uint32),
            ids=answer.ids[kept],
            scores=scores[kept],
            legs=legs,
            explanations=explanations,
            times=times,
            item_inputs=None,
            ranker_version=self.pipeline.ranker_version,
            rank_fallbacks=wanted.fallbacks,
        )


def _is_ordered(params: SearchParams) -> bool:
    """Whether something else than a ranker says which hits there are and in which order."""
    return params.diversity is not None or params.page or bool(params.cursor)


def _check_mixture(params: SearchParams, field: str) -> None:
    if params.rank_fusion is not None and params.rank is not False:
        raise InvalidArgument(f"{field}.rank_fusion", "goes with no ranking by the pipeline: set rank to off")
    if params.rank and params.diversity is not None:
        raise InvalidArgument(f"{field}.rank", "is on beside diversity, which picks hits by the fused score")
    if params.rank and _is_ordered(params):
        raise InvalidArgument(f"{field}.rank", "is on beside page or cursor: pages are in the order of the fused score")


def without_pipeline(call: SearchCall, collection: str) -> SearchCall:
    """The call as it is; queries that ask to be ranked fail, alone where parameters are given for each."""
    if not any(isinstance(one, SearchParams) and one.rank for one in call.params):
        return call
    if call.shares_params:
        raise NoPipeline(collection)
    refused = [NoPipeline(collection) if isinstance(one, SearchParams) and one.rank else one for one in call.params]
    return replace(call, params=refused)


def _legs_of_queries(call: SearchCall, schema: Schema, limits: Limits) -> list[frozenset[str]]:
    """Names of the legs that each query's score has."""
    offered = offered_embeddings(call, schema) if schema.embeddings else ()
    fields = map(call.params_field, range(len(call.params)))
    return call.of_each(
        [_leg_names(one, schema, limits, field, offered) for field, one in zip(fields, call.params, strict=True)]
    )


def _leg_names(
    params: SearchParams | EngineError, schema: Schema, limits: Limits, field: str, offered: Collection[str]
) -> frozenset[str]:
    if isinstance(params, EngineError):
        return frozenset()
    try:
        scoring = compile_scoring(params.scoring, schema, limits, field, params.mode)
    except EngineError:  # its query failed with this
        return frozenset()
    similarities = {
        similarity_leg(one)
        for one in schema.embeddings
        if one.name in offered and params.embedding_weights.get(one.name, one.weight) > 0
    } or {SIMILARITY}
    if scoring is None:
        return frozenset(similarities)
    names = {*similarities, *scoring.names, *(one.name for one in scoring.overlaps)}
    return frozenset(names | ({LEXICAL} if scoring.lexical > 0 else set()))


def _reordered(
    fused: Float32Array,
    positions: Int64Array,
    ranked: ModelOrder,
    *,
    counts: Int64Array,
    fallbacks: Sequence[RankFallback | None],
) -> tuple[Float32Array, Int64Array]:
    """Scores of all hits, and in which order they stand, each query's own; of what was not ranked as it was."""
    scores, order = fused.copy(), np.arange(len(fused))
    scores[positions] = ranked.scores
    order[positions] = positions[ranked.order]
    as_before = np.repeat(np.array([one is not None for one in fallbacks], np.bool_), counts)
    scores[as_before] = fused[as_before]
    order[as_before] = np.flatnonzero(as_before)
    return scores, order


def _legs_told(answer: SearchAnswer, kept: Int64Array, *, has_fused: bool) -> list[LegColumn]:
    legs = [LegColumn(one.name, one.raw[kept], one.normalised[kept], one.weights) for one in answer.legs]
    if has_fused:
        fused = answer.scores[kept]
        legs.append(LegColumn(FUSED, fused, fused, np.zeros(len(answer.counts), np.float32)))
    return legs
