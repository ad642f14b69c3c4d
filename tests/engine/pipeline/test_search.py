"""Searching against brute force: every metric, filter, strategy and chunking, over rows that live, died or moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backend import open_backend
from engine.backend.faiss_build import train_ivfpq
from engine.backend.protocol import SEGMENT_ROWS, Backend
from engine.dtypes import StoredArray, numpy_dtype, to_stored
from engine.errors import EngineError, ItemNotFound
from engine.index.costs import Costs
from engine.index.filters import compile_filter
from engine.index.tuning import Band, Setting, Tuning
from engine.index.version_index import Lists, VersionIndex
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, count, matching_ids, search_jobs
from engine.types import (
    ALWAYS,
    AttributeSpec,
    AttributeType,
    Filter,
    HasId,
    Match,
    Metric,
    Range,
    Schema,
    SearchParams,
    Strategy,
    Times,
    VectorDtype,
    VersionInfo,
)

D = 8
COSTS = Costs(1e-5, 1e-9, 1e-10, 1e-10, 1e-5, 1e-9, 1e-9)


@cache
def backend() -> Backend:
    return open_backend("cpu", threads=2)


@dataclass
class Change:
    sequence: int
    id: str
    first_row: int
    n_rows: int
    dead_first_row: int
    dead_n_rows: int
    attributes: dict[str, Any]
    in_place: bool = False
    times: Times = ALWAYS
    text: dict[str, str] = field(default_factory=dict)


@dataclass
class World:
    """An index and, beside it, plain Python's idea of what is in it."""

    metric: Metric = "dot"
    chunk: int = 1
    items: dict[str, tuple[np.ndarray, dict[str, Any], int]] = field(default_factory=dict)
    dtype: VectorDtype = "float16"

    def __post_init__(self) -> None:
        self.stored = np.zeros((SEGMENT_ROWS, D), numpy_dtype(self.dtype))
        attributes = (AttributeSpec("colour", AttributeType.KEYWORD), AttributeSpec("size", AttributeType.INT))
        self.schema = Schema("w", metric=self.metric, dimension=D, chunk=self.chunk, attributes=attributes)
        version = VersionInfo("v1", "", D, self.metric, self.dtype, 0)
        self.index = VersionIndex(self.schema, version, self, COSTS)
        self.next_row = 0
        self.sequence = 0

    def arrays(self, n_rows: int) -> list[StoredArray]:
        return [self.stored]

    def put(self, name: str, vectors: np.ndarray, attributes: dict[str, Any]) -> None:
        first, old = self.next_row, self.items.pop(name, None)
        self.stored[first : first + len(vectors)] = to_stored(np.asarray(vectors, np.float32), self.dtype)
        self.next_row += len(vectors)
        self._apply(name, first, len(vectors), old, attributes)
        self.items[name] = (vectors, attributes, first)

    def drop(self, name: str) -> None:
        old = self.items.pop(name, None)
        if old is not None:
            self._apply(name, 0, 0, old, {})

    def _apply(self, name: str, first: int, n_rows: int, old: object, attributes: dict[str, Any]) -> None:
        self.sequence += 1
        dead = len(old[0]) if old else 0  # type: ignore[index]
        change = Change(self.sequence, name, first, n_rows, old[2] if old else 0, dead, attributes)  # type: ignore[index]
        self.index.apply([change], sequence=self.sequence)

    def best(self, query: np.ndarray, passes: set[str], k: int) -> list[tuple[str, float]]:
        """By brute force: the score of the best chunk, ties to the smaller row."""
        scored = []
        for name in passes & self.items.keys():
            vectors, _, first = self.items[name]
            scores = [self.score(query, vector) for vector in vectors]
            best = max(scores)
            scored.append((-best, first + scores.index(best), name))
        return [(name, -negative) for negative, _, name in sorted(scored)[:k]]

    def score(self, query: np.ndarray, vector: np.ndarray) -> float:
        return float(-((query - vector) ** 2).sum() if self.metric == "l2" else query @ vector)


def ask(
    world: World, queries: Sequence[np.ndarray], params: Sequence[SearchParams], *, jobs: int = 1
) -> list[JobResult]:
    compiled = [CompiledParams(one, compile_filter(one.filter, world.schema)) for one in params]
    job = SearchJob(world.index, compiled, vectors=np.array(queries, np.float32), explain=True)
    results = search_jobs(backend(), [job] * jobs)
    assert not any(isinstance(one, EngineError) for one in results)
    return results  # type: ignore[return-value]


