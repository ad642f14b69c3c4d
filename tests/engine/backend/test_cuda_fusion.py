"""Fused searches of the CUDA backend on a device of threads equal those of the CPU; where features lie and how long."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backend import cuda_slices
from engine.backend.cpu import CpuBackend
from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.cuda import CudaBackend
from engine.backend.cuda_ivfpq import CudaIvfPq
from engine.backend.protocol import SEGMENT_ROWS
from engine.errors import DeviceLost
from engine.types import Metric
from kernels import reference
from kernels.fusion import FeatureStamps, Fusion, no_extremes
from kernels.packed_lists import fixed_limits
from tests.engine.backend.test_cuda import GIB, ROW_BYTES, D, Faulty, N, integers, lists_file, masks, rows_of, same
from tests.kernels.cases import pack
from tests.kernels.host_device import COMPILER, Dying, HostDevice, compiled_folder

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")

F = 3
FEATURE_BYTES = SEGMENT_ROWS * F * 4


@pytest.fixture(scope="module")
def folder() -> Path:
    return compiled_folder()


@pytest.fixture(scope="module")
def cpu() -> CpuBackend:
    return CpuBackend(1)


class Table:
    """Features of 500 rows in a segment that has room for more, as the engine's tables have them."""

    def __init__(self, seed: int = 5, *, n_rows: int = N) -> None:
        self.rng = np.random.default_rng(seed)
        self.segments = [np.zeros((SEGMENT_ROWS, F), np.float32)]
        self.stamps = FeatureStamps(0, [0])
        self.fill(n_rows)

    def fill(self, n_rows: int) -> None:
        first = self.stamps.n_rows
        self.segments[0][first:n_rows] = self.rng.integers(-4, 5, (n_rows - first, F))
        self.stamps.n_rows = n_rows

    def change(self) -> None:
        self.segments[0][:N] += self.rng.integers(-1, 2, (N, F))
        self.stamps.changes[0] += 1

    def fusion(self, n_queries: int, *, extras: bool = True) -> Fusion:
        rng = np.random.default_rng(6)
        own = [rng.integers(-9, 10, N).astype(np.float32) if extras and b % 2 else None for b in range(n_queries)]
        weights = rng.integers(-2, 3, (n_queries, F)).astype(np.float32)
        return Fusion(rng.choice((1, 2), n_queries).astype(np.float32), weights, self.segments, own, self.stamps)


class OnDevice(CudaBackend):
    """Backed by a CPU that does no fused searches: every answer is the device's."""

    def __init__(self, folder: Path, cpu: CpuBackend, *, memory_bytes: int = GIB) -> None:
        super().__init__(HostDevice(folder, many_threads=64), _NotFused(cpu), memory_bytes=memory_bytes)


class _NotFused(CpuBackend):
    def __init__(self, cpu: CpuBackend) -> None:
        super().__init__(cpu.threads)

    def masked_scan(self, *given: Any, fusion: Fusion | None = None, **how: Any) -> Any:
        assert fusion is None
        return super().masked_scan(*given, **how)

    def gather(self, *given: Any, fusion: Fusion | None = None, **how: Any) -> Any:
        assert fusion is None
        return super().gather(*given, **how)


@pytest.fixture(scope="module")
def cuda(folder: Path, cpu: CpuBackend) -> CudaBackend:
    return OnDevice(folder, cpu)


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_fused_scans_and_gathers_are_the_devices_and_equal_those_of_the_cpu(
    cuda: CudaBackend, cpu: CpuBackend, metric: Metric
) -> None:
    vectors, queries, fusion = rows_of(N, metric=metric), integers(3, 3), Table().fusion(3)
    for k, first in ((1, 0), (10, 133), (N + 9, 0)):
        how: dict[str, Any] = {"k": k, "first_row": first, "fusion": fusion}
        same(cuda.masked_scan(vectors, queries, masks(3), **how), cpu.masked_scan(vectors, queries, masks(3), **how))
    listed = [np.array([3, 77, 400]), np.arange(N), np.empty(0, np.int64)]
    found, expected = (one.gather(vectors, queries, listed, k=5, fusion=fusion) for one in (cuda, cpu))
    same(found, expected)


