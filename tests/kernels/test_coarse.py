from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.registry import cpu_target

from kernels import cpu, cpu_coarse, reference
from kernels._cpu_int8_dot import AVX2, AVX_VNNI, PLAIN, VNNI, Form, form_for
from kernels._cpu_int8_panel import panel_of
from kernels._cpu_int8_run import dots_of, run_of
from kernels._cpu_threads import all_threads
from kernels.arrays import SEGMENT_ROWS, Float32Array, Metric, RowCodes, Selection, StoredArray
from kernels.coarse import RowBounds, empty_codes, is_proven, row_bounds
from tests.kernels.cases import DTYPES, METRICS, Case, cases, in_segments, pack, stored

pytestmark = pytest.mark.timeout(600)
"""The first run on a machine compiles the kernels."""

modest = settings(max_examples=60, deadline=None)

FEATURES = cpu_target.target_context.codegen().magic_tuple()[2]
NEEDED = {VNNI: "+avx512vnni", AVX_VNNI: "vnni,", AVX2: "+avx2,", PLAIN: ""}
FORMS = [
    pytest.param(form, id=name)
    for name, form in (("vnni", VNNI), ("avx-vnni", AVX_VNNI), ("avx2", AVX2), ("plain", PLAIN))
]


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    """Two where the machine has them."""
    cpu.use_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    yield
    cpu.use_threads(1)


def codes_of(segments: list[StoredArray]) -> list[RowCodes]:
    return [reference.quantise_rows(segment) for segment in segments]


def coarse(kernels: ModuleType, case: Case, codes: list[RowCodes], queries: Float32Array) -> Selection:
    found: Selection = kernels.coarse_scan(
        codes, queries, case.masks, metric=case.metric, k=case.k, first_row=case.first_row, end_row=case.end_row
    )
    return found


def assert_same(found: Selection, expected: Selection) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.float32)


# Codes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 15, 16, 100])
def test_codes_of_rows_equal_the_reference(dtype: str, d: int) -> None:
    vectors = np.random.default_rng(d).standard_normal((70, d)).astype(np.float32) * 100
    vectors[3] = 0
    kept = stored(vectors, "float32" if dtype == "float32" else dtype)
    found, expected = cpu.quantise_rows(kept), reference.quantise_rows(kept)
    for name in ("values", "scales", "sums"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("norms", "errors"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)


@pytest.mark.parametrize("kernels", [cpu, reference])
def test_the_largest_value_of_a_row_becomes_127_and_what_is_lost_is_told(kernels: ModuleType) -> None:
    codes = kernels.quantise_rows(np.array([[1, -2], [0, 0]], np.float32))
    assert codes.values[:2, :3].tolist() == [[64, -127, 0], [0, 0, 0]]
    assert codes.sums[:2].tolist() == [-63, 0]
    assert codes.errors[0] == pytest.approx(abs(1 - 64 * 2 / 127), rel=1e-4)
    assert codes.errors[1] == codes.scales[1] == 0
    assert codes.values.shape == (64, 16)


@pytest.mark.parametrize("kernels", [cpu, reference])
def test_codes_made_slice_by_slice_are_those_made_at_once(kernels: ModuleType) -> None:
    vectors = np.random.default_rng(4).standard_normal((150, 20)).astype(np.float16)
    codes = empty_codes(150, 20)
    for first, end in ((0, 1), (1, 70), (70, 150)):
        kernels.quantise_into(codes, vectors[first:end], first=first)
    for found, expected in zip(codes, kernels.quantise_rows(vectors), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("d", [1, 16, 100])
def test_codes_begin_at_a_cache_line(d: int) -> None:
    for array in cpu.quantise_rows(np.ones((3, d), np.float32)):
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.9])
@pytest.mark.parametrize("metric", METRICS)
def test_words_of_few_and_of_many_rows_equal_the_reference(share: float, metric: Metric) -> None:
    generator = np.random.default_rng(8)
    codes = codes_of(in_segments(generator.standard_normal((500, 40)).astype(np.float32)))
    queries = generator.standard_normal((2, 40)).astype(np.float32)
    masks = [pack(generator.random(500) < share) for _ in queries]
    case = Case([], queries, masks, metric, 20, 3, 490)
    assert_same(coarse(cpu, case, codes, queries), coarse(reference, case, codes, queries))


