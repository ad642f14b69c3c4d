"""Fused searches on a device of threads equal their definition, and the copies of features follow their originals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from kernels import _cuda_exact, reference
from kernels._cuda_device import Device
from kernels._cuda_exact import by_keys, by_tiles
from kernels._cuda_fusion import DeviceFeatures, DeviceFusion, extra_bytes, put_fusion
from kernels._cuda_lists import DeviceLists, best_candidates, probed, scan_lists, search_lists
from kernels._cuda_rows import DeviceRows, padded
from kernels._cuda_scan import Scan
from kernels._cuda_tensor import suits_tensors
from kernels.arrays import SEGMENT_ROWS, Metric, Selection
from kernels.cuda import put_masks
from kernels.fusion import FeatureStamps, Fusion, no_extremes
from tests.kernels.cases import in_segments, pack, stored
from tests.kernels.host_device import COMPILER, HostDevice, compiled_folder, mutated
from tests.kernels.test_cuda_lists import fixed_case
from tests.kernels.test_fusion import FusedLists, fused_lists, numbers_of

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")

few = settings(max_examples=12, deadline=None)


@pytest.fixture(scope="module")
def host() -> HostDevice:
    return HostDevice(compiled_folder(), many_threads=64)


def copied(device: Device, fusion: Fusion, n_rows: int) -> DeviceFusion:
    features = DeviceFeatures(device, fusion.weights.shape[1])
    features.sync(fusion.features, FeatureStamps(n_rows, [0] * len(fusion.features)))
    return put_fusion(device, fusion, features, end_row=n_rows)


def same(device: Device, keys: Any, expected: Selection) -> None:
    rows, scores = _cuda_exact.hits_of_keys(device, keys, keys.shape)
    np.testing.assert_array_equal(device.get(rows), expected[0])
    np.testing.assert_array_equal(device.get(scores), expected[1])


class World:
    """Small integers, on which scores are exact and ties are real; every second query has an extra."""

    def __init__(self, device: Device, *, dtype: str = "float16", n: int = 300, n_queries: int = 3, f: int = 5) -> None:
        rng = np.random.default_rng(n + f)
        self.device, self.n = device, n
        self.vectors = stored(rng.integers(-3, 4, (n, 20)).astype(np.float32), dtype)
        self.queries = rng.integers(-3, 4, (n_queries, 20)).astype(np.float32)
        self.masks = [pack(rng.random(n) < (0.6, 0.02, 1.0)[query % 3]) for query in range(n_queries)]
        self.rows = DeviceRows(device, dtype=self.vectors.dtype, dimension=20, most_rows=min(n, SEGMENT_ROWS))
        self.rows.append(self.vectors)
        features = rng.integers(-4, 5, (n, f)).astype(np.float32)
        extra = rng.integers(-9, 10, n).astype(np.float32)
        self.fusion = Fusion(
            scales=rng.choice((0, 1, 2, 3), n_queries).astype(np.float32),
            weights=rng.integers(-2, 3, (n_queries, f)).astype(np.float32),
            features=in_segments(features) if f else [],
            extras=[extra if query % 2 else None for query in range(n_queries)],
        )

    def scan(self, *, metric: Metric = "dot", k: int = 3, first_row: int = 0, end_row: int | None = None) -> None:
        end_row = self.n if end_row is None else end_row
        ends: dict[str, Any] = {"metric": metric, "k": k, "first_row": first_row, "end_row": end_row}
        segments = in_segments(self.vectors)
        expected = reference.masked_scan(segments, self.queries, self.masks, fusion=self.fusion, **ends)
        at, kept = put_masks(self.device, self.masks, end_row=end_row)
        fusion, asked = copied(self.device, self.fusion, self.n), self.device.put(padded(self.queries, self.rows.width))
        scan = Scan(self.device, self.rows, asked, at, len(self.queries), first_row, end_row, metric, fusion)
        for way in (by_tiles, by_keys):
            same(self.device, way(scan, k), expected)
        keys = _cuda_exact.masked_scan(self.device, self.rows, self.queries, at, fusion=fusion, **ends)
        same(self.device, keys, expected)
        assert kept

    def gather(self, *, metric: Metric = "dot", k: int = 9) -> None:
        listed = [np.array([5, -1, self.n - 1, 7, 120, 150]), np.arange(100)[::-1].copy(), np.empty(0, np.int64)]
        how: dict[str, Any] = {"metric": metric, "k": k, "end_row": self.n - 1}
        expected = reference.gather(in_segments(self.vectors), self.queries, listed, fusion=self.fusion, **how)
        fusion = copied(self.device, self.fusion, self.n)
        keys = _cuda_exact.gather(self.device, self.rows, self.queries, listed, fusion=fusion, **how)
        same(self.device, keys, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_fused_scan_equals_the_reference(host: HostDevice, dtype: str, metric: Metric) -> None:
    World(host, dtype=dtype).scan(metric=metric, k=10, first_row=37, end_row=291)


@pytest.mark.parametrize("f", [0, 1, 8, 17, 40])
def test_any_number_of_features_is_read_whole(host: HostDevice, f: int) -> None:
    world = World(host, f=f, n_queries=9)
    world.scan(k=2)
    World(host, f=f).gather()


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_fused_gather_equals_the_reference(host: HostDevice, metric: Metric) -> None:
    World(host, dtype="bfloat16").gather(metric=metric)


def test_queries_without_extras_read_none(host: HostDevice) -> None:
    world = World(host)
    world.fusion = world.fusion._replace(extras=[None] * 3)
    world.scan()
    assert copied(host, world.fusion, world.n).arguments.extras is None
    assert extra_bytes(world.fusion, world.n) == 0


def test_an_extra_that_queries_share_is_copied_once(host: HostDevice) -> None:
    world = World(host, n_queries=4)
    assert extra_bytes(world.fusion, world.n) == 4 * world.n
    assert sum(array is not None for array in copied(host, world.fusion, world.n).arrays) == 4


def test_features_of_several_segments_lie_where_rows_do(host: HostDevice) -> None:
    world = World(host, n=SEGMENT_ROWS + 140, f=2)
    world.scan(k=1, first_row=SEGMENT_ROWS - 140, end_row=world.n - 3)


def test_many_fused_queries_do_without_tensor_cores(host: HostDevice) -> None:
    world = World(host, n_queries=17)
    plain = Scan(host, world.rows, None, None, 17, 0, world.n, "dot")
    assert suits_tensors(plain)
    assert not suits_tensors(Scan(host, world.rows, None, None, 17, 0, world.n, "dot", copied(host, world.fusion, 300)))
    world.scan(k=2)


# Copies


class Counting(HostDevice):
    """``written``: rows copied over others, copy by copy."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.written: list[int] = []

    def write(self, array: Any, first: int, values: Any) -> None:
        if len(values):
            self.written.append(len(values))
        super().write(array, first, values)


