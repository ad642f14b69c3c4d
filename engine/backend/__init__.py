"""The seam between the index and a device. ``open_backend`` is the only place that asks which device."""

from __future__ import annotations

import logging
from typing import Literal

from engine.backend.protocol import Backend
from engine.errors import ConfigError

__all__ = ["Backend", "Device", "open_backend"]

Device = Literal["auto", "cpu", "cuda"]

_log = logging.getLogger(__name__)


def open_backend(device: Device, threads: int) -> Backend:
    """The backend for ``device``, with so many threads for the search lane.

    Raises:
        ConfigError: the device is unknown or not in this build, ``threads`` cannot be had, or a library is missing.
    """
    if device == "cuda":
        raise ConfigError("device: the CUDA backend is not in this build; use cpu or auto")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device: {device!r} is none of auto, cpu, cuda")
    try:
        from engine.backend.cpu import CpuBackend
    except ImportError as error:
        raise ConfigError(f"device cpu: {error}; install ebr-engine[cpu], without another package kernels") from error
    backend = CpuBackend(threads)
    if device == "auto":
        _log.info("device auto: searching on the CPU with %d threads, as this build has no CUDA backend", threads)
    return backend
