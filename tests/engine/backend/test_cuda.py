"""The CUDA backend on a device of threads: searches equal those of the CPU; what it does where memory is short."""

from __future__ import annotations

import ctypes
import gc
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernels.cuda
from engine.backend import cuda_slices, open_backend
from engine.backend.cpu import CpuBackend
from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.cuda import CudaBackend
from engine.backend.cuda_ivfpq import CudaIvfPq
from engine.backend.faiss_build import train_ivfpq
from engine.backend.protocol import SEGMENT_ROWS, TopK, Vectors
from engine.dtypes import to_stored
from engine.errors import ConfigError, DeviceOutOfMemory
from engine.types import Metric, VectorDtype
from kernels.cuda import NoDevice
from kernels.packed_lists import fixed_limits
from tests.kernels.cases import pack
from tests.kernels.host_device import COMPILER, HostDevice, compiled_folder

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")

N, D = 500, 16
GIB = 1 << 30


@pytest.fixture(scope="module")
def folder() -> Path:
    return compiled_folder()


@pytest.fixture(scope="module")
def cpu() -> CpuBackend:
    return CpuBackend(1)


@pytest.fixture(scope="module")
def cuda(folder: Path, cpu: CpuBackend) -> CudaBackend:
    return CudaBackend(HostDevice(folder, many_threads=64), cpu, memory_bytes=GIB)


def integers(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, (n, D)).astype(np.float32)


def rows_of(n: int, *, dtype: VectorDtype = "float16", metric: Metric = "dot", room: int = SEGMENT_ROWS) -> Vectors:
    """The first n of 500 rows in a segment that has room for more."""
    segment = np.zeros((room, D), to_stored(integers(1, 0), dtype).dtype)
    segment[:N] = to_stored(integers(N, 1), dtype)
    return Vectors([segment], n, D, dtype, metric)


