"""Fused scores against brute force: features, decay and overlaps before selection, with every strategy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dtypes import MOST_LENGTH
from engine.errors import EngineError, InvalidArgument, LimitExceeded, UnknownAttribute
from engine.index.filters import compile_filter
from engine.index.version_index import VersionIndex
from engine.limits import Limits
from engine.pipeline.scoring import SIMILARITY_ALONE, compile_scoring
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, search_jobs
from engine.scoring import MOST_WEIGHT, Decay, Feature, Overlap, Scoring, ScoringProfile, Term
from engine.types import (
    AttributeSpec,
    AttributeType,
    Filter,
    Match,
    Schema,
    SearchParams,
    Strategy,
    TextField,
    Timestamp,
)
from tests.engine.pipeline.test_search import COSTS, FILTERS, D, World, backend, hits, names, small, with_lists

HOUR = 3_600_000_000
NOW = 1_000_000 * HOUR
ATTRIBUTES = (
    AttributeSpec("colour", AttributeType.KEYWORD),
    AttributeSpec("size", AttributeType.INT),
    AttributeSpec("rank", AttributeType.FLOAT, filterable=False, volatile=True),
    AttributeSpec("open", AttributeType.BOOL),
    AttributeSpec("born", AttributeType.TIMESTAMP),
    AttributeSpec("skills", AttributeType.KEYWORD_LIST),
    AttributeSpec("hidden", AttributeType.FLOAT, filterable=False),
)
WORDS = ("ice", "jam", "kit", "log")


class FusedWorld(World):
    """A world whose items have numbers to score by."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.schema = replace(self.schema, attributes=ATTRIBUTES)
        self.index = VersionIndex(self.schema, self.index.version, self, COSTS)
        self.now = NOW
        self.index.clock = lambda: self.now

    def set_rank(self, name: str, rank: float) -> None:
        """In place."""
        vectors, attributes, first = self.items[name]
        attributes = {**attributes, "rank": rank}
        self.sequence += 1
        change = _InPlace(self.sequence, name, first, len(vectors), attributes)
        self.index.apply([change], sequence=self.sequence)
        self.items[name] = (vectors, attributes, first)

    def fused(self, scoring: Scoring, query: np.ndarray, passes: set[str], k: int) -> list[tuple[str, float]]:
        scored = []
        for name in passes & self.items.keys():
            vectors, attributes, first = self.items[name]
            scores = [self.score(query, vector) for vector in vectors]
            similarity = 1.0 if scoring.similarity is None else scoring.similarity
            total = similarity * max(scores) + sum(leg(term, attributes, self.now) for term in scoring.terms)
            scored.append((-total, first + scores.index(max(scores)), name))
        return [(name, -negative) for negative, _, name in sorted(scored)[:k]]


class _InPlace:
    in_place, dead_n_rows = True, 0

    def __init__(self, sequence: int, name: str, first_row: int, n_rows: int, attributes: dict[str, Any]) -> None:
        from engine.types import ALWAYS

        self.sequence, self.id, self.first_row, self.n_rows = sequence, name, first_row, n_rows
        self.attributes, self.times = attributes, ALWAYS
        self.text: dict[str, str] = {}


def leg(term: Term, attributes: dict[str, Any], now: int = NOW) -> float:
    """What the term adds, by its own words."""
    value = attributes.get(term.attribute)
    if isinstance(term, Overlap):
        own = set(value or ())
        return term.weight * sum(word in own for word in term.values) / len(term.values)
    if isinstance(term, Decay):
        if value is None:
            return term.weight * term.missing
        return float(term.weight * 2.0 ** (-max(0, now - value.micros) / HOUR / (term.half_life_s / 3600)))
    number = float(term.missing if value is None else value)
    if term.low is not None:
        number = max(number, term.low)
    if term.high is not None:
        number = min(number, term.high)
    return term.weight * number


weights = st.sampled_from([-2.0, -0.5, 0.0, 1.0, 4.0])
terms = st.one_of(
    st.builds(Feature, st.just("size"), weights, low=st.none() | st.just(1.0), high=st.none() | st.just(3.0)),
    st.builds(Feature, st.just("rank"), weights, missing=st.sampled_from([0.0, 2.0])),
    st.builds(Feature, st.just("open"), weights),
    st.builds(Decay, st.just("born"), st.just(3600.0), weights, missing=st.sampled_from([0.0, 0.5])),
    st.builds(Overlap, st.just("skills"), st.sampled_from([("ice",), ("ice", "kit"), WORDS]), weights),
)
scorings = st.builds(
    Scoring,
    similarity=st.sampled_from([None, 0.0, 0.5, 2.0]),
    terms=st.lists(terms, max_size=3, unique_by=lambda term: term.attribute).map(tuple),
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "colour": st.sampled_from(["red", "blue"]),
        "size": st.integers(0, 5),
        "rank": st.sampled_from([0.0, 1.0, 8.0]),
        "open": st.booleans(),
        "born": st.integers(-2, 4).map(lambda age: Timestamp(NOW - age * HOUR)),
        "skills": st.lists(st.sampled_from(WORDS), max_size=3, unique=True).map(tuple),
    },
)