def test_only_new_rows_and_changed_segments_are_copied(tmp_path: Path) -> None:
    device, stamps = Counting(tmp_path), FeatureStamps()
    segments = [np.zeros((SEGMENT_ROWS, 2), np.float32) for _ in range(2)]
    features = DeviceFeatures(device, 2)
    steps: list[tuple[int, list[int], list[int]]] = [
        (0, [], []),
        (10, [0], [10]),
        (10, [0], []),
        (SEGMENT_ROWS + 5, [0, 0], [SEGMENT_ROWS - 10, 5]),
        (SEGMENT_ROWS + 7, [1, 0], [SEGMENT_ROWS, 2]),
        (SEGMENT_ROWS + 7, [1, 1], [7]),
    ]
    for n_rows, changes, written in steps:
        stamps.n_rows, stamps.changes = n_rows, changes
        features.sync(segments[: len(changes)], stamps)
        assert device.written == written
        device.written.clear()
    assert features.memory_bytes == features.bytes_of(SEGMENT_ROWS + 7) == 2 * SEGMENT_ROWS * 2 * 4


def test_features_that_were_changed_in_place_are_those_that_are_scored(host: HostDevice) -> None:
    world, stamps = World(host), FeatureStamps(200, [0])
    features = DeviceFeatures(host, 5)
    features.sync(world.fusion.features, stamps)
    world.fusion.features[0][3:9] += 2
    stamps.n_rows, stamps.changes[0] = 300, 1
    features.sync(world.fusion.features, stamps)
    listed = [np.arange(300)] * 3
    how: dict[str, Any] = {"metric": "dot", "k": 300, "end_row": 300}
    fusion = put_fusion(host, world.fusion, features, end_row=300)
    keys = _cuda_exact.gather(host, world.rows, world.queries, listed, fusion=fusion, **how)
    same(host, keys, reference.gather([world.vectors], world.queries, listed, fusion=world.fusion, **how))


# Lists


def same_lists(device: Device, one: FusedLists) -> None:
    case, n_rows = one.case, len(one.case.segments[0])
    fusion = copied(device, one.fusion, n_rows)
    at, kept = put_masks(device, case.masks, end_row=case.lists.end_row)
    lists = DeviceLists(device, case.lists)
    how: dict[str, Any] = {"limits": case.limits, "extremes": one.extremes}
    expected, told = reference.scan_lists_in_waves(case.lists, case.queries, case.masks, fusion=one.fusion, **how)
    found, done = scan_lists(device, lists, case.queries, at, fusion=fusion, **how)
    same(device, best_candidates(device, found), expected)
    for ours, wanted in zip(probed(device.get(done)), told, strict=True):
        np.testing.assert_array_equal(ours, wanted)
    rows = DeviceRows(device, dtype=case.segments[0].dtype, dimension=case.queries.shape[1], most_rows=n_rows)
    rows.append(case.segments[0])
    ends: dict[str, Any] = {"metric": "dot", "k": case.k, "end_row": n_rows}
    keys, _ = search_lists(device, lists, rows, case.queries, case.queries, at, fusion=fusion, **how, **ends)
    hits = reference.rescore(case.segments, case.queries, expected[0], fusion=one.fusion, **ends)
    same(device, keys, hits)
    assert len(kept) <= len(case.masks)


