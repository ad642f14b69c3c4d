"""How many threads a CPU kernel may use, and from how much work on it uses more than one."""

from __future__ import annotations

import numba

from engine.errors import ConfigError

_PARALLEL_FROM = 4_000_000
"""Multiply-adds that keep one thread busy for some 0.2 ms: below, waking another costs more than it saves."""

_threads = 1


def use_threads(threads: int) -> None:
    """Bound the threads of each later call, whichever thread makes it.

    Raises:
        ConfigError: numba has fewer threads, or its pool is not safe to enter from several threads.
    """
    global _threads
    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= threads <= most:
        raise ConfigError(f"threads: {threads} is outside 1..{most} (NUMBA_NUM_THREADS)")
    if threads > 1:
        _require_threadsafe_layer()
    _threads = threads


def claim_threads(multiply_adds: int) -> int:
    """How many threads to spread so much work over; numba's parallel loops of this thread use no more from here on."""
    if _threads == 1 or multiply_adds < _PARALLEL_FROM:
        return 1
    numba.set_num_threads(_threads)
    return _threads


def _require_threadsafe_layer() -> None:
    """Start numba's threads. With its ``workqueue`` layer, two parallel calls at once abort the whole program."""
    if numba.config.THREADING_LAYER == "default":
        numba.config.THREADING_LAYER = "threadsafe"
    try:
        numba.set_num_threads(1)
    except ValueError as error:
        raise ConfigError(f"numba finds no OpenMP or TBB library for its threads: {error}") from error
    if numba.threading_layer() == "workqueue":
        raise ConfigError("numba's threading layer is workqueue; set NUMBA_THREADING_LAYER to omp or tbb")
