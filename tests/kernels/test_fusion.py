"""Fused searches equal their definition on small integers, on which float32 is exact and ties are real."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import cpu, reference
from kernels._cpu_threads import all_threads
from kernels.arrays import SEGMENT_ROWS, Float32Array, Int32Array, Selection
from kernels.fusion import FeatureStamps, Fusion, ListExtremes, no_extremes
from kernels.list_feature import ListFeature
from kernels.reference_exact import weighted_features
from tests.kernels import test_cpu_probes as probes
from tests.kernels.cases import Case, cases, in_segments, pack, row_lists

pytestmark = pytest.mark.timeout(600)
"""The first run on a machine compiles the kernels."""

modest = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    cpu.use_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    yield
    cpu.use_threads(1)


def fusion_of(
    rng: np.random.Generator, n_rows: int, n_queries: int, *, extras: bool, scales: tuple[int, ...]
) -> Fusion:
    """Powers of two as scales: weights divided by them are exact."""
    n_features = int(rng.choice([0, 1, 2, 5, 8, 17]))
    features = rng.integers(-4, 5, (max(n_rows, 1), n_features)).astype(np.float32)
    own: list[Float32Array | None] = [
        rng.integers(-3, 4, max(n_rows, 1)).astype(np.float32) if extras and rng.random() < 0.5 else None
        for _ in range(n_queries)
    ]
    return Fusion(
        scales=rng.choice(scales, n_queries).astype(np.float32),
        weights=rng.integers(-2, 3, (n_queries, n_features)).astype(np.float32),
        features=in_segments(features) if n_features else [],
        extras=own,
    )


@st.composite
def fused_cases(draw: st.DrawFn) -> tuple[Case, Fusion]:
    case = draw(cases())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_rows = sum(map(len, case.segments))
    return case, fusion_of(rng, n_rows, len(case.queries), extras=draw(st.booleans()), scales=(0, 1, 2, 3))


def assert_same(found: Selection, expected: Selection) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def scan(kernels: ModuleType, case: Case, fusion: Fusion) -> Selection:
    bounds: dict[str, Any] = {"first_row": case.first_row, "end_row": case.end_row}
    found: Selection = kernels.masked_scan(
        case.segments, case.queries, case.masks, metric=case.metric, k=case.k, fusion=fusion, **bounds
    )
    return found


@given(one=fused_cases())
@modest
def test_a_fused_scan_equals_the_reference(one: tuple[Case, Fusion]) -> None:
    expected = scan(reference, *one)
    assert_same(scan(cpu, *one), expected)
    with all_threads():
        assert_same(scan(cpu, *one), expected)


@given(one=fused_cases())
@modest
def test_a_fused_gather_equals_the_reference(one: tuple[Case, Fusion]) -> None:
    case, fusion = one
    rows = row_lists(case, length=case.end_row + 3, lowest=-2)
    asked: dict[str, Any] = {"metric": case.metric, "k": case.k, "end_row": case.end_row, "fusion": fusion}
    expected = reference.gather(case.segments, case.queries, rows, **asked)
    assert_same(cpu.gather(case.segments, case.queries, rows, **asked), expected)
    with all_threads():
        assert_same(cpu.gather(case.segments, case.queries, rows, **asked), expected)


def test_queries_without_similarity_are_ranked_by_their_features_alone() -> None:
    segments = in_segments(np.ones((70, 4), np.float16))
    features = in_segments(np.arange(70, dtype=np.float32)[:, None])
    fusion = Fusion(np.zeros(1, np.float32), np.array([[-1]], np.float32), features, [None])
    rows, scores = cpu.masked_scan(
        segments, np.ones((1, 4), np.float32), [pack(np.ones(70, np.bool_))], metric="dot", k=2, first_row=5,
        end_row=70, fusion=fusion,
    )  # fmt: skip
    assert rows.tolist() == [[5, 6]]
    assert scores.tolist() == [[-5, -6]]


@dataclasses.dataclass(frozen=True)
class FusedLists:
    case: probes.Case
    fusion: Fusion
    extremes: ListExtremes
    feature: ListFeature | None = None


def numbers_of(case: probes.Case) -> Int32Array:
    """The list of each row."""
    numbers = np.zeros(case.lists.end_row, np.int32)
    for number in range(case.lists.nlist):
        numbers[case.lists.listed(number)[1]] = number
    return numbers


@st.composite
def fused_lists(draw: st.DrawFn, shares: tuple[float, ...] = (0.0, 0.5, 1.0)) -> FusedLists:
    """``shares``: of rows that the extremes may be of."""
    case = draw(probes.cases())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_rows = len(case.segments[0])
    fusion = fusion_of(rng, n_rows, len(case.queries), extras=False, scales=(1, 2))
    alive = pack(rng.random(n_rows) < draw(st.sampled_from(shares)))
    found = no_extremes(case.lists.nlist, fusion.weights.shape[1])
    numbers = numbers_of(case)
    reference.widen_extremes(found, numbers, fusion.features, alive, first_row=0, end_row=len(numbers))
    return FusedLists(case, fusion, found)


def search(kernels: ModuleType, one: FusedLists) -> tuple[Any, Any]:
    case = one.case
    found: tuple[Any, Any] = kernels.search_lists(
        case.lists,
        case.segments,
        case.queries,
        case.queries,
        case.masks,
        limits=case.limits,
        metric="dot",
        k=case.k,
        end_row=len(case.segments[0]),
        fusion=one.fusion,
        extremes=one.extremes,
        feature=one.feature,
    )
    return found


@given(one=fused_lists())
@modest
def test_a_fused_search_of_lists_equals_the_reference(one: FusedLists) -> None:
    expected = search(reference, one)
    probes.assert_same(search(cpu, one), expected)
    with all_threads():
        probes.assert_same(search(cpu, one), expected)


@given(case=probes.cases(), seed=st.integers(0, 2**32), density=st.sampled_from([0.0, 0.3, 1.0]))
@modest
def test_the_extremes_of_lists_equal_the_reference(case: probes.Case, seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    n_rows, numbers = len(case.segments[0]), numbers_of(case)
    features = in_segments(rng.integers(-9, 10, (n_rows, 3)).astype(np.float32))
    alive = pack(rng.random(n_rows) < density)
    first = int(rng.integers(0, len(numbers) + 1))
    found, expected = no_extremes(case.lists.nlist, 3), no_extremes(case.lists.nlist, 3)
    cpu.widen_extremes(found, numbers, features, alive, first_row=first, end_row=len(numbers))
    reference.widen_extremes(expected, numbers, features, alive, first_row=first, end_row=len(numbers))
    for mine, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, right)


@given(one=fused_lists())
@modest
def test_no_row_of_a_list_gets_more_from_its_features_than_the_bound(one: FusedLists) -> None:
    rows = np.arange(one.case.lists.end_row)
    whole = no_extremes(one.case.lists.nlist, one.fusion.weights.shape[1])
    numbers, everything = numbers_of(one.case), pack(np.ones(len(rows), np.bool_))
    reference.widen_extremes(whole, numbers, one.fusion.features, everything, first_row=0, end_row=len(rows))
    bounds = whole.bounds(one.fusion.weights)
    for own, of_lists in zip(one.fusion.weights, bounds, strict=True):
        assert (weighted_features(rows, own, one.fusion.features) <= of_lists[numbers]).all()


@st.composite
def listed_features(draw: st.DrawFn) -> FusedLists:
    """One feature, beside the codes; weights that are the same for all queries, or are not."""
    case = draw(probes.cases())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_rows, n_queries = len(case.segments[0]), len(case.queries)
    features = in_segments(rng.integers(-4, 5, (n_rows, 1)).astype(np.float32))
    weights = rng.integers(-2, 3, (n_queries, 1)).astype(np.float32)
    scales = rng.choice([1, 2], n_queries).astype(np.float32)
    if draw(st.booleans()):
        weights[:], scales[:] = weights[0], scales[0]
    found, numbers = no_extremes(case.lists.nlist, 1), numbers_of(case)
    everything = pack(np.ones(n_rows, np.bool_))
    reference.widen_extremes(found, numbers, features, everything, first_row=0, end_row=len(numbers))
    feature = ListFeature(case.lists)
    cpu.fill_list_feature(feature, case.lists, features, FeatureStamps(n_rows, [0]))
    return FusedLists(case, Fusion(scales, weights, features, [None] * n_queries), found, feature)


@given(one=listed_features())
@modest
def test_a_search_of_lists_with_a_feature_beside_the_codes_equals_the_reference(one: FusedLists) -> None:
    expected = search(reference, one)
    probes.assert_same(search(cpu, one), expected)
    with all_threads():
        probes.assert_same(search(cpu, one), expected)


@given(one=listed_features())
@modest
def test_what_lies_beside_the_codes_changes_no_answer_where_nothing_ends_early(one: FusedLists) -> None:
    n = len(one.case.queries)
    open_end = probes.fixed_limits(n, k=one.case.k, nprobe=one.case.lists.nlist, depth=5000)
    case = dataclasses.replace(one.case, limits=open_end)
    beside = search(cpu, dataclasses.replace(one, case=case))
    looked_up = search(cpu, dataclasses.replace(one, case=case, feature=None))
    assert_same(beside[0], looked_up[0])


@given(seed=st.integers(0, 2**32), n_steps=st.integers(1, 6))
@modest
def test_a_list_feature_follows_rows_that_come_and_features_that_change(seed: int, n_steps: int) -> None:
    rng = np.random.default_rng(seed)
    nlist = int(rng.choice([1, 3, 40]))
    lists = probes.drawn_lists(rng, n_parts=2, width=1, nlist=nlist, metric="dot")
    segments = [np.zeros((SEGMENT_ROWS, 1), np.float32)]
    stamps, feature, n_rows = FeatureStamps(0, [0]), ListFeature(lists), 0
    for _ in range(n_steps):
        m = int(rng.integers(0, 200))
        segments[0][n_rows : n_rows + m, 0] = rng.standard_normal(m)
        for rows in np.array_split(rng.permutation(m) + n_rows, 2):
            codes = np.zeros((len(rows), 1), np.uint8)
            lists.append(rng.integers(0, nlist, len(rows)), codes, rows, np.zeros(len(rows), np.float32))
        n_rows += m
        stamps.n_rows = n_rows
        for _ in range(int(rng.choice([0, 1, 5, 5000], p=[0.4, 0.3, 0.2, 0.1])) if n_rows else 0):
            first = int(rng.integers(0, n_rows))
            end = min(n_rows, first + int(rng.integers(1, 9)))
            segments[0][first:end, 0] = rng.standard_normal(end - first)
            stamps.note_change(first, end)
        cpu.fill_list_feature(feature, lists, segments, stamps)
        for number in range(nlist):
            rows = lists.listed(number)[1]
            np.testing.assert_array_equal(feature.of_rows(rows), segments[0][rows, 0])
    assert feature.n_rows == n_rows


def test_changes_that_are_not_remembered_have_everything_written_again() -> None:
    stamps = FeatureStamps(10, [0])
    for _ in range(5000):
        stamps.note_change(3, 4)
    assert stamps.changes_since(0) is None
    assert stamps.changes_since(4998) == [(3, 4), (3, 4)]
    assert stamps.changes_since(5000) == []
