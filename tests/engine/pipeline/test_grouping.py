"""Grouped hits against a walk over all items: every strategy, chunking, fusion, least scores and left-out items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidArgument, UnknownAttribute
from engine.limits import Limits
from engine.scoring import Feature, Scoring
from engine.selection import GroupBy
from engine.selections import check_group
from engine.types import Filter, Match, SearchParams, Strategy
from tests.engine.pipeline import test_fusion
from tests.engine.pipeline.test_fusion import FusedWorld, a_large_world, ask, scorings, worlds
from tests.engine.pipeline.test_search import FILTERS, D, hits, small, with_lists

groupings = st.builds(GroupBy, st.sampled_from(["colour", "size", "open"]), st.integers(1, 3))


def walked(
    world: FusedWorld, ranked: list[tuple[str, float]], group: GroupBy, k: int, least: float | None = None
) -> list[tuple[str, float]]:
    """By its own words: keep an item while its group has room."""
    kept: list[tuple[str, float]] = []
    sizes: dict[Any, int] = {}
    for name, score in ranked:
        value = world.items[name][1].get(group.attribute)
        if value is not None and sizes.get(value, 0) == group.per_group:
            continue
        if len(kept) < k and (least is None or score >= least):
            sizes[value] = sizes.get(value, 0) + 1
            kept.append((name, score))
    return kept


def everything(world: FusedWorld, query: np.ndarray, scoring: Scoring, passes: set[str]) -> list[tuple[str, float]]:
    return world.fused(scoring, query, passes, len(world.items))


@given(
    worlds(),
    st.lists(
        st.tuples(small, st.integers(0, len(FILTERS) - 1), st.integers(1, 5), groupings | st.none(), scorings),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([None, -5.0, 3.0]),
    st.sampled_from([(), ("i1", "i4")]),
)
def test_a_batch_of_queries_grouped_and_not_equals_a_walk_over_all_items(
    world: FusedWorld,
    asked: list[tuple[np.ndarray, int, int, GroupBy | None, Scoring]],
    least: float | None,
    excluded: tuple[str, ...],
) -> None:
    params = [
        SearchParams(
            k=k, filter=FILTERS[which][0], scoring=scoring, group_by=group, min_score=least, exclude_ids=excluded
        )
        for _, which, k, group, scoring in asked
    ]
    result = ask(world, [query for query, *_ in asked], params)
    for found, (query, which, k, group, scoring) in zip(hits(result), asked, strict=True):
        passes = {name for name, (_, a, _) in world.items.items() if FILTERS[which][1](name, a)}  # type: ignore[operator]
        ranked = everything(world, query, scoring, passes - set(excluded))
        alone = GroupBy("colour", len(world.items) + 1)
        assert found == walked(world, ranked, group or alone, k, least)


@given(worlds(), small, groupings, st.sampled_from([Strategy.GATHER, Strategy.MASKED_SCAN]), st.integers(1, 5))
def test_every_exact_way_groups_alike(
    world: FusedWorld, query: np.ndarray, group: GroupBy, strategy: Strategy, k: int
) -> None:
    result = ask(world, [query], [SearchParams(k=k, strategy=strategy, group_by=group)])
    assert hits(result)[0] == walked(world, everything(world, query, Scoring(), set(world.items)), group, k)


@pytest.mark.parametrize("scoring", [Scoring(), test_fusion.STRONG, test_fusion.MIXED])
@pytest.mark.parametrize("group", [GroupBy("colour", 2), GroupBy("size", 3)])
@pytest.mark.parametrize("red", [False, True])
def test_lists_probed_to_the_end_group_as_a_walk_does(scoring: Scoring, group: GroupBy, red: bool) -> None:
    world = a_large_world()
    with_lists(world, 1000, reach=float("inf"), slack=float("inf"))
    queries = list(np.random.default_rng(1).integers(-8, 9, (5, D)).astype(np.float32))
    tree = Filter(must=(Match("colour", any_of=("red",)),)) if red else Filter()
    asked = SearchParams(
        k=15, scoring=scoring, filter=tree, strategy=Strategy.IVFPQ, nprobe=8, rescore_depth=1200, group_by=group
    )
    result = ask(world, queries, [asked] * 5)
    passes = {name for name, (_, a, _) in world.items.items() if not red or a["colour"] == "red"}
    for found, query in zip(hits(result), queries, strict=True):
        assert found == walked(world, everything(world, query, scoring, passes), group, 15)


def test_with_lists_no_group_has_more_than_it_may_and_there_are_as_many_hits_as_groups_allow() -> None:
    world = a_large_world()
    with_lists(world, 1000)
    queries = list(np.random.default_rng(2).integers(-8, 9, (8, D)).astype(np.float32))
    asked = SearchParams(k=20, strategy=Strategy.IVFPQ, nprobe=1, rescore_depth=40, group_by=GroupBy("size", 2))
    for found in hits(ask(world, queries, [asked] * 8)):
        sizes = [world.items[name][1]["size"] for name, _ in found]
        assert sorted(sizes) == sorted([*range(6)] * 2)
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_large_groups_are_left_out_of_few_further_searches_which_the_explanation_counts() -> None:
    world = FusedWorld()
    for n in range(600):
        world.put(f"n{n}", np.full((1, D), 1.0 if n < 500 else -1.0), {"colour": "red" if n < 500 else f"c{n}"})
    query = np.ones(D, np.float32)
    plain, grouped = (ask(world, [query], [SearchParams(k=10, group_by=group)]) for group in (None, GroupBy("colour")))
    assert plain.explanations[0].group_rounds == 0
    assert grouped.explanations[0].group_rounds == 2
    assert grouped.explanations[0].rows_scanned == plain.explanations[0].rows_scanned + 100
    assert hits(grouped)[0] == [("n0", 8.0)] + [(f"n{n}", -8.0) for n in range(500, 509)]


def test_keywords_that_come_after_the_first_grouping_are_grouped_too() -> None:
    world = FusedWorld()
    asked = SearchParams(k=5, group_by=GroupBy("colour"))
    for n, colour in enumerate(["red", "red", "blue", None, None, "green", "red", "green"]):
        world.put(f"n{n}", np.full((1, D), n), {} if colour is None else {"colour": colour})
        found = hits(ask(world, [np.ones(D)], [asked]))[0]
        assert found == walked(world, everything(world, np.ones(D), Scoring(), set(world.items)), GroupBy("colour"), 5)


def test_the_legs_of_grouped_hits_add_up_to_their_scores() -> None:
    world = a_large_world()
    asked = SearchParams(k=6, group_by=GroupBy("size"), scoring=Scoring(terms=(Feature("rank", 0.3),)), legs=True)
    result = ask(world, [np.ones(D, np.float32)], [asked])
    assert len(result.ids) == 6
    total = sum((leg.weights[0] * leg.normalised for leg in result.legs), np.zeros(6, np.float32))
    np.testing.assert_array_equal(total, result.scores)


def test_queries_planned_alike_keep_their_own_least_scores_and_legs() -> None:
    world = FusedWorld()
    for n in range(5):
        world.put(f"n{n}", np.full((1, D), n), {"rank": float(n)})
    asked = [SearchParams(k=5, min_score=least) for least in (None, 8.0, 24.0)]
    assert [len(found) for found in hits(ask(world, [np.ones(D)] * 3, asked))] == [5, 4, 2]
    scoring = Scoring(terms=(Feature("rank"),))
    result = ask(world, [np.ones(D)] * 2, [SearchParams(k=1, scoring=scoring, legs=legs) for legs in (False, True)])
    assert {leg.name: leg.raw.tolist() for leg in result.legs} == {"similarity": [0.0, 32.0], "rank": [0.0, 4.0]}


@pytest.mark.parametrize(
    ("group", "error", "told"),
    [
        (GroupBy("void"), UnknownAttribute, "void"),
        (GroupBy("skills"), InvalidArgument, "group_by.attribute: 'skills' is a keyword_list, not a keyword or int"),
        (GroupBy("born"), InvalidArgument, "'born' is a timestamp"),
        (GroupBy("colour", 0), InvalidArgument, "group_by.per_group: 0 is not at least 1"),
        (GroupBy("colour", 100_001), InvalidArgument, "100001 is beyond the limit of 100000 hits"),
    ],
)
def test_a_grouping_that_cannot_be_is_refused_by_name(group: GroupBy, error: type[EngineError], told: str) -> None:
    with pytest.raises(error, match=told):
        check_group(group, test_fusion.SCHEMA, Limits(), "group_by")


def test_an_attribute_that_changes_in_place_does_not_group() -> None:
    schema = test_fusion.SCHEMA
    attributes = tuple(replace(one, volatile=True, filterable=False) for one in schema.attributes if one.name == "size")
    with pytest.raises(InvalidArgument, match="'size' is not filterable"):
        check_group(GroupBy("size"), replace(schema, attributes=attributes), Limits(), "group_by")