@few
@given(one=fused_lists(shares=(1.0,)))
def test_a_fused_scan_of_lists_in_waves_equals_the_definition(host: HostDevice, one: FusedLists) -> None:
    same_lists(host, one)


@few
@given(one=fused_lists(shares=(1.0,)))
def test_a_fused_scan_of_many_rounds_equals_the_definition(
    host: HostDevice, small_waves: None, one: FusedLists
) -> None:
    same_lists(host, one)


def fixed_fused(seed: int, metric: Metric, *, nlist: int, n: int, budget: int, depth: int) -> FusedLists:
    case = fixed_case(seed, metric, nlist=nlist, n=n, budget=budget, depth=depth)
    rng, found = np.random.default_rng(seed), no_extremes(nlist, 5)
    features = rng.integers(-4, 5, (n, 5)).astype(np.float32)
    scales, weights = rng.choice((1, 2), 5).astype(np.float32), rng.integers(-2, 3, (5, 5)).astype(np.float32)
    fusion = Fusion(scales, weights, in_segments(features), [None] * 5)
    everything = pack(np.ones(n, np.bool_))
    reference.widen_extremes(found, numbers_of(case), fusion.features, everything, first_row=0, end_row=n)
    return FusedLists(case, fusion, found)


def of_few_lists(one: FusedLists) -> FusedLists:
    """Their order tells: it goes by how far a query reaches, which one does for ever."""
    reaches = np.array([np.inf, 1, 2, 4, 8], np.float32)
    limits = one.case.limits._replace(nprobes=np.full(5, 4), reaches=reaches, shares=np.ones(5))
    return dataclasses.replace(one, case=dataclasses.replace(one.case, limits=limits))


FIXED = [
    fixed_fused(1, "dot", nlist=12, n=400, budget=10**9, depth=8),
    fixed_fused(2, "l2", nlist=12, n=400, budget=10**9, depth=100),
    fixed_fused(3, "dot", nlist=90, n=500, budget=350, depth=40),
    of_few_lists(fixed_fused(4, "dot", nlist=40, n=400, budget=10**9, depth=20)),
    of_few_lists(fixed_fused(5, "l2", nlist=40, n=400, budget=10**9, depth=20)),
]


def all_lists(device: Device) -> None:
    for one in FIXED:
        same_lists(device, one)


def test_fixed_fused_lists_equal_the_definition(host: HostDevice, small_waves: None) -> None:
    all_lists(host)


def scan(device: Device) -> None:
    World(device, n=140).scan(k=1)


def gather(device: Device) -> None:
    World(device, n=200).gather()


MUTATIONS: Sequence[tuple[str, str, str, Callable[[Device], None]]] = [
    ("fused.cuh", "row % SEGMENT_ROWS", "row / SEGMENT_ROWS", gather),
    ("scored.cuh", "__fmul_rn(scales[q], scores[q])", "scores[q]", gather),
    ("scored.cuh", "features[i] * weights[q][i]", "features[i] + weights[q][i]", gather),
    ("scored.cuh", "fused.scales[first + q]", "fused.scales[q]", scan),
    ("scored.cuh", "(first + q) * fused.n_features", "(q) * fused.n_features", gather),
    ("scored.cuh", "fused.extras[first + q]", "fused.extras[q]", gather),
    ("scored.cuh", "__ldg(extra + row)", "__ldg(extra)", scan),
    ("lists.cu", "__fsub_rn(score, bound)", "__fadd_rn(score, bound)", all_lists),
    ("lists.cu", "__fsub_rn(scan.kth, limits.most_bound)", "__fadd_rn(scan.kth, limits.most_bound)", all_lists),
    ("lists.cu", "given.is_l2 ? bound :", "given.is_l2 ? mean :", all_lists),
    ("lists.cu", "static_cast<size_t>(blockIdx.x) * nlist + list", "list", all_lists),
    ("lists.cu", "apart > least ? apart : least, reach", "apart > least ? apart : least, 0.0f", all_lists),
    ("lists.cu", "__fmul_rn(reach, 0.5f)", "reach", all_lists),
    ("lists.cu", "if (!is_finite(range)) return bound;", "if (!is_finite(range)) return mean;", all_lists),
    ("lists.cu", "keys[list] > own ? keys[list]", "keys[list] < own ? keys[list]", all_lists),
]


@pytest.mark.parametrize(("source", "old", "new", "seen_by"), MUTATIONS)
def test_a_fault_in_a_kernel_is_noticed(
    tmp_path: Path, small_waves: None, source: str, old: str, new: str, seen_by: Callable[[Device], None]
) -> None:
    with pytest.raises(AssertionError):
        seen_by(mutated(tmp_path, source, old, new, many_threads=64))
