"""How many threads a CPU kernel may use, and from how much work on it uses more than one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba.np.ufunc.parallel import threading_layer

_PARALLEL_FROM = 4_000_000
"""Multiply-adds of a scan that keep one thread busy for some 0.3 ms. Waking others was measured at 60 us, and at far
more where the machine is busy."""

_config: Any = numba.config
_layer_in_use: Any = threading_layer
_threads = 1
_parallel_from = _PARALLEL_FROM


def use_threads(threads: int) -> None:
    """Bound the threads of each later call, whichever thread makes it.

    Raises:
        ValueError: numba has fewer threads.
        RuntimeError: numba has no thread pool that several callers may enter at once.
    """
    global _threads
    most = _config.NUMBA_NUM_THREADS
    if not 1 <= threads <= most:
        raise ValueError(f"threads: {threads} is outside 1..{most} (NUMBA_NUM_THREADS)")
    if threads > 1:
        _require_threadsafe_layer()
    _threads = threads


def claim_threads(multiply_adds: int) -> int:
    """How many threads to spread so much work over; numba's parallel loops of this thread use no more from here on."""
    if _threads == 1 or multiply_adds < _parallel_from:
        return 1
    numba.set_num_threads(_threads)
    return _threads


@contextmanager
def all_threads() -> Iterator[None]:
    """Within, the least work is spread over all the threads: to compile and to test the parallel kernels."""
    global _parallel_from
    _parallel_from = 0
    try:
        yield
    finally:
        _parallel_from = _PARALLEL_FROM


def _require_threadsafe_layer() -> None:
    """Start numba's threads. With its ``workqueue`` layer, two parallel calls at once abort the whole program."""
    if _config.THREADING_LAYER == "default":
        _config.THREADING_LAYER = "threadsafe"
    try:
        numba.set_num_threads(1)
    except ValueError as error:
        raise RuntimeError(f"numba finds no OpenMP or TBB library for its threads: {error}") from error
    if _layer_in_use() == "workqueue":
        raise RuntimeError("numba's threading layer is workqueue; set NUMBA_THREADING_LAYER to omp or tbb")
