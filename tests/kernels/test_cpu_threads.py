from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from kernels import _cpu_threads, cpu, cpu_exact, cpu_lists
from kernels.packed_lists import PackedLists, fixed_limits

pytestmark = pytest.mark.timeout(600)
"""The first run on a machine compiles the kernels."""

ROOT = Path(__file__).parents[2]


def test_more_threads_than_numba_has_are_refused() -> None:
    with pytest.raises(ValueError, match="NUMBA_NUM_THREADS"):
        cpu.use_threads(numba.config.NUMBA_NUM_THREADS + 1)


def test_a_threading_layer_that_is_not_safe_to_share_is_refused() -> None:
    code = "from kernels import cpu; cpu.use_threads(2)"
    environment = os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "workqueue; set NUMBA_THREADING_LAYER to omp or tbb" in done.stderr


def test_little_work_stays_on_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cpu_threads, "_threads", numba.config.NUMBA_NUM_THREADS)
    assert _cpu_threads.claim_threads(1000) == 1
    assert _cpu_threads.claim_threads(1_000_000_000) == numba.config.NUMBA_NUM_THREADS


@pytest.mark.parametrize("dtype", ["float16", "uint16", "float32"])
def test_after_warm_up_searches_compile_nothing_more(dtype: str) -> None:
    cpu.warm_up(np.dtype(dtype))
    kernels = (
        cpu_exact.scan_serial,
        cpu_exact.scan_parallel,
        cpu_exact.score_lists_serial,
        cpu_exact.score_lists_parallel,
        cpu_lists.scan_probes_serial,
        cpu_lists.scan_probes_parallel,
        cpu_lists.search_serial,
        cpu_lists.search_parallel,
        cpu_lists.score_centroids_serial,
        cpu_lists.score_centroids_parallel,
    )
    before = [len(kernel.signatures) for kernel in kernels]
    segments, queries = [np.zeros((100, 5), dtype)], np.zeros((3, 5), np.float32)
    masks = [np.full(13, 255, np.uint8)] * 3
    cpu.masked_scan(segments, queries, masks, metric="l2", k=2, first_row=0, end_row=100)
    cpu.rescore(segments, queries, np.zeros((3, 2), np.int32), metric="l2", k=2, end_row=100)
    cpu.gather(segments, queries[:1], [np.arange(5)], metric="cosine", k=2, end_row=100)
    lists = PackedLists(np.zeros((2, 16, 1), np.float32), np.zeros((2, 2), np.float32), "l2")
    lists.append(np.arange(2), np.zeros((2, 1), np.uint8), np.arange(2), np.zeros(2, np.float32))
    limits = fixed_limits(3, k=2, nprobe=2, depth=3)
    given = (lists, [np.zeros((100, 2), dtype)], queries[:, :2], queries[:, :2], masks)
    cpu.search_lists(*given, limits=limits, metric="l2", k=2, end_row=100)
    cpu.scan_lists(lists, queries[:, :2], [None, *masks[1:]], limits=limits)
    assert [len(kernel.signatures) for kernel in kernels] == before
