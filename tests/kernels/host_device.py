"""A device of threads: our CUDA sources compiled as C++20 against ``kernels/host_shim.h``, in host memory."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.cuda import DeviceFailed

SOURCES = Path(__file__).parents[2] / "kernels"
COMPILER = shutil.which("g++") or shutil.which("clang++")
_FEW_THREADS = 128
"""Of a block: kernels that take more do with fewer, in whole warps, and a thread here is one of the system's."""

_LEAST_ALIGNMENT = 64


def compiled_folder() -> Path:
    """Where what is compiled of the sources as they are is kept: for all tests, and later runs of them."""
    digest = hashlib.sha256()
    for path in sorted(path for kind in ("cu", "cuh", "h") for path in SOURCES.glob(f"*.{kind}")):
        digest.update(path.name.encode() + path.read_bytes())
    folder = SOURCES.parent / ".numba-cache" / f"host-{digest.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class HostDevice:
    """See the module; ``folder`` keeps what was compiled, ``sources`` may hold changed copies.

    ``many_threads``: what blocks of more than 128 threads have instead.
    """

    def __init__(self, folder: Path, sources: Path = SOURCES, *, many_threads: int = _FEW_THREADS) -> None:
        self._folder = folder
        self._many_threads = many_threads
        self._sources = sources
        self._libraries: dict[tuple[str, tuple[str, ...]], ctypes.CDLL] = {}
        self.waits = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Full of ones, so that what a kernel should have written and did not is seen."""
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        room = np.full(n_bytes + _LEAST_ALIGNMENT, 0xFF, np.uint8)
        start = -room.ctypes.data % _LEAST_ALIGNMENT
        return room[start : start + n_bytes].view(dtype).reshape(shape)

    def put(self, array: np.ndarray[Any, np.dtype[Any]]) -> Any:
        copied = self.empty(array.shape, array.dtype)
        copied[:] = array
        return copied

    def write(self, array: Any, first: int, values: np.ndarray[Any, np.dtype[Any]]) -> None:
        array[first : first + len(values)] = values

    def copy(self, array: Any, first: int, address: int, n_bytes: int) -> None:
        ctypes.memmove(self.address(array[first:]), address, n_bytes)

    def get(self, array: Any) -> np.ndarray[Any, np.dtype[Any]]:
        return self.get_all([array])[0]

    def get_all(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, np.dtype[Any]]]:
        self.waits += 1
        return [np.array(array) for array in arrays]

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

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
        start = getattr(self._library(source, tuple(defines)), f"host_{kernel}")
        threads = threads if threads <= _FEW_THREADS else self._many_threads
        start(ctypes.byref(arguments), *(ctypes.c_uint(n) for n in (*grid, threads)))

    def _library(self, source: str, defines: tuple[str, ...]) -> ctypes.CDLL:
        key = (source, defines)
        if key not in self._libraries:
            self._libraries[key] = ctypes.CDLL(str(self._compiled(source, defines)))
        return self._libraries[key]

    def _compiled(self, source: str, defines: tuple[str, ...]) -> Path:
        assert COMPILER is not None
        name = hashlib.sha256(f"{COMPILER} {self._sources} {source} {defines}".encode()).hexdigest()[:16]
        library = self._folder / f"{source}-{name}.so"
        flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
        flags += ["-Wno-unknown-pragmas", "-DEBR_HOST", *(f"-D{one}" for one in defines)]
        if library.exists():
            return library
        # Under another name first: a run that is killed leaves no half library behind.
        half = library.with_suffix(f".{os.getpid()}")
        command = [COMPILER, *flags, "-x", "c++", str(self._sources / source), "-o", str(half)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        half.replace(library)
        return library


def mutated(folder: Path, source: str, old: str, new: str, *, many_threads: int = _FEW_THREADS) -> HostDevice:
    """A device whose sources are copies with one change."""
    for path in (*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh"), *SOURCES.glob("*.h")):
        shutil.copy(path, folder)
    text = (SOURCES / source).read_text("utf-8")
    if text.count(old) != 1:  # no AssertionError, which is what tests of mutations look for
        raise ValueError(f"the mutation no longer fits {source}: {old}")
    (folder / source).write_text(text.replace(old, new), "utf-8")
    return HostDevice(folder, folder, many_threads=many_threads)


class Dying(HostDevice):
    """Fails for good once it has been asked for so many launches more: ``launches_left``."""

    def __init__(self, folder: Path, *, many_threads: int = _FEW_THREADS) -> None:
        super().__init__(folder, many_threads=many_threads)
        self.launches_left = 1_000_000

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        self._live()
        return super().empty(shape, dtype)

    def get_all(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, np.dtype[Any]]]:
        self._live()
        return super().get_all(arrays)

    def launch(self, kernel: str, arguments: ctypes.Structure, **how: Any) -> None:
        self.launches_left -= 1
        self._live()
        super().launch(kernel, arguments, **how)

    def _live(self) -> None:
        if self.launches_left < 0:
            raise DeviceFailed("CUDA: an illegal memory access was encountered")
