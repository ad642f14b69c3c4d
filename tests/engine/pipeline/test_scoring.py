"""Scores stay finite whatever is weighted: what could make them too large for float32 is refused or capped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.pipeline.scoring import compile_scoring
from engine.pipeline.search import JobResult
from engine.scoring import (
    LEAST_HALF_LIFE_S,
    LEAST_SIMILARITY,
    MOST_VALUE,
    MOST_WEIGHT,
    Decay,
    Feature,
    Overlap,
    Scoring,
    ScoringProfile,
)
from engine.types import Schema, SearchParams, Strategy, Timestamp
from tests.engine.pipeline.test_fusion import HOUR, NOW, SCHEMA, WORDS, FusedWorld, a_large_world, ask
from tests.engine.pipeline.test_search import D, with_lists

LARGEST = float(np.finfo(np.float32).max)
TINY = (0.0, 5e-324, 1e-46, 1e-38)
EXTREME = (2 * MOST_VALUE, LARGEST, 1.7e308, float("inf"), float("nan"))


def signed(*usual: float) -> st.SearchStrategy[float]:
    """Mostly what is allowed: one refused number in twenty leaves most scorings of several terms to be searched by."""
    allowed, refused = st.sampled_from([*TINY, *usual]), st.sampled_from(EXTREME)
    number = st.integers(0, 19).flatmap(lambda place: allowed if place else refused)
    return st.builds(lambda one, sign: one * sign, number, st.sampled_from([1, -1]))


weights, values = signed(1.0, MOST_WEIGHT, MOST_WEIGHT), signed(1.0, MOST_VALUE, MOST_VALUE)
TERMS = st.one_of(
    st.builds(Feature, st.just("rank"), weights, st.sampled_from(["linear", "log1p"]), missing=values),
    st.builds(Feature, st.just("rank"), weights, low=values, high=st.sampled_from([MOST_VALUE, LARGEST])),
    st.builds(Feature, st.just("size"), weights, missing=values),
    st.builds(
        Decay,
        st.just("born"),
        st.sampled_from([1e-300, LEAST_HALF_LIFE_S, 3600.0, MOST_VALUE, 1.7e308]),
        weights,
        values,
    ),
    st.builds(
        Overlap,
        st.just("skills"),
        st.just(WORDS[:2]),
        weights,
        st.sampled_from([(), (5e-324, 5e-324), (MOST_WEIGHT, 5e-324), (1.7e308, 1.7e308)]),
    ),
)
SCORINGS = st.builds(
    lambda similarity, terms: Scoring(
        similarity=similarity, terms=tuple(replace(one, name=f"n{place}") for place, one in enumerate(terms))
    ),
    st.sampled_from([None, 0.0, LEAST_SIMILARITY, 1.0, MOST_WEIGHT, LARGEST]),
    st.lists(TERMS, max_size=6),
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "rank": st.sampled_from([0.0, 5e-324, 1.0, 1e20, LARGEST, 1.7e308, -1e20, -LARGEST, -1.7e308]),
        "size": st.sampled_from([0, 2**63 - 1, -(2**63)]),
        "born": st.sampled_from([-(2**62), 0, NOW - HOUR, NOW, 2**62]).map(Timestamp),
        "skills": st.lists(st.sampled_from(WORDS), max_size=2, unique=True).map(tuple),
    },
)


def check_finite(result: JobResult) -> None:
    """Scores are, and are what their legs add up to."""
    of_query = np.repeat(np.arange(len(result.counts)), result.counts)
    total = np.zeros(len(result.ids), np.float32)
    for column in result.legs:
        assert not np.isinf(column.raw).any()
        total += column.weights[of_query] * column.normalised
    np.testing.assert_array_equal(total, result.scores)
    assert np.isfinite(total).all()


def is_refused(scoring: Scoring, schema: Schema) -> bool:
    """By name."""
    try:
        compile_scoring(scoring, schema, Limits(), "scoring")
    except InvalidArgument as refusal:
        return refusal.field.startswith("scoring.")
    return False


@given(SCORINGS, st.lists(ITEMS, min_size=1, max_size=4), st.sampled_from([Strategy.GATHER, Strategy.MASKED_SCAN]))
def test_whatever_the_weights_and_the_values_a_score_is_finite_or_refused_by_name(
    scoring: Scoring, items: list[dict[str, Any]], strategy: Strategy
) -> None:
    world = FusedWorld()
    for number, attributes in enumerate(items):
        world.put(f"i{number}", np.full((1, D), 8.0), attributes)
    if is_refused(scoring, world.schema):
        return
    for _ in range(3):
        told = ask(world, [np.full(D, -8.0)], [SearchParams(k=4, scoring=scoring, legs=True, strategy=strategy)])
        check_finite(told)
        plain = ask(world, [np.full(D, -8.0)], [SearchParams(k=4, scoring=scoring, strategy=strategy)])
        assert np.isfinite(plain.scores).all()


@pytest.mark.parametrize("reach", [1.0, float("inf")])
@pytest.mark.parametrize("sign", [1, -1])
def test_as_many_terms_as_there_may_be_with_all_at_their_limits_score_finite_by_lists_too(
    reach: float, sign: int
) -> None:
    world = a_large_world()
    for number in range(0, 1200, 7):
        world.set_rank(f"n{number}", sign * 1.7e308)
    with_lists(world, 1000, reach=reach, slack=float("inf"))
    terms = tuple(Feature("rank", MOST_WEIGHT, name=f"n{number}") for number in range(Limits().scoring_terms))
    scoring = Scoring(similarity=LEAST_SIMILARITY, terms=terms)
    asked = SearchParams(k=10, scoring=scoring, strategy=Strategy.IVFPQ, legs=True)
    for _ in range(4):
        check_finite(ask(world, [np.ones(D, np.float32)], [asked]))


BORN = Decay("born", 60.0)


@pytest.mark.parametrize(
    ("scoring", "error", "told"),
    [
        (Scoring(terms=(Feature("size", 3e38),)), LimitExceeded, r"terms\[0\].weight: 3e\+38 is beyond the limit of"),
        (Scoring(terms=(Feature("size", -2e9),)), LimitExceeded, r"terms\[0\].weight: -2000000000.0 is beyond the"),
        (Scoring(terms=(Feature("size", missing=2e20),)), LimitExceeded, r"missing: 2e\+20 is beyond the limit of 1e"),
        (Scoring(terms=(Feature("size", low=-2e20),)), LimitExceeded, r"low: -2e\+20 is beyond the limit of 1e\+20"),
        (Scoring(terms=(Feature("size", high=2e20),)), LimitExceeded, r"high: 2e\+20 is beyond the limit of 1e\+20"),
        (Scoring(terms=(replace(BORN, missing=2e20),)), LimitExceeded, r"missing: 2e\+20 is beyond the limit of 1e"),
        (Scoring(terms=(Feature("size", low=float("-inf")),)), InvalidArgument, r"low: -inf is not a finite number"),
        (
            Scoring(terms=(Overlap("skills", ("a", "b"), 1.0, (1.7e308, 1.7e308)),)),
            LimitExceeded,
            r"value_weights: 1.7e\+308 is beyond the limit of 1000000000.0",
        ),
        (
            Scoring(terms=(replace(BORN, half_life_s=1e-300),)),
            InvalidArgument,
            r"terms\[0\].half_life_s: 1e-300 is not at least 1.0, the step that ages are counted in",
        ),
        (Scoring(terms=(replace(BORN, half_life_s=1e302),)), LimitExceeded, r"half_life_s: 1e\+302 is beyond the"),
        (Scoring(similarity=2e9), LimitExceeded, r"scoring.similarity: 2000000000.0 is beyond the limit of"),
        (Scoring(similarity=1e-46), InvalidArgument, r"scoring.similarity: 1e-46 is neither 0 nor at least 1e-07"),
        (Scoring(lexical=3e38), LimitExceeded, r"scoring.lexical: 3e\+38 is beyond the limit of"),
        (Scoring("fresh", weights={"age": 2e9}), LimitExceeded, r"scoring.weights\[age\]: 2000000000.0 is beyond"),
    ],
)
def test_what_could_make_scores_infinite_is_refused_by_name_and_limit(
    scoring: Scoring, error: type[EngineError], told: str
) -> None:
    with pytest.raises(error, match=told):
        compile_scoring(scoring, SCHEMA, Limits(), "scoring")


def test_a_stored_profile_beyond_the_limits_is_refused_when_it_is_asked_for() -> None:
    schema = replace(SCHEMA, profiles=(ScoringProfile("old", 1.0, 0.0, (Feature("rank", 3e38),)),))
    with pytest.raises(LimitExceeded, match=r"scoring.terms\[0\].weight"):
        compile_scoring(Scoring("old"), schema, Limits(), "scoring")
