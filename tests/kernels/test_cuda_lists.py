"""Scans of inverted lists on a device of threads against their definition, and the device's copy of growing lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from kernels import _cuda_exact, _cuda_lists, reference
from kernels._cuda_device import Device
from kernels._cuda_lists import DeviceLists
from kernels._cuda_rows import DeviceRows
from kernels.arrays import Metric
from kernels.packed_lists import fixed_limits
from tests.kernels.cases import pack
from tests.kernels.host_device import COMPILER, HostDevice, compiled_folder, mutated
from tests.kernels.test_cpu_probes import Case, cases, drawn_lists

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")

few = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def host() -> HostDevice:
    """Of two warps a block: what many share, more of them do not share otherwise."""
    return HostDevice(compiled_folder(), many_threads=64)


def addresses(host: Device, case: Case) -> tuple[object, list[object]]:
    n_bytes = -(-case.lists.end_row // 32) * 4 + 4
    masks = [None if one is None else host.put(np.pad(one, (0, max(0, n_bytes - len(one))))) for one in case.masks]
    return host.put(np.array([0 if one is None else host.address(one) for one in masks], np.uint64)), masks


def same(host: Device, case: Case) -> None:
    expected, probed = reference.scan_lists_in_waves(case.lists, case.queries, case.masks, limits=case.limits)
    on_device = DeviceLists(host, case.lists)
    masks, kept = addresses(host, case)
    keys, done = _cuda_lists.scan_lists(host, on_device, case.queries, masks, limits=case.limits)
    depth = expected[0].shape[1]
    starts = _cuda_exact.even_starts(len(case.queries), depth)
    best = _cuda_exact.select_best(host, keys, starts, k=depth)
    rows, scores = _cuda_exact.hits_of_keys(host, best, best.shape)
    np.testing.assert_array_equal(host.get(rows), expected[0])
    np.testing.assert_array_equal(host.get(scores), expected[1])
    for found, wanted in zip(_cuda_lists.probed(host.get(done)), probed, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert len(kept) == len(case.masks)


def same_hits(host: Device, case: Case) -> None:
    vectors, end_row = case.segments[0], len(case.segments[0]) - 1
    rows = DeviceRows(host, dtype=vectors.dtype, dimension=vectors.shape[1], most_rows=len(vectors))
    rows.append(vectors)
    masks, kept = addresses(host, case)
    on_device = DeviceLists(host, case.lists)
    how = {"limits": case.limits, "metric": "dot", "k": case.k, "end_row": end_row}
    keys, _ = _cuda_lists.search_lists(host, on_device, rows, case.queries, case.queries, masks, **how)
    found = _cuda_exact.hits_of_keys(host, keys, keys.shape)
    (candidates, _), _ = reference.scan_lists_in_waves(case.lists, case.queries, case.masks, limits=case.limits)
    expected = reference.rescore(case.segments, case.queries, candidates, metric="dot", k=case.k, end_row=end_row)
    np.testing.assert_array_equal(host.get(found[0]), expected[0])
    np.testing.assert_array_equal(host.get(found[1]), expected[1])
    assert len(kept) == len(case.masks)


@few
@given(cases())
def test_a_scan_of_lists_in_waves_equals_the_definition(host: HostDevice, case: Case) -> None:
    same(host, case)


@few
@given(cases())
def test_with_fixed_limits_waves_make_no_difference(case: Case) -> None:
    limits = fixed_limits(len(case.queries), k=5, nprobe=4, depth=20)
    waves, probed = reference.scan_lists_in_waves(case.lists, case.queries, case.masks, limits=limits)
    alone, told = reference.scan_lists(case.lists, case.queries, case.masks, limits=limits)
    np.testing.assert_array_equal(waves[0], alone[0])
    np.testing.assert_array_equal(probed.rows, told.rows)


@few
@given(cases())
def test_hits_of_lists_are_rescored_exactly(host: HostDevice, case: Case) -> None:
    same_hits(host, case)


def test_lists_that_grow_are_copied_as_they_are(host: HostDevice) -> None:
    rng = np.random.default_rng(3)
    lists = drawn_lists(rng, n_parts=4, width=2, nlist=7, metric="l2")
    on_device, first = DeviceLists(host, lists), 0
    for n in (5, 0, 40, 300, 1, 33):
        codes = rng.integers(0, 256, (n, 2)).astype(np.uint8)
        lists.append(rng.integers(0, 6, n), codes, np.arange(first, first + n), np.zeros(n, np.float32))
        first += n
        on_device.sync()
        masks: list[None] = [None, None]
        case = Case(
            lists, [], np.ones((2, 8), np.float32), masks, fixed_limits(2, k=3, nprobe=7, depth=max(first, 1)), 3
        )
        expected, _ = reference.scan_lists_in_waves(lists, case.queries, masks, limits=case.limits)
        none = host.put(np.zeros(2, np.uint64))
        keys, _ = _cuda_lists.scan_lists(host, on_device, case.queries, none, limits=case.limits)
        best = _cuda_exact.select_best(host, keys, _cuda_exact.even_starts(2, max(first, 1)), k=max(first, 1))
        np.testing.assert_array_equal(_cuda_exact.hits_of_keys(host, best, best.shape)[0], expected[0])


def test_a_query_that_is_no_number_finds_nothing_and_disturbs_no_other(host: HostDevice) -> None:
    rng = np.random.default_rng(4)
    lists = drawn_lists(rng, n_parts=4, width=2, nlist=5, metric="dot")
    lists.append(
        np.arange(50) % 5, rng.integers(0, 256, (50, 2)).astype(np.uint8), np.arange(50), np.zeros(50, np.float32)
    )
    queries = np.ones((3, 8), np.float32)
    queries[1, 3], queries[2] = np.inf, 3e38
    case = Case(
        lists, [], queries, [None, pack(np.ones(50, np.bool_)), None], fixed_limits(3, k=3, nprobe=5, depth=9), 3
    )
    with np.errstate(all="ignore"):
        same(host, dataclasses.replace(case))


@few
@given(cases())
def test_a_scan_of_many_rounds_equals_the_definition(host: HostDevice, small_waves: None, case: Case) -> None:
    same(host, case)


def fixed_case(seed: int, metric: Metric, *, nlist: int, n: int, budget: int, depth: int) -> Case:
    """Five queries that end by scores, one of them under no mask; rows of a list pass together or not."""
    rng = np.random.default_rng(seed)
    lists = drawn_lists(rng, n_parts=4, width=2, nlist=nlist, metric=metric)
    numbers = rng.integers(0, nlist, n)
    codes = rng.integers(0, 256, (n, 2)).astype(np.uint8)
    lists.append(numbers, codes, np.arange(n), rng.integers(-4, 5, n).astype(np.float32))
    masks = [pack((rng.random(n) < 0.2) | (numbers % 3 == turn)) for turn in range(3)]
    limits = fixed_limits(5, k=6, nprobe=nlist, depth=depth)._replace(
        reaches=np.full(5, 0.5, np.float32),
        slopes=np.full(5, 0.25, np.float32),
        near_slopes=np.full(5, 0.5, np.float32),
        shares=np.array([0.02, 0.05, 0.1, 0.2, 1.0]),
        slacks=np.full(5, 1.0, np.float32),
        budgets=np.full(5, budget),
    )
    queries = rng.integers(-2, 3, (5, 8)).astype(np.float32)
    segments = [rng.integers(-3, 4, (n, 8)).astype(np.float16)]
    return Case(lists, segments, queries, [*masks, masks[0], None], limits, 5)


FIXED = [
    fixed_case(1, "dot", nlist=12, n=400, budget=10**9, depth=8),
    fixed_case(2, "l2", nlist=12, n=400, budget=10**9, depth=100),
    fixed_case(3, "dot", nlist=90, n=500, budget=350, depth=40),
]


def all_the_same(host: Device) -> None:
    for case in FIXED:
        same(host, case)
        same_hits(host, case)


MUTATIONS = [
    ("exact.cu", "wanted[q] ? key_of(scores[q], row)", "wanted[q] ? key_of(-scores[q], row)"),
    ("exact.cu", "key != NOTHING && row < given.end_row", "key == NOTHING && row < given.end_row"),
    ("lists.cu", "other_low < low ?", "other_low > low ?"),
    ("lists.cu", "codes | codes >> 4", "codes ^ codes >> 3"),
    ("lists.cu", "(upper & is_upper) |", "(upper & ~is_upper) |"),
    ("lists.cu", "i % 2 + i / 2 * 16", "i % 2 + i / 2 * 8"),
    ("lists.cu", "if (keys[i] >= least)", "if (keys[i] > least)"),
    ("lists.cu", "__fsub_rn(scan.kth, __fmul_rn(scales", "__fadd_rn(scan.kth, __fmul_rn(scales"),
    ("lists.cu", "score_of(order[scan.n_lists]) < least", "score_of(order[scan.n_lists]) > least"),
    ("lists.cu", "passed * (passed - 1)", "passed * (passed + 1)"),
    ("lists.cu", "times >= 2; times /= 2", "times >= 2; times /= 4"),
    ("lists.cu", "- scan.rows > limits.budget", "+ scan.rows > limits.budget"),
    ("lists.cu", "block % CHUNK_BLOCKS) * given", "block / CHUNK_BLOCKS) * given"),
]


def test_fixed_cases_equal_the_definition(host: HostDevice, small_waves: None) -> None:
    all_the_same(host)


@pytest.mark.parametrize(("source", "old", "new"), MUTATIONS)
def test_a_flipped_operator_is_noticed(tmp_path: Path, small_waves: None, source: str, old: str, new: str) -> None:
    device = mutated(tmp_path, source, old, new, many_threads=64)
    with pytest.raises(AssertionError):
        all_the_same(device)