@st.composite
def worlds(draw: st.DrawFn) -> FusedWorld:
    world = FusedWorld(draw(st.sampled_from(["dot", "l2"])), draw(st.sampled_from([1, 3])))
    for name, what in draw(st.lists(st.tuples(names, st.sampled_from(["put", "put", "drop", "rank"])), max_size=30)):
        if what == "drop":
            world.drop(name)
        elif what == "rank" and name in world.items:
            world.set_rank(name, draw(st.sampled_from([0.0, 3.0])))
        else:
            vectors = draw(st.lists(small, min_size=1, max_size=world.chunk))
            world.put(name, np.array(vectors), draw(attributes))
    return world


def ask(world: World, queries: list[np.ndarray], params: list[SearchParams]) -> JobResult:
    compiled = [
        CompiledParams(
            one,
            compile_filter(one.filter, world.schema),
            scoring=compile_scoring(one.scoring, world.schema, Limits(), "scoring")
            or (SIMILARITY_ALONE if one.legs else None),
        )
        for one in params
    ]
    (result,) = search_jobs(
        backend(), [SearchJob(world.index, compiled, vectors=np.array(queries, np.float32), explain=True)]
    )
    assert not isinstance(result, EngineError)
    return result


@given(
    worlds(),
    st.lists(st.tuples(small, st.integers(0, len(FILTERS) - 1), st.integers(1, 8), scorings), min_size=1, max_size=5),
)
def test_a_batch_of_queries_with_scorings_of_their_own_equals_brute_force(
    world: FusedWorld, asked: list[tuple[np.ndarray, int, int, Scoring]]
) -> None:
    params = [SearchParams(k=k, filter=FILTERS[which][0], scoring=scoring) for _, which, k, scoring in asked]
    result = ask(world, [query for query, *_ in asked], params)
    for found, (query, which, k, scoring) in zip(hits(result), asked, strict=True):
        passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
        assert found == world.fused(scoring, query, passes, k)


@given(worlds(), st.lists(small, min_size=1, max_size=3), scorings)
def test_the_legs_add_up_to_the_score_to_the_last_bit(
    world: FusedWorld, queries: list[np.ndarray], scoring: Scoring
) -> None:
    awkward = replace(scoring, terms=tuple(replace(term, weight=term.weight / 3) for term in scoring.terms))
    result = ask(world, queries, [SearchParams(k=8, scoring=awkward, legs=True)] * len(queries))
    of_query = np.repeat(np.arange(len(queries)), result.counts)
    total = np.zeros(len(result.ids), np.float32)
    for column in result.legs:
        total += column.weights[of_query] * column.normalised
    np.testing.assert_array_equal(total, result.scores)
    counted = {term.name or term.attribute for term in scoring.terms}
    counted |= {"similarity"} if scoring.similarity != 0 or not counted else set()
    assert {column.name for column in result.legs} == counted


@given(worlds(), small, scorings, st.sampled_from([Strategy.GATHER, Strategy.MASKED_SCAN]), st.integers(1, 8))
def test_every_exact_way_fuses_alike(
    world: FusedWorld, query: np.ndarray, scoring: Scoring, strategy: Strategy, k: int
) -> None:
    result = ask(world, [query], [SearchParams(k=k, strategy=strategy, scoring=scoring)])
    assert hits(result)[0] == world.fused(scoring, query, set(world.items), k)


def a_large_world(metric: Any = "dot") -> FusedWorld:
    rng = np.random.default_rng(7)
    world = FusedWorld(metric)
    for n in range(1200):
        own = {
            "colour": "red" if n % 50 == 0 else "blue",
            "size": int(rng.integers(0, 6)),
            "rank": float(rng.integers(0, 9)),
            "born": Timestamp(NOW - int(rng.integers(0, 5)) * HOUR),
            "skills": tuple(rng.choice(WORDS, rng.integers(0, 3), replace=False).tolist()),
        }
        world.put(f"n{n}", rng.integers(-8, 9, (1, D)).astype(np.float32), own)
    return world


STRONG = Scoring(terms=(Feature("rank", 8.0), Feature("size", -4.0), Decay("born", 3600.0, 16.0)))
MIXED = replace(STRONG, similarity=0.5, terms=(*STRONG.terms, Overlap("skills", ("ice", "kit"), 8.0)))


