"""Hits picked by maximal marginal relevance against a plain reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.scoring import Feature, Scoring
from engine.selection import Diversity, GroupBy
from engine.selections import resolve_diversity
from engine.types import SearchParams, Strategy
from tests.engine.pipeline.test_fusion import FusedWorld, a_large_world, ask, scorings, worlds
from tests.engine.pipeline.test_grouping import groupings, walked
from tests.engine.pipeline.test_search import D, hits, small, with_lists

PLAIN = Scoring()


def vector_that_scores(world: FusedWorld, name: str, query: np.ndarray, scoring: Scoring) -> np.ndarray:
    vectors = world.items[name][0]
    scores = [0.0 if scoring.similarity == 0 else world.score(query, vector) for vector in vectors]
    return np.asarray(vectors[scores.index(max(scores))], np.float64)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return round(float(one @ other / lengths), 6) if lengths else 0.0


def picked(
    world: FusedWorld,
    query: np.ndarray,
    candidates: list[tuple[str, float]],
    relevance: float,
    k: int,
    scoring: Scoring = PLAIN,
) -> list[tuple[str, float]]:
    """By the definition, one pick after the other."""
    if not candidates:
        return []
    best, last = candidates[0][1], candidates[-1][1]
    vectors = {name: vector_that_scores(world, name, query, scoring) for name, _ in candidates}
    hits: list[tuple[str, float]] = []
    while len(hits) < min(k, len(candidates)):
        values = []
        for name, score in candidates:
            own = (score - last) / (best - last) if best > last else 1.0
            alike = max((cosine(vectors[name], vectors[hit]) for hit, _ in hits), default=0.0)
            values.append(relevance * own - ((1 - relevance) * alike if hits else 0.0))
        left = [place for place, one in enumerate(candidates) if one not in hits]
        hits.append(candidates[max(left, key=lambda place: (values[place], -place))])
    return hits


@given(
    worlds(),
    st.lists(
        st.tuples(small, st.integers(1, 4), st.sampled_from([0.0, 0.25, 0.5, 1.0]), scorings, groupings | st.none()),
        min_size=1,
        max_size=4,
    ),
)
def test_hits_are_picked_as_the_definition_says_of_grouped_and_fused_items_too(
    world: FusedWorld, asked: list[tuple[np.ndarray, int, float, Scoring, GroupBy | None]]
) -> None:
    params = [
        SearchParams(k=k, diversity=Diversity(relevance, 6), scoring=scoring, group_by=group)
        for _, k, relevance, scoring, group in asked
    ]
    result = ask(world, [query for query, *_ in asked], params)
    for found, (query, k, relevance, scoring, group) in zip(hits(result), asked, strict=True):
        ranked = world.fused(scoring, query, set(world.items), len(world.items))
        candidates = ranked[:6] if group is None else walked(world, ranked, group, 6)
        assert found == picked(world, query, candidates, relevance, k, scoring)


def test_with_lists_hits_are_picked_from_what_was_found() -> None:
    world = a_large_world("l2")
    with_lists(world, 1000, reach=float("inf"), slack=float("inf"))
    query = np.arange(D, dtype=np.float32)
    asked = SearchParams(k=10, diversity=Diversity(0.3, 60), strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=1200)
    candidates = world.fused(Scoring(), query, set(world.items), 60)
    found = hits(ask(world, [query], [asked]))[0]
    assert found == picked(world, query, candidates, 0.3, 10)
    assert found != candidates[:10]
    assert hits(ask(world, [query], [replace(asked, diversity=Diversity(1.0, 60))]))[0] == candidates[:10]


def test_the_legs_of_picked_hits_are_their_own() -> None:
    world = a_large_world()
    scoring = Scoring(terms=(Feature("rank", 0.3),))
    asked = SearchParams(k=6, diversity=Diversity(0.2, 40), scoring=scoring, legs=True)
    result = ask(world, [np.ones(D, np.float32)], [asked])
    total = sum((leg.weights[0] * leg.normalised for leg in result.legs), np.zeros(6, np.float32))
    np.testing.assert_array_equal(total, result.scores)
    assert result.scores.tolist() != sorted(result.scores.tolist(), reverse=True)


@pytest.mark.parametrize(("k", "candidates"), [(1, 100), (25, 100), (26, 104), (250, 1000), (900, 1000)])
def test_there_are_four_candidates_a_hit_and_a_hundred_at_least(k: int, candidates: int) -> None:
    assert resolve_diversity(Diversity(0.5), k, Limits(), "diversity").candidates == candidates


@pytest.mark.parametrize(
    ("diversity", "k", "error", "told"),
    [
        (Diversity(-0.1), 10, InvalidArgument, r"diversity.relevance: -0.1 is not in \[0, 1\]"),
        (Diversity(float("nan")), 10, InvalidArgument, "diversity.relevance: nan"),
        (Diversity(0.5, 9), 10, InvalidArgument, "diversity.candidates: 9 are fewer than the 10 hits wanted"),
        (Diversity(0.5, 1001), 10, LimitExceeded, "diversity.candidates: 1001 is beyond the limit of 1000 candidates"),
        (Diversity(0.5), 1001, LimitExceeded, "diversity.candidates: 1001 is beyond the limit of 1000 candidates"),
    ],
)
def test_a_diversity_that_cannot_be_is_refused_by_name(
    diversity: Diversity, k: int, error: type[EngineError], told: str
) -> None:
    with pytest.raises(error, match=told):
        resolve_diversity(diversity, k, Limits(), "diversity")
