"""The same searches on a GPU, for `make test-gpu`: every kernel equals the reference there too, on small integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.backend.cpu import CpuBackend
from engine.backend.cuda import CudaBackend
from engine.backend.cuda_check import check
from engine.backend.faiss_build import train_ivfpq
from engine.backend.protocol import SEGMENT_ROWS, Vectors
from engine.dtypes import to_stored
from kernels._cuda_driver import CudaDevice
from kernels.cuda import open_device
from kernels.packed_lists import fixed_limits
from tests.kernels import test_cuda_fusion as fused
from tests.kernels import test_cuda_tensor as tensors
from tests.kernels.cases import pack
from tests.kernels.test_cuda_lists import all_the_same
from tests.kernels.test_cuda_sources import World

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu() -> CudaDevice:
    """A GPU that is not there is an error here, and no reason to skip."""
    return open_device()


def test_a_search_of_every_kind_answers_as_the_definition_does(gpu: CudaDevice) -> None:
    check(gpu)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_exact_scans_gathers_and_selections_equal_the_reference(gpu: CudaDevice, dtype: str) -> None:
    for n, d in ((140, 20), (300, 3), (1000, 384), (300, 1024)):
        world = World(gpu, dtype, n=n, d=d)
        world.scan(metric="dot", k=10, first_row=37)
        world.scan_from_the_first_that_passes()
        world.gather([np.arange(0, n, 3), np.empty(0, np.int64), np.arange(n)], metric="l2", k=9, end_row=n - 1)
        world.largest()
    World(gpu, dtype, n=140).scan_short_of_the_best()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scans_on_tensor_cores_equal_the_reference_and_keep_their_bounds(gpu: CudaDevice, dtype: str) -> None:
    for n, d, n_queries in ((300, 3, 17), (1000, 128, 70), (700, 200, 530), (700, 1024, 64)):
        tensors.of_integers(
            gpu, dtype, n=n, d=d, n_queries=n_queries, first_row=37, end_row=n - 9
        ).equals_the_reference(2)
        tensors.of_floats(gpu, dtype, n=n, d=d, n_queries=n_queries, first_row=37, end_row=n - 9).bounds_hold()
    tensors.of_floats(gpu, dtype, n=5000, d=64).equals_a_scan_by_keys(10)
    tensors.of_floats(gpu, dtype).slacks_are_as_stated(dtype)
    tensors.in_favour_of_the_second_tile(gpu).equals_the_reference(1)


def test_tensor_cores_sum_the_smallest_numbers_of_float16(gpu: CudaDevice) -> None:
    tensors.of_subnormals(gpu).bounds_hold()
    tensors.of_subnormals(gpu).equals_the_reference(2)


def test_filter_programs_equal_the_reference(gpu: CudaDevice) -> None:
    World(gpu, "float16").filter()


def test_scans_of_lists_equal_the_definition(gpu: CudaDevice) -> None:
    all_the_same(gpu)


def test_fused_searches_equal_the_definition(gpu: CudaDevice) -> None:
    for dtype, f in (("float16", 5), ("bfloat16", 40), ("float32", 0)):
        world = fused.World(gpu, dtype=dtype, n=1000, n_queries=17, f=f)
        world.scan(k=3, first_row=37, end_row=991)
        world.scan(metric="l2", k=40)
        fused.World(gpu, dtype=dtype, n=1000, f=f).gather()
    fused.all_lists(gpu)


def test_what_is_put_comes_back_with_one_wait_however_much_is_put_at_once(gpu: CudaDevice) -> None:
    rng = np.random.default_rng(1)
    sizes = [1, 0, 1 << 20, (4 << 20) + 1, *rng.integers(1, 1 << 20, 60).tolist()]
    given = [rng.integers(0, 256, size).astype(np.uint8) for size in sizes]
    taken = [gpu.put(one) for one in given]
    for first in range(0, len(given), 8):
        found = gpu.get_all(taken[first : first + 8])
        for one, other in zip(found, given[first : first + 8], strict=True):
            np.testing.assert_array_equal(one, other)


def test_lists_whose_rows_do_not_fit_answer_as_those_whose_rows_do(gpu: CudaDevice, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    n, d = 5000, 32
    values = rng.integers(-4, 5, (n, d)).astype(np.float32)
    segment = np.zeros((SEGMENT_ROWS, d), np.float16)
    segment[:n] = values
    vectors, cpu = Vectors([segment], n, d, "float16", "dot"), CpuBackend(1)
    built = train_ivfpq(values, nlist=32, code_bytes=8, metric="dot", seed=1)
    built.add(values)
    built.save(tmp_path / "lists.faiss")
    how = {"limits": fixed_limits(9, k=10, nprobe=32, depth=200), "masks": [None] * 9, "k": 10}
    expected = cpu.load_ivfpq(tmp_path / "lists.faiss").search_rescored(vectors, values[:9], **how)
    for memory_bytes in (1 << 30, SEGMENT_ROWS * d * 2 + 1000, 1000):
        backend = CudaBackend(gpu, cpu, memory_bytes=memory_bytes)
        found = backend.load_ivfpq(tmp_path / "lists.faiss").search_rescored(vectors, values[:9], **how)
        np.testing.assert_array_equal(found.top.rows, expected.top.rows)
        np.testing.assert_array_equal(found.top.scores, expected.top.scores)


def test_searches_of_many_rows_equal_those_of_the_cpu(gpu: CudaDevice) -> None:
    rng = np.random.default_rng(1)
    n, d = 3 * SEGMENT_ROWS + 77, 64
    segments = [to_stored(rng.integers(-4, 5, (SEGMENT_ROWS, d)).astype(np.float32), "float16") for _ in range(4)]
    vectors, cpu = Vectors(segments, n, d, "float16", "dot"), CpuBackend(1)
    cuda = CudaBackend(gpu, cpu, memory_bytes=1 << 32)
    queries = rng.integers(-4, 5, (70, d)).astype(np.float32)
    masks = [pack(rng.random(n) < share) for share in rng.choice([1.0, 0.5, 0.01, 0.0001], 70)]
    for k in (1, 10, 1000):
        found, expected = (one.masked_scan(vectors, queries, masks, k=k) for one in (cuda, cpu))
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_array_equal(found.scores, expected.scores)
