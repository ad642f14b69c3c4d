"""Pages where embeddings have names: of one moment, by sums and by maxima, with legs that add up to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pipeline.cursors import Cursor, Seal, fingerprint
from engine.pipeline.search import CompiledParams, JobResult, SearchJob
from engine.scoring import Scoring
from engine.types import Metric, SearchParams, Strategy
from tests.engine.pipeline.test_named_embeddings import (
    EMBEDDINGS,
    EQUAL,
    MaximumWorld,
    NamedWorld,
    choices,
    compiled_maxima,
    compiled_of,
    maximum_worlds,
    run,
    scorings,
    small,
    weights,
    whole,
    worlds,
)
from tests.engine.pipeline.test_search import FILTERS, D, hits, names, with_lists

ASKED = b"?" * 32
changes = st.lists(st.tuples(names, st.booleans()), max_size=5)


def compiled(world: NamedWorld, params: SearchParams, cursor: Cursor | None = None) -> CompiledParams:
    (own,) = (compiled_maxima if world.schema.takes_maximum else compiled_of)(world, [params])
    return replace(own, params=replace(params, page=True), cursor=cursor)


def ask(
    world: NamedWorld, query: Mapping[str, np.ndarray], params: SearchParams, cursor: Cursor | None = None
) -> JobResult:
    """A page; those after the first have no vectors but their cursor's."""
    own = [compiled(world, params, cursor)]
    if cursor is not None:
        return run(SearchJob(world.index, own, vectors=np.ones((1, D), np.float32)))
    return run(SearchJob(world.index, own, named={name: np.stack([vector]) for name, vector in query.items()}))


def check_pages(
    world: NamedWorld,
    query: Mapping[str, np.ndarray],
    params: SearchParams,
    written: list[list[tuple[str, bool]]],
    *,
    expected: dict[str, float],
    tolerance: float,
) -> None:
    """Those after the first tell legs, and no others."""
    seal = Seal()
    wanted = hits(ask(world, query, replace(params, k=1000)))[0]
    assert dict(wanted) == pytest.approx(expected, abs=tolerance)
    result = ask(world, query, params)
    found, rounds = hits(result)[0], iter(written)
    while result.cursors[0] is not None:
        for place, (name, is_dropped) in enumerate(next(rounds, [])):
            if is_dropped:
                world.drop(name)
            else:
                world.put_named(name, {"b": np.full_like(query["b"], 1 + place)}, {"colour": "red", "size": 3})
        cursor = seal.open(seal.close(result.cursors[0], ASKED), ASKED, "cursor", now=world.index.clock())
        result = ask(world, query, replace(params, legs=True), cursor)
        check_legs(result)
        found += hits(result)[0]
    assert found == wanted


def check_legs(result: JobResult) -> None:
    total = np.zeros(len(result.ids), np.float32)
    for column in result.legs:
        total += column.weights[0] * column.normalised
    np.testing.assert_array_equal(total, result.scores)
    assert not len(result.ids) or {one.name.split(".")[0] for one in result.legs} <= {"similarity", "size"}
    assert "similarity" not in {one.name for one in result.legs}


@given(
    worlds(),
    whole,
    weights,
    st.integers(0, len(FILTERS) - 1),
    st.integers(1, 4),
    scorings,
    st.lists(changes, max_size=9),
)
def test_pages_by_weighted_sums_are_the_ranking_of_the_first_moment(
    world: NamedWorld,
    query: dict[str, np.ndarray],
    own: dict[str, float],
    which: int,
    k: int,
    scoring: Scoring | None,
    written: list[list[tuple[str, bool]]],
) -> None:
    params = SearchParams(k=k, filter=FILTERS[which][0], scoring=scoring, embedding_weights=own)
    passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
    check_pages(world, query, params, written, expected=world.scores(query, own, passes, scoring), tolerance=2e-6)


@given(
    maximum_worlds(),
    small(D - 1),
    choices,
    st.integers(0, len(FILTERS) - 1),
    st.integers(1, 4),
    scorings,
    st.lists(changes, max_size=9),
)
def test_pages_by_maxima_are_the_ranking_of_the_first_moment(
    world: MaximumWorld,
    query: np.ndarray,
    own: dict[str, float],
    which: int,
    k: int,
    scoring: Scoring | None,
    written: list[list[tuple[str, bool]]],
) -> None:
    params = SearchParams(k=k, filter=FILTERS[which][0], scoring=scoring, embedding_weights=own)
    passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
    expected = world.scores({"a": query}, own, passes & world.chosen(own), scoring)
    check_pages(world, dict.fromkeys("abc", query), params, written, expected=expected, tolerance=5e-3)


