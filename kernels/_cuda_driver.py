"""A GPU as ``_cuda_device.Device``: memory and streams by cupy, launches by the driver. The only home of both."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kernels._cuda_compile import compiled
from kernels._cuda_device import DeviceFailed
from kernels._cuda_staging import Bytes, StagingRing, laid_out

_NO_MEMORY = 2
"""Both APIs' code for it: cudaErrorMemoryAllocation, CUDA_ERROR_OUT_OF_MEMORY."""


_SLOTS, _SLOT_BYTES = 4, 4 << 20
"""Of pinned memory to copy from: what is larger than a slot, rows and lists above all, is copied as it lies."""

_LANDING_BYTES = 16 << 20
"""Of pinned memory to copy to: the hits of 1,024 queries and a thousand each."""


class NoDevice(RuntimeError):
    """The message says what is missing, in one line."""


class CudaDevice:
    """One GPU and one stream of it, used by one thread at a time; ``folder`` keeps what is compiled."""

    def __init__(self, folder: Path | None = None, *, ordinal: int = 0) -> None:
        """
        Raises:
            NoDevice: there is no such GPU, no driver for it, or a library is missing.
        """
        self._cupy, self._driver = _libraries()
        try:
            self._device = self._cupy.cuda.Device(ordinal)
            self._device.use()
            self.architecture = f"sm_{self._device.compute_capability}"
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            slots = [self._pinned(_SLOT_BYTES) for _ in range(_SLOTS)]
            self._staging = StagingRing(
                slots, [_Moment(self._cupy.cuda.Event(disable_timing=True), self._stream) for _ in slots]
            )
            self._landing = self._pinned(_LANDING_BYTES)
        except self._cupy.cuda.runtime.CUDARuntimeError as error:
            raise NoDevice(f"CUDA device {ordinal}: {error}") from error
        self._folder = folder
        self._functions: dict[tuple[str, str, tuple[str, ...]], Any] = {}
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}

    @property
    def stream(self) -> int:
        """The stream's address, for a library that is to work in the same one."""
        return int(self._stream.ptr)

    @property
    def free_bytes(self) -> int:
        """Of memory that nobody has."""
        return int(self._device.mem_info[0])

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Memory of the device, not initialised."""
        with self._told(), self._stream:
            return self._cupy.empty(shape, dtype)

    def put(self, array: np.ndarray[Any, np.dtype[Any]]) -> Any:
        """A copy of host memory, C-contiguous."""
        given = np.ascontiguousarray(array)
        taken = self.empty(given.shape, given.dtype)
        if given.size:
            with self._told():
                staged = self._staging.stage(given)
                if staged is None:
                    taken.set(given, stream=self._stream)
                else:
                    taken.data.copy_from_host_async(staged.ctypes.data, given.nbytes, self._stream)
        return taken

    def write(self, array: Any, first: int, values: np.ndarray[Any, np.dtype[Any]]) -> None:
        """Copy host memory over the array from its place ``first`` on, counted along its first axis."""
        if not values.size:
            return
        with self._told():
            array[first : first + len(values)].set(np.ascontiguousarray(values), stream=self._stream)

    def copy(self, array: Any, first: int, address: int, n_bytes: int) -> None:
        """Copy the device's own memory from an address on over the array from its place ``first`` on."""
        if n_bytes:
            runtime = self._cupy.cuda.runtime
            to, kind = self.address(array[first:]), runtime.memcpyDeviceToDevice
            with self._told():
                runtime.memcpyAsync(to, address, n_bytes, kind, self._stream.ptr)

    def get(self, array: Any) -> np.ndarray[Any, np.dtype[Any]]:
        """A copy in host memory, once all that was started before has run."""
        return self.get_all([array])[0]

    def get_all(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, np.dtype[Any]]]:
        """As ``get`` of each, with one wait for all of them, unless they are too large for that together."""
        starts = laid_out([array.nbytes for array in arrays], len(self._landing))
        with self._told():
            if starts is None:
                return [array.get(stream=self._stream) for array in arrays]
            landed = [self._land(array, start) for array, start in zip(arrays, starts, strict=True)]
            self._stream.synchronize()
            return [view.copy() for view in landed]

    def _land(self, array: Any, start: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Where the copy of an array will be, once it is waited for."""
        assert array.flags.c_contiguous
        room = self._landing[start : start + array.nbytes]
        if array.nbytes:
            array.data.copy_to_host_async(room.ctypes.data, array.nbytes, self._stream)
        landing: np.ndarray[Any, np.dtype[Any]] = room.view(array.dtype).reshape(array.shape)
        return landing

    def _pinned(self, n_bytes: int) -> Bytes:
        """Host memory that stays where it is; it lives as long as the array."""
        return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(n_bytes), np.uint8, n_bytes)

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

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
        """Start a kernel of a source file, compiled with these macros; it may run on after this returns."""
        function = self._function(kernel, source, tuple(defines))
        # The driver copies the structure at once: it may go when this returns.
        given = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        shape = (*grid, 1, threads, 1, 1, 0)
        self._check(self._driver.cuLaunchKernel(function, *shape, self._stream.ptr, ctypes.addressof(given), 0))

    def _function(self, kernel: str, source: str, defines: tuple[str, ...]) -> Any:
        key = (kernel, source, defines)
        if key not in self._functions:
            module = self._module(source, defines)
            self._functions[key] = self._check(self._driver.cuModuleGetFunction(module, kernel.encode()))
        return self._functions[key]

    def _module(self, source: str, defines: tuple[str, ...]) -> Any:
        if (source, defines) not in self._modules:
            code = compiled(source, defines, architecture=self.architecture, folder=self._folder)
            self._modules[source, defines] = self._check(self._driver.cuModuleLoadData(code))
        return self._modules[source, defines]

    def _check(self, answer: tuple[Any, ...]) -> Any:
        """What the driver answered.

        Raises:
            DeviceFailed: it is an error; MemoryError where memory is what it lacks.
        """
        result, *values = answer
        if result != self._driver.CUresult.CUDA_SUCCESS:
            raise _refusal(int(result), f"the CUDA driver: {result.name}")
        return values[0] if values else None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What cupy raises, in the words of ``Device``; for want of memory it raises a MemoryError itself, mostly."""
        try:
            yield
        except (self._cupy.cuda.runtime.CUDARuntimeError, self._cupy.cuda.driver.CUDADriverError) as error:
            raise _refusal(error.status, f"CUDA: {error}") from error


class _Moment:
    """Implements ``_cuda_staging.Moment`` by an event."""

    def __init__(self, event: Any, stream: Any) -> None:
        self._event = event
        self._stream = stream

    def mark(self) -> None:
        self._event.record(self._stream)

    def wait(self) -> None:
        self._event.synchronize()


def _refusal(status: int, message: str) -> Exception:
    return MemoryError(message) if status == _NO_MEMORY else DeviceFailed(message)


def _libraries() -> tuple[Any, Any]:
    try:
        import cupy
        from cuda.bindings import driver
    except ImportError as error:
        raise NoDevice(f"{error}; install ebr-engine[gpu]") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise NoDevice(f"the CUDA driver cannot be used: {error}") from error
    if count == 0:
        raise NoDevice("there is no CUDA device")
    return cupy, driver
