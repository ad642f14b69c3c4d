from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import _cpu_groups, cpu, cpu_exact, reference
from kernels._cpu_threads import all_threads
from kernels.arrays import SEGMENT_ROWS, Metric, Selection
from tests.kernels.cases import DTYPES, METRICS, Case, cases, in_segments, pack, row_lists, stored

pytestmark = pytest.mark.timeout(600)
"""The first run on a machine compiles the kernels."""

modest = settings(max_examples=60, deadline=None)
"""No deadline: the first example compiles."""


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    """Two where the machine has them."""
    cpu.use_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    yield
    cpu.use_threads(1)


def scan(kernels: ModuleType, case: Case) -> Selection:
    found: Selection = kernels.masked_scan(
        case.segments,
        case.queries,
        case.masks,
        metric=case.metric,
        k=case.k,
        first_row=case.first_row,
        end_row=case.end_row,
    )
    return found


def assert_same(found: Selection, expected: Selection) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.float32)


def border_case(dtype: str, *, n: int, rows: list[int]) -> Case:
    """Equal vectors, so that the smaller row wins; only ``rows`` pass."""
    chosen = np.zeros(n, np.bool_)
    chosen[rows] = True
    vectors = stored(np.ones((n, 3), np.float32), dtype)
    return Case(in_segments(vectors), np.ones((1, 3), np.float32), [pack(chosen)], "dot", 4, 0, n)


@given(case=cases())
@modest
def test_a_masked_scan_equals_the_reference(case: Case) -> None:
    assert_same(scan(cpu, case), scan(reference, case))


@given(case=cases())
@modest
def test_a_masked_scan_on_several_threads_equals_the_reference(case: Case) -> None:
    with all_threads():
        found = scan(cpu, case)
    assert_same(found, scan(reference, case))


def test_a_panel_that_wants_few_rows_between_two_that_want_all_disturbs_neither() -> None:
    generator = np.random.default_rng(5)
    vectors = in_segments(generator.integers(-3, 4, (300, 8)).astype(np.float32))
    queries = generator.integers(-3, 4, (48, 8)).astype(np.float32)
    shares = [1.0] * 16 + [0.1] * 16 + [1.0] * 16
    case = Case(vectors, queries, [pack(generator.random(300) < share) for share in shares], "dot", 5, 0, 300)
    assert_same(scan(cpu, case), scan(reference, case))


@given(case=cases(), length=st.sampled_from([0, 1, 3, 4, 63, 64, 65, 200]))
@modest
def test_gather_equals_the_reference(case: Case, length: int) -> None:
    rows = [np.sort(of_query) for of_query in row_lists(case, length=length, lowest=0)]
    keywords = {"metric": case.metric, "k": case.k, "end_row": case.end_row}
    expected = reference.gather(case.segments, case.queries, rows, **keywords)
    assert_same(cpu.gather(case.segments, case.queries, rows, **keywords), expected)
    with all_threads():
        assert_same(cpu.gather(case.segments, case.queries, rows, **keywords), expected)


@given(case=cases(), width=st.sampled_from([0, 1, 5, 64, 65, 130]))
@modest
def test_rescore_equals_the_reference_whatever_the_order_and_padding(case: Case, width: int) -> None:
    candidates = np.full((len(case.queries), width), -1, np.int64)
    for mine, rows in zip(candidates, row_lists(case, length=width, lowest=-1), strict=True):
        mine[width - rows.size :] = rows
    keywords = {"metric": case.metric, "k": case.k, "end_row": case.end_row}
    expected = reference.rescore(case.segments, case.queries, candidates, **keywords)
    assert_same(cpu.rescore(case.segments, case.queries, candidates, **keywords), expected)
    with all_threads():
        assert_same(cpu.rescore(case.segments, case.queries, candidates, **keywords), expected)


@given(case=cases(), cut=st.integers(0, 321))
@modest
def test_scans_of_two_ranges_merge_into_the_scan_of_both(case: Case, cut: int) -> None:
    middle = min(max(cut, case.first_row), case.end_row)
    lower, upper = dataclasses.replace(case, end_row=middle), dataclasses.replace(case, first_row=middle)
    for kernels in (cpu, reference):
        parts = [scan(kernels, lower), scan(kernels, upper)]
        assert_same(kernels.merge_topk(parts, k=case.k), scan(reference, case))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_at_the_borders_of_words_and_segments_are_found(dtype: str) -> None:
    rows = [0, 63, 64, SEGMENT_ROWS - 1, SEGMENT_ROWS, 2 * SEGMENT_ROWS - 1, 2 * SEGMENT_ROWS]
    case = dataclasses.replace(border_case(dtype, n=2 * SEGMENT_ROWS + 1, rows=rows), k=10)
    found, scores = scan(cpu, case)
    assert found.tolist() == [[*rows, -1, -1, -1]]
    assert scores.tolist() == [[3.0] * 7 + [-np.inf] * 3]
    keywords = {"metric": case.metric, "k": 10, "end_row": case.end_row}
    assert_same(cpu.gather(case.segments, case.queries, [np.array(rows)], **keywords), (found, scores))


