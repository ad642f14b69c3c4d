"""Our CUDA sources without a GPU: compiled for the cards we support, and run by threads against the reference."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import _cuda_compile, _cuda_exact, _cuda_filters, _cuda_lists, reference, reference_filters
from kernels._cuda_compile import CompileFailed, compiled
from kernels._cuda_device import Device
from kernels._cuda_exact import by_keys, by_tiles
from kernels._cuda_rows import DeviceRows, padded
from kernels._cuda_scan import Scan
from kernels.arrays import Int64Array, Metric, Selection, Uint8Array
from kernels.cuda import NoDevice, open_device
from kernels.filters import AtLeast, Inverse
from tests.kernels.cases import pack, stored
from tests.kernels.host_device import COMPILER, SOURCES, HostDevice, compiled_folder, mutated
from tests.kernels.test_filters import TREES, built, leaf
from tests.kernels.test_filters import World as Columns

ARCHITECTURES = ("sm_80", "sm_90")
BUILDS = {
    "exact.cu": [
        ("KIND=0", "IS_L2=0", "LANES=16", "CHUNKS=1", "QUERIES=8", "FEATURE_ROUNDS=0"),
        ("KIND=1", "IS_L2=1", "LANES=16", "CHUNKS=3", "QUERIES=2", "FEATURE_ROUNDS=3"),
        ("KIND=2", "IS_L2=0", "LANES=32", "CHUNKS=7", "QUERIES=1", "FEATURE_ROUNDS=0"),
        ("KIND=0", "IS_L2=0", "LANES=16", "CHUNKS=1", "QUERIES=8", "FEATURE_ROUNDS=1"),
    ],
    "filters.cu": [_cuda_filters.DEFINES],
    "lists.cu": [_cuda_lists.defines_for(is_fused=False), _cuda_lists.defines_for(is_fused=True)],
    "select.cu": [()],
    "tensor.cu": [("KIND=0", "STEPS=4", "SLABS=1"), ("KIND=1", "STEPS=4", "SLABS=3")],
}

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")


@pytest.fixture(scope="module")
def host() -> HostDevice:
    return HostDevice(compiled_folder())


def on_device(device: Device, vectors: np.ndarray) -> DeviceRows:
    rows = DeviceRows(device, dtype=vectors.dtype, dimension=vectors.shape[1], most_rows=len(vectors))
    for first in range(0, len(vectors), 100):
        rows.append(vectors[first : first + 100])
    return rows


def hits(device: Device, keys: Any) -> Selection:
    rows, scores = _cuda_exact.hits_of_keys(device, keys, keys.shape)
    return device.get(rows), device.get(scores)


class World:
    """Small integers, on which scores are exact and ties are real."""

    def __init__(self, device: Device, dtype: str, *, n: int = 300, d: int = 20, n_queries: int = 3) -> None:
        rng = np.random.default_rng(n + d)
        self.device, self.n = device, n
        self.vectors = stored(rng.integers(-3, 4, (n, d)).astype(np.float32), dtype)
        self.queries = rng.integers(-3, 4, (n_queries, d)).astype(np.float32)
        self.masks = [pack(rng.random(n) < share) for share in (0.6, 0.02, 0.0)[:n_queries]]
        self.rows = on_device(device, self.vectors)
        self._kept: list[Any] = []

    def scan(self, *, metric: Metric, k: int, first_row: int = 0, end_row: int | None = None) -> None:
        end_row = self.n if end_row is None else end_row
        masks = self._addresses(self.masks)
        keywords = {"metric": metric, "k": k, "first_row": first_row, "end_row": end_row}
        expected = reference.masked_scan([self.vectors], self.queries, self.masks, **keywords)
        asked = self.device.put(padded(self.queries, self.rows.width))
        scan = Scan(self.device, self.rows, asked, masks, len(self.queries), first_row, end_row, metric)
        for way in (by_tiles, by_keys):
            same(hits(self.device, way(scan, k)), expected)
        keys = _cuda_exact.masked_scan(self.device, self.rows, self.queries, masks, **keywords)
        same(hits(self.device, keys), expected)

    def gather(self, listed: Sequence[Int64Array], *, metric: Metric, k: int, end_row: int) -> None:
        keywords = {"metric": metric, "k": k, "end_row": end_row}
        keys = _cuda_exact.gather(self.device, self.rows, self.queries, listed, **keywords)
        same(hits(self.device, keys), reference.gather([self.vectors], self.queries, listed, **keywords))

    def scan_from_the_first_that_passes(self) -> None:
        first = int(np.flatnonzero(np.unpackbits(self.masks[0], bitorder="little"))[0])
        self.scan(metric="l2", k=100, first_row=first, end_row=self.n - 1)

    def scan_short_of_the_best(self) -> None:
        """Of two tiles the second has the best row, beyond the end."""
        self.masks = [pack(np.ones(self.n, np.bool_))] * 3
        self.vectors[self.n - 1] = self.queries[0]
        self.rows = on_device(self.device, self.vectors)
        self.scan(metric="l2", k=1, end_row=self.n - 1)

    def filter(self) -> None:
        """Every kind of leaf, each way that they combine."""
        columns = Columns(200, 7)
        leaves = [leaf(columns, kind, 2, (3, 6), [50, -60]) for kind in range(7)]
        pairs = [AtLeast(2, (AtLeast(1, leaves[:2]), AtLeast(1, leaves[2:4])))]
        tests = [*leaves, *pairs, Inverse(leaves[1]), AtLeast(3, leaves), AtLeast(2, leaves[:3]), AtLeast(7, leaves)]
        found = _cuda_filters.filter_rows(self.device, tests, n_rows=200)
        for one, expected in zip(found, reference_filters.filter_rows(tests, n_rows=200), strict=True):
            np.testing.assert_array_equal(self.device.get(one).view(np.uint8), expected)

    def largest(self) -> None:
        keys = np.random.default_rng(7).permutation(np.arange(1, 1500, dtype=np.uint64) << np.uint64(21))
        starts = np.array([0, len(keys)], np.uint64)
        for k in (7, 300):
            found = _cuda_exact.select_best(self.device, self.device.put(keys), starts, k=k)
            np.testing.assert_array_equal(self.device.get(found)[0], np.sort(keys)[::-1][:k])

    def gather_beyond_the_end(self) -> None:
        listed = [np.arange(100, 132), np.arange(131), np.empty(0, np.int64)]
        self.gather(listed, metric="dot", k=40, end_row=130)

    def _addresses(self, masks: Sequence[Uint8Array]) -> np.ndarray:
        self._kept = [self.device.put(np.pad(mask, (0, -len(mask) % 4 + 4))) for mask in masks]
        return self.device.put(np.array([self.device.address(mask) for mask in self._kept], np.uint64))


def same(found: Selection, expected: Selection) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_scan_by_tiles_equals_the_reference(host: HostDevice, dtype: str, metric: Metric) -> None:
    World(host, dtype).scan(metric=metric, k=10, first_row=37, end_row=291)


@needs_compiler
@pytest.mark.parametrize(("n", "k", "first_row", "end_row"), [(300, 1, 128, 256), (40, 64, 0, 40), (300, 300, 31, 33)])
def test_borders_of_tiles_and_words_and_a_k_beyond_the_rows(
    host: HostDevice, n: int, k: int, first_row: int, end_row: int
) -> None:
    World(host, "float16", n=n).scan(metric="dot", k=k, first_row=first_row, end_row=end_row)


@needs_compiler
def test_where_every_row_passes_no_mask_is_needed(host: HostDevice) -> None:
    world = World(host, "float16", n=130, n_queries=1)
    keywords = {"metric": "dot", "k": 5, "first_row": 0, "end_row": 130}
    keys = _cuda_exact.masked_scan(host, world.rows, world.queries, host.put(np.zeros(1, np.uint64)), **keywords)
    every = pack(np.ones(130, np.bool_))
    same(hits(host, keys), reference.masked_scan([world.vectors], world.queries, [every], **keywords))


@needs_compiler
def test_rows_that_the_device_has_are_appended_as_those_of_the_host(host: HostDevice) -> None:
    world = World(host, "float16", n=150, d=8)
    given = host.put(world.vectors)
    world.rows = DeviceRows(host, dtype=world.vectors.dtype, dimension=8, most_rows=150)
    for first, n_rows in ((0, 100), (100, 0), (100, 50)):
        world.rows.append_on_device(host.address(given[first:]), n_rows)
    world.scan(metric="dot", k=10)


@needs_compiler
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_gather_equals_the_reference(host: HostDevice, metric: Metric) -> None:
    world = World(host, "bfloat16", n=200)
    listed = [np.array([5, -1, 199, 7, 120, 150]), np.empty(0, np.int64), np.arange(100)[::-1].copy()]
    world.gather(listed, metric=metric, k=4, end_row=150)


@needs_compiler
def test_scores_that_are_no_numbers_rank_last_and_zeros_tie_whatever_their_sign(host: HostDevice) -> None:
    vectors = np.array([[np.nan], [-0.0], [np.inf], [0.0], [-np.inf]], np.float32)
    rows, query = on_device(host, vectors), np.ones((1, 1), np.float32)
    keywords = {"metric": "dot", "k": 5, "end_row": 5}
    keys = _cuda_exact.gather(host, rows, query, [np.arange(5)], **keywords)
    same(hits(host, keys), reference.gather([vectors], query, [np.arange(5)], **keywords))


@needs_compiler
@pytest.mark.parametrize("k", [1, 7, 40, 3000])
def test_the_largest_keys_come_first_and_nothing_comes_last(host: HostDevice, k: int) -> None:
    rng = np.random.default_rng(k)
    keys = rng.permutation(np.arange(5000, dtype=np.uint64) << np.uint64(20))[:4000]
    keys[rng.random(4000) < 0.3] = 0
    starts = np.array([0, 0, 5, 1000, 4000], np.uint64)
    found = _cuda_exact.select_best(host, host.put(keys), starts, k=k)
    for b in range(4):
        own = -np.sort(-keys[int(starts[b]) : int(starts[b + 1])].astype(np.int64))[:k]
        assert found[b].tolist() == [*own.tolist(), *[0] * (k - len(own))]


@needs_compiler
@pytest.mark.parametrize("starts", [[0, 17000], [0, 9000, 9005, 9005, 26000]])
def test_the_many_keys_of_few_queries_are_selected_in_pieces(host: HostDevice, starts: list[int]) -> None:
    rng = np.random.default_rng(9)
    keys = rng.permutation(np.arange(1, starts[-1] + 1, dtype=np.uint64) << np.uint64(20))
    found = _cuda_exact.select_best(host, host.put(keys), np.array(starts, np.uint64), k=7)
    for one, first, end in zip(found, starts[:-1], starts[1:], strict=True):
        own = np.sort(keys[first:end])[::-1][:7]
        assert one.tolist() == [*own.tolist(), *[0] * (7 - len(own))]


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(0, 99), st.lists(TREES, min_size=1, max_size=3))
def test_filter_programs_equal_the_reference(host: HostDevice, n_rows: int, seed: int, drawn: list[object]) -> None:
    columns = Columns(n_rows, seed)
    tests = [built(columns, one) for one in drawn]
    found = _cuda_filters.filter_rows(host, tests, n_rows=n_rows)
    for one, expected in zip(found, reference_filters.filter_rows(tests, n_rows=n_rows), strict=True):
        np.testing.assert_array_equal(one.view(np.uint8), expected)


def by_nvcc(source: str, defines: Sequence[str], architecture: str) -> str | None:
    """What the compiler has to say against a source, None if nothing."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed; NVRTC compiles the same sources")
    options = [f"-arch={architecture}", *(f"-D{one}" for one in defines)]
    command = [nvcc, *options, "-cubin", "-Werror=all-warnings", str(SOURCES / source), "-o", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr


def by_nvrtc(source: str, defines: Sequence[str], architecture: str) -> str | None:
    """As ``by_nvcc``, by the library that needs neither a toolkit nor a driver."""
    try:
        compiled(source, defines, architecture=architecture)
    except CompileFailed as error:
        return str(error)
    return None


MUTATIONS = [
    ("radix.cuh", "upto - own < still &&", "upto - own > still &&", "largest"),
    ("radix.cuh", "counts[digit] < left", "counts[digit] > left", "largest"),
    ("radix.cuh", "key >> shift == digits", "key >> shift != digits", "largest"),
    ("common.cuh", "? ~bits : bits", "? bits : bits", "scan_from_the_first_that_passes"),
    ("common.cuh", "static_cast<unsigned>(~row)", "row", "scan_from_the_first_that_passes"),
    ("exact.cu", "key > best[q] ? key", "key < best[q] ? key", "scan_from_the_first_that_passes"),
    ("stored.cuh", "word_row + 32 > end_row", "word_row + 32 < end_row", "scan_short_of_the_best"),
    ("scored.cuh", "values[i] - asked", "values[i] + asked", "scan_from_the_first_that_passes"),
    ("exact.cu", "row >= given.first_row", "row > given.first_row", "scan_from_the_first_that_passes"),
    ("exact.cu", "at < end ? given.rows[at]", "at > end ? given.rows[at]", "gather_beyond_the_end"),
    ("select.cu", "key >= least", "key > least", "scan_from_the_first_that_passes"),
    ("select.cu", "? mine > theirs", "? mine < theirs", "scan_from_the_first_that_passes"),
    ("select.cu", "key == NOTHING ? -1", "key != NOTHING ? -1", "scan_from_the_first_that_passes"),
    (
        "filters.cu",
        "static_cast<unsigned long long>(low) <= span",
        "static_cast<unsigned long long>(low) < span",
        "filter",
    ),
    ("filters.cu", "value >= __longlong", "value > __longlong", "filter"),
    ("filters.cu", "return square <= at", "return square < at", "filter"),
    ("filters.cu", "&& bit_at(table, offset)", "&& !bit_at(table, offset)", "filter"),
    ("filters.cu", "found != first && found != value", "found != first && found == value", "filter"),
    ("filters.cu", "carry = was", "carry = !was", "filter"),
    ("filters.cu", "(digits - 1 - digit)", "(digits - digit)", "filter"),
    ("filters.cu", "found != (op[2] != 0)", "found == (op[2] != 0)", "filter"),
    ("filters.cu", "operation == AND ? one && other", "operation == AND ? one || other", "filter"),
]


@needs_compiler
@pytest.mark.parametrize(("source", "old", "new", "seen_by"), MUTATIONS)
def test_a_flipped_operator_is_noticed(tmp_path: Path, source: str, old: str, new: str, seen_by: str) -> None:
    world = World(mutated(tmp_path, source, old, new), "float16", n=140)
    with pytest.raises(AssertionError):
        getattr(world, seen_by)()


@pytest.mark.parametrize("fault_by", [by_nvcc, by_nvrtc])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("source", "defines"), [(name, build) for name, builds in BUILDS.items() for build in builds])
def test_every_source_compiles_for_the_cards_we_support(
    source: str, defines: Sequence[str], architecture: str, fault_by: Callable[[str, Sequence[str], str], str | None]
) -> None:
    assert fault_by(source, defines, architecture) is None


def test_every_source_is_compiled_here() -> None:
    assert {path.name for path in SOURCES.glob("*.cu")} == BUILDS.keys()


def test_what_was_compiled_is_kept_and_told_from_other_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled("select.cu", (), architecture="sm_90", folder=tmp_path / "new")
    assert first.startswith(b"\x7fELF")
    assert compiled("select.cu", (), architecture="sm_80", folder=tmp_path / "new") != first
    monkeypatch.setattr(_cuda_compile, "_compile", lambda *_: pytest.fail("compiled again"))
    assert compiled("select.cu", (), architecture="sm_90", folder=tmp_path / "new") == first


def test_a_source_that_does_not_compile_is_told_with_what_the_compiler_says() -> None:
    with pytest.raises(CompileFailed, match=r"exact\.cu for sm_90: .*KIND"):
        compiled("exact.cu", (), architecture="sm_90")


def test_where_there_is_no_gpu_or_no_library_for_it_the_reason_is_told() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("there is a GPU")
    with pytest.raises(NoDevice, match=r"install ebr-engine\[gpu\]|no CUDA device|driver"):
        open_device()
