"""Queries by examples against brute force: means of items and vectors, the items left out, each query on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dtypes import MOST_LENGTH
from engine.errors import EngineError, InvalidArgument, ItemNotFound, LimitExceeded
from engine.index.filters import compile_filter
from engine.limits import Limits
from engine.pipeline.examples import check_examples
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, search_jobs
from engine.types import Examples, Filter, SearchParams
from tests.engine.pipeline.test_search import D, World, backend, hits, small, worlds

places = st.lists(st.integers(0, 30), max_size=3)


def ask(world: World, examples: list[Examples], k: int = 5) -> JobResult:
    compiled = CompiledParams(SearchParams(k=k), compile_filter(Filter(), world.schema))
    (result,) = search_jobs(backend(), [SearchJob(world.index, [compiled], examples=examples)])
    assert not isinstance(result, EngineError)
    return result


def mean_of(world: World, ids: tuple[Any, ...], vectors: np.ndarray | None) -> np.ndarray:
    of_items = [np.asarray(world.items[one][0], np.float64).mean(axis=0) for one in ids]
    return np.mean([*of_items, *([] if vectors is None else vectors)], axis=0)


@given(worlds(), st.lists(st.tuples(places, places, st.lists(small, max_size=2)), min_size=1, max_size=4))
def test_examples_find_what_is_near_their_mean_and_far_from_the_others(
    world: World, asked: list[tuple[list[int], list[int], list[np.ndarray]]]
) -> None:
    living = sorted(world.items)
    examples = []
    for like, unlike, vectors in asked:
        names = [tuple(living[n % len(living)] for n in some) if living else () for some in (like, unlike)]
        given_vectors = np.array(vectors if vectors or names[0] else [np.ones(D)], np.float32).reshape(-1, D)
        examples.append(Examples(*names, given_vectors))
    result = ask(world, examples)
    for found, one in zip(hits(result), examples, strict=True):
        query = mean_of(world, one.like, one.like_vectors)
        if one.unlike:
            query = query + (query - mean_of(world, one.unlike, None))
        wanted = world.best(query.astype(np.float32), set(world.items) - set(one.ids), 5)
        assert len(found) == len(wanted)
        np.testing.assert_allclose([s for _, s in found], [s for _, s in wanted], rtol=1e-5, atol=1e-3)
        assert not {name for name, _ in found} & set(one.ids)


def test_with_cosine_every_example_counts_as_much_and_an_item_as_its_mean() -> None:
    world = World("cosine", chunk=2)
    axes = np.eye(D, dtype=np.float32)
    world.put("x", axes[:1], {})
    world.put("xy", axes[:2], {})
    world.put("z", axes[2:3], {})
    (found,) = hits(ask(world, [Examples(like_vectors=np.stack([9 * axes[0], axes[1]]))]))
    assert [name for name, _ in found] == ["x", "xy", "z"]
    assert found[1][1] == pytest.approx(np.sqrt(0.5), abs=1e-3)
    (found,) = hits(ask(world, [Examples(("xy",), ("x",))]))
    assert found == [("z", 0.0)]


def test_an_item_that_is_not_there_fails_its_query_alone() -> None:
    world = World("cosine")
    for n in range(3):
        world.put(f"n{n}", np.eye(1, D, n, dtype=np.float32), {})
    zero = Examples(like_vectors=np.stack([np.eye(1, D)[0], -np.eye(1, D)[0]]).astype(np.float32))
    result = ask(world, [Examples(("n0",)), Examples(("n0",), ("gone",)), zero, Examples(("n1", "n2"))])
    assert result.counts.tolist() == [2, 0, 0, 1]
    assert [type(one) for one in result.errors] == [type(None), ItemNotFound, InvalidArgument, type(None)]
    assert str(result.errors[2]) == "query[2].examples: make a vector of zero, which has no cosine"


@pytest.mark.parametrize(
    ("examples", "error", "told"),
    [
        (Examples(), InvalidArgument, "query.examples.like: is empty"),
        (Examples(unlike=("a",)), InvalidArgument, "query.examples.like: is empty"),
        (Examples(("a",), (7,)), InvalidArgument, r"query.examples.unlike\[0\]: 7 is not a string id"),
        (Examples(like_vectors=np.ones((1, 3), np.float32)), InvalidArgument, "like_vectors: has 3 dimensions"),
        (Examples(like_vectors=np.zeros((1, D), np.float32)), InvalidArgument, r"like_vectors\[0\]: is zero"),
        (
            Examples(("a",), unlike_vectors=np.full((1, D), np.nan, np.float32)),
            InvalidArgument,
            r"unlike_vectors\[0\]: has a value that is NaN",
        ),
        (Examples(("a",) * 1025), LimitExceeded, "query.examples: 1025 is beyond the limit of 1024 examples"),
    ],
)
def test_examples_that_cannot_be_are_refused_by_name(examples: Examples, error: type[EngineError], told: str) -> None:
    world = World("cosine")
    with pytest.raises(error, match=told):
        check_examples(examples, world.schema, world.index.version, Limits(), "query.examples")


def test_examples_are_no_longer_than_what_scores_bear_nor_is_what_they_make() -> None:
    world = World("dot", dtype="float32")
    longest = np.full((1, D), 0.9 * MOST_LENGTH / np.sqrt(D), np.float32)
    world.put("a", longest, {})
    longer = Examples(like_vectors=np.concatenate([longest, 2 * longest]))
    with pytest.raises(LimitExceeded, match=r"like_vectors\[1\]: 1.8e\+14 is beyond the limit of 1e\+14 in length"):
        check_examples(longer, world.schema, world.index.version, Limits(), "query.examples")
    result = ask(world, [Examples(like_vectors=longest, unlike_vectors=-longest), Examples(like_vectors=longest)])
    assert result.counts.tolist() == [0, 1]
    assert "query[0].examples: 2.7e+14 is beyond the limit" in str(result.errors[0])


def test_an_item_that_an_earlier_release_took_though_it_is_too_long_makes_no_query() -> None:
    world = World("dot", dtype="float32")
    world.put("long", np.full((1, D), MOST_LENGTH, np.float32), {})
    world.put("short", np.ones((1, D), np.float32), {})
    compiled = CompiledParams(SearchParams(k=1), compile_filter(Filter(), world.schema))
    (alone,) = search_jobs(backend(), [SearchJob(world.index, [compiled], item_ids=["long"])])
    assert isinstance(alone, JobResult)
    for result in (alone, ask(world, [Examples(("long", "short"))]), ask(world, [Examples(("short",), ("long",))])):
        assert isinstance(result.errors[0], LimitExceeded)
        assert "in length" in str(result.errors[0])