@pytest.mark.parametrize("kernels", [cpu, reference])
def test_rows_of_the_least_and_greatest_values_keep_codes_within_127(kernels: ModuleType) -> None:
    codes = kernels.quantise_rows(np.array([[1e-45, -1e-45], [3e38, -3e38], [1e-40, 3e-41]], np.float32))
    assert np.abs(codes.values.astype(np.int32)).max() <= 127
    assert np.isfinite(codes.errors).all()


# Scans


@given(case=cases(), seed=st.integers(0, 2**32))
@modest
def test_a_coarse_scan_equals_the_reference_to_the_last_bit(case: Case, seed: int) -> None:
    queries = np.random.default_rng(seed).standard_normal(case.queries.shape).astype(np.float32)
    codes = codes_of(case.segments)
    expected = coarse(reference, case, codes, queries)
    assert_same(coarse(cpu, case, codes, queries), expected)
    with all_threads():
        assert_same(coarse(cpu, case, codes, queries), expected)


def test_a_panel_that_wants_few_rows_between_two_that_want_all_disturbs_neither() -> None:
    generator = np.random.default_rng(5)
    codes = codes_of(in_segments(generator.standard_normal((300, 8)).astype(np.float32)))
    queries = generator.standard_normal((48, 8)).astype(np.float32)
    shares = [1.0] * 16 + [0.1] * 16 + [1.0] * 16
    masks = [pack(generator.random(300) < share) for share in shares]
    case = Case([], queries, masks, "dot", 5, 0, 300)
    assert_same(coarse(cpu, case, codes, queries), coarse(reference, case, codes, queries))


@pytest.mark.parametrize("n_queries", [1, 20])
def test_rows_at_the_borders_of_words_and_segments_are_found(n_queries: int) -> None:
    rows = [0, 63, 64, SEGMENT_ROWS - 1, SEGMENT_ROWS, 2 * SEGMENT_ROWS - 1, 2 * SEGMENT_ROWS]
    chosen = np.zeros(2 * SEGMENT_ROWS + 1, np.bool_)
    chosen[rows] = True
    segments = in_segments(np.ones((len(chosen), 3), np.float16))
    queries = np.ones((n_queries, 3), np.float32)
    found = cpu.coarse_scan(
        [cpu.quantise_rows(one) for one in segments],
        queries,
        [pack(chosen)] * n_queries,
        metric="dot",
        k=10,
        first_row=0,
        end_row=len(chosen),
    )
    assert found[0].tolist() == [[*rows, -1, -1, -1]] * n_queries


def test_without_segments_there_are_only_pads() -> None:
    mask = np.zeros(0, np.uint8)
    found = cpu.coarse_scan([], np.ones((2, 5), np.float32), [mask, mask], metric="dot", k=3, first_row=0, end_row=0)
    assert found[0].tolist() == [[-1] * 3] * 2


def test_after_warm_up_coarse_searches_compile_nothing_more() -> None:
    cpu_coarse.warm_up(np.dtype(np.float16))
    kernels = (cpu_coarse.scan_codes_serial, cpu_coarse.scan_codes_parallel, cpu_coarse.quantise)
    before = [len(kernel.signatures) for kernel in kernels]
    vectors = np.ones((100, 5), np.float16)
    vectors.flags.writeable = False
    masks = [np.full(13, 255, np.uint8)] * 3
    keywords = {"metric": "l2", "k": 2, "first_row": 0, "end_row": 100}
    cpu.coarse_scan([cpu.quantise_rows(vectors)], np.ones((3, 5), np.float32), masks, **keywords)
    assert [len(kernel.signatures) for kernel in kernels] == before


# Forms of the sums


def runs_here(form: Form) -> bool:
    return NEEDED[form] in FEATURES + ","


def sums_by(form: Form, rows: np.ndarray[Any, Any], query: np.ndarray[Any, Any]) -> list[int]:
    dot_rows = dots_of(form)

    @numba.njit
    def four(rows: Any, query: Any, out: Any) -> None:
        a, step = rows.ctypes.data, rows.shape[1]
        dot_rows(a, a + step, a + 2 * step, a + 3 * step, step, query.ctypes.data, out.ctypes.data)

    out = np.empty(4, np.int32)
    four(rows, query, out)
    return [int(one) for one in out]


