"""A coarse scan against a masked one: the same hits, scores and ties, whatever was proven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import FailedPrecondition
from engine.index.filters import compile_filter
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, search_jobs
from engine.types import Filter, Float32Array, HasId, Metric, SearchParams, Strategy, VectorDtype
from tests.engine.pipeline.test_search import COSTS, FILTERS, D, World, ask, backend, hits, small, with_lists, worlds

ROWS = 1500
CODES_ARE_FREE = replace(
    COSTS, coarse_call=1e-9, coarse_value_dense=1e-15, coarse_value_sparse=1e-15, coarse_depth_row=1e-12
)
TREES = [tree for tree, _ in FILTERS[:4]]


def coded(world: World) -> World:
    while world.index.add_codes(backend()):
        pass
    assert world.index.coarse.n_rows == world.next_row
    return world


def a_world(metric: Metric, dtype: VectorDtype, vectors: Float32Array) -> World:
    """Every ninth item is deleted once all rows have codes; some more items follow without any."""
    world = World(metric, dtype=dtype)
    for n, vector in enumerate(vectors[:-50]):
        world.put(f"n{n}", vector[None], {"colour": "red" if n % 20 == 0 else "blue", "size": n % 7})
    for n in range(0, 300, 9):
        world.drop(f"n{n}")
    coded(world)
    for n in range(300, len(vectors) - 50, 9):
        world.drop(f"n{n}")
    for n, vector in enumerate(vectors[-50:]):
        world.put(f"late{n}", vector[None], {"colour": "red", "size": n % 7})
    return world


def whole_numbers(seed: int) -> Float32Array:
    """Float32 is exact on them, and there are ties."""
    return np.random.default_rng(seed).integers(-8, 9, (ROWS, D)).astype(np.float32)


def clustered(seed: int) -> Float32Array:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((20, D))[rng.integers(0, 20, ROWS)] + 0.1 * rng.standard_normal((ROWS, D))
    unit: Float32Array = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def by(world: World, strategy: Strategy, queries: Float32Array, trees: list[Filter], k: int) -> JobResult:
    params = [SearchParams(k=k, filter=tree, strategy=strategy) for tree in trees]
    return ask(world, list(queries), params)[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_hits_scores_and_ties_are_those_of_a_masked_scan_to_the_last_bit(metric: Metric, dtype: VectorDtype) -> None:
    world = a_world(metric, dtype, whole_numbers(3))
    queries = whole_numbers(4)[:24]
    for k in (1, 10, 200):
        found = by(world, Strategy.COARSE_SCAN, queries, TREES * 6, k)
        assert hits(found) == hits(by(world, Strategy.MASKED_SCAN, queries, TREES * 6, k))
        assert {told.strategy for told in found.explanations} == {Strategy.COARSE_SCAN}
        assert {told.expected_recall for told in found.explanations} == {1.0}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_of_vectors_of_length_one_it_finds_what_a_masked_scan_finds(metric: Metric, dtype: VectorDtype) -> None:
    world = a_world(metric, dtype, clustered(5))
    queries = clustered(5)[:40] + 0.02 * clustered(6)[:40]
    found = by(world, Strategy.COARSE_SCAN, queries, TREES * 10, 10)
    expected = by(world, Strategy.MASKED_SCAN, queries, TREES * 10, 10)
    assert found.counts.tolist() == expected.counts.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    coarse = world.index.coarse
    assert 0 < coarse.unproven < coarse.asked == 40


@given(worlds(), small, st.integers(1, 8))
def test_it_equals_brute_force_for_items_of_several_embeddings_and_excluded_ones(
    world: World, query: np.ndarray, k: int
) -> None:
    wanted = set(world.items) - {"i0", "i5"}
    coded(world)
    params = SearchParams(k=k, strategy=Strategy.COARSE_SCAN, exclude_ids=("i0", "i5"))
    if wanted:
        (result,) = ask(world, [query], [params])
        assert hits(result)[0] == world.best(query, wanted, k)


def test_rows_appended_after_the_codes_are_found_at_once_and_deleted_ones_never() -> None:
    world = a_world("l2", "float16", whole_numbers(7))
    world.put("new", np.full((1, D), 30, np.float32), {})
    query = np.full((1, D), 30, np.float32)
    assert hits(by(world, Strategy.COARSE_SCAN, query, [Filter()], 1))[0][0][0] == "new"
    coded(world)
    assert hits(by(world, Strategy.COARSE_SCAN, query, [Filter()], 1))[0][0][0] == "new"
    world.drop("new")
    assert hits(by(world, Strategy.COARSE_SCAN, query, [Filter()], 1))[0][0][0] != "new"


def test_queries_that_are_not_proven_are_scanned_and_counted() -> None:
    """All rows but a few are the same: no depth tells them apart."""
    world = World("dot")
    for n in range(400):
        world.put(f"n{n}", np.full((1, D), 1.0, np.float32), {})
    coded(world)
    found = by(world, Strategy.COARSE_SCAN, np.ones((3, D), np.float32), [Filter()], 5)
    assert hits(found) == [[(f"n{n}", float(D)) for n in range(5)]] * 3
    assert all(told.second_pass for told in found.explanations)
    assert (world.index.coarse.asked, world.index.coarse.unproven) == (3, 3)


def test_the_depth_grows_with_what_remains_unproven() -> None:
    world = a_world("dot", "float16", clustered(8))
    queries = clustered(8)[:200]
    world.index.costs = replace(world.index.costs, coarse_call=1e-5, coarse_value_dense=1e-11)
    world.index.costs = replace(world.index.costs, coarse_value_sparse=1e-11, coarse_depth_row=1e-9)

    def rescored() -> int:
        return by(world, Strategy.COARSE_SCAN, queries, [Filter()], 10).explanations[0].rescored

    first = rescored()
    assert first == 20
    assert max(rescored() for _ in range(4)) > first


def test_queries_of_which_all_survivors_are_rescored_teach_nothing_of_the_depth() -> None:
    world = a_world("dot", "float16", whole_numbers(8))
    before = world.index.coarse.depths.rungs
    few = Filter(must=(HasId(("n1", "n2", "n4")),))
    found = by(world, Strategy.COARSE_SCAN, whole_numbers(9)[:5], [few], 3)
    assert not any(told.second_pass for told in found.explanations)
    assert world.index.coarse.depths.rungs == before
    assert world.index.coarse.asked == 5


def test_it_cannot_be_asked_for_before_there_are_codes() -> None:
    world = World("dot")
    world.put("one", np.ones((1, D), np.float32), {})
    compiled = [CompiledParams(SearchParams(strategy=Strategy.COARSE_SCAN), compile_filter(Filter(), world.schema))]
    (result,) = search_jobs(backend(), [SearchJob(world.index, compiled, vectors=np.ones((1, D), np.float32))])
    assert isinstance(result, JobResult)
    assert isinstance(result.errors[0], FailedPrecondition)


def test_codes_are_counted_as_memory() -> None:
    world = World("dot")
    world.put("one", np.ones((1, D), np.float32), {})
    assert world.index.memory().coarse_codes == 0
    coded(world)
    assert world.index.memory().coarse_codes == 16 + 16


def test_a_server_that_is_not_told_what_codes_cost_wants_none() -> None:
    world = a_world("dot", "float16", whole_numbers(8))
    assert not world.index.wants_codes
    assert not World("dot").index.wants_codes


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_rows_in_no_list_are_searched_by_their_codes_first_to_the_same_hits(metric: Metric, dtype: VectorDtype) -> None:
    """Some rows are in lists, more have codes, the last have neither; dead ones are among all of these."""
    world = a_world(metric, dtype, whole_numbers(3))
    with_lists(world, 300, costs=CODES_ARE_FREE)
    queries = whole_numbers(4)[:24]
    everything = {"nprobe": 8, "rescore_depth": ROWS, "strategy": Strategy.IVFPQ}
    for k in (1, 10, 100):
        params = [SearchParams(k=k, filter=tree, **everything) for tree in TREES * 6]  # type: ignore[arg-type]
        found = ask(world, list(queries), params)[0]
        assert hits(found) == hits(by(world, Strategy.MASKED_SCAN, queries, TREES * 6, k))
    assert (world.index.coarse.asked, world.index.indexed_rows) == (0, 300)
    (whole,) = ask(world, list(queries), [SearchParams(k=1, **everything)])  # type: ignore[arg-type]
    assert max(told.rescored for told in whole.explanations) < 300 + world.index.tail_rows


def test_of_rows_in_no_list_what_codes_do_not_prove_is_scanned() -> None:
    world = World("dot")
    for n in range(400):
        world.put(f"n{n}", np.full((1, D), 1.0, np.float32), {})
    coded(world)
    with_lists(world, 40, costs=CODES_ARE_FREE)
    params = SearchParams(k=5, nprobe=8, rescore_depth=ROWS, strategy=Strategy.IVFPQ)
    (found,) = ask(world, np.ones((3, D), np.float32), [params])
    assert hits(found) == [[(f"n{n}", float(D)) for n in range(5)]] * 3
    coarse = world.index.coarse
    assert coarse.state is not None
    assert coarse.state.tail_rungs[0].unproven > coarse.state.rungs[0].unproven  # they had what was expected


def test_how_deep_rows_in_no_list_are_searched_is_learned_from_what_was_proven_of_them() -> None:
    world = a_world("dot", "float16", clustered(8))
    with_lists(world, 300, costs=CODES_ARE_FREE)
    queries = clustered(8)[:40] + 0.02 * clustered(9)[:40]
    params = SearchParams(k=10, nprobe=8, rescore_depth=10, strategy=Strategy.IVFPQ)
    first, *_, last = (ask(world, list(queries), [params])[0] for _ in range(4))
    assert first.explanations[0].rescored < last.explanations[0].rescored < world.index.tail_rows
    np.testing.assert_allclose(first.scores, last.scores, rtol=1e-6)  # rescored rows are summed in another order