def hits(result: JobResult) -> list[list[tuple[str, float]]]:
    ends = np.cumsum(result.counts.astype(int))
    pairs = list(zip(result.ids.tolist(), result.scores.tolist(), strict=True))
    return [pairs[end - int(n) : end] for end, n in zip(ends, result.counts, strict=True)]


names = st.sampled_from([f"i{n}" for n in range(12)])
small = st.lists(st.integers(-3, 3), min_size=D, max_size=D).map(lambda v: np.array(v, np.float32))
attributes = st.fixed_dictionaries({}, optional={"colour": st.sampled_from(["red", "blue"]), "size": st.integers(0, 5)})
FILTERS: list[tuple[Filter, object]] = [
    (Filter(), lambda name, a: True),
    (Filter(must=(Match("colour", any_of=("red",)),)), lambda name, a: a.get("colour") == "red"),
    (Filter(must_not=(Match("colour", any_of=("red",)),)), lambda name, a: a.get("colour") != "red"),
    (Filter(must=(Range("size", gte=3),)), lambda name, a: a.get("size", -1) >= 3),
    (Filter(must=(HasId(("i1", "i2", "i3")),)), lambda name, a: name in ("i1", "i2", "i3")),
    (Filter(must=(Match("colour", any_of=("green",)),)), lambda name, a: False),
]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World(draw(st.sampled_from(["dot", "l2"])), draw(st.sampled_from([1, 3])))
    for name, deleted in draw(st.lists(st.tuples(names, st.booleans()), max_size=30)):
        if deleted:
            world.drop(name)
        else:
            vectors = draw(st.lists(small, min_size=1, max_size=world.chunk))
            world.put(name, np.array(vectors), draw(attributes))
    return world


@given(
    worlds(), st.lists(st.tuples(small, st.integers(0, len(FILTERS) - 1), st.integers(1, 8)), min_size=1, max_size=6)
)
def test_a_batch_of_mixed_queries_equals_brute_force(world: World, asked: list[tuple[np.ndarray, int, int]]) -> None:
    params = [SearchParams(k=k, filter=FILTERS[which][0]) for _, which, k in asked]
    (result,) = ask(world, [query for query, _, _ in asked], params)
    for found, (query, which, k) in zip(hits(result), asked, strict=True):
        passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
        assert found == world.best(query, passes, k)


@given(worlds(), small, st.sampled_from([Strategy.GATHER, Strategy.MASKED_SCAN]), st.integers(1, 8))
def test_every_exact_way_gives_the_same(world: World, query: np.ndarray, strategy: Strategy, k: int) -> None:
    params = SearchParams(k=k, strategy=strategy, exclude_ids=("i0", "i5"))
    (result,) = ask(world, [query], [params])
    assert hits(result)[0] == world.best(query, set(world.items) - {"i0", "i5"}, k)


@given(worlds())
def test_counting_and_listing_agree_with_the_items(world: World) -> None:
    for tree, passes in FILTERS:
        program = compile_filter(tree, world.schema)
        wanted = {name for name, (_, a, _) in world.items.items() if passes(name, a)}  # type: ignore[operator]
        assert set(matching_ids(world.index, program).tolist()) == wanted
        assert count(world.index, program) == len(wanted)


def with_lists(
    world: World, rows: int, *, nlist: int = 8, reach: float = 1.0, slack: float = 2.0, costs: Costs = COSTS
) -> None:
    """Inverted lists over the first ``rows`` rows, and a table that always says the same setting."""
    sample = world.stored[: world.next_row].astype(np.float32)
    ivfpq = train_ivfpq(sample, nlist=nlist, code_bytes=4, metric=world.metric, seed=1)
    ivfpq.add(sample[:rows])
    setting = Setting(reach, slack, 2, 200, 200, 20, nlist, rows, 0.95, 1e-7, 1e-7)
    bands = [Band(k, s, ((0.5, setting), (0.95, setting))) for k in (1, 100_000) for s in (1e-6, 1.0)]
    world.index.switch_lists(Lists(ivfpq, Tuning(bands, costs), rows, "image"))


def a_large_world(metric: Metric = "l2") -> World:
    rng = np.random.default_rng(7)
    world = World(metric)
    for n in range(1200):
        vector = rng.integers(-8, 9, (1, D)).astype(np.float32)
        world.put(f"n{n}", vector, {"colour": "red" if n % 50 == 0 else "blue", "size": int(n % 7)})
    for n in range(0, 1200, 9):
        world.drop(f"n{n}")
    return world


