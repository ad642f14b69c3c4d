"""Weighted sums and maxima of named embeddings against brute force: weights, missing ones, filters, fusion, legs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.embeddings import joined, parts, query_weights
from engine.errors import EngineError, InvalidArgument, LimitExceeded
from engine.index.filters import compile_filter
from engine.index.version_index import VersionIndex
from engine.ingest.texts import normalised
from engine.limits import Limits
from engine.pipeline.scoring import SIMILARITY_ALONE, compile_scoring
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, search_jobs
from engine.scoring import Feature, Overlap, Scoring
from engine.types import EmbeddingSpec, Metric, SearchParams, Strategy, VersionInfo
from tests.engine.pipeline.test_search import COSTS, FILTERS, D, World, attributes, backend, hits, names, with_lists

EMBEDDINGS = (EmbeddingSpec("a", (), 1.0, 3), EmbeddingSpec("b", (), 2.0, 4), EmbeddingSpec("c", (), 0.5, 1))


@dataclass
class NamedWorld(World):
    """A world whose items have three embeddings, or some of them."""

    metric: Metric = "cosine"
    own: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.schema = replace(self.schema, dimension=None, embeddings=EMBEDDINGS)
        version = VersionInfo("v1", "", D, "dot", self.dtype, 0)
        self.index = VersionIndex(self.schema, version, self, COSTS)

    def put_named(self, name: str, vectors: Mapping[str, np.ndarray], given: dict[str, Any]) -> None:
        row = np.zeros((1, D), np.float32)
        for embedding, part in parts(self.schema).items():
            if embedding in vectors:
                row[0, part] = normalised(vectors[embedding]) if self.metric == "cosine" else vectors[embedding]
        self.put(name, row, given)
        self.own[name] = {embedding: np.asarray(own, np.float64) for embedding, own in vectors.items()}

    def weighted(self, query: Mapping[str, np.ndarray], weights: Mapping[str, float], name: str) -> float:
        """The similarity of an item, by its own words."""
        total = 0.0
        for embedding, weight in weights.items():
            if weight and embedding in self.own[name]:
                one, other = self.own[name][embedding], np.asarray(query[embedding], np.float64)
                length = np.linalg.norm(one) * np.linalg.norm(other) if self.metric == "cosine" else 1.0
                total += weight * float(one @ other) / float(length)
        return total / (sum(weights.values()) if self.metric == "cosine" else 1.0)

    def scores(
        self, query: Mapping[str, np.ndarray], weights: Mapping[str, float], passes: set[str], scoring: Scoring | None
    ) -> dict[str, float]:
        scoring = scoring or Scoring()
        similarity = 1.0 if scoring.similarity is None else scoring.similarity
        return {
            name: similarity * self.weighted(query, weights, name)
            + sum(term.weight * self.items[name][1].get(term.attribute, 0) for term in scoring.terms)
            for name in passes & self.items.keys()
        }


def small(d: int) -> st.SearchStrategy[np.ndarray]:
    vectors = st.lists(st.integers(-3, 3), min_size=d, max_size=d).map(lambda v: np.array(v, np.float32))
    return vectors.filter(lambda v: bool(v.any()))


whole = st.fixed_dictionaries({one.name: small(one.dimension or 0) for one in EMBEDDINGS})
some = st.fixed_dictionaries({}, optional={one.name: small(one.dimension or 0) for one in EMBEDDINGS}).filter(bool)
weights = st.fixed_dictionaries({one.name: st.sampled_from([0.0, 0.5, 1.0, 3.0]) for one in EMBEDDINGS}).filter(
    lambda given: any(given.values())
)
scorings = st.none() | st.builds(
    Scoring, similarity=st.sampled_from([None, 0.5, 2.0]), terms=st.just((Feature("size", 0.5),))
)


@st.composite
def worlds(draw: st.DrawFn, metric: Metric | None = None) -> NamedWorld:
    world = NamedWorld(metric or draw(st.sampled_from(["cosine", "dot"])), dtype="float32")
    for name, deleted in draw(st.lists(st.tuples(names, st.booleans()), max_size=25)):
        if deleted:
            world.drop(name)
        else:
            world.put_named(name, draw(some), draw(attributes))
    return world


def compiled_of(world: World, params: Sequence[SearchParams]) -> list[CompiledParams]:
    offered = ["a", "b", "c"]
    return [
        CompiledParams(
            one,
            compile_filter(one.filter, world.schema),
            scoring=compile_scoring(one.scoring, world.schema, Limits(), "scoring")
            or (SIMILARITY_ALONE if one.legs else None),
            weights=query_weights(one.embedding_weights, world.schema, offered, "params"),
        )
        for one in params
    ]


def run(job: SearchJob) -> JobResult:
    (result,) = search_jobs(backend(), [job])
    assert not isinstance(result, EngineError)
    return result


def ask(world: World, queries: Sequence[Mapping[str, np.ndarray]], params: Sequence[SearchParams]) -> JobResult:
    named = {one.name: np.stack([query[one.name] for query in queries]) for one in EMBEDDINGS}
    return run(SearchJob(world.index, compiled_of(world, params), named=named, explain=True))


def check(world: NamedWorld, found: list[tuple[str, float]], wanted: dict[str, float], k: int) -> None:
    """The best k by brute force; equal scores of cosines may stand in another order."""
    best = sorted(wanted.values(), reverse=True)[:k]
    assert [score for _, score in found] == pytest.approx(best, abs=2e-6)
    for name, score in found:
        assert score == pytest.approx(wanted[name], abs=2e-6)
    if world.metric == "dot":
        rows = {name: world.items[name][2] for name in wanted}
        assert [name for name, _ in found] == sorted(wanted, key=lambda name: (-wanted[name], rows[name]))[:k]


asked = st.tuples(whole, weights, st.integers(0, len(FILTERS) - 1), st.integers(1, 8), scorings)


@given(worlds(), st.lists(asked, min_size=1, max_size=5), st.booleans())
def test_a_batch_of_queries_with_weights_of_their_own_equals_brute_force(
    world: NamedWorld, batch: list[Any], legs: bool
) -> None:
    params = [
        SearchParams(k=k, filter=FILTERS[which][0], scoring=scoring, embedding_weights=own, legs=legs)
        for _, own, which, k, scoring in batch
    ]
    result = ask(world, [query for query, *_ in batch], params)
    for found, (query, own, which, k, scoring) in zip(hits(result), batch, strict=True):
        passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
        check(world, found, world.scores(query, own, passes, scoring), k)


@given(worlds(), st.lists(st.tuples(whole, weights), min_size=1, max_size=3), scorings)
def test_the_legs_of_embeddings_add_up_to_the_score_to_the_last_bit(
    world: NamedWorld, queries: list[Any], scoring: Scoring | None
) -> None:
    params = [SearchParams(k=8, embedding_weights=own, scoring=scoring, legs=True) for _, own in queries]
    result = ask(world, [query for query, _ in queries], params)
    of_query = np.repeat(np.arange(len(queries)), result.counts)
    total = np.zeros(len(result.ids), np.float32)
    for column in result.legs:
        total += column.weights[of_query] * column.normalised
    np.testing.assert_array_equal(total, result.scores)
    told = {column.name: column for column in result.legs}
    for embedding in "abc" if len(result.ids) else "":
        counting = [own[embedding] for _, own in queries]
        assert (f"similarity.{embedding}" in told) == any(counting)
    for place, (query, own) in enumerate(queries):
        for hit in np.flatnonzero(of_query == place):
            name = str(result.ids[hit])
            for embedding in (one for one, weight in own.items() if weight):
                alone = {one: float(one == embedding) for one in own}
                raw = told[f"similarity.{embedding}"].raw[hit]
                assert raw == pytest.approx(world.weighted(query, alone, name), abs=2e-6)


@given(worlds(), whole, weights, st.sampled_from([Strategy.GATHER, Strategy.MASKED_SCAN]), st.integers(1, 8))
def test_every_exact_way_gives_the_same(
    world: NamedWorld, query: Mapping[str, np.ndarray], own: dict[str, float], strategy: Strategy, k: int
) -> None:
    result = ask(world, [query], [SearchParams(k=k, strategy=strategy, embedding_weights=own)])
    check(world, hits(result)[0], world.scores(query, own, set(world.items), None), k)


@given(worlds(), names, weights)
def test_neighbours_of_an_item_are_found_by_what_it_has(world: NamedWorld, name: str, own: dict[str, float]) -> None:
    params = SearchParams(k=12, embedding_weights=own)
    result = run(SearchJob(world.index, compiled_of(world, [params]), item_ids=[name], explain=True))
    counting = {one: weight for one, weight in own.items() if weight and one in world.own.get(name, {})}
    if name not in world.items or not counting:
        assert result.errors[0] is not None
        return
    check(world, hits(result)[0], world.scores(world.own[name], counting, set(world.items) - {name}, None), 12)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_lists_probed_to_the_end_find_what_brute_force_finds(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    world = NamedWorld(metric, dtype="float32")
    for n in range(1200):
        present = [one for one in EMBEDDINGS if rng.random() < 0.8] or EMBEDDINGS[:1]
        vectors = {one.name: rng.integers(1, 9, one.dimension).astype(np.float32) for one in present}
        world.put_named(f"n{n}", vectors, {"colour": "red" if n % 9 else "blue"})
    world.metric = "dot"
    with_lists(world, 1000, reach=float("inf"), slack=float("inf"))
    world.metric = metric
    for which, own in ((0, {"a": 3.0, "b": 1.0, "c": 0.0}), (1, {"a": 0.0, "b": 1.0, "c": 0.5})):
        query = {one.name: rng.integers(1, 9, one.dimension).astype(np.float32) for one in EMBEDDINGS}
        params = SearchParams(
            filter=FILTERS[which][0], embedding_weights=own, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=1200
        )
        passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
        check(world, hits(ask(world, [query], [params]))[0], world.scores(query, own, passes, None), 10)


@given(worlds("cosine"), st.lists(st.tuples(whole, weights), min_size=2, max_size=4), st.sampled_from("abc"))
def test_a_vector_that_is_none_fails_its_query_alone_and_only_where_it_counts(
    world: NamedWorld, queries: list[Any], broken: str
) -> None:
    bad = {**queries[0][0], broken: np.zeros_like(queries[0][0][broken])}
    params = [SearchParams(k=8, embedding_weights=own) for _, own in queries]
    result = ask(world, [bad, *(query for query, _ in queries[1:])], params)
    if queries[0][1][broken]:
        assert isinstance(result.errors[0], InvalidArgument)
        assert result.errors[0].field == f"query[0].named.vectors[{broken}]"
    for place, (query, own) in list(enumerate(queries))[1 if queries[0][1][broken] else 0 :]:
        check(world, hits(result)[place], world.scores(query, own, set(world.items), None), 8)


def test_weights_too_large_for_a_dot_product_are_refused_and_those_of_cosines_are_relative() -> None:
    world = NamedWorld("dot", dtype="float32")
    world.put_named("x", {"a": np.ones(3)}, {})
    query = {one.name: np.full(one.dimension or 0, 3.0, np.float32) for one in EMBEDDINGS}
    most = {"a": 3e38, "b": 3e38, "c": 3e38}
    assert isinstance(ask(world, [query], [SearchParams(embedding_weights=most)]).errors[0], InvalidArgument)
    cosines = NamedWorld("cosine", dtype="float32")
    cosines.put_named("x", {"a": np.ones(3)}, {})
    ((_, score),) = hits(ask(cosines, [query], [SearchParams(embedding_weights=most)]))[0]
    assert score == pytest.approx(1 / 3)


def test_an_item_whose_weighted_parts_are_too_long_together_makes_no_query() -> None:
    world = NamedWorld("dot", dtype="float32")
    world.put_named("x", {one.name: np.ones(one.dimension or 0) for one in EMBEDDINGS}, {})
    params = SearchParams(embedding_weights={"a": 1e15, "b": 1.0, "c": 1.0})
    result = run(SearchJob(world.index, compiled_of(world, [params]), item_ids=["x"]))
    assert isinstance(result.errors[0], LimitExceeded)
    assert "query.item_id: " in str(result.errors[0])


EQUAL = tuple(EmbeddingSpec(name, (), 1.0, D - 1) for name in "abc")


@dataclass
class MaximumWorld(NamedWorld):
    """A world whose items have a row for each of up to three embeddings."""

    def __post_init__(self) -> None:
        World.__post_init__(self)
        self.schema = replace(self.schema, dimension=None, embeddings=EQUAL, combine="maximum")
        self.index = VersionIndex(self.schema, VersionInfo("v1", "", D, "dot", self.dtype, 0), self, COSTS)

    def put_named(self, name: str, vectors: Mapping[str, np.ndarray], given: dict[str, Any]) -> None:
        units = {one: normalised(own) if self.metric == "cosine" else own for one, own in vectors.items()}
        self.put(name, joined(units, self.schema), given)
        self.own[name] = {embedding: np.asarray(own, np.float64) for embedding, own in vectors.items()}

    def weighted(self, query: Mapping[str, np.ndarray], weights: Mapping[str, float], name: str) -> float:
        one = np.asarray(query["a"], np.float64)
        found = []
        for embedding, own in self.own[name].items():
            if weights[embedding]:
                length = np.linalg.norm(one) * np.linalg.norm(own) if self.metric == "cosine" else 1.0
                found.append(float(one @ own) / float(length))
        return max(found)

    def chosen(self, weights: Mapping[str, float]) -> set[str]:
        """Items that have an embedding which counts."""
        return {name for name in self.items if any(weights[embedding] for embedding in self.own[name])}


some_equal = st.fixed_dictionaries({}, optional={one: small(D - 1) for one in "abc"}).filter(bool)
choices = st.fixed_dictionaries({one: st.sampled_from([0.0, 1.0]) for one in "abc"}).filter(
    lambda given: any(given.values())
)
maximum_asked = st.tuples(small(D - 1), choices, st.integers(0, len(FILTERS) - 1), st.integers(1, 8), scorings)


@st.composite
def maximum_worlds(draw: st.DrawFn) -> MaximumWorld:
    world = MaximumWorld(draw(st.sampled_from(["cosine", "dot"])), dtype=draw(st.sampled_from(["float32", "float16"])))
    for name, deleted in draw(st.lists(st.tuples(names, st.booleans()), max_size=25)):
        if deleted:
            world.drop(name)
        else:
            world.put_named(name, draw(some_equal), draw(attributes))
    return world


def compiled_maxima(world: World, params: Sequence[SearchParams]) -> list[CompiledParams]:
    return [
        replace(one, is_narrowed=one.weights is not None and not one.weights.all())
        for one in compiled_of(world, params)
    ]


def ask_maxima(world: World, queries: Sequence[np.ndarray], params: Sequence[SearchParams]) -> JobResult:
    named = dict.fromkeys("abc", np.stack(queries))
    return run(SearchJob(world.index, compiled_maxima(world, params), named=named, explain=True))


def check_maxima(world: MaximumWorld, found: list[tuple[str, float]], wanted: dict[str, float], k: int) -> None:
    """As ``check``; ties of dot products are by the row that scores."""
    tolerance = 2e-3 if world.dtype == "float16" and world.metric == "cosine" else 2e-6
    assert [score for _, score in found] == pytest.approx(sorted(wanted.values(), reverse=True)[:k], abs=tolerance)
    for name, score in found:
        assert score == pytest.approx(wanted[name], abs=tolerance)


@given(maximum_worlds(), st.lists(maximum_asked, min_size=1, max_size=5), st.booleans())
def test_the_best_of_the_embeddings_that_count_is_an_items_similarity(
    world: MaximumWorld, batch: list[Any], legs: bool
) -> None:
    params = [
        SearchParams(k=k, filter=FILTERS[which][0], scoring=scoring, embedding_weights=own, legs=legs)
        for _, own, which, k, scoring in batch
    ]
    result = ask_maxima(world, [query for query, *_ in batch], params)
    for found, (query, own, which, k, scoring) in zip(hits(result), batch, strict=True):
        passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
        wanted = world.scores({"a": query}, own, passes & world.chosen(own), scoring)
        check_maxima(world, found, wanted, k)


@given(maximum_worlds(), st.lists(st.tuples(small(D - 1), choices), min_size=1, max_size=3), scorings)
def test_the_leg_of_the_best_embedding_has_the_similarity_and_all_add_up(
    world: MaximumWorld, queries: list[Any], scoring: Scoring | None
) -> None:
    params = [SearchParams(k=12, embedding_weights=own, scoring=scoring, legs=True) for _, own in queries]
    result = ask_maxima(world, [query for query, _ in queries], params)
    of_query = np.repeat(np.arange(len(queries)), result.counts)
    total = np.zeros(len(result.ids), np.float32)
    for column in result.legs:
        total += column.weights[of_query] * column.normalised
    np.testing.assert_array_equal(total, result.scores)
    told = {column.name.removeprefix("similarity."): column.raw for column in result.legs}
    for hit, place in enumerate(of_query):
        query, own = queries[place]
        name = str(result.ids[hit])
        similarities = {one: float(told[one][hit]) for one in "abc" if one in told}
        best = world.weighted({"a": query}, own, name)
        assert sum(similarities.values()) == pytest.approx(best, abs=2e-3)
        for embedding, similarity in similarities.items():
            if similarity:
                assert own[embedding]
                alone = {one: float(one == embedding) for one in "abc"}
                assert world.weighted({"a": query}, alone, name) == pytest.approx(similarity, abs=2e-3)


@given(maximum_worlds(), names, choices)
def test_neighbours_by_maximum_are_of_the_mean_of_what_counts(
    world: MaximumWorld, name: str, own: dict[str, float]
) -> None:
    params = SearchParams(k=12, embedding_weights=own)
    compiled = compiled_maxima(world, [params])
    result = run(SearchJob(world.index, compiled, item_ids=[name], explain=True))
    counting = [vector for one, vector in world.own.get(name, {}).items() if own[one]]
    if name not in world.items or not counting:
        assert result.errors[0] is not None
        return
    units = [normalised(one) if world.metric == "cosine" else one for one in counting]
    mean = np.mean(units, axis=0)
    if np.linalg.norm(mean) < 0.01:
        return  # of rounding alone
    wanted = world.scores({"a": mean}, own, world.chosen(own) - {name}, None)
    tolerance = 2e-2 if world.metric == "cosine" else 1e-3
    assert dict(hits(result)[0]) == pytest.approx(wanted, abs=tolerance)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_lists_probed_to_the_end_find_the_best_embeddings_of_items(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    world = MaximumWorld(metric, dtype="float32")
    for n in range(600):
        present = [one for one in "abc" if rng.random() < 0.7] or ["b"]
        vectors = {one: rng.integers(-8, 9, D - 1).astype(np.float32) + 0.5 for one in present}
        world.put_named(f"n{n}", vectors, {"colour": "red" if n % 9 else "blue"})
    world.metric = "dot"
    with_lists(world, world.next_row - 100, reach=float("inf"), slack=float("inf"))
    world.metric = metric
    for which, own in ((0, {"a": 1.0, "b": 1.0, "c": 1.0}), (1, {"a": 0.0, "b": 1.0, "c": 0.0})):
        query = rng.integers(-8, 9, D - 1).astype(np.float32) + 0.5
        params = SearchParams(
            filter=FILTERS[which][0], embedding_weights=own, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=2000
        )
        passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
        wanted = world.scores({"a": query}, own, passes & world.chosen(own), None)
        check_maxima(world, hits(ask_maxima(world, [query], [params]))[0], wanted, 10)


def test_what_keywords_add_is_not_added_to_embeddings_that_are_left_out() -> None:
    """Rows that get something extra are scored one by one beside the lists."""
    world = MaximumWorld("dot", dtype="float32")
    rng = np.random.default_rng(4)
    for n in range(300):
        vectors = {one: rng.integers(-8, 9, D - 1).astype(np.float32) for one in "abc"[: 1 + n % 3]}
        world.put_named(f"n{n}", vectors, {"colour": "red" if n % 4 else "blue"})
    with_lists(world, world.next_row - 50, reach=float("inf"), slack=float("inf"))
    own, query = {"a": 0.0, "b": 1.0, "c": 1.0}, rng.integers(-8, 9, D - 1).astype(np.float32)
    scoring = Scoring(terms=(Overlap("colour", ("blue",), 100.0),))
    params = SearchParams(
        embedding_weights=own, scoring=scoring, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=2000, legs=True
    )
    wanted = {
        name: similarity + (100.0 if world.items[name][1]["colour"] == "blue" else 0.0)
        for name, similarity in world.scores({"a": query}, own, world.chosen(own), None).items()
    }
    check_maxima(world, hits(ask_maxima(world, [query], [params]))[0], wanted, 10)
