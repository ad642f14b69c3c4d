"""Counts of values among the items that pass a filter, against plain counting."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidArgument, LimitExceeded, UnknownAttribute
from engine.index import facet_counts
from engine.limits import Limits
from engine.pipeline.calls import SearchCall, check_call
from engine.pipeline.search import JobResult
from engine.selection import Facet
from engine.selections import check_facets
from engine.types import SearchParams
from tests.engine.pipeline import test_fusion
from tests.engine.pipeline.test_fusion import FusedWorld, ask, worlds
from tests.engine.pipeline.test_search import FILTERS, D, small

facets = st.lists(
    st.builds(Facet, st.sampled_from(["colour", "size", "open", "skills"]), st.integers(1, 4)), max_size=4
).map(tuple)


def counted(result: JobResult, query: int) -> list[tuple[str, tuple[Any, ...]]]:
    counting = result.countings[query] if result.countings else None
    if counting is None:
        return []
    while counting.step():
        pass
    return [(one.attribute, one.counts) for one in counting.counts]


def plainly(world: FusedWorld, passes: set[str], asked: tuple[Facet, ...]) -> list[tuple[str, tuple[Any, ...]]]:
    told = []
    for facet in asked:
        values: Counter[Any] = Counter()
        for name in passes:
            value = world.items[name][1].get(facet.attribute)
            values.update(value if isinstance(value, tuple) else () if value is None else (value,))
        ordered = sorted(values.items(), key=lambda one: (-one[1], one[0]))
        told.append((facet.attribute, tuple(ordered[: facet.limit])))
    return told


@pytest.mark.parametrize("rows_per_keyword", [0, 1000])
@given(worlds(), st.lists(st.tuples(st.integers(0, len(FILTERS) - 1), facets), min_size=1, max_size=5))
def test_values_are_counted_among_the_items_that_pass_however_many_rows_they_have(
    rows_per_keyword: int, world: FusedWorld, asked: list[tuple[int, tuple[Facet, ...]]]
) -> None:
    params = [SearchParams(k=1, filter=FILTERS[which][0], facets=own, exclude_ids=("i3",)) for which, own in asked]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facet_counts, "_ROWS_PER_KEYWORD", rows_per_keyword)
        patch.setattr(facet_counts, "SEGMENT_ROWS", 64)
        result = ask(world, [np.ones(D, np.float32)] * len(asked), params)
        for place, (which, own) in enumerate(asked):
            passes = {n for n, (_, a, _) in world.items.items() if FILTERS[which][1](n, a)} - {"i3"}  # type: ignore[operator]
            assert counted(result, place) == plainly(world, passes, own)


def test_what_is_written_while_values_are_counted_does_not_count() -> None:
    world = FusedWorld()
    for n in range(300):
        world.put(f"n{n}", np.ones((1, D)), {"colour": f"c{n % 7}", "skills": ("ice", f"s{n}"), "size": n % 3})
    asked = tuple(Facet(name, 3) for name in ("colour", "skills", "size"))
    result = ask(world, [np.ones(D, np.float32)], [SearchParams(k=1, facets=asked)])
    wanted = plainly(world, set(world.items), asked)
    for n in range(200):
        world.put(f"n{n}", np.ones((1, D)), {"colour": "new", "skills": ("ice",), "size": 9})
        world.drop(f"n{n + 50}")
    assert counted(result, 0) == wanted


def test_queries_that_count_the_same_share_a_counting_and_those_that_count_nothing_have_none() -> None:
    world = FusedWorld()
    world.put("a", np.ones((1, D)), {"colour": "red"})
    some, none = SearchParams(k=1, facets=(Facet("colour"),)), SearchParams(k=1)
    result = ask(world, [np.ones(D, np.float32)] * 3, [some, none, replace(some)])
    assert result.countings[0] is result.countings[2] is not None
    assert result.countings[1] is None
    assert not ask(world, [np.ones(D, np.float32)], [none]).countings


def test_many_values_are_counted_in_many_steps() -> None:
    world = FusedWorld()
    for n in range(50):
        world.put(f"n{n}", np.ones((1, D)), {"colour": f"c{n:02}", "skills": (f"s{n:02}",)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facet_counts, "_SLICE_SECONDS", 0.0)
        asked = (Facet("skills", 2), Facet("colour", 2))
        result = ask(world, [np.ones(D, np.float32)], [SearchParams(k=1, facets=asked)])
        counting = result.countings[0]
        assert counting is not None
        assert counting.step()
        assert not counting.counts
    assert counted(result, 0) == [("skills", (("s00", 1), ("s01", 1))), ("colour", (("c00", 1), ("c01", 1)))]


@given(st.lists(st.tuples(st.integers(0, 5), small), max_size=3))
def test_hits_are_the_same_with_facets_and_without(queries: list[tuple[int, np.ndarray]]) -> None:
    world = FusedWorld()
    for n in range(6):
        world.put(f"n{n}", np.full((1, D), n), {"colour": "red"})
    for k, query in queries:
        params = [SearchParams(k=k + 1, facets=own) for own in ((), (Facet("colour"),))]
        without, with_facets = (ask(world, [query], [one]) for one in params)
        assert without.ids.tolist() == with_facets.ids.tolist()


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ((Facet("void"),), UnknownAttribute, "void"),
        (
            (Facet("size"), Facet("born")),
            InvalidArgument,
            r"facets\[1\].attribute: 'born' is a timestamp",
        ),
        ((Facet("hidden"),), InvalidArgument, "'hidden' is a float"),
        ((Facet("size", 0),), InvalidArgument, r"facets\[0\].limit: 0 is not at least 1"),
        ((Facet("size", 1001),), LimitExceeded, r"facets\[0\].limit: 1001 is beyond the limit of 1000 values"),
        ((Facet("size"),) * 17, LimitExceeded, "facets: 17 is beyond the limit of 16 facets"),
    ],
)
def test_facets_that_cannot_be_are_refused_by_name(
    asked: tuple[Facet, ...], error: type[EngineError], told: str
) -> None:
    with pytest.raises(error, match=told):
        check_facets(asked, test_fusion.SCHEMA, Limits(), "facets")


def test_a_reply_has_no_more_values_than_it_may_have_hits() -> None:
    call = SearchCall([SearchParams(k=1, facets=(Facet("size", 1000),))], vectors=np.zeros((4001, D), np.float32))
    with pytest.raises(LimitExceeded, match=r"params\.facets: 4001000 is beyond the limit of 4000000 values a reply"):
        check_call(call, Limits())