@pytest.mark.parametrize("metric", ["l2", "dot"])
def test_probing_every_list_and_rescoring_everything_is_exact_tail_and_filters_included(metric: Metric) -> None:
    world = a_large_world(metric)
    with_lists(world, 1000)
    rng = np.random.default_rng(8)
    for which in (0, 1, 2, 3):
        tree, passes = FILTERS[which]
        wanted = {name for name, (_, a, _) in world.items.items() if passes(name, a)}  # type: ignore[operator]
        query = rng.integers(-8, 9, D).astype(np.float32)
        params = SearchParams(k=10, filter=tree, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=1200)
        (result,) = ask(world, [query], [params])
        scores = [score for _, score in hits(result)[0]]
        assert scores == [score for _, score in world.best(query, wanted, 10)]
        assert result.explanations[0].strategy in (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)


def test_probing_never_returns_what_the_filter_hides_nor_fewer_than_there_are() -> None:
    world = a_large_world()
    with_lists(world, 1000)
    red = FILTERS[1][0]
    wanted = {name for name, (_, a, _) in world.items.items() if a["colour"] == "red"}
    params = SearchParams(k=30, filter=red, strategy=Strategy.IVFPQ, nprobe=1, rescore_depth=30)
    (result,) = ask(world, np.zeros((5, D), np.float32), [params])
    for found in hits(result):
        assert {name for name, _ in found} <= wanted
        assert len(found) == min(30, len(wanted))
    assert result.explanations[0].second_pass


def test_a_query_for_few_hits_is_not_searched_further_for_a_neighbour_that_wants_many() -> None:
    world = a_large_world()
    with_lists(world, 1200)
    few, many = SearchParams(k=3, strategy=Strategy.IVFPQ), SearchParams(k=700, strategy=Strategy.IVFPQ)
    queries = np.random.default_rng(8).integers(-8, 9, (2, D)).astype(np.float32)
    (alone,) = ask(world, queries[:1], [few])
    (together,) = ask(world, queries, [few, many])
    assert hits(together)[0] == hits(alone)[0]
    assert not alone.explanations[0].second_pass
    assert together.explanations[0].second_pass == alone.explanations[0].second_pass


def test_queries_of_several_jobs_share_a_batch_and_keep_their_own_answers() -> None:
    world = a_large_world()
    queries = np.eye(3, D, dtype=np.float32) * 5
    alone = [hits(ask(world, [query], [SearchParams(k=4)])[0])[0] for query in queries]
    together = ask(world, queries, [SearchParams(k=4)], jobs=3)
    for result in together:
        assert hits(result) == alone
        assert result.explanations[0].batch_size == 9


def test_queries_planned_alike_are_answered_and_explained_each_by_its_own_filter() -> None:
    """Filters of about as many rows, in turn with others of few and of another k: cohorts have no neighbours."""
    world = a_large_world()
    sizes = [3, 0, 4, 1, 5, 2]
    params = [SearchParams(k=2 + n % 2, filter=Filter(must=(Range("size", gte=n, lte=n),))) for n in sizes]
    params.insert(3, SearchParams(k=4, filter=FILTERS[1][0]))
    params.append(SearchParams(k=4, filter=FILTERS[5][0]))
    queries = np.random.default_rng(3).integers(-8, 9, (len(params), D)).astype(np.float32)
    (result,) = ask(world, queries, params)
    for place, one in enumerate(params):
        (alone,) = ask(world, queries[place : place + 1], [one])
        assert hits(result)[place] == hits(alone)[0]
        explained = replace(result.explanations[place], times=alone.explanations[0].times, batch_size=1)
        assert explained == alone.explanations[0]
        passing = count(world.index, compile_filter(one.filter, world.schema))
        assert result.explanations[place].selectivity == passing / len(world.items)


def test_an_item_that_does_not_live_fails_its_query_alone() -> None:
    world = a_large_world()
    compiled = CompiledParams(SearchParams(k=2), compile_filter(Filter(), world.schema))
    job = SearchJob(world.index, [compiled], item_ids=["n1", "n9", "n2"])
    (result,) = search_jobs(backend(), [job])
    assert isinstance(result, JobResult)
    assert result.counts.tolist() == [2, 0, 2]
    assert [type(one) for one in result.errors] == [type(None), ItemNotFound, type(None)]
    assert "n1" not in result.ids[:2]