def a_large_world(kind: type[NamedWorld], metric: Metric) -> NamedWorld:
    rng = np.random.default_rng(6)
    world = kind(metric, dtype="float32")
    specs = EQUAL if world.schema.takes_maximum else EMBEDDINGS
    for n in range(600):
        present = [one for one in specs if rng.random() < 0.7] or [specs[1]]
        vectors = {one.name: rng.normal(size=one.dimension or 0).astype(np.float32) for one in present}
        world.put_named(f"n{n}", vectors, {"colour": "red", "size": int(n % 5)})
    return world


@pytest.mark.parametrize("kind", [NamedWorld, MaximumWorld])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("nprobe", [2, 8])
def test_with_lists_pages_repeat_nothing_and_miss_only_what_lists_do(
    kind: type[NamedWorld], metric: Metric, nprobe: int
) -> None:
    world = a_large_world(kind, metric)
    world.metric = "dot"
    with_lists(world, world.next_row - 100)
    world.metric = metric
    specs = EQUAL if world.schema.takes_maximum else EMBEDDINGS
    vector = np.linspace(-1, 2, D, dtype=np.float32)
    query = {one.name: vector[: one.dimension] for one in specs}
    own = {"a": 1.0, "b": 0.0, "c": 1.0} if world.schema.takes_maximum else {"a": 1.0, "b": 3.0, "c": 0.7}
    params = SearchParams(k=30, embedding_weights=own, legs=True)
    wanted = hits(ask(world, query, replace(params, k=1000, exact=True, legs=False)))[0]
    probing = replace(params, strategy=Strategy.IVFPQ, nprobe=nprobe, rescore_depth=20 * nprobe * nprobe)
    result = ask(world, query, probing)
    found = hits(result)[0]
    while result.cursors[0] is not None:
        check_legs(result)
        world.drop(found[-1][0])
        world.drop(f"n{len(found)}")
        result = ask(world, query, probing, result.cursors[0])
        found += hits(result)[0]
    assert len(set(found)) == len(found) > 150
    assert found == [one for one in wanted if one in set(found)]


@pytest.mark.parametrize("kind", [NamedWorld, MaximumWorld])
def test_a_page_of_an_item_s_neighbours_goes_on_once_the_item_is_gone(kind: type[NamedWorld]) -> None:
    world = a_large_world(kind, "cosine")
    params = SearchParams(k=40, embedding_weights={"a": 1.0, "b": 1.0, "c": 0.0}, legs=True)

    def page(cursor: Cursor | None, k: int = 40) -> JobResult:
        own = compiled(world, replace(params, k=k), cursor)
        return run(SearchJob(world.index, [own], item_ids=["n7"]))

    wanted = hits(page(None, 1000))[0]
    result = page(None)
    found = hits(result)[0]
    while result.cursors[0] is not None:
        check_legs(result)
        world.drop("n7")
        world.put_named(f"new{len(found)}", {"a": np.ones(D - 1 if kind is MaximumWorld else 3, np.float32)}, {})
        result = page(result.cursors[0])
        found += hits(result)[0]
    assert found == wanted
    assert "n7" not in dict(found)


def test_weights_of_embeddings_and_each_of_their_vectors_make_another_query() -> None:
    world = NamedWorld("cosine", dtype="float32")
    one, other = np.ones(3, np.float32), np.zeros(3, np.float32)
    queries: list[Any] = [
        {"a": one},
        {"b": one},
        {"a": other},
        {"a": one, "b": one},
        {"a": "red"},
        {"a": "blue"},
        "red",
    ]
    given_weights = [{"a": 1.0}, {"a": 2.0}, {"b": 0.0}]

    def printed(query: Any, own: dict[str, float]) -> bytes:
        asked = compiled(world, SearchParams(embedding_weights=own))
        return fingerprint(query, asked.params, asked.program, asked.scoring, asked.weights)

    prints = [printed(query, {}) for query in queries] + [printed({"a": one}, own) for own in given_weights[1:]]
    assert len(set(prints)) == len(prints)
    assert printed({"a": one, "b": other}, {}) == printed({"b": other, "a": one}, given_weights[0])
