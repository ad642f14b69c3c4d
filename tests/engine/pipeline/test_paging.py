"""Pages of one moment: together they are its full ranking, whatever is written between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CursorLapsed, EngineError, InvalidArgument, LimitExceeded
from engine.index.filters import compile_filter
from engine.limits import Limits
from engine.pipeline.cursors import Cursor, Seal, fingerprint
from engine.pipeline.scoring import SIMILARITY_ALONE, compile_scoring
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, search_jobs
from engine.scoring import Decay, Feature, Overlap, Scoring
from engine.selection import Diversity, Facet, GroupBy
from engine.selections import check_page
from engine.types import Examples, SearchParams, Strategy, Times, Timestamp
from tests.engine.pipeline.test_facets import counted
from tests.engine.pipeline.test_fusion import HOUR, NOW, WORDS, FusedWorld, a_large_world, attributes, worlds
from tests.engine.pipeline.test_search import FILTERS, D, backend, hits, names, small, with_lists

SECOND = 1_000_000
terms = st.one_of(
    st.builds(Feature, st.just("size"), st.sampled_from([-2.0, 0.5])),
    st.builds(Decay, st.just("born"), st.just(3600.0), st.just(4.0)),
    st.builds(Overlap, st.just("skills"), st.sampled_from([("ice",), WORDS]), st.just(2.0)),
)
scorings = st.none() | st.builds(Scoring, terms=st.lists(terms, max_size=3, unique_by=type).map(tuple))
changes = st.lists(st.tuples(names, st.booleans()), max_size=6)


def compiled(world: FusedWorld, params: SearchParams, cursor: Cursor | None = None) -> CompiledParams:
    scoring = compile_scoring(params.scoring, world.schema, Limits(), "scoring")
    if scoring is None and params.legs:
        scoring = SIMILARITY_ALONE
    return CompiledParams(
        replace(params, page=True), compile_filter(params.filter, world.schema), scoring=scoring, cursor=cursor
    )


def ask(world: FusedWorld, query: Any, params: SearchParams, cursor: Cursor | None = None) -> JobResult:
    job = SearchJob(world.index, [compiled(world, params, cursor)], vectors=np.array([query], np.float32), explain=True)
    (result,) = search_jobs(backend(), [job])
    assert not isinstance(result, EngineError)
    return result


def change(world: FusedWorld, name: str, is_dropped: bool, value: float) -> None:
    if is_dropped:
        world.drop(name)
    else:
        world.put(name, np.full((1, D), value), {"colour": "red", "size": 3})


@given(
    worlds(),
    small,
    st.integers(0, len(FILTERS) - 1),
    st.integers(1, 5),
    scorings,
    st.lists(changes, max_size=12),
    st.sampled_from([None, -4.0]),
    st.sampled_from([(), ("i2", "i5")]),
)
def test_pages_together_are_the_ranking_of_the_first_moment_whatever_is_written_between_them(
    world: FusedWorld,
    query: np.ndarray,
    which: int,
    k: int,
    scoring: Scoring | None,
    written: list[list[tuple[str, bool]]],
    least: float | None,
    excluded: tuple[str, ...],
) -> None:
    passes = {n for n, (_, a, _) in world.items.items() if FILTERS[which][1](n, a)} - set(excluded)  # type: ignore[operator]
    wanted = world.fused(scoring or Scoring(), query, passes, len(passes))
    if least is not None:
        wanted = [one for one in wanted if one[1] >= least]
    clock = [NOW]
    world.index.clock = lambda: clock[0]
    asked = SearchParams(k=k, filter=FILTERS[which][0], scoring=scoring, min_score=least, exclude_ids=excluded)
    found: list[tuple[str, float]] = []
    cursor, rounds = None, iter(written)
    while True:
        result = ask(world, query, asked, cursor)
        assert not any(result.errors)
        found += hits(result)[0]
        (cursor,) = result.cursors
        if cursor is None:
            break
        assert len(hits(result)[0]) == k
        clock[0] += 5 * SECOND
        for place, (name, is_dropped) in enumerate(next(rounds, [])):
            change(world, name, is_dropped, float(place))
    assert found == wanted


@given(worlds(), small, st.lists(st.tuples(names, attributes), max_size=5))
def test_what_was_not_to_be_seen_at_the_first_moment_is_on_no_page(
    world: FusedWorld, query: np.ndarray, written: list[tuple[str, dict[str, Any]]]
) -> None:
    clock = [NOW]
    world.index.clock = lambda: clock[0]
    seen_from, until = Times(visible_from=Timestamp(NOW + SECOND)), Times(expires_at=Timestamp(NOW + SECOND))
    for place, (vectors, _, row) in enumerate(world.items.values()):
        world.index.rows.put_times(row, len(vectors), (seen_from, until, Times())[place % 3])
    passes = {name for place, name in enumerate(world.items) if place % 3}
    wanted = world.fused(Scoring(), query, passes, len(passes))
    first = ask(world, query, SearchParams(k=1))
    found = hits(first)[0]
    if first.cursors[0] is not None:
        clock[0] += 2 * SECOND
        ask(world, query, SearchParams(k=1))
        for name, own in written:
            world.drop(name)
            world.put(name, np.ones((1, D)), own)
        clock[0] += 2 * SECOND
        found += hits(ask(world, query, SearchParams(k=50), first.cursors[0]))[0]
    assert found == wanted


@pytest.mark.parametrize(("nprobe", "depth", "is_exact"), [(2, 60, False), (8, 1200, True)])
def test_with_lists_pages_repeat_nothing_and_miss_only_what_lists_do(nprobe: int, depth: int, is_exact: bool) -> None:
    world = a_large_world("l2")
    with_lists(world, 1000)
    query = np.arange(D, dtype=np.float32)
    wanted = world.fused(Scoring(), query, set(world.items), 1200)
    asked = SearchParams(k=40, strategy=Strategy.IVFPQ, nprobe=nprobe, rescore_depth=depth)
    result = ask(world, query, asked)
    found = hits(result)[0]
    while result.cursors[0] is not None:
        for n in range(3):
            world.put(f"new{len(found)}-{n}", np.zeros((1, D)), {})
            world.drop(found[n][0])
        result = ask(world, query, asked, result.cursors[0])
        found += hits(result)[0]
    assert len(set(found)) == len(found) > 400
    assert found == (wanted if is_exact else [one for one in wanted if one in set(found)])


def test_a_page_of_an_item_s_neighbours_goes_on_once_the_item_is_gone() -> None:
    world = FusedWorld()
    for n in range(8):
        world.put(f"n{n}", np.full((1, D), n), {})
    own = compiled(world, SearchParams(k=3))
    (first,) = search_jobs(backend(), [SearchJob(world.index, [own], item_ids=["n7"])])
    assert isinstance(first, JobResult)
    world.drop("n7")
    examples = replace(own, cursor=first.cursors[0])
    (second,) = search_jobs(backend(), [SearchJob(world.index, [examples], item_ids=["n7"])])
    assert isinstance(second, JobResult)
    assert [name for name, _ in hits(first)[0] + hits(second)[0]] == ["n6", "n5", "n4", "n3", "n2", "n1"]


def test_the_legs_of_a_page_add_up_and_its_facets_are_of_the_first_moment() -> None:
    world = a_large_world()
    scoring = Scoring(terms=(Feature("size", 0.3), Decay("born", 3600.0, 0.7)))
    asked = SearchParams(k=9, scoring=scoring, legs=True, facets=(Facet("size", 3),))
    first = ask(world, np.ones(D) / 3, asked)
    told = counted(first, 0)
    world.index.clock = lambda: NOW + 20 * SECOND
    for n in range(300):
        world.drop(f"n{n}")
    second = ask(world, np.ones(D) / 3, asked, first.cursors[0])
    for page in (first, second):
        total = sum((leg.weights[0] * leg.normalised for leg in page.legs), np.zeros(9, np.float32))
        np.testing.assert_array_equal(total, page.scores)
    assert counted(second, 0) == told
    assert second.explanations[0].sequence == second.sequence == first.sequence


def test_pages_of_several_queries_of_a_batch_are_each_their_own() -> None:
    world = a_large_world()
    queries = np.random.default_rng(3).normal(size=(3, D)).astype(np.float32)
    one = compiled(world, SearchParams(k=5))
    (first,) = search_jobs(backend(), [SearchJob(world.index, [one], vectors=queries)])
    assert isinstance(first, JobResult)
    each = [replace(one, cursor=cursor) for cursor in first.cursors]
    (second,) = search_jobs(backend(), [SearchJob(world.index, each, vectors=queries)])
    assert isinstance(second, JobResult)
    for place, query in enumerate(queries):
        alone = ask(world, query, SearchParams(k=10))
        assert hits(first)[place] + hits(second)[place] == hits(alone)[0]


def test_a_moment_is_kept_until_its_lease_ends_and_nothing_is_kept_without_one() -> None:
    world = FusedWorld()
    for n in range(5):
        world.put(f"n{n}", np.full((1, D), n), {})
    shown = world.index.rows.shown
    world.drop("n0")
    assert not shown.is_kept
    clock = [NOW]
    world.index.clock = lambda: clock[0]
    cursor = ask(world, np.ones(D), SearchParams(k=1)).cursors[0]
    assert cursor is not None
    assert cursor.expires_at == NOW + 60 * SECOND
    clock[0] = cursor.expires_at - 1
    assert ask(world, np.ones(D), SearchParams(k=1), cursor).cursors[0].expires_at == clock[0] + 60 * SECOND  # type: ignore[union-attr]
    clock[0] += 60 * SECOND
    (error,) = ask(world, np.ones(D), SearchParams(k=1), cursor).errors
    assert isinstance(error, CursorLapsed)
    assert not shown.is_kept
    other = replace(cursor, generation=1, expires_at=clock[0] + HOUR)
    (error,) = ask(world, np.ones(D), SearchParams(k=1), other).errors
    assert "rows were written anew" in str(error)


def test_leases_given_after_a_close_end_when_those_before_do() -> None:
    world = FusedWorld()
    world.index.clock = lambda: NOW
    shown = world.index.rows.shown
    assert shown.lease(NOW, NOW + 10) == NOW + 10
    assert shown.close(NOW + 1) == NOW + 10
    assert shown.lease(NOW + 2, NOW + 99) == NOW + 10
    shown.reopen()
    assert shown.lease(NOW + 2, NOW + 99) == NOW + 99


QUERY = np.ones(D, np.float32)
CURSOR = Cursor(0, 9, 3, 7, NOW, NOW + HOUR, 10, 4, 0.5, QUERY)


def printed(query: Any, params: SearchParams = SearchParams()) -> bytes:
    world = FusedWorld()
    own = compiled(world, params)
    return fingerprint(query, params, own.program, own.scoring, None)


def test_a_sealed_cursor_comes_back_for_its_own_query_alone() -> None:
    seal, asked = Seal(), printed(QUERY)
    token = seal.close(CURSOR, asked)
    back = seal.open(token, asked, "cursor", now=NOW)
    assert replace(back, vector=QUERY).__repr__() == CURSOR.__repr__()
    np.testing.assert_array_equal(back.vector, QUERY)
    for other, its_asked, told in (
        (token[:-1] + bytes([token[-1] ^ 1]), asked, "was not given by this collection"),
        (b"", asked, "was not given by this collection"),
        (Seal().close(CURSOR, asked), asked, "was not given by this collection"),
        (token, printed(QUERY * 2), "is of another query"),
    ):
        with pytest.raises(InvalidArgument, match=told):
            seal.open(other, its_asked, "cursor", now=NOW)
    with pytest.raises(CursorLapsed, match=r"cursor: its lease ended 2.0 s ago"):
        seal.open(token, asked, "cursor", now=NOW + HOUR + 2 * SECOND)


def test_whatever_changes_the_ranking_makes_another_query_and_what_does_not_the_same() -> None:
    params = [
        SearchParams(),
        SearchParams(filter=FILTERS[1][0]),
        SearchParams(exclude_ids=("a",)),
        SearchParams(min_score=1.0),
        SearchParams(scoring=Scoring(similarity=2.0)),
        SearchParams(scoring=Scoring(terms=(Feature("size"),))),
        SearchParams(scoring=Scoring(terms=(Feature("size", 2.0),))),
        SearchParams(exact=True),
    ]
    queries = [
        QUERY * 2,
        "text",
        7,
        "7",
        Examples(("7",)),
        Examples(("7",), ("8",)),
        Examples(like_vectors=QUERY[None]),
    ]
    prints = [printed(QUERY, one) for one in params] + [printed(one) for one in queries]
    assert len(set(prints)) == len(prints)
    assert printed(QUERY, SearchParams(k=3, legs=False, facets=(Facet("size"),), cursor=b"x", page=True)) == prints[0]


@pytest.mark.parametrize(
    ("params", "seen", "error", "told"),
    [
        (SearchParams(group_by=GroupBy("size")), 0, InvalidArgument, "params.page: goes neither with group_by"),
        (SearchParams(diversity=Diversity(0.5)), 0, InvalidArgument, "params.page: goes neither with group_by"),
        (SearchParams(k=10), 9991, LimitExceeded, "params.k: 10001 is beyond the limit of 10000 hits of all"),
    ],
)
def test_pages_that_cannot_be_are_refused(params: SearchParams, seen: int, error: type[EngineError], told: str) -> None:
    with pytest.raises(error, match=told):
        check_page(params, Limits(), "params", seen=seen)