def test_features_follow_their_table_as_it_grows_and_changes(cuda: CudaBackend, cpu: CpuBackend) -> None:
    whole, queries, table = rows_of(N), integers(1, 3), Table(n_rows=10)
    for step in (10, 130, N, N):
        if step == table.stamps.n_rows:
            table.change()
        table.fill(step)
        vectors = type(whole)(whole.segments, step, D, "float16", "dot")
        how: dict[str, Any] = {"k": 7, "fusion": table.fusion(1)}
        same(cuda.masked_scan(vectors, queries, masks(1), **how), cpu.masked_scan(vectors, queries, masks(1), **how))


def test_a_fusion_without_features_needs_no_table(cuda: CudaBackend, cpu: CpuBackend) -> None:
    vectors, queries = rows_of(N), integers(1, 3)
    extra = np.random.default_rng(1).integers(-9, 10, N).astype(np.float32)
    fusion = Fusion(np.ones(1, np.float32), np.zeros((1, 0), np.float32), (), [extra])
    before = cuda.used_bytes
    found, expected = (one.masked_scan(vectors, queries, masks(1), k=9, fusion=fusion) for one in (cuda, cpu))
    same(found, expected)
    assert cuda.used_bytes == before + ROW_BYTES


def lists_of(one: CudaBackend | CpuBackend, path: Path) -> CudaIvfPq | CpuIvfPq:
    return one.load_ivfpq(path)


def searches(lists: CudaIvfPq | CpuIvfPq, table: Table) -> dict[str, Any]:
    """What a fused search of 500 rows in lists is asked."""
    extremes = no_extremes(lists.nlist, F)
    everything = pack(np.ones(N, np.bool_))
    reference.widen_extremes(extremes, lists.numbers, table.segments, everything, first_row=0, end_row=N)
    limits = fixed_limits(3, k=10, nprobe=8, depth=N)
    fusion = table.fusion(3, extras=False)
    return {"limits": limits, "masks": [None, *masks(3)[1:]], "k": 10, "fusion": fusion, "extremes": extremes}


@pytest.mark.parametrize(
    ("memory_bytes", "row_bytes", "features_fit"),
    [
        (GIB, ROW_BYTES, True),
        (3_700_000, ROW_BYTES, False),
        (2_500_000, 0, True),
        (1_600_000, 0, False),
        (1000, 0, False),
    ],
)
def test_fused_searches_of_lists_equal_those_of_the_cpu_wherever_rows_and_features_lie(
    folder: Path, cpu: CpuBackend, tmp_path: Path, memory_bytes: int, row_bytes: int, features_fit: bool
) -> None:
    path, vectors, queries, table = lists_file(tmp_path), rows_of(N), integers(3, 3), Table()
    backend = CudaBackend(HostDevice(folder, many_threads=64), cpu, memory_bytes=memory_bytes)
    ours, theirs = lists_of(backend, path), lists_of(cpu, path)
    for _ in range(2):
        how = searches(theirs, table)
        found, expected = (one.search_rescored(vectors, queries, **how) for one in (ours, theirs))
        same(found.top, expected.top)
        np.testing.assert_array_equal(found.rows_scanned, expected.rows_scanned)
        np.testing.assert_array_equal(found.rescored, expected.rescored)
        table.change()
    assert isinstance(ours, CudaIvfPq)
    assert backend.used_bytes == ours.device_bytes + row_bytes + (FEATURE_BYTES if features_fit else 0)


def test_features_are_counted_and_go_with_their_table(cuda: CudaBackend) -> None:
    vectors, table = rows_of(N), Table()
    gc.collect()
    before = cuda.used_bytes
    cuda.masked_scan(vectors, integers(1, 3), masks(1), k=3, fusion=table.fusion(1))
    assert cuda.used_bytes == before + ROW_BYTES + FEATURE_BYTES
    del table
    gc.collect()
    assert cuda.used_bytes == before + ROW_BYTES


