from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import _cpu_probing, _cpu_shuffle, cpu, reference, reference_lists
from kernels._cpu_reservoir import cut, keep, key_of, new_reservoirs, row_of, score_of
from kernels._cpu_tables import fill_tables
from kernels._cpu_threads import all_threads
from kernels.arrays import Float32Array, Metric, Selection, StoredArray, Uint8Array
from kernels.packed_lists import BLOCK_ROWS, PackedLists, Probed, ProbeLimits, fixed_limits, table_levels
from tests.kernels.cases import METRICS, pack

pytestmark = pytest.mark.timeout(600)
"""The first run on a machine compiles the kernels."""

modest = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    cpu.use_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    yield
    cpu.use_threads(1)


@dataclasses.dataclass(frozen=True)
class Case:
    """A search of lists over small integers, on which tables and scores are exact and ties are real."""

    lists: PackedLists
    segments: list[StoredArray]
    queries: Float32Array
    masks: list[Uint8Array | None]
    limits: ProbeLimits
    k: int


def drawn_limits(draw: st.DrawFn, rng: np.random.Generator, n_queries: int, nlist: int) -> ProbeLimits:
    """Some queries end by scores, some by counts, some by neither."""
    depth = draw(st.sampled_from([0, 1, 3, 10, 64, 1000]))
    reaches = rng.integers(-2, 6, n_queries) / 2
    reaches[rng.random(n_queries) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = np.inf
    slacks = rng.integers(0, 6, n_queries) / 2
    slacks[rng.random(n_queries) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = np.inf
    return ProbeLimits(
        ks=rng.integers(1, 12, n_queries),
        nprobes=rng.integers(0, nlist + 2, n_queries),
        reaches=reaches.astype(np.float32),
        slopes=rng.choice([0, 0.25, 1], n_queries).astype(np.float32),
        shares=rng.choice([0, 0.01, 0.3, 1], n_queries),
        near_slopes=rng.choice([0, 0.25, 1], n_queries).astype(np.float32),
        depths=rng.integers(0, depth + 1, n_queries),
        slacks=slacks.astype(np.float32),
        budgets=rng.choice([0, 50, 300, 10**9], n_queries, p=[0.1, 0.1, 0.2, 0.6]),
    )


def drawn_lists(rng: np.random.Generator, *, n_parts: int, width: int, nlist: int, metric: Metric) -> PackedLists:
    """Without rows."""
    codebook = rng.integers(-2, 3, (n_parts, 16, width)).astype(np.float32)
    centroids = rng.integers(-2, 3, (nlist, n_parts * width)).astype(np.float32)
    return PackedLists(codebook, centroids, metric)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([0, 1, 31, 32, 33, 64, 65, 200, 700, 3000]))
    n_parts = draw(st.sampled_from([2, 4, 6, 8, 14]))
    width = draw(st.sampled_from([1, 2, 3, 8]))
    nlist = draw(st.sampled_from([1, 3, 8, 16, 17, 70, 150]))
    n_queries = draw(st.sampled_from([1, 2, 3, 17]))
    density = draw(st.sampled_from([None, 0.0, 0.01, 0.3, 1.0]))
    d = n_parts * width
    lists = drawn_lists(rng, n_parts=n_parts, width=width, nlist=nlist, metric=draw(st.sampled_from(METRICS)))
    for rows in np.array_split(rng.permutation(n), 3):
        codes = rng.integers(0, 256, (len(rows), n_parts // 2)).astype(np.uint8)
        numbers = rng.integers(0, max(1, nlist - 1), len(rows))
        lists.append(numbers, codes, rows, rng.integers(-4, 5, len(rows)).astype(np.float32))
    own_mask = [
        None if density is None or rng.random() < 0.2 else pack(rng.random(n) < density) for _ in range(n_queries)
    ]
    return Case(
        lists=lists,
        segments=[rng.integers(-3, 4, (max(n, 1), d)).astype(np.float16)],
        queries=rng.integers(-2, 3, (n_queries, d)).astype(np.float32),
        masks=own_mask,
        limits=drawn_limits(draw, rng, n_queries, nlist),
        k=draw(st.sampled_from([1, 5, 100])),
    )


def scan(kernels: ModuleType, case: Case) -> tuple[Selection, Probed]:
    found: tuple[Selection, Probed] = kernels.scan_lists(case.lists, case.queries, case.masks, limits=case.limits)
    return found


def search(kernels: ModuleType, case: Case) -> tuple[Selection, Probed]:
    found: tuple[Selection, Probed] = kernels.search_lists(
        case.lists,
        case.segments,
        case.queries,
        case.queries,
        case.masks,
        limits=case.limits,
        metric="dot",
        k=case.k,
        end_row=len(case.segments[0]),
    )
    return found


def assert_same(found: tuple[Selection, Probed], expected: tuple[Selection, Probed]) -> None:
    for mine, right in zip((*found[0], *found[1]), (*expected[0], *expected[1]), strict=True):
        np.testing.assert_array_equal(mine, right)
        assert mine.dtype == right.dtype


@given(case=cases())
@modest
def test_a_scan_of_lists_equals_the_reference(case: Case) -> None:
    expected = scan(reference, case)
    assert_same(scan(cpu, case), expected)
    with all_threads():
        assert_same(scan(cpu, case), expected)


@given(case=cases())
@modest
def test_a_search_of_lists_equals_the_reference(case: Case) -> None:
    expected = search(reference, case)
    assert_same(search(cpu, case), expected)
    with all_threads():
        assert_same(search(cpu, case), expected)


@given(case=cases())
@modest
def test_the_scale_of_a_query_is_that_of_the_reference(case: Case) -> None:
    kth = np.arange(len(case.queries), dtype=np.float32) - 5
    expected = reference.query_scales(case.lists, case.queries, kth)
    np.testing.assert_allclose(cpu.query_scales(case.lists, case.queries, kth), expected, rtol=1e-6)


def large(density: float | None, *, n: int = 9000, seed: int = 5) -> Case:
    """Real-valued, with more rows than a reservoir holds."""
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((12, 40)).astype(np.float32)
    lists = PackedLists(rng.standard_normal((10, 16, 4)).astype(np.float32), centroids, "dot")
    codes = rng.integers(0, 256, (n, 5)).astype(np.uint8)
    lists.append(rng.integers(0, 12, n), codes, np.arange(n), rng.standard_normal(n).astype(np.float32))
    masks = [None if density is None else pack(rng.random(n) < density) for _ in range(6)]
    limits = fixed_limits(6, k=1, nprobe=12, depth=1)._replace(depths=np.array([1, 7, 50, 200, 1000, 8999]))
    segments: list[StoredArray] = [rng.standard_normal((n, 40)).astype(np.float16)]
    return Case(lists, segments, rng.standard_normal((6, 40)).astype(np.float32), masks, limits, 10)


@pytest.mark.parametrize("density", [None, 0.5, 0.1, 0.01])
def test_of_many_rows_the_best_are_found_within_a_step_of_the_table(density: float | None) -> None:
    case = large(density)
    ((rows, scores), _), ((expected_rows, expected), _) = scan(cpu, case), scan(reference, case)
    steps = [reference_lists.quantised_tables(case.lists.codebook, query)[1] * 10 for query in case.queries]
    for b, step in enumerate(steps):
        np.testing.assert_array_equal(rows[b] >= 0, expected_rows[b] >= 0)
        kept = expected_rows[b] >= 0
        np.testing.assert_allclose(scores[b][kept], expected[b][kept], atol=step)


def test_a_query_ends_before_lists_that_lie_too_far_below_its_best_scores() -> None:
    """Ten lists of one row each: centroids score 0, -1, -2, ... and rows one less."""
    centroids = -np.arange(10, dtype=np.float32)[:, None] * np.array([[1, 0]], np.float32)
    lists = PackedLists(np.tile(np.array([[-1.0], [1.0]], np.float32), (2, 8, 1)), centroids, "dot")
    assert lists.unit == 1
    lists.append(np.arange(10), np.zeros((10, 1), np.uint8), np.arange(10), np.zeros(10, np.float32))
    limits = fixed_limits(1, k=2, nprobe=10, depth=10)
    query = np.array([[1, 0]], np.float32)
    for reach, expected in [(-1.0, 2), (0.0, 3), (0.5, 3), (1.0, 4), (3.5, 6), (np.inf, 10)]:
        reaches = np.full(1, reach, np.float32)
        (rows, _), probed = cpu.scan_lists(lists, query, [None], limits=limits._replace(reaches=reaches))
        assert probed.lists.tolist() == [expected]
        assert (rows >= 0).sum() == expected


def test_where_a_filter_hides_the_nearest_rows_a_query_goes_on_until_it_has_met_its_hits() -> None:
    case = large(None)
    numbers = [case.lists.listed(number)[1] for number in range(12)]
    order = np.argsort(-reference_lists.centroid_scores(case.lists, case.queries), axis=1)
    masks = [pack(np.isin(np.arange(9000), np.concatenate([numbers[i] for i in order[b, -2:]]))) for b in range(6)]
    limits = case.limits._replace(ks=np.full(6, 5), depths=np.full(6, 20), reaches=np.full(6, -1e6, np.float32))
    unmasked = cpu.scan_lists(case.lists, case.queries, case.masks, limits=limits)[1]
    masked = cpu.scan_lists(case.lists, case.queries, masks, limits=limits)[1]
    assert (unmasked.lists == 1).all()
    assert (masked.lists == 11).all()


def test_a_query_reaches_further_where_fewer_rows_pass_than_of_all_rows() -> None:
    """Forty lists of eight rows each, evenly further away; of each the mask passes four."""
    centroids = -np.arange(40, dtype=np.float32)[:, None] * np.array([[1, 0]], np.float32)
    lists = PackedLists(np.tile(np.array([[-1.0], [1.0]], np.float32), (2, 8, 1)), centroids, "dot")
    lists.append(np.arange(320) // 8, np.zeros((320, 1), np.uint8), np.arange(320), np.zeros(320, np.float32))
    mask, query = pack(np.arange(320) % 8 < 4), np.array([[1, 0]], np.float32)
    limits = fixed_limits(1, k=2, nprobe=40, depth=10)
    limits = limits._replace(reaches=np.full(1, 2.5, np.float32), slopes=np.ones(1, np.float32))
    told = []
    for share in (0, 0.25, 0.5, 1):
        asked = limits._replace(shares=np.full(1, share, np.float64))
        (_, _), probed = cpu.scan_lists(lists, query, [mask], limits=asked)
        np.testing.assert_array_equal(reference.scan_lists(lists, query, [mask], limits=asked)[1], probed)
        told.append(int(probed.lists[0]))
    assert told == [4, 4, 4, 7]


def test_a_filter_that_keeps_whole_lists_reaches_further_the_rarer_its_rows_are() -> None:
    """Lists lie one scale apart, their rows one below them; 16 of 40 pass as a whole."""
    centroids = -np.arange(40, dtype=np.float32)[:, None] * np.array([[1, 0]], np.float32)
    lists = PackedLists(np.tile(np.array([[-1.0], [1.0]], np.float32), (2, 8, 1)), centroids, "dot")
    lists.append(np.arange(320) // 8, np.zeros((320, 1), np.uint8), np.arange(320), np.zeros(320, np.float32))
    mask, query = pack(np.arange(320) < 128), np.array([[1, 0]], np.float32)
    limits = fixed_limits(1, k=2, nprobe=40, depth=10)
    limits = limits._replace(reaches=np.full(1, 1.5, np.float32), near_slopes=np.ones(1, np.float32))
    told = []
    for share in (0, 1, 0.5, 0.25, 0.1):
        asked = limits._replace(shares=np.full(1, share, np.float64))
        (_, _), probed = cpu.scan_lists(lists, query, [mask], limits=asked)
        np.testing.assert_array_equal(reference.scan_lists(lists, query, [mask], limits=asked)[1], probed)
        told.append(int(probed.lists[0]))
    assert told == [3, 3, 4, 5, 6]


def test_rows_of_blocks_that_the_mask_hides_are_a_quarter_of_the_work() -> None:
    lists = PackedLists(np.zeros((2, 16, 1), np.float32), np.zeros((1, 2), np.float32), "dot")
    n = 100 * BLOCK_ROWS
    lists.append(np.zeros(n, np.int64), np.zeros((n, 1), np.uint8), np.arange(n), np.zeros(n, np.float32))
    masks, queries = [None, pack(np.arange(n) == 33 * BLOCK_ROWS)], np.ones((2, 2), np.float32)
    limits = fixed_limits(2, k=1, nprobe=1, depth=8)
    for kernels in (cpu, reference):
        _, probed = kernels.scan_lists(lists, queries, masks, limits=limits)
        assert probed.rows.tolist() == [n, n]
        # The first block is scored before the mask is known to pass few, and the one with the row that does.
        assert probed.work.tolist() == [n, 2 * BLOCK_ROWS + 98 * BLOCK_ROWS // 4]


def test_a_query_beyond_its_budget_gives_up_and_tells_no_rows() -> None:
    case = large(None)
    limits = case.limits._replace(budgets=np.array([0, 2000, 10**9, 2000, 10**9, 4400]))
    for kernels in (cpu, reference):
        (rows, _), probed = scan(kernels, dataclasses.replace(case, limits=limits))
        assert probed.gave_up.tolist() == [True, True, False, True, False, True]
        assert (rows[probed.gave_up] == -1).all()
        assert (probed.rows // 2 <= limits.budgets).all()


def test_a_query_gives_up_as_soon_as_it_is_foreseen_to_go_beyond_its_budget() -> None:
    """Lists of two rows each, evenly further away: the reach takes 101 of them, with 202 rows, of 200 lists."""
    centroids = -np.arange(200, dtype=np.float32)[:, None] * np.array([[1, 0]], np.float32)
    lists = PackedLists(np.tile(np.array([[-1.0], [1.0]], np.float32), (2, 8, 1)), centroids, "dot")
    numbers = np.repeat(np.arange(200), 2)
    lists.append(numbers, np.zeros((400, 1), np.uint8), np.arange(400), np.zeros(400, np.float32))
    query = np.array([[1, 0]], np.float32)
    told = []
    for reach, budget in ((99, 10**9), (99, 101), (99, 74), (99, 73), (99, 40), (199, 272), (199, 271)):
        limits = fixed_limits(1, k=2, nprobe=200, depth=10)._replace(
            reaches=np.full(1, reach, np.float32), budgets=np.full(1, budget)
        )
        (_, _), probed = cpu.scan_lists(lists, query, [None], limits=limits)
        np.testing.assert_array_equal(reference.scan_lists(lists, query, [None], limits=limits)[1], probed)
        told.append((int(probed.lists[0]), bool(probed.gave_up[0])))
    assert told == [(101, False), (101, False), (74, True), (64, True), (40, True), (200, False), (64, True)]


def test_an_endless_reach_takes_every_list_whatever_its_scale() -> None:
    """Of a query of zeros the scale is 0, and no product of the two is a number."""
    lists = PackedLists(np.zeros((2, 16, 1), np.float32), np.zeros((200, 2), np.float32), "dot")
    lists.append(np.repeat(np.arange(200), 2), np.zeros((400, 1), np.uint8), np.arange(400), np.zeros(400, np.float32))
    limits = fixed_limits(1, k=2, nprobe=200, depth=10)._replace(budgets=np.full(1, 271))
    for kernels in (cpu, reference):
        _, probed = kernels.scan_lists(lists, np.zeros((1, 2), np.float32), [None], limits=limits)
        assert (int(probed.lists[0]), bool(probed.gave_up[0])) == (64, True)


def test_rows_at_the_borders_of_mask_words_are_found() -> None:
    lists = PackedLists(np.zeros((2, 16, 1), np.float32), np.zeros((1, 2), np.float32), "dot")
    n = 200
    lists.append(np.zeros(n, np.int64), np.zeros((n, 1), np.uint8), np.arange(n), np.zeros(n, np.float32))
    chosen = np.zeros(n, np.bool_)
    chosen[[0, 63, 64, 127, 128, 199]] = True
    none, every = np.zeros(n, np.bool_), np.ones(n, np.bool_)
    masks = [pack(chosen), pack(none), pack(every)[:9]]
    limits = fixed_limits(3, k=1, nprobe=1, depth=8)
    (rows, _), _ = cpu.scan_lists(lists, np.ones((3, 2), np.float32), masks, limits=limits)
    assert rows.tolist() == [[0, 63, 64, 127, 128, 199, -1, -1], [-1] * 8, list(range(8))]


def test_a_query_that_is_not_finite_finds_nothing() -> None:
    case = large(None)
    for bad in (np.nan, np.inf, 3e38):
        queries = case.queries.copy()
        queries[0] = bad
        broken = dataclasses.replace(case, queries=queries)
        for kernels in (cpu, reference):
            with np.errstate(all="ignore"):
                (rows, _), _ = scan(kernels, broken)
            assert (rows[0] == -1).all()
            assert rows[1, 0] >= 0


def test_the_form_for_any_machine_scores_a_block_like_the_fast_one() -> None:
    rng = np.random.default_rng(2)
    for n_pairs in (1, 3, 49):
        record = rng.integers(0, 256, (2 * n_pairs, BLOCK_ROWS)).astype(np.uint8)
        half = rng.integers(0, 256, (n_pairs, 2, 2, 16)).astype(np.uint8)
        tables = np.ascontiguousarray(np.repeat(half[:, :, :, None], 2, axis=3))
        terms = rng.standard_normal(BLOCK_ROWS).astype(np.float32)
        plain, fast = np.zeros(BLOCK_ROWS, np.float32), np.zeros(BLOCK_ROWS, np.float32)
        addresses = (record.ctypes.data, 2 * n_pairs, tables.ctypes.data, terms.ctypes.data)
        numbers = (np.float32(1.5), np.float32(0.01), np.float32(1.5 + 2.5 * n_pairs))
        assert block_of(_cpu_shuffle.plain_block_scores, *addresses, *numbers, plain.ctypes.data) == block_of(
            _cpu_shuffle.block_scores, *addresses, *numbers, fast.ctypes.data
        )
        np.testing.assert_array_equal(plain, fast)


def test_the_form_for_any_machine_adds_a_feature_like_the_fast_one() -> None:
    rng = np.random.default_rng(3)
    for n_pairs in (1, 3, 49):
        record = rng.integers(0, 256, (2 * n_pairs, BLOCK_ROWS)).astype(np.uint8)
        half = rng.integers(0, 256, (n_pairs, 2, 2, 16)).astype(np.uint8)
        tables = np.ascontiguousarray(np.repeat(half[:, :, :, None], 2, axis=3))
        terms, features = rng.standard_normal((2, BLOCK_ROWS)).astype(np.float32)
        plain, fast = np.zeros(BLOCK_ROWS, np.float32), np.zeros(BLOCK_ROWS, np.float32)
        addresses = (record.ctypes.data, 2 * n_pairs, tables.ctypes.data, terms.ctypes.data, features.ctypes.data)
        numbers = (np.float32(0.7), np.float32(1.5), np.float32(0.01), np.float32(1.5 + 2.5 * n_pairs))
        told = [
            fused_block_of(form, *addresses, *numbers, scores.ctypes.data)
            for form, scores in (
                (_cpu_shuffle.plain_fused_block_scores, plain),
                (_cpu_shuffle.fused_block_scores, fast),
            )
        ]
        assert told[0] == told[1]
        np.testing.assert_array_equal(plain, fast)


def block_of(form: object, *args: object) -> int:
    @numba.njit
    def call(r, n, t, m, base, scale, limit, s):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return form(r, n, t, m, base, scale, limit, s)

    return int(call(*args))


def fused_block_of(form: object, *args: object) -> int:
    @numba.njit
    def call(r, n, t, m, f, w, base, scale, limit, s):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return form(r, n, t, m, f, w, base, scale, limit, s)

    return int(call(*args))


@given(seed=st.integers(0, 2**32), count=st.integers(0, 400), depth=st.integers(1, 100), distinct=st.integers(1, 50))
@modest
def test_a_reservoir_keeps_the_best_whatever_the_order(seed: int, count: int, depth: int, distinct: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-distinct, distinct, count).astype(np.float32)
    reservoirs = new_reservoirs(1, 100)
    for row in rng.permutation(count).tolist():
        keep(reservoirs, 0, key_of(scores[row], row), depth)
    cut(reservoirs, 0, depth)
    keys = sorted(reservoirs.keys[0, : reservoirs.counts[0]].tolist(), reverse=True)
    expected = np.lexsort((np.arange(count), -scores))[:depth]
    assert [row_of(key) for key in keys] == expected.tolist()
    assert [score_of(key) for key in keys] == scores[expected].tolist()


@pytest.mark.parametrize("score", [0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 1e-45])
def test_a_key_gives_back_its_score_and_row(score: float) -> None:
    for row in (0, 1, 2**31 - 1):
        key = key_of(np.float32(score), row)
        assert (score_of(key), row_of(key)) == (np.float32(score), row)


@given(seed=st.integers(0, 2**32), n_parts=st.sampled_from([2, 6, 98]), width=st.sampled_from([1, 4, 8]))
@modest
def test_tables_equal_the_reference_on_small_integers(seed: int, n_parts: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    codebook = rng.integers(-3, 4, (n_parts, 16, width)).astype(np.float32)
    query = rng.integers(-3, 4, n_parts * width).astype(np.float32)
    entries, scale, offset = reference_lists.quantised_tables(codebook, query)
    scratch = _cpu_probing.new_scratch(1, n_parts, 1, 1)
    by_part = np.ascontiguousarray(codebook.transpose(0, 2, 1))
    found = fill_tables(by_part, query, table_levels(n_parts), scratch.products[0], scratch.tables[0])
    assert found == (scale, offset)
    laid_out = scratch.tables[0].reshape(-1, 2, 2, 2, 16)[:, :, :, 0].transpose(0, 2, 1, 3).reshape(-1, 16)
    np.testing.assert_array_equal(laid_out[:n_parts], entries)