def masks(n_queries: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [pack(rng.random(N) < share) for share in (1.0, 0.3, 0.02)[:n_queries]]


def same(one: TopK, other: TopK) -> None:
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_exact_searches_equal_those_of_the_cpu(
    cuda: CudaBackend, cpu: CpuBackend, dtype: VectorDtype, metric: Metric
) -> None:
    vectors, queries = rows_of(N, dtype=dtype, metric=metric), integers(3, 3)
    for k, first in ((1, 0), (10, 133), (N + 9, 0)):
        found = cuda.masked_scan(vectors, queries, masks(3), k=k, first_row=first)
        same(found, cpu.masked_scan(vectors, queries, masks(3), k=k, first_row=first))
    listed = [np.array([3, 77, 400]), np.arange(N), np.empty(0, np.int64)]
    same(cuda.gather(vectors, queries, listed, k=5), cpu.gather(vectors, queries, listed, k=5))


def test_rows_that_are_appended_are_found_and_copied_once(cuda: CudaBackend, cpu: CpuBackend) -> None:
    whole, queries = rows_of(N), integers(3, 3)
    for n in (0, 1, 130, 131, N):
        vectors = Vectors(whole.segments, n, D, "float16", "dot")
        found = cuda.masked_scan(vectors, queries, masks(3), k=7)
        same(found, cpu.masked_scan(vectors, queries, masks(3), k=7))
    rows = cuda.rows(whole)
    assert rows is not None
    assert rows.n_rows == N
    assert cuda.rows(whole) is rows


def test_rows_of_several_segments_lie_where_the_store_has_them(cuda: CudaBackend, cpu: CpuBackend) -> None:
    first, second = rows_of(N).segments[0], rows_of(N).segments[0]
    vectors = Vectors([first, second], SEGMENT_ROWS + 40, D, "float16", "dot")
    listed = [np.array([5, SEGMENT_ROWS - 1, SEGMENT_ROWS, SEGMENT_ROWS + 39])]
    same(cuda.gather(vectors, integers(1, 3), listed, k=4), cpu.gather(vectors, integers(1, 3), listed, k=4))


def test_memory_is_given_back_with_the_version(cuda: CudaBackend) -> None:
    gc.collect()
    before, vectors = cuda.used_bytes, rows_of(N)
    cuda.rows(vectors)
    assert cuda.used_bytes == before + SEGMENT_ROWS * D * 2
    del vectors
    gc.collect()
    assert cuda.used_bytes == before


def test_what_does_not_fit_is_searched_on_the_cpu_which_is_told_once(
    folder: Path, cpu: CpuBackend, caplog: pytest.LogCaptureFixture
) -> None:
    small = CudaBackend(HostDevice(folder, many_threads=64), cpu, memory_bytes=SEGMENT_ROWS * 32 * 2)
    fits, too_large, queries = rows_of(N), rows_of(N, dtype="float32"), integers(1, 3)
    with caplog.at_level(logging.WARNING, logger="engine.backend.cuda"):
        assert small.rows(fits) is not None
        for _ in range(2):
            same(
                small.masked_scan(too_large, queries, masks(1), k=3),
                cpu.masked_scan(too_large, queries, masks(1), k=3),
            )
    assert caplog.text.count("they do not fit, searched on the CPU") == 1
    assert small.rows(too_large) is None
    del fits
    gc.collect()
    assert small.rows(too_large) is not None


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_search_of_lists_equals_that_of_the_cpu_and_goes_on_as_rows_are_folded_in(
    cuda: CudaBackend, cpu: CpuBackend, tmp_path: Path, metric: Metric
) -> None:
    vectors, queries = rows_of(N, metric=metric), integers(3, 3)
    built = train_ivfpq(integers(N, 1), nlist=8, code_bytes=4, metric=metric, seed=1)
    built.add(integers(N, 1)[:300])
    built.save(tmp_path / "lists.faiss")
    ours, theirs = (one.load_ivfpq(tmp_path / "lists.faiss") for one in (cuda, cpu))
    for n in (300, N):
        for lists in (ours, theirs):
            lists.add(integers(N, 1)[lists.n_rows : n])
        limits = fixed_limits(3, k=10, nprobe=8, depth=n)
        filters = [None, *masks(3)[1:]]
        found = ours.search_rescored(vectors, queries, limits=limits, masks=filters, k=10)
        expected = theirs.search_rescored(vectors, queries, limits=limits, masks=filters, k=10)
        same(found.top, expected.top)
        np.testing.assert_array_equal(found.rows_scanned, expected.rows_scanned)
        np.testing.assert_array_equal(found.rescored, expected.rescored)
        candidates = ours.search(queries, limits=limits, masks=filters)
        wanted = theirs.search(queries, limits=limits, masks=filters)
        np.testing.assert_allclose(candidates.scores, wanted.scores, atol=1e-3)
    assert (ours.n_rows, ours.nlist, ours.code_bytes) == (N, 8, 4)
    assert ours.device_bytes > 0


class Faulty(HostDevice):
    """Forgets to start what is asked for, or has no memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, many_threads=64)
        self.allocations_left, self.forgets = 1000, False

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        self.allocations_left -= 1
        if self.allocations_left < 0:
            raise MemoryError("out of memory allocating 5 bytes")
        return super().empty(shape, dtype)

    def launch(
        self,
        kernel: str,
        arguments: ctypes.Structure,
        *,
        source: str,
        defines: Sequence[str] = (),
        grid: tuple[int, int],
        threads: int,
    ) -> None:
        if not self.forgets:
            super().launch(kernel, arguments, source=source, defines=defines, grid=grid, threads=threads)


def test_a_device_that_answers_wrongly_is_found_out_at_the_start(folder: Path, cpu: CpuBackend) -> None:
    device = Faulty(folder)
    CudaBackend(device, cpu, memory_bytes=GIB)
    device.allocations_left = 2
    with pytest.raises(ConfigError, match="device cuda: out of memory"):
        CudaBackend(device, cpu, memory_bytes=GIB)
    device.allocations_left, device.forgets = 1000, True
    with pytest.raises(ConfigError, match=r"a scan by tiles, .*does not answer as the definition"):
        CudaBackend(device, cpu, memory_bytes=GIB)


def test_memory_that_runs_out_is_told_as_such(folder: Path, cpu: CpuBackend) -> None:
    device = Faulty(folder)
    backend, vectors = CudaBackend(device, cpu, memory_bytes=GIB), rows_of(N)
    for allocations in range(3):
        device.allocations_left = allocations
        with pytest.raises(DeviceOutOfMemory, match="out of memory"):
            backend.masked_scan(vectors, integers(1, 3), masks(1), k=3)
    device.allocations_left = 1000
    found = backend.masked_scan(vectors, integers(1, 3), masks(1), k=3)
    same(found, cpu.masked_scan(vectors, integers(1, 3), masks(1), k=3))


def test_rows_folded_in_while_there_was_no_memory_are_copied_before_the_next_search(
    folder: Path, cpu: CpuBackend, tmp_path: Path
) -> None:
    device = Faulty(folder)
    backend, vectors, queries = CudaBackend(device, cpu, memory_bytes=GIB), rows_of(N), integers(2, 3)
    built = train_ivfpq(integers(N, 1), nlist=8, code_bytes=4, metric="dot", seed=1)
    built.add(integers(N, 1)[:300])
    built.save(tmp_path / "lists.faiss")
    ours, theirs = (one.load_ivfpq(tmp_path / "lists.faiss") for one in (backend, cpu))
    theirs.add(integers(N, 1)[300:])
    device.allocations_left = 2
    with pytest.raises(DeviceOutOfMemory):
        ours.add(integers(N, 1)[300:])
    device.allocations_left = 1000
    how = {"limits": fixed_limits(2, k=10, nprobe=8, depth=N), "masks": [None, None], "k": 10}
    same(
        ours.search_rescored(vectors, queries, **how).top,
        theirs.search_rescored(vectors, queries, **how).top,
    )


def lists_file(folder: Path) -> Path:
    built = train_ivfpq(integers(N, 1), nlist=8, code_bytes=4, metric="dot", seed=1)
    built.add(integers(N, 1))
    built.save(folder / "lists.faiss")
    return folder / "lists.faiss"


def test_lists_for_which_there_is_no_memory_after_all_are_searched_on_the_cpu(
    folder: Path, cpu: CpuBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, device = lists_file(tmp_path), Faulty(folder)
    short = CudaBackend(device, cpu, memory_bytes=GIB)
    device.allocations_left = 2
    with caplog.at_level(logging.WARNING, logger="engine.backend.cuda"):
        assert isinstance(short.load_ivfpq(path), CpuIvfPq)
    assert caplog.text.count("are searched on the CPU: the device has no memory left") == 1
    device.allocations_left = 1000
    before, lists = short.used_bytes, short.load_ivfpq(path)
    assert isinstance(lists, CudaIvfPq)
    assert short.used_bytes == before + lists.device_bytes


ROW_BYTES = SEGMENT_ROWS * D * 2


@pytest.mark.parametrize(
    ("memory_bytes", "rows_fit", "lists_fit", "told"),
    [
        (GIB, True, True, ""),
        (ROW_BYTES + 1000, False, True, "lists alone fit, the CPU rescores"),
        (1000, False, False, "they do not fit, searched on the CPU"),
    ],
)
def test_what_is_on_the_device_changes_no_answer_and_is_told_once(
    folder: Path,
    cpu: CpuBackend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    memory_bytes: int,
    rows_fit: bool,
    lists_fit: bool,
    told: str,
) -> None:
    path, vectors, queries = lists_file(tmp_path), rows_of(N), integers(3, 3)
    backend = CudaBackend(HostDevice(folder, many_threads=64), cpu, memory_bytes=memory_bytes)
    # Rows come first and have the memory that lists need.
    found = backend.masked_scan(vectors, queries, masks(3), k=9)
    same(found, cpu.masked_scan(vectors, queries, masks(3), k=9))
    ours, theirs = (one.load_ivfpq(path) for one in (backend, cpu))
    assert isinstance(ours, CudaIvfPq)
    how = {"limits": fixed_limits(3, k=10, nprobe=8, depth=N), "masks": [None, *masks(3)[1:]], "k": 10}
    with caplog.at_level(logging.WARNING, logger="engine.backend.cuda"):
        for _ in range(2):
            found_in_lists, expected = (one.search_rescored(vectors, queries, **how) for one in (ours, theirs))
            same(found_in_lists.top, expected.top)
            np.testing.assert_array_equal(found_in_lists.rows_scanned, expected.rows_scanned)
            np.testing.assert_array_equal(found_in_lists.rescored, expected.rescored)
            scanned = backend.masked_scan(vectors, queries, masks(3), k=9)
            same(scanned, cpu.masked_scan(vectors, queries, masks(3), k=9))
    assert len(caplog.records) == bool(told)
    assert told in caplog.text
    assert (ours.device_bytes > 0) == lists_fit
    assert backend.used_bytes == ours.device_bytes + (ROW_BYTES if rows_fit else 0)


def test_lists_that_find_no_room_as_they_are_searched_are_not_tried_again(
    folder: Path, cpu: CpuBackend, tmp_path: Path
) -> None:
    path, vectors, queries, device = lists_file(tmp_path), rows_of(N), integers(1, 3), Faulty(folder)
    backend = CudaBackend(device, cpu, memory_bytes=ROW_BYTES + 1000)
    backend.masked_scan(vectors, queries, masks(1), k=9)
    ours, theirs = (one.load_ivfpq(path) for one in (backend, cpu))
    how = {"limits": fixed_limits(1, k=10, nprobe=8, depth=N), "masks": [None], "k": 10}
    device.allocations_left = 2
    with pytest.raises(DeviceOutOfMemory):
        ours.search_rescored(vectors, queries, **how)
    same(ours.search_rescored(vectors, queries, **how).top, theirs.search_rescored(vectors, queries, **how).top)


def test_more_memory_than_the_device_has_free_is_a_configuration_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = HostDevice(folder, many_threads=64)
    device.free_bytes = 1000  # type: ignore[attr-defined]
    monkeypatch.setattr(kernels.cuda, "open_device", lambda _: device)
    with pytest.raises(ConfigError, match="device_memory_bytes: 1001 is more than the 1000 bytes"):
        open_backend("cuda", threads=1, device_memory_bytes=1001)


def test_queries_that_would_take_too_much_memory_together_are_searched_in_slices(
    cuda: CudaBackend, cpu: CpuBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries, filters = rows_of(N), integers(3, 3), masks(3)
    built = train_ivfpq(integers(N, 1), nlist=8, code_bytes=4, metric="dot", seed=1)
    built.add(integers(N, 1))
    built.save(tmp_path / "lists.faiss")
    ours, theirs = (one.load_ivfpq(tmp_path / "lists.faiss") for one in (cuda, cpu))
    monkeypatch.setattr(cuda_slices, "_WORKING_BYTES", 1)
    same(cuda.masked_scan(vectors, queries, filters, k=9), cpu.masked_scan(vectors, queries, filters, k=9))
    listed = [np.arange(n) for n in (400, 3, 0)]
    same(cuda.gather(vectors, queries, listed, k=9), cpu.gather(vectors, queries, listed, k=9))
    how = {"limits": fixed_limits(3, k=10, nprobe=8, depth=N), "masks": filters, "k": 10}
    found, expected = (one.search_rescored(vectors, queries, **how) for one in (ours, theirs))
    same(found.top, expected.top)
    np.testing.assert_array_equal(found.rows_scanned, expected.rows_scanned)


def test_a_gpu_that_is_asked_for_and_not_there_is_a_configuration_error_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(folder: Path | None) -> None:
        raise NoDevice("there is no CUDA device")

    monkeypatch.setattr(kernels.cuda, "open_device", nothing)
    with pytest.raises(ConfigError, match="there is no CUDA device; device = cpu or auto"):
        open_backend("cuda", threads=1)


def test_a_gpu_that_is_there_is_opened_with_its_share_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = HostDevice(folder, many_threads=64)
    device.free_bytes = 1000 * SEGMENT_ROWS  # type: ignore[attr-defined]
    monkeypatch.setattr(kernels.cuda, "open_device", lambda _: device)
    backend = open_backend("cuda", threads=1)
    assert isinstance(backend, CudaBackend)
    assert backend.device == "cuda"
    assert backend.rows(rows_of(N)) is not None
    small = open_backend("cuda", threads=1, device_memory_bytes=SEGMENT_ROWS * 30 * 2)
    assert isinstance(small, CudaBackend)
    assert small.rows(rows_of(N, dtype="float32")) is None


def test_a_search_waits_for_the_device_once(folder: Path, cpu: CpuBackend, tmp_path: Path) -> None:
    vectors, queries, device = rows_of(N), integers(3, 3), HostDevice(folder, many_threads=64)
    backend = CudaBackend(device, cpu, memory_bytes=GIB)
    lists = backend.load_ivfpq(lists_file(tmp_path))
    limits = fixed_limits(3, k=10, nprobe=8, depth=N)
    backend.warm_up(vectors)
    for search in (
        lambda: backend.masked_scan(vectors, queries, masks(3), k=9),
        lambda: backend.gather(vectors, queries, [np.arange(9)] * 3, k=3),
        lambda: lists.search(queries, limits=limits, masks=masks(3)),
        lambda: lists.search_rescored(vectors, queries, limits=limits, masks=masks(3), k=9),
    ):
        before = device.waits
        search()
        assert device.waits == before + 1
