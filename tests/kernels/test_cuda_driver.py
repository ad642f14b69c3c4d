"""What ``CudaDevice`` asks of cupy, with a cupy of host memory whose copies run as late as they may."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kernels import _cuda_driver
from kernels._cuda_device import DeviceFailed
from kernels._cuda_driver import CudaDevice


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class CUDADriverError(CUDARuntimeError):
    pass


class Stream:
    """Copies are done when it is waited for, and no sooner."""

    ptr = 7

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking
        self.started: deque[Callable[[], object]] = deque()
        self.waits = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        self.waits += 1
        self.run()

    def run(self) -> None:
        while self.started:
            self.started.popleft()()


class Event:
    def __init__(self, *, disable_timing: bool) -> None:
        assert disable_timing

    def record(self, stream: Stream) -> None:
        self._stream = stream

    def synchronize(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.run()


class Array:
    """Memory of the device: NumPy's, under cupy's names."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.own = np.zeros(shape, dtype)
        self.shape, self.dtype, self.nbytes, self.flags = shape, dtype, self.own.nbytes, self.own.flags
        self.data = SimpleNamespace(
            ptr=self.own.ctypes.data, copy_from_host_async=self._from, copy_to_host_async=self._to
        )

    def set(self, values: np.ndarray, stream: Stream) -> None:
        stream.run()
        self.own[...] = values

    def get(self, stream: Stream) -> np.ndarray:
        stream.synchronize()
        return self.own.copy()

    def _from(self, source: int, n_bytes: int, stream: Stream) -> None:
        stream.started.append(lambda: ctypes.memmove(self.own.ctypes.data, source, n_bytes))

    def _to(self, target: int, n_bytes: int, stream: Stream) -> None:
        stream.started.append(lambda: ctypes.memmove(target, self.own.ctypes.data, n_bytes))


class Cupy:
    """``error`` is what the next allocation raises."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.cuda = SimpleNamespace(
            Device=lambda ordinal: SimpleNamespace(use=lambda: None, compute_capability="90", mem_info=(5, 9)),
            Stream=Stream,
            Event=Event,
            alloc_pinned_memory=bytearray,
            runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        )

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        if self.error is not None:
            raise self.error
        return Array(shape, dtype)


@pytest.fixture
def cupy() -> Cupy:
    return Cupy()


@pytest.fixture
def device(cupy: Cupy, monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    monkeypatch.setattr(_cuda_driver, "_libraries", lambda: (cupy, None))
    return CudaDevice()


def numbers(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 30, n).astype(np.uint32)


def test_what_is_put_comes_back_however_much_is_put_before_the_device_is_waited_for(device: CudaDevice) -> None:
    slot = _cuda_driver._SLOT_BYTES // 4
    sizes = [1, slot, slot - 1, 5, slot + 1, 0, *([slot // 3] * 20)]
    taken = []
    for seed, size in enumerate(sizes):
        given = numbers(size, seed)
        taken.append(device.put(given))
        given[:] = 0  # the caller's array may change as soon as it is put
    for seed, (size, one) in enumerate(zip(sizes, taken, strict=True)):
        np.testing.assert_array_equal(device.get(one), numbers(size, seed))


def test_several_arrays_come_back_with_one_wait(device: CudaDevice) -> None:
    arrays = [device.put(numbers(n, n)) for n in (3, 0, 70)]
    shaped = device.put(numbers(12, 1).reshape(3, 4))
    before = device._stream.waits
    found = device.get_all([*arrays, shaped])
    assert device._stream.waits == before + 1
    for one, n in zip(found, (3, 0, 70), strict=False):
        np.testing.assert_array_equal(one, numbers(n, n))
    np.testing.assert_array_equal(found[3], numbers(12, 1).reshape(3, 4))
    again = device.get_all([shaped])[0]
    np.testing.assert_array_equal(found[0], numbers(3, 3))  # not overwritten by what came later
    assert again.base is None


def test_arrays_that_are_too_large_together_come_back_too(device: CudaDevice) -> None:
    large = [device.put(numbers(_cuda_driver._LANDING_BYTES // 8 + 1, seed)) for seed in range(3)]
    for seed, one in enumerate(device.get_all(large)):
        np.testing.assert_array_equal(one, numbers(len(one), seed))


@pytest.mark.parametrize("error", [CUDARuntimeError(700), CUDADriverError(719)])
def test_what_cupy_raises_is_a_device_that_failed(device: CudaDevice, cupy: Cupy, error: Exception) -> None:
    cupy.error = error
    with pytest.raises(DeviceFailed, match="CUDA: status 7"):
        device.put(numbers(3, 1))


@pytest.mark.parametrize("error", [CUDARuntimeError(2), MemoryError("out of memory")])
def test_a_lack_of_memory_is_none(device: CudaDevice, cupy: Cupy, error: Exception) -> None:
    cupy.error = error
    with pytest.raises(MemoryError):
        device.put(numbers(3, 1))
