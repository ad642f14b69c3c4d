"""Ranking against sorting in numpy, for any candidates and inputs; and what becomes of queries that are not ranked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.models.ranker import Ranker, RankProfile, RankRun
from engine.pipeline.calls import SearchAnswer, SearchCall
from engine.pipeline.rank import Ranking
from engine.pipeline.rank_columns import Candidates
from engine.pipeline.rank_lane import RankJob, RankLane, open_rank_lane, rank_jobs
from engine.ranking import LegInput, NumberInput, Pipeline, QueryInput, RankStage
from engine.scoring import Feature, Scoring
from engine.selection import RankFusion
from engine.types import (
    AttributeSpec,
    AttributeType,
    Explanation,
    LegColumn,
    Schema,
    SearchParams,
    StageTimes,
    Strategy,
    VersionInfo,
)
from tests import rankers

SCHEMA = Schema("w", dimension=2, id_type="uint64", attributes=(AttributeSpec("size", AttributeType.INT),))
VERSION = VersionInfo("v1", "", 2, "dot", "float32", 0)
INPUTS = (
    LegInput("fused"),
    LegInput("size", "raw", missing=-2.0),
    NumberInput("size", missing=1.0),
    QueryInput("q", size=2, missing=(0.5,)),
)
WEIGHTS = np.array([0.5, 1.0, -0.25, 2.0, -1.0], np.float32)


@pytest.fixture(scope="module")
def lane() -> Iterator[RankLane]:
    opened = open_rank_lane(batch_seconds=0.01, queue_seconds=1.0)
    yield opened
    opened.drain()


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    model = rankers.linear(tmp_path_factory.mktemp("ranker") / "m.onnx", WEIGHTS.tolist())
    return Ranker(model, Pipeline(8, RankStage(str(model), INPUTS), "version"))


def ranking(ranker: Ranker | None, lane: RankLane, **stage: Any) -> Ranking:
    return Ranking(Pipeline(8, RankStage("m", INPUTS, **stage), "version"), ranker, lane=lane)


class Found:
    """A search that finds what it was made with, as many as are asked for."""

    def __init__(self, scores: list[np.ndarray], sizes: list[np.ndarray]) -> None:
        self.scores, self.sizes = scores, sizes
        self.asked: list[SearchCall] = []

    async def __call__(self, call: SearchCall) -> SearchAnswer:
        self.asked.append(call)
        each = list(call.params) * call.n_queries if len(call.params) == 1 else call.params
        ks = [one.k if isinstance(one, SearchParams) else 0 for one in each]
        errors = [None if isinstance(one, SearchParams) else one for one in each]
        counts = [min(k, len(own)) for k, own in zip(ks, self.scores, strict=True)]

        def joined(parts: list[np.ndarray]) -> np.ndarray:
            return np.concatenate([own[:n] for own, n in zip(parts, counts, strict=True)]).astype(np.float32)

        sizes = joined(self.sizes)
        has = np.array([isinstance(one, SearchParams) and one.scoring is not None for one in each])
        legs = [LegColumn("size", np.where(np.repeat(has, counts), sizes, 0), sizes, has.astype(np.float32))]
        return SearchAnswer(
            np.array(counts, np.uint32),
            np.concatenate([np.arange(n, dtype=np.uint64) for n in counts]),
            joined(self.scores),
            errors if any(errors) else (),
            [Explanation(Strategy.GATHER)] * len(counts),
            VERSION,
            1,
            StageTimes(),
            legs if any(isinstance(one, SearchParams) and one.legs for one in each) else (),
            item_inputs=np.where(np.isnan(sizes), 1.0, sizes).astype(np.float32)[:, None] if call.item_inputs else None,
        )


def searched(one: Ranking, found: Found, params: Sequence[SearchParams | EngineError], **call: Any) -> SearchAnswer:
    vectors = np.zeros((len(found.scores), 2), np.float32)
    asked = SearchCall(params, vectors=vectors, explain=True, **call)
    return asyncio.run(one.search(asked, found, schema=SCHEMA, limits=Limits()))


small = st.integers(-8, 8).map(lambda n: n / 4)
query = st.tuples(
    st.lists(st.tuples(small, st.none() | small), max_size=12),
    st.none() | st.tuples(small, small),
    st.booleans(),
    st.integers(1, 12),
    st.sampled_from([None, None, True, False]),
)


@given(st.lists(query, min_size=1, max_size=5))
def test_hits_are_the_candidates_sorted_by_the_model_equal_ones_as_they_stood(
    lane: RankLane, ranker: Ranker, queries: list[Any]
) -> None:
    scores = [np.array(sorted((s for s, _ in hits), reverse=True), np.float32) for hits, *_ in queries]
    sizes = [np.array([np.nan if size is None else size for _, size in hits], np.float32) for hits, *_ in queries]
    params = [
        SearchParams(
            k=k,
            rank=rank,
            scoring=Scoring(terms=(Feature("size"),)) if scored else None,
            query_features={} if brought is None else {"q": brought},
        )
        for _, brought, scored, k, rank in queries
    ]
    answer = searched(ranking(ranker, lane), Found(scores, sizes), params)
    ends = np.cumsum(answer.counts)
    for place, (_, brought, scored, k, rank) in enumerate(queries):
        own = slice(int(ends[place] - answer.counts[place]), int(ends[place]))
        if rank is False:
            n = min(k, len(scores[place]))
            assert answer.ids[own].tolist() == list(range(n))
            np.testing.assert_array_equal(answer.scores[own], scores[place][:n])
            continue
        n = min(max(k, 8), len(scores[place]))
        size, fused = sizes[place][:n], scores[place][:n]
        leg = np.where(np.isnan(size), -2, size) if scored else np.full(n, -2.0)
        q = np.tile(brought or (0.5, 0.5), (n, 1))
        columns = np.column_stack([fused, leg, np.where(np.isnan(size), 1, size), q])
        expected = (columns @ WEIGHTS).astype(np.float32)
        order = np.argsort(-expected, kind="stable")[:k]
        assert answer.ids[own].tolist() == order.tolist()
        np.testing.assert_array_equal(answer.scores[own], expected[order])
    told = [one.rank_fallback for one in answer.explanations]
    assert told == list(answer.rank_fallbacks) == ["off" if rank is False else None for *_, rank in queries]


PAIR = Found([np.array([3, 2, 1], np.float32)], [np.array([0, 5, 9], np.float32)])


def test_what_would_take_longer_than_its_share_of_the_deadline_is_not_queued(lane: RankLane, ranker: Ranker) -> None:
    slow = Ranker.__new__(Ranker)
    slow.__dict__.update(ranker.__dict__, profile=RankProfile(30.0, 0.0))
    before = lane.figures.entries
    answer = searched(ranking(slow, lane), PAIR, [SearchParams(k=2)], deadline=time.monotonic() + 40)
    assert answer.rank_fallbacks == ["late"]
    assert answer.ids.tolist() == [0, 1]
    assert lane.figures.entries == before
    answer = searched(ranking(slow, lane), PAIR, [SearchParams(k=2)], deadline=time.monotonic() + 4000)
    assert answer.rank_fallbacks == [None]


def test_a_ranker_that_did_not_load_is_asked_nothing_and_no_more_candidates_are_wanted(lane: RankLane) -> None:
    found = Found(PAIR.scores, PAIR.sizes)
    answer = searched(ranking(None, lane), found, [SearchParams(k=2)])
    assert answer.rank_fallbacks == ["failed"]
    assert answer.ranker_version == "version"
    assert [one.k for one in found.asked[0].params] == [2]
    assert found.asked[0].item_inputs is None


def test_calls_for_one_model_that_wait_together_are_ranked_in_one_run(ranker: Ranker) -> None:
    own, held, gate = open_rank_lane(batch_seconds=10.0, queue_seconds=10.0), threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        gate.wait(20)

    async def both(one: Ranking) -> list[SearchAnswer]:
        own.post(hold)
        await asyncio.to_thread(held.wait, 20)
        call = SearchCall([SearchParams(k=2)], vectors=np.zeros((1, 2), np.float32))
        waiting = [asyncio.create_task(one.search(call, PAIR, schema=SCHEMA, limits=Limits())) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(own._waiting) == 3
        gate.set()
        return await asyncio.gather(*waiting)

    answers = asyncio.run(both(ranking(ranker, own)))
    own.drain()
    assert (own.figures.batches, own.figures.entries) == (1, 3)
    assert len({tuple(one.scores.tolist()) for one in answers}) == 1


def test_more_candidates_than_a_reply_may_hold_are_refused_as_what_they_are(lane: RankLane, ranker: Ranker) -> None:
    call = SearchCall([SearchParams(k=2)], vectors=np.zeros((1, 2), np.float32))
    with pytest.raises(LimitExceeded, match=r"pipeline.retrieve: 8 is beyond the limit of 7"):
        asyncio.run(ranking(ranker, lane).search(call, PAIR, schema=SCHEMA, limits=Limits(reply_hits=7)))


def test_a_failed_query_of_a_batch_leaves_its_neighbours_ranked(lane: RankLane, ranker: Ranker) -> None:
    scores = [np.array([3, 2, 1], np.float32)] * 3
    bad = InvalidArgument("params[1].filter", "is not one")
    answer = searched(
        ranking(ranker, lane),
        Found(scores, [np.array([0, 5, 9], np.float32)] * 3),
        [SearchParams(k=2), bad, SearchParams(k=2, query_features={"q": (1.0, 1.0)})],
    )
    assert answer.rank_fallbacks == [None, "off", None]
    assert answer.counts.tolist() == [2, 0, 2]
    assert answer.scores[2] - answer.scores[0] == 0.5


@pytest.mark.parametrize("rank", [None, True])
def test_rank_fusion_beside_a_ranker_is_refused_by_name_whatever_the_ranker_reads(
    lane: RankLane, ranker: Ranker, rank: bool | None
) -> None:
    fused = SearchParams(k=2, rank=rank, rank_fusion=RankFusion())
    legs_alone = Pipeline(8, RankStage("m", (LegInput("fused"),)), "version")
    for own in (ranking(ranker, lane), ranking(None, lane), Ranking(legs_alone, ranker, lane=lane)):
        with pytest.raises(InvalidArgument, match=r"^params.rank_fusion: goes with no ranking by the pipeline"):
            searched(own, PAIR, [fused])
        off = searched(own, PAIR, [replace(fused, rank=False)])
        assert (off.rank_fallbacks, off.ids.tolist()) == (["off"], [0, 1])
    pair = Found(PAIR.scores * 2, PAIR.sizes * 2)
    mixed = searched(ranking(ranker, lane), pair, [fused, SearchParams(k=2)])
    assert [getattr(one, "field", None) for one in mixed.errors] == ["params[0].rank_fusion", None]
    assert mixed.rank_fallbacks == ["off", None]


class Announced(Ranker):
    """A ranker that says when a run begins."""

    def __init__(self, path: Path, pipeline: Pipeline) -> None:
        self.has_begun = threading.Event()
        super().__init__(path, pipeline)
        self.has_begun.clear()

    def score(self, columns: np.ndarray, run: RankRun | None = None) -> np.ndarray:
        self.has_begun.set()
        return super().score(columns, run)


def test_a_run_that_nobody_waits_for_any_more_is_ended_and_the_lane_ranks_on(
    lane: RankLane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = RankStage(str(rankers.looping(tmp_path / "m.onnx")), (LegInput("fused"),))
    pipeline = Pipeline(8, stage, "version")
    ranker = Announced(tmp_path / "m.onnx", pipeline)
    own = Ranking(pipeline, ranker, lane=lane)
    endless = Found([np.array([1e15, 1, 0], np.float32)], PAIR.sizes)
    call = SearchCall([SearchParams(k=2)], vectors=np.zeros((1, 2), np.float32), explain=True)
    failed = lane.figures.failed_batches

    async def hang_and_leave() -> None:
        waiting = asyncio.create_task(own.search(call, endless, schema=SCHEMA, limits=Limits()))
        await asyncio.to_thread(ranker.has_begun.wait, 20)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    for _ in range(2):
        asyncio.run(hang_and_leave())
        answer = searched(own, PAIR, [SearchParams(k=2)])
        assert (answer.rank_fallbacks, answer.scores.tolist()) == ([None], [6, 5])
        ranker.has_begun.clear()
    assert lane.figures.failed_batches == failed + 2
    assert [one.getMessage().split(" was ended")[0] for one in caplog.records] == ["a run of the ranker version"]


class Watched(Ranker):
    """A ranker whose callers leave while it runs, one after the other; ``ended``: whether the run was, after each."""

    def __init__(self) -> None:
        self.inputs, self.callers, self.ended = (LegInput("fused"),), list[RankJob](), list[bool]()

    def score(self, columns: np.ndarray, run: RankRun | None = None) -> np.ndarray:
        assert run is not None
        for caller in self.callers:
            caller.leave()
            self.ended.append(run.is_ended)
        return columns[:, 0]


def test_a_run_goes_on_while_any_of_its_callers_waits() -> None:
    one = np.ones(1, np.float32)
    candidates = Candidates(np.array([1]), one, {}, {}, np.zeros((1, 0), np.float32), np.zeros((1, 0), np.float32))
    ranker = Watched()
    jobs = [RankJob(ranker, candidates) for _ in range(3)]
    jobs[2].leave()
    ranker.callers = jobs[:2]
    assert len(rank_jobs(jobs)) == 3
    assert ranker.ended == [False, True]


def test_a_caller_without_a_deadline_does_not_wait_for_ever(
    ranker: Ranker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("engine.pipeline.rank._LEAST_PATIENCE_S", 0.2)
    own = open_rank_lane(batch_seconds=0.01, queue_seconds=1.0)
    pipeline = Pipeline(8, RankStage(str(rankers.looping(tmp_path / "m.onnx")), (LegInput("fused"),)), "version")
    endless = Found([np.array([1e15, 1, 0], np.float32)], PAIR.sizes)
    answer = searched(Ranking(pipeline, Ranker(tmp_path / "m.onnx", pipeline), lane=own), endless, [SearchParams(k=2)])
    assert answer.rank_fallbacks == ["late"]
    own.drain()