def test_applying_the_same_changes_again_changes_nothing() -> None:
    world = a_large_world()
    before = hits(ask(world, [np.ones(D)], [SearchParams(k=20)])[0])
    rows = world.index.rows.n_rows
    world.index.apply([Change(5, "n4", rows, 1, 0, 0, {})], sequence=5)
    assert world.index.rows.n_rows == rows
    assert hits(ask(world, [np.ones(D)], [SearchParams(k=20)])[0]) == before


def test_folding_moves_the_tail_into_the_lists_and_keeps_every_answer_whole() -> None:
    world = a_large_world()
    with_lists(world, 700)
    params = SearchParams(k=10, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=1200)
    before = [score for _, score in hits(ask(world, [np.ones(D)], [params])[0])[0]]
    slices = 1
    while world.index.fold():
        slices += 1
    assert world.index.indexed_rows == world.next_row
    assert slices > 1
    assert [score for _, score in hits(ask(world, [np.ones(D)], [params])[0])[0]] == before


def test_unsound_queries_fail_alone_and_are_named_by_their_place() -> None:
    world = World("cosine")
    world.put("near", np.eye(1, D, dtype=np.float32), {})
    good = np.eye(1, D, dtype=np.float32)[0]
    queries = [good, np.full(D, np.nan, np.float32), good, good, np.zeros(D, np.float32)]
    (result,) = ask(world, queries, [SearchParams(k=1)])
    assert result.counts.tolist() == [1, 0, 1, 1, 0]
    messages = {place: str(error) for place, error in enumerate(result.errors) if error is not None}
    assert messages.keys() == {1, 4}
    assert "query[1].vector: value 0 is NaN" in messages[1]
    assert "query[4].vector: is zero" in messages[4]


def test_a_filter_that_goes_against_the_query_is_probed_further() -> None:
    """The rows that pass lie in other clusters than the query: the nearest lists alone have none of them."""
    rng = np.random.default_rng(5)
    centres = np.eye(4, D, dtype=np.float32) * 10
    world = World("l2")
    cluster = rng.integers(0, 4, 2000)
    vectors = (centres[cluster] + rng.normal(size=(2000, D))).astype(np.float16).astype(np.float32)
    for place, vector in enumerate(vectors):
        world.put(f"i{place}", vector[None], {"colour": "red" if cluster[place] else "blue"})
    with_lists(world, 2000, nlist=16, reach=3.0, slack=6.0)
    queries = centres[:1] + rng.normal(size=(8, D)).astype(np.float32)
    red = Filter(must=(Match("colour", any_of=("red",)),))
    asked = SearchParams(k=10, filter=red, strategy=Strategy.FILTERED_IVFPQ)
    (found,) = ask(world, queries, [asked])
    (exact,) = ask(world, queries, [replace(asked, strategy=None, exact=True)])
    same = [
        len({a for a, _ in one} & {b for b, _ in other}) for one, other in zip(hits(found), hits(exact), strict=True)
    ]
    assert np.mean(same) >= 9
    (unfiltered,) = ask(world, queries, [SearchParams(k=10, strategy=Strategy.IVFPQ)])
    assert found.explanations[0].lists_scanned > unfiltered.explanations[0].lists_scanned
    (short,) = ask(world, queries, [replace(asked, nprobe=2)])
    assert short.explanations[0].lists_scanned == 2
    assert found.explanations[0].nprobe == found.explanations[0].lists_scanned


def test_a_query_that_would_probe_for_longer_than_an_exact_way_takes_is_answered_exactly() -> None:
    world = a_large_world()
    with_lists(world, 1200, reach=1e6)
    slow = Setting(1e6, 2.0, 1, 10, 10, 20, 1, 20, 0.9, 1e-10, 1e-10)
    lists = world.index.lists
    assert lists is not None
    free = Costs(1e-9, 1e-15, 1e-15, 1e-15, 1e-9, 1e-15, 1e-15)
    tuning = Tuning([Band(k, s, ((0.99, slow),)) for k in (1, 100_000) for s in (1e-6, 1.0)], free)
    world.index.switch_lists(replace(lists, tuning=tuning))
    queries = np.random.default_rng(8).integers(-8, 9, (6, D)).astype(np.float32)
    (found,) = ask(world, queries, [SearchParams(k=10)])
    (exact,) = ask(world, queries, [SearchParams(k=10, exact=True)])
    assert hits(found) == hits(exact)
    told = found.explanations[0]
    assert (told.second_pass, told.expected_recall) == (True, 1.0)
