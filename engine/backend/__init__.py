"""The seam between the index and a device. ``open_backend`` is the only place that asks which device."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.backend.placement import FREE_SHARE
from engine.backend.protocol import Backend
from engine.errors import ConfigError

__all__ = ["Backend", "Device", "open_backend"]

Device = Literal["auto", "cpu", "cuda"]

if TYPE_CHECKING:
    from engine.backend.cpu import CpuBackend

_log = logging.getLogger(__name__)


def open_backend(
    device: Device,
    threads: int,
    *,
    device_memory_bytes: int | None = None,
    device_lost: Literal["cpu", "fail"] = "cpu",
) -> Backend:
    """The backend for ``device``, with so many threads for the search lane.

    ``auto`` is the CPU as yet: no GPU has run the CUDA backend, which is asked for by name. ``device_memory_bytes``: of
    a GPU, for rows and lists; 4 / 5 of what is free unless given. ``device_lost``: who searches once a GPU has failed.

    Raises:
        ConfigError: the device is unknown or cannot be used, ``threads`` cannot be had, or a library is missing.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: {device!r} is none of auto, cpu, cuda")
    try:
        from engine.backend.cpu import CpuBackend
    except ImportError as error:
        raise ConfigError(f"device cpu: {error}; install ebr-engine[cpu], without another package kernels") from error
    backend = CpuBackend(threads)
    if device == "cuda":
        return _cuda_backend(backend, device_memory_bytes, device_lost)
    if device == "auto":
        _log.info("device auto: searching on the CPU with %d threads; a GPU is asked for by device = cuda", threads)
    return backend


def _cuda_backend(cpu: CpuBackend, memory_bytes: int | None, device_lost: Literal["cpu", "fail"]) -> Backend:
    from engine.backend.cuda import CudaBackend
    from kernels.cuda import NoDevice, open_device

    cache = os.environ.get("NUMBA_CACHE_DIR")
    try:
        device = open_device(Path(cache) / "cuda" if cache else None)
    except NoDevice as error:
        raise ConfigError(f"device cuda: {error}; device = cpu or auto serves without a GPU") from error
    free = device.free_bytes
    if memory_bytes is not None and memory_bytes > free:
        raise ConfigError(f"device_memory_bytes: {memory_bytes} is more than the {free} bytes that the device has free")
    memory_bytes = memory_bytes or int(free * FREE_SHARE)
    return CudaBackend(device, cpu, memory_bytes=memory_bytes, device_lost=device_lost)
