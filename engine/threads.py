"""Sizes every thread pool once, before a library that has one is loaded. Loads none of those libraries itself."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import Any

SWITCH_INTERVAL_S = 0.0005
"""How long a thread keeps the GIL while another waits. Measured: docs/adr/0001-encoder-forward-outside-the-gil.md."""

_POOLED_LIBRARIES = ("faiss", "numba", "onnxruntime", "tokenizers", "torch")
_POOL_SIZES = (
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",  # tokenizers
)

_log = logging.getLogger(__name__)
_compute_threads: int | None = None


def available_threads() -> int:
    """CPUs this process may run on, and no more than its control group pays for."""
    allowed = len(os.sched_getaffinity(0))
    quota = _cgroup_cpus(Path("/sys/fs/cgroup/cpu.max"))
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def configure(compute_threads: int | None, cache_dir: Path) -> int:
    """Size the pools of this process and of the children it starts; the number of threads, all available where None.

    Threads that wait sleep (OMP_WAIT_POLICY=PASSIVE): two lanes share the cores, and one that spins takes them from the
    other. Machine code that numba compiles is kept in ``cache_dir``, in a folder for these very kernels, unless
    NUMBA_CACHE_DIR says where.
    """
    global _compute_threads
    threads = available_threads() if compute_threads is None else compute_threads
    early = [name for name in _POOLED_LIBRARIES if name in sys.modules]
    if early:
        _log.warning("thread pools are sized too late for %s, loaded before", ", ".join(early))
    os.environ.update(dict.fromkeys(_POOL_SIZES, str(threads)))
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("NUMBA_CACHE_DIR", str(kernel_cache(cache_dir)))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _compute_threads = threads
    size_torch()
    return threads


def kernel_cache(folder: Path) -> Path:
    """Where under ``folder`` the machine code of these kernels belongs.

    numba looks at the file of a function alone: one that calls another file's would go on with that file's old code.
    """
    spec = importlib.util.find_spec("kernels")
    if spec is None or spec.origin is None:
        return folder
    digest = hashlib.sha256()
    for path in sorted(Path(spec.origin).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return folder / digest.hexdigest()[:16]


def size_torch() -> None:
    """Tell torch, once it is loaded, what ``configure`` decided: not every build of it reads the environment.

    Without effect before torch is loaded or where ``configure`` was never called.
    """
    torch: Any = sys.modules.get("torch")
    if torch is not None and _compute_threads is not None:
        torch.set_num_threads(_compute_threads)


def _cgroup_cpus(path: Path) -> float | None:
    """CPUs' worth of time by a cgroup v2 quota; None where there is no quota."""
    try:
        quota, period = path.read_text("ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)
