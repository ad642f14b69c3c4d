"""A GPU that fails while it serves: the batch it failed in is refused, and the CPU answers the next one, or nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.backend.cpu import CpuBackend
from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.cuda import CudaBackend
from engine.backend.cuda_ivfpq import CudaIvfPq
from engine.backend.faiss_build import train_ivfpq
from engine.errors import DeviceLost
from kernels.packed_lists import fixed_limits
from tests.engine.backend.test_cuda import GIB, N, integers, masks, rows_of, same
from tests.kernels.host_device import COMPILER, Dying, compiled_folder

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")


@pytest.fixture(scope="module")
def folder() -> Path:
    return compiled_folder()


@pytest.fixture(scope="module")
def cpu() -> CpuBackend:
    return CpuBackend(1)


def test_the_batch_that_fails_is_refused_and_the_cpu_answers_the_next(folder: Path, cpu: CpuBackend) -> None:
    vectors, queries = rows_of(N), integers(3, 3)
    device = Dying(folder, many_threads=64)
    for launches in range(3):
        device.launches_left = 1_000_000
        backend = CudaBackend(device, cpu, memory_bytes=GIB)
        told: list[str] = []
        backend.when_lost(told.append)
        assert (backend.device, backend.threads) == ("cuda", 1)
        device.launches_left = launches
        with pytest.raises(DeviceLost, match="illegal memory access") as lost:
            backend.masked_scan(vectors, queries, masks(3), k=7)
        assert lost.value.code == "UNAVAILABLE"
        assert backend.device == "cpu"
        found = backend.masked_scan(vectors, queries, masks(3), k=7)
        same(found, cpu.masked_scan(vectors, queries, masks(3), k=7))
        same(
            backend.gather(vectors, queries[:1], [np.arange(9)], k=3),
            cpu.gather(vectors, queries[:1], [np.arange(9)], k=3),
        )
        assert told == ["CUDA: an illegal memory access was encountered"]
        assert backend.used_bytes == 0


def test_lists_go_on_on_the_cpu_and_grow_there(folder: Path, cpu: CpuBackend, tmp_path: Path) -> None:
    vectors, queries = rows_of(N), integers(3, 3)
    built = train_ivfpq(integers(N, 1), nlist=8, code_bytes=4, metric="dot", seed=1)
    built.add(integers(N, 1)[:300])
    built.save(tmp_path / "lists.faiss")
    device = Dying(folder, many_threads=64)
    backend = CudaBackend(device, cpu, memory_bytes=GIB)
    ours, theirs = (one.load_ivfpq(tmp_path / "lists.faiss") for one in (backend, cpu))
    assert isinstance(ours, CudaIvfPq)
    limits = fixed_limits(3, k=10, nprobe=8, depth=N)
    device.launches_left = 2
    with pytest.raises(DeviceLost):
        ours.search_rescored(vectors, queries, limits=limits, masks=masks(3), k=10)
    for lists in (ours, theirs):
        lists.add(integers(N, 1)[300:])
    assert ours.n_rows == N
    found, expected = (
        one.search_rescored(vectors, queries, limits=limits, masks=masks(3), k=10) for one in (ours, theirs)
    )
    same(found.top, expected.top)
    found_codes, expected_codes = (one.search(queries, limits=limits, masks=masks(3)) for one in (ours, theirs))
    np.testing.assert_array_equal(found_codes.rows, expected_codes.rows)
    assert isinstance(backend.load_ivfpq(tmp_path / "lists.faiss"), CpuIvfPq)


def test_a_device_that_fails_as_rows_are_folded_in_loses_none_of_them(
    folder: Path, cpu: CpuBackend, tmp_path: Path
) -> None:
    built = train_ivfpq(integers(N, 1), nlist=8, code_bytes=4, metric="dot", seed=1)
    built.save(tmp_path / "lists.faiss")
    device = Dying(folder, many_threads=64)
    backend = CudaBackend(device, cpu, memory_bytes=GIB)
    lists = backend.load_ivfpq(tmp_path / "lists.faiss")
    device.launches_left = 0
    with pytest.raises(DeviceLost):
        lists.add(integers(N, 1)[:300])
    lists.add(integers(N, 1)[300:])
    limits = fixed_limits(1, k=1, nprobe=8, depth=N)
    found = lists.search_rescored(rows_of(N), integers(N, 1)[7:8], limits=limits, masks=[None], k=N)
    assert np.sort(found.top.rows[0]).tolist() == list(range(N))


def test_where_the_cpu_is_not_to_go_on_every_search_is_refused(folder: Path, cpu: CpuBackend, tmp_path: Path) -> None:
    vectors, queries = rows_of(N), integers(1, 3)
    device = Dying(folder, many_threads=64)
    backend = CudaBackend(device, cpu, memory_bytes=GIB, device_lost="fail")
    built = train_ivfpq(integers(N, 1), nlist=8, code_bytes=4, metric="dot", seed=1)
    built.save(tmp_path / "lists.faiss")
    lists = backend.load_ivfpq(tmp_path / "lists.faiss")
    device.launches_left = 0
    for _ in range(2):
        with pytest.raises(DeviceLost, match="the GPU failed"):
            backend.masked_scan(vectors, queries, masks(1), k=3)
    with pytest.raises(DeviceLost):
        backend.unit_queries(queries, metric="cosine")
    with pytest.raises(DeviceLost):
        backend.gather(vectors, queries, [np.arange(3)], k=3)
    lists.add(integers(N, 1))  # what is folded in is searched after a restart
    with pytest.raises(DeviceLost):
        lists.search_rescored(vectors, queries, limits=fixed_limits(1, k=1, nprobe=8, depth=N), masks=[None], k=1)
    assert (backend.device, lists.n_rows) == ("cuda", N)
