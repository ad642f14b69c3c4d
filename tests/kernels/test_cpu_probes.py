from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import _cpu_probes, _cpu_shuffle, cpu, reference
from kernels._cpu_reservoir import cut, keep, key_of, new_reservoirs, row_of, score_of
from kernels._cpu_tables import fill_tables
from kernels._cpu_threads import all_threads
from kernels.arrays import Float32Array, Int64Array, Selection, StoredArray, Uint8Array
from kernels.packed_lists import BLOCK_ROWS, PackedLists, table_levels
from tests.kernels.cases import pack

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
    probes: Int64Array
    biases: Float32Array
    masks: list[Uint8Array | None]
    depths: Int64Array
    k: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([0, 1, 31, 32, 33, 64, 65, 200, 700]))
    n_parts = draw(st.sampled_from([2, 4, 6, 8, 14]))
    width = draw(st.sampled_from([1, 2, 3, 8]))
    nlist = draw(st.sampled_from([1, 3, 8]))
    n_queries = draw(st.sampled_from([1, 2, 3, 17]))
    density = draw(st.sampled_from([None, 0.0, 0.01, 0.3, 1.0]))
    depth = draw(st.sampled_from([0, 1, 3, 10, 64, 1000]))
    lists = PackedLists(rng.integers(-2, 3, (n_parts, 16, width)).astype(np.float32), nlist)
    for rows in np.array_split(rng.permutation(n), 3):
        codes = rng.integers(0, 256, (len(rows), n_parts // 2)).astype(np.uint8)
        numbers = rng.integers(0, max(1, nlist - 1), len(rows))
        lists.append(numbers, codes, rows, rng.integers(-4, 5, len(rows)).astype(np.float32))
    probes = np.argsort(rng.random((n_queries, nlist)), axis=1)
    probes[np.arange(nlist) >= rng.integers(0, nlist + 1, (n_queries, 1))] = -1
    own_mask = [None if density is None or rng.random() < 0.2 else pack(rng.random(n) < density) for _ in probes]
    return Case(
        lists=lists,
        segments=[rng.integers(-3, 4, (max(n, 1), n_parts * width)).astype(np.float16)],
        queries=rng.integers(-2, 3, (n_queries, n_parts * width)).astype(np.float32),
        probes=probes,
        biases=rng.integers(-4, 5, probes.shape).astype(np.float32),
        masks=own_mask,
        depths=rng.integers(0, depth + 1, n_queries),
        k=draw(st.sampled_from([1, 5, 100])),
    )


def scan(kernels: ModuleType, case: Case) -> Selection:
    found: Selection = kernels.scan_lists(
        case.lists, case.queries, case.probes, case.biases, case.masks, depths=case.depths
    )
    return found


def search(kernels: ModuleType, case: Case) -> Selection:
    found: Selection = kernels.search_lists(
        case.lists,
        case.segments,
        case.queries,
        case.queries,
        case.probes,
        case.biases,
        case.masks,
        depths=case.depths,
        metric="dot",
        k=case.k,
        end_row=len(case.segments[0]),
    )
    return found


def assert_same(found: Selection, expected: Selection) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.float32)


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


def large(density: float | None, *, n: int = 9000, seed: int = 5) -> Case:
    """Real-valued, with more rows than a reservoir holds."""
    rng = np.random.default_rng(seed)
    lists = PackedLists(rng.standard_normal((10, 16, 4)).astype(np.float32), 12)
    codes = rng.integers(0, 256, (n, 5)).astype(np.uint8)
    lists.append(rng.integers(0, 12, n), codes, np.arange(n), rng.standard_normal(n).astype(np.float32))
    probes = np.tile(np.arange(12), (6, 1))
    masks = [None if density is None else pack(rng.random(n) < density) for _ in range(6)]
    return Case(
        lists,
        [rng.standard_normal((n, 40)).astype(np.float16)],
        rng.standard_normal((6, 40)).astype(np.float32),
        probes,
        rng.standard_normal(probes.shape).astype(np.float32),
        masks,
        np.array([1, 7, 50, 200, 1000, 8999]),
        10,
    )


@pytest.mark.parametrize("density", [None, 0.5, 0.1, 0.01])
def test_of_many_rows_the_best_are_found_within_a_step_of_the_table(density: float | None) -> None:
    case = large(density)
    (rows, scores), (expected_rows, expected) = scan(cpu, case), scan(reference, case)
    steps = [reference.quantised_tables(case.lists.codebook, query)[1] * 10 for query in case.queries]
    for b, step in enumerate(steps):
        np.testing.assert_array_equal(rows[b] >= 0, expected_rows[b] >= 0)
        kept = expected_rows[b] >= 0
        np.testing.assert_allclose(scores[b][kept], expected[b][kept], atol=step)


def test_rows_at_the_borders_of_mask_words_are_found() -> None:
    lists = PackedLists(np.zeros((2, 16, 1), np.float32), 1)
    n = 200
    lists.append(np.zeros(n, np.int64), np.zeros((n, 1), np.uint8), np.arange(n), np.zeros(n, np.float32))
    chosen = np.zeros(n, np.bool_)
    chosen[[0, 63, 64, 127, 128, 199]] = True
    none, every = np.zeros(n, np.bool_), np.ones(n, np.bool_)
    probes, biases = np.zeros((3, 1), np.int64), np.zeros((3, 1), np.float32)
    masks = [pack(chosen), pack(none), pack(every)[:9]]
    rows, _ = cpu.scan_lists(lists, np.ones((3, 2), np.float32), probes, biases, masks, depths=np.full(3, 8))
    assert rows.tolist() == [[0, 63, 64, 127, 128, 199, -1, -1], [-1] * 8, list(range(8))]


def test_a_query_that_is_not_finite_finds_nothing() -> None:
    case = large(None)
    for bad in (np.nan, np.inf, 3e38):
        queries = case.queries.copy()
        queries[0] = bad
        broken = dataclasses.replace(case, queries=queries)
        for kernels in (cpu, reference):
            with np.errstate(all="ignore"):
                rows, _ = scan(kernels, broken)
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


def block_of(form: object, *args: object) -> int:
    @numba.njit
    def call(r, n, t, m, base, scale, limit, s):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return form(r, n, t, m, base, scale, limit, s)

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
    entries, scale, offset = reference.quantised_tables(codebook, query)
    scratch = _cpu_probes.new_scratch(1, n_parts)
    by_part = np.ascontiguousarray(codebook.transpose(0, 2, 1))
    found = fill_tables(by_part, query, table_levels(n_parts), scratch.products[0], scratch.tables[0])
    assert found == (scale, offset)
    laid_out = scratch.tables[0].reshape(-1, 2, 2, 2, 16)[:, :, :, 0].transpose(0, 2, 1, 3).reshape(-1, 16)
    np.testing.assert_array_equal(laid_out[:n_parts], entries)


@given(case=cases())
@modest
def test_what_masks_pass_of_the_probed_rows_is_counted_as_by_the_reference(case: Case) -> None:
    found = cpu.count_visible(case.lists, case.probes, case.masks)
    expected = reference.count_visible(case.lists, case.probes, case.masks)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_long_probes_are_counted_by_a_sample_spread_over_them() -> None:
    rng = np.random.default_rng(3)
    lists = PackedLists(np.zeros((2, 16, 1), np.float32), 2)
    n = 40_000
    lists.append(np.arange(n) % 2, np.zeros((n, 1), np.uint8), rng.permutation(n), np.zeros(n, np.float32))
    masks = [pack(rng.random(n) < 0.1), pack(np.zeros(n, bool))]
    probes = np.array([[0, 1], [1, -1]])
    seen, passed = cpu.count_visible(lists, probes, masks)
    np.testing.assert_array_equal((seen, passed), reference.count_visible(lists, probes, masks))
    assert (seen < 2 * 64 * BLOCK_ROWS).all()
    assert 0.07 < passed[0] / seen[0] < 0.13
    assert passed[1] == 0