def run_by(form: Form, rows: np.ndarray[Any, Any], query: np.ndarray[Any, Any]) -> tuple[list[float], int]:
    """The scores of sixteen rows and which may enter where the limit is 0."""
    score_run = run_of(form)

    @numba.njit
    def score(at: Any, step: Any, query: Any, terms: Any, scores: Any) -> int:
        return score_run(at.ctypes.data, 0, step, query.ctypes.data, terms.ctypes.data, 3, scores.ctypes.data)

    ones, zeros, sums = np.ones(16, np.float32), np.zeros(16, np.float32), np.zeros(16, np.int32)
    at = np.array([one.ctypes.data for one in (rows, ones, sums, zeros)], np.int64)
    terms, scores = np.stack([ones, zeros, zeros, zeros]), np.empty(16, np.float32)
    entering = score(at, rows.shape[1], query, terms, scores)
    return scores.tolist(), entering


def panel_by(form: Form, rows: np.ndarray[Any, Any], queries: np.ndarray[Any, Any]) -> Float32Array:
    score_panel = panel_of(form)

    @numba.njit
    def score(places: Any, at: Any, step: Any, panel: Any, terms: Any, scores: Any, entering: Any) -> None:
        score_panel(
            places.ctypes.data,
            at.ctypes.data,
            step,
            panel.ctypes.data,
            terms.ctypes.data,
            scores.ctypes.data,
            entering.ctypes.data,
        )

    stride = rows.shape[1]
    panel = np.ascontiguousarray(queries.reshape(16, stride // 4, 4).transpose(1, 0, 2))
    ones, zeros, sums = np.ones(16, np.float32), np.zeros(16, np.float32), np.zeros(16, np.int32)
    terms = np.stack([ones, zeros, np.full(16, np.inf, np.float32), zeros])
    at = np.array([one.ctypes.data for one in (rows, ones, sums, zeros)], np.int64)
    scores, entering = np.empty((16, 16), np.float32), np.full(16, 7, np.uint16)
    score(np.arange(16), at, stride, panel, terms, scores, entering)
    assert not entering.any()
    return scores


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stride", [16, 64, 112, 192])
def test_every_form_gives_the_same_integers(form: Form, stride: int) -> None:
    if not runs_here(form):
        pytest.skip("the CPU lacks its instructions")
    generator = np.random.default_rng(stride)
    rows = generator.integers(-128, 128, (16, stride)).astype(np.int8)
    queries = generator.integers(0, 256, (16, stride)).astype(np.uint8)
    expected = rows.astype(np.int64) @ queries.astype(np.int64).T
    assert sums_by(form, rows[:4], queries[0]) == expected[:4, 0].tolist()
    np.testing.assert_array_equal(panel_by(form, rows, queries), expected.astype(np.float32))
    scores, entering = run_by(form, rows, queries[0])
    assert scores == expected[:, 0].tolist()
    assert [entering >> row & 1 for row in range(16)] == (expected[:, 0] > 0).tolist()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("code", [-128, 127])
def test_no_form_saturates_or_overflows(form: Form, code: int) -> None:
    if not runs_here(form):
        pytest.skip("the CPU lacks its instructions")
    rows, query = np.full((4, 32_768), code, np.int8), np.full(32_768, 255, np.uint8)
    assert sums_by(form, rows, query) == [32_768 * 255 * code] * 4


def test_the_form_follows_the_features_of_the_target() -> None:
    assert form_for("+avx2,+avx512vl,+avx512vnni") is VNNI
    assert form_for("+avx2,-avx512vnni,+avxvnni") is AVX_VNNI
    assert form_for("+avx2,-avxvnni") is AVX2
    assert form_for("-avx2,+neon") is form_for("") is PLAIN


# Proofs


@st.composite
def searches(draw: st.DrawFn) -> tuple[StoredArray, Float32Array, Metric]:
    """Clustered rows, so that there is something to get wrong, of all scales; queries near some of them."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.sampled_from([40, 300])), draw(st.sampled_from([2, 16, 60]))
    spread, scale = draw(st.sampled_from([1e-3, 0.05, 1.0])), draw(st.sampled_from([1e-2, 1.0, 100.0]))
    centres = generator.standard_normal((4, d))
    rows = scale * (centres[generator.integers(0, 4, n)] + spread * generator.standard_normal((n, d)))
    queries = rows[:5] + scale * spread * generator.standard_normal((5, d))
    return (
        stored(rows.astype(np.float32), draw(st.sampled_from(DTYPES))),
        queries.astype(np.float32),
        draw(st.sampled_from(METRICS)),
    )


@given(search=searches(), depth=st.sampled_from([5, 10, 50]))
@settings(max_examples=150, deadline=None)
def test_what_is_proven_is_what_the_exact_scan_finds(
    search: tuple[StoredArray, Float32Array, Metric], depth: int
) -> None:
    rows, queries, metric = search
    n, codes = len(rows), [cpu.quantise_rows(rows)]
    masks = [pack(np.ones(n, np.bool_))] * len(queries)
    found, proven = cpu.two_pass_scan(
        [rows], codes, queries, masks, metric=metric, k=5, depth=depth, bounds=row_bounds(codes), first_row=0, end_row=n
    )
    exact = cpu.masked_scan([rows], queries, masks, metric=metric, k=n, first_row=0, end_row=n)
    assert proven.all() or depth < n
    for b in np.flatnonzero(proven):
        left_out = exact[1][b][~np.isin(exact[0][b], found[0][b])]
        assert (left_out[: n - 5] <= found[1][b, -1] * (1 + np.sign(found[1][b, -1]) * 1e-5) + 1e-30).all()


@given(search=searches())
@settings(max_examples=150, deadline=None)
def test_no_row_scores_better_than_its_codes_allow(search: tuple[StoredArray, Float32Array, Metric]) -> None:
    rows, queries, metric = search
    n, codes = len(rows), [reference.quantise_rows(rows)]
    masks = [pack(np.ones(n, np.bool_))] * len(queries)
    keywords = {"metric": metric, "k": n, "first_row": 0, "end_row": n}
    by_codes = reference.coarse_scan(codes, queries, masks, **keywords)
    exact = reference.masked_scan([rows], queries, masks, **keywords)
    for place in range(n):
        worst = by_codes[0][:, place : place + 1], by_codes[1][:, place : place + 1]
        own = np.array([exact[1][b][exact[0][b] == worst[0][b, 0]][0] for b in range(len(queries))])
        claimed = is_proven(queries, worst, (worst[0], own[:, None]), metric=metric, bounds=row_bounds(codes))
        assert not claimed.any()


def test_where_the_codes_tell_rows_apart_the_answer_is_proven() -> None:
    generator = np.random.default_rng(3)
    rows = generator.standard_normal((2000, 64)).astype(np.float32)
    queries = rows[:8] + 0.01 * generator.standard_normal((8, 64)).astype(np.float32)
    codes, masks = [cpu.quantise_rows(rows)], [pack(np.ones(2000, np.bool_))] * 8
    for metric in METRICS:
        keywords = {"metric": metric, "k": 1, "bounds": row_bounds(codes), "first_row": 0, "end_row": 2000}
        found, proven = cpu.two_pass_scan([rows], codes, queries, masks, depth=20, **keywords)
        expected = reference.two_pass_scan([rows], codes, queries, masks, depth=20, **keywords)
        assert proven.all()
        assert found[0].tolist() == expected[0][0].tolist() == [[row] for row in range(8)]


def test_where_the_codes_hide_the_best_row_the_answer_is_not_proven() -> None:
    rows = np.array([[127, 0.4], [127, 0.3], [127, 0.2]], np.float32)
    codes, masks = [cpu.quantise_rows(rows)], [pack(np.ones(3, np.bool_))]
    queries = np.array([[0, -1]], np.float32)
    found, proven = cpu.two_pass_scan(
        [rows], codes, queries, masks, metric="dot", k=1, depth=1, bounds=row_bounds(codes), first_row=0, end_row=3
    )
    assert found[0].tolist() == [[0]]
    assert proven.tolist() == [False]


def test_bounds_are_of_the_longest_row_and_the_greatest_loss() -> None:
    assert row_bounds([]) == RowBounds(0.0, 0.0)
    codes = [
        reference.quantise_rows(np.array([[3, 4]], np.float32)),
        reference.quantise_rows(np.ones((1, 2), np.float32)),
    ]
    assert row_bounds(codes).length == pytest.approx(5, rel=0.01)
    assert row_bounds(codes).error == max(codes[0].errors[0], codes[1].errors[0])