def test_features_give_way_to_rows_and_to_those_used_later(folder: Path, cpu: CpuBackend) -> None:
    backend = CudaBackend(HostDevice(folder, many_threads=64), cpu, memory_bytes=2 * ROW_BYTES + FEATURE_BYTES)
    vectors, other, queries = rows_of(N), rows_of(N), integers(1, 3)
    tables = [Table(seed) for seed in range(4)]

    def search(table: Table) -> None:
        how: dict[str, Any] = {"k": 3, "fusion": table.fusion(1)}
        same(backend.masked_scan(vectors, queries, masks(1), **how), cpu.masked_scan(vectors, queries, masks(1), **how))

    fitting = (ROW_BYTES + FEATURE_BYTES) // FEATURE_BYTES
    for table in tables:
        search(table)
    assert backend.used_bytes == ROW_BYTES + min(fitting, 4) * FEATURE_BYTES
    assert backend.rows(other) is not None
    assert backend.used_bytes == 2 * ROW_BYTES + FEATURE_BYTES
    search(tables[3])
    assert backend.used_bytes == 2 * ROW_BYTES + FEATURE_BYTES


@pytest.mark.parametrize("has_stamps", [True, False])
def test_features_of_too_few_rows_or_without_stamps_are_left_to_the_cpu(
    folder: Path, cpu: CpuBackend, has_stamps: bool
) -> None:
    backend, vectors, queries, table = OnDevice(folder, cpu), rows_of(N), integers(1, 3), Table()
    table.stamps.n_rows -= 1
    fusion = table.fusion(1) if has_stamps else table.fusion(1)._replace(stamps=None)
    with pytest.raises(AssertionError):
        backend.masked_scan(vectors, queries, masks(1), k=3, fusion=fusion)


def test_fused_queries_that_would_take_too_much_memory_together_are_searched_in_slices(
    cuda: CudaBackend, cpu: CpuBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, vectors, queries, table = lists_file(tmp_path), rows_of(N), integers(3, 3), Table()
    ours, theirs = lists_of(cuda, path), lists_of(cpu, path)
    monkeypatch.setattr(cuda_slices, "_WORKING_BYTES", 1)
    how: dict[str, Any] = {"k": 9, "fusion": table.fusion(3)}
    same(cuda.masked_scan(vectors, queries, masks(3), **how), cpu.masked_scan(vectors, queries, masks(3), **how))
    listed = [np.arange(n) for n in (400, 3, 0)]
    same(cuda.gather(vectors, queries, listed, **how), cpu.gather(vectors, queries, listed, **how))
    found, expected = (one.search_rescored(vectors, queries, **searches(theirs, table)) for one in (ours, theirs))
    same(found.top, expected.top)


def test_features_for_which_there_is_no_memory_after_all_are_left_to_the_cpu(folder: Path, cpu: CpuBackend) -> None:
    device = Faulty(folder)
    backend, vectors, queries, table = CudaBackend(device, cpu, memory_bytes=GIB), rows_of(N), integers(1, 3), Table()
    backend.rows(vectors)
    device.allocations_left = 0
    how: dict[str, Any] = {"k": 3, "fusion": table.fusion(1)}
    same(backend.masked_scan(vectors, queries, masks(1), **how), cpu.masked_scan(vectors, queries, masks(1), **how))
    assert backend.used_bytes == ROW_BYTES


def test_a_device_that_fails_in_a_fused_search_gives_way_to_the_cpu(folder: Path, cpu: CpuBackend) -> None:
    device = Dying(folder, many_threads=64)
    backend, vectors, queries, table = CudaBackend(device, cpu, memory_bytes=GIB), rows_of(N), integers(1, 3), Table()
    how: dict[str, Any] = {"k": 3, "fusion": table.fusion(1)}
    backend.masked_scan(vectors, queries, masks(1), **how)
    device.launches_left = 0
    with pytest.raises(DeviceLost):
        backend.masked_scan(vectors, queries, masks(1), **how)
    same(backend.masked_scan(vectors, queries, masks(1), **how), cpu.masked_scan(vectors, queries, masks(1), **how))
    assert backend.used_bytes == 0