@pytest.mark.parametrize("metric", ["dot", "l2"])
@pytest.mark.parametrize("scoring", [STRONG, MIXED])
@pytest.mark.parametrize("red", [False, True])
def test_lists_probed_to_the_end_find_what_brute_force_finds(metric: Any, scoring: Scoring, red: bool) -> None:
    world = a_large_world(metric)
    with_lists(world, 1000, reach=float("inf"), slack=float("inf"))
    queries = list(np.random.default_rng(1).integers(-8, 9, (5, D)).astype(np.float32))
    tree = Filter(must=(Match("colour", any_of=("red",)),)) if red else Filter()
    asked = SearchParams(k=10, scoring=scoring, filter=tree, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=1200)
    result = ask(world, queries, [asked] * 5)
    passes = {name for name, (_, a, _) in world.items.items() if not red or a["colour"] == "red"}
    for found, query in zip(hits(result), queries, strict=True):
        assert found == world.fused(scoring, query, passes, 10)


def test_what_changes_in_place_or_is_folded_shows_in_the_bounds_of_lists() -> None:
    """A list that could hold the best row by its features is probed however little it resembles the query."""
    world = a_large_world()
    with_lists(world, 1000, reach=0.0, slack=float("inf"))
    query = world.items["n3"][0][0]
    asked = SearchParams(k=1, scoring=Scoring(terms=(Feature("rank", 1.0),)), strategy=Strategy.IVFPQ)
    ask(world, [query], [asked])
    farthest = min((name for name in world.items if name != "n3"), key=lambda n: world.items[n][0][0] @ query)
    world.set_rank(farthest, 10_000.0)
    assert hits(ask(world, [query], [asked]))[0][0][0] == farthest
    while world.index.fold():
        pass
    late = "n1100"
    world.set_rank(late, 20_000.0)
    assert hits(ask(world, [query], [asked]))[0][0][0] == late