def test_a_range_that_starts_and_ends_within_words_leaves_out_its_neighbours() -> None:
    case = border_case("float16", n=SEGMENT_ROWS + 100, rows=list(range(SEGMENT_ROWS + 100)))
    within = dataclasses.replace(case, first_row=SEGMENT_ROWS - 2, end_row=SEGMENT_ROWS + 1)
    assert scan(cpu, within)[0].tolist() == [[SEGMENT_ROWS - 2, SEGMENT_ROWS - 1, SEGMENT_ROWS, -1]]


def test_every_range_within_three_words_hides_exactly_what_lies_outside() -> None:
    whole = dataclasses.replace(border_case("float32", n=192, rows=list(range(192))), k=192)
    for edge in range(193):
        below = scan(cpu, dataclasses.replace(whole, end_row=edge))[0][0]
        above = scan(cpu, dataclasses.replace(whole, first_row=edge))[0][0]
        assert below.tolist() == [*range(edge), *[-1] * (192 - edge)]
        assert above.tolist() == [*range(edge, 192), *[-1] * edge]
        assert cpu.popcount(whole.masks[0], end_row=edge) == edge


def test_where_every_row_is_dead_there_are_only_pads() -> None:
    rows, scores = scan(cpu, border_case("float16", n=200, rows=[]))
    assert rows.tolist() == [[-1] * 4]
    assert scores.tolist() == [[-np.inf] * 4]


def test_without_segments_there_are_only_pads() -> None:
    queries, mask = np.ones((2, 5), np.float32), np.zeros(0, np.uint8)
    found = cpu.masked_scan([], queries, [mask, mask], metric="dot", k=3, first_row=0, end_row=0)
    assert found[0].tolist() == [[-1] * 3] * 2
    nothing = cpu.rescore([], queries, np.full((2, 4), -1), metric="dot", k=3, end_row=0)
    assert nothing[0].tolist() == [[-1] * 3] * 2


def test_without_queries_there_are_no_hits() -> None:
    case = border_case("float16", n=10, rows=[1])
    nobody = dataclasses.replace(case, queries=np.empty((0, 3), np.float32), masks=[])
    assert scan(cpu, nobody)[0].shape == (0, 4)
    assert cpu.gather(case.segments, nobody.queries, [], metric="dot", k=4, end_row=10)[0].shape == (0, 4)


def test_a_k_beyond_the_heap_budget_answers_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(7)
    vectors = in_segments(generator.integers(-3, 4, (500, 3)).astype(np.float32))
    queries = generator.integers(-3, 4, (20, 3)).astype(np.float32)
    case = Case(vectors, queries, [pack(generator.random(500) < 0.7) for _ in range(20)], "l2", 300, 0, 500)
    monkeypatch.setattr(_cpu_groups, "_HEAP_BYTES", 12 * 300 * 3)
    assert_same(scan(cpu, case), scan(reference, case))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_queries", [1, 20])
def test_a_score_that_overflows_ranks_last_and_is_still_a_hit(metric: str, n_queries: int) -> None:
    vectors = np.full((3, 2), 3e38, np.float32)
    vectors[1] = [1, 1]
    queries = np.full((n_queries, 2), [3e38, -3e38], np.float32)
    case = Case([vectors], queries, [np.array([7], np.uint8)] * n_queries, metric, 3, 0, 3)
    rows, scores = scan(cpu, case)
    assert sorted(rows[0].tolist()) == [0, 1, 2]
    assert not np.isnan(scores).any()


def test_read_only_arrays_are_taken_as_they_are() -> None:
    case = border_case("float16", n=100, rows=[3, 99])
    for array in (*case.segments, case.queries, *case.masks):
        array.flags.writeable = False
    before = len(cpu_exact.scan_serial.signatures)
    assert scan(cpu, case)[0].tolist() == [[3, 99, -1, -1]]
    assert len(cpu_exact.scan_serial.signatures) <= max(before, 1)


@given(
    bits=st.lists(st.booleans(), max_size=200),
    end_row=st.integers(0, 200),
)
@modest
def test_counting_and_listing_the_rows_of_a_mask_equal_the_reference(bits: list[bool], end_row: int) -> None:
    mask = pack(np.array(bits, np.bool_))
    assert cpu.popcount(mask, end_row=end_row) == reference.popcount(mask, end_row=end_row) == sum(bits[:end_row])
    np.testing.assert_array_equal(
        cpu.rows_of_mask(mask, end_row=end_row), reference.rows_of_mask(mask, end_row=end_row)
    )


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, -2.5, 1e30, np.nan, np.inf]), min_size=3, max_size=3), max_size=6),
    st.sampled_from(METRICS),
)
@modest
def test_queries_are_made_ready_as_by_the_reference(values: list[list[float]], metric: Metric) -> None:
    queries = np.array(values, np.float32).reshape(-1, 3)
    units, is_sound = cpu.unit_queries(queries, metric=metric, most_length=1e20)
    expected, sound_in_reference = reference.unit_queries(queries, metric=metric, most_length=1e20)
    np.testing.assert_array_equal(is_sound, sound_in_reference)
    np.testing.assert_allclose(units, expected, rtol=1e-6)
    assert units.dtype == np.float32
    if metric == "cosine":
        np.testing.assert_allclose(np.linalg.norm(units[is_sound], axis=1), 1, rtol=1e-6)