def test_weights_met_again_and_again_are_summed_once_and_follow_what_changes() -> None:
    world = a_large_world()
    with_lists(world, 1000, reach=float("inf"), slack=float("inf"))
    query, everyone = np.ones(D, np.float32), set(world.items)
    asked = SearchParams(k=10, scoring=STRONG, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=1200)
    for turn in range(6):
        assert hits(ask(world, [query], [asked]))[0] == world.fused(STRONG, query, everyone, 10)
        world.set_rank(f"n{turn}", 64.0 + turn)
        world.put(f"late{turn}", np.full((1, D), 2.0), {"rank": 70.0})
        everyone.add(f"late{turn}")
        world.now = NOW + (turn // 2) * HOUR
    sums = [table for table in world.index.features._tables.values() if table.n_features == 1]
    assert len(sums) == 1


def test_queries_whose_features_make_every_list_a_candidate_go_over_to_an_exact_way() -> None:
    """What gives up is answered exactly, and what is scored alike begins so, with the same answers."""
    world = a_large_world()
    with_lists(world, 1200, reach=1.0, slack=2.0)
    world.index.costs = replace(COSTS, scan_row=1e-12, scan_value_dense=1e-12, scan_value_sparse=1e-12, scan_call=1e-9)
    scoring = Scoring(terms=(Feature("rank", 100.0),))
    query = np.ones(D, np.float32)
    asked = [SearchParams(k=10, scoring=scoring)] * 8
    told = [ask(world, [query] * 8, asked) for _ in range(4)]
    for one in told:
        assert hits(one)[0] == world.fused(scoring, query, set(world.items), 10)
    last = told[-1].explanations[0]
    assert (last.strategy, last.second_pass) == (Strategy.EXACT_SCAN, False)


def test_without_similarity_an_answer_is_exact() -> None:
    world = a_large_world()
    with_lists(world, 1000)
    scoring = Scoring(similarity=0.0, terms=(Feature("rank", 1.0), Feature("size", 0.25)))
    result = ask(world, [np.ones(D, np.float32)], [SearchParams(k=20, scoring=scoring)])
    assert result.explanations[0].strategy in (Strategy.EXACT_SCAN, Strategy.GATHER)
    assert hits(result)[0] == world.fused(scoring, np.ones(D, np.float32), set(world.items), 20)


def test_ages_go_on_as_time_does() -> None:
    world = FusedWorld()
    world.put("old", np.ones((1, D)), {"born": Timestamp(NOW - 3 * HOUR)})
    scoring = Scoring(similarity=0.0, terms=(Decay("born", 3600.0),))
    now = [NOW]
    world.index.clock = lambda: now[0]
    found = []
    for _ in range(3):
        found.append(hits(ask(world, [np.ones(D)], [SearchParams(k=1, scoring=scoring)]))[0][0][1])
        now[0] += HOUR
    assert found == [1 / 8, 1 / 16, 1 / 32]


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_scores_of_the_longest_vectors_are_finite_and_a_longer_query_fails_alone(metric: Any) -> None:
    world = FusedWorld(metric, dtype="float32")
    longest = np.full(D, 0.999 * MOST_LENGTH / np.sqrt(D), np.float32)
    world.put("far", -longest[None], {})
    scoring = Scoring(similarity=MOST_WEIGHT)
    result = ask(world, [longest, longest * np.float32(1.01)], [SearchParams(k=1, scoring=scoring)])
    assert result.counts.tolist() == [1, 0]
    assert result.scores[0] < -9e36
    assert np.isfinite(result.scores).all()
    assert "query[1].vector: 1.00899e+14 is beyond the limit of 1e+14 in length" in str(result.errors[1])


def test_hits_below_a_least_score_are_left_out() -> None:
    world = FusedWorld()
    for n in range(5):
        world.put(f"n{n}", np.full((1, D), n), {"rank": float(n)})
    asked = SearchParams(k=5, min_score=27.0, scoring=Scoring(terms=(Feature("rank"),)))
    assert [name for name, _ in hits(ask(world, [np.ones(D)], [asked]))[0]] == ["n4", "n3"]
    plain = SearchParams(k=5, min_score=24.0)
    assert [name for name, _ in hits(ask(world, [np.ones(D)], [plain]))[0]] == ["n4", "n3"]


SCHEMA = Schema(
    "w",
    dimension=D,
    text_fields=(TextField("title", analyser="plain"),),
    attributes=ATTRIBUTES,
    profiles=(ScoringProfile("fresh", 0.5, 0.0, (Decay("born", 60.0, name="age"), Feature("rank", 2.0)), revision=3),),
)


def test_a_profile_gives_what_a_query_leaves_open() -> None:
    given = Scoring("fresh", lexical=0.25, terms=(Feature("size"),), weights={"age": 7.0})
    compiled = compile_scoring(given, SCHEMA, Limits(), "scoring")
    assert compiled is not None
    assert (compiled.similarity, compiled.lexical, compiled.profile) == (0.5, 0.25, "fresh@3")
    assert dict(zip(compiled.names, compiled.total.weights.tolist(), strict=True)) == {
        "age": 7.0,
        "rank": 2.0,
        "size": 1.0,
    }


def test_the_default_profile_is_for_queries_that_give_no_scoring() -> None:
    schema = replace(SCHEMA, default_profile="fresh")
    assert compile_scoring(None, SCHEMA, Limits(), "scoring") is None
    compiled = compile_scoring(None, schema, Limits(), "scoring")
    assert compiled is not None
    assert compiled.profile == "fresh@3"
    assert compile_scoring(Scoring(), schema, Limits(), "scoring") is None


@pytest.mark.parametrize(
    ("scoring", "error", "told"),
    [
        (Scoring("none"), InvalidArgument, "scoring.profile: the collection has no profile 'none'; it has fresh"),
        (Scoring(terms=(Feature("void"),)), UnknownAttribute, "void"),
        (Scoring(terms=(Feature("colour"),)), InvalidArgument, "'colour' is a keyword, not a int or float or bool"),
        (Scoring(terms=(Decay("size", 1.0),)), InvalidArgument, "'size' is a int, not a timestamp"),
        (Scoring(terms=(Feature("hidden"),)), InvalidArgument, "is neither filterable nor volatile"),
        (Scoring(terms=(Feature("size", float("nan")),)), InvalidArgument, r"scoring.terms\[0\].weight"),
        (Scoring(terms=(Feature("size", low=2.0, high=1.0),)), InvalidArgument, "low: 2.0 is above high, 1.0"),
        (Scoring(terms=(Feature("size", name="lexical"),)), InvalidArgument, "is the name of another leg"),
        (Scoring(terms=(Feature("size"), Feature("size"))), InvalidArgument, "two legs are called 'size'"),
        (Scoring(terms=(Decay("born", 0.0),)), InvalidArgument, "half_life_s: 0.0 is not at least 1.0"),
        (Scoring(terms=(Overlap("skills", ()),)), InvalidArgument, "values: is empty"),
        (Scoring(terms=(Overlap("skills", ("a", "a")),)), InvalidArgument, "has a keyword twice"),
        (Scoring(terms=(Overlap("skills", ("a",), 1.0, (1.0, 2.0)),)), InvalidArgument, "2 given for 1 values"),
        (Scoring(similarity=-1.0), InvalidArgument, "scoring.similarity: -1.0 is below 0"),
        (Scoring(weights={"void": 1.0}), InvalidArgument, r"scoring.weights\[void\]: no leg has that name"),
        (Scoring(terms=tuple(Feature("size", name=f"n{n}") for n in range(65))), LimitExceeded, "limit of 64 terms"),
    ],
)
def test_a_scoring_that_cannot_be_is_refused_by_name(scoring: Scoring, error: type[EngineError], told: str) -> None:
    with pytest.raises(error, match=told):
        compile_scoring(scoring, SCHEMA, Limits(), "scoring")
