from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from engine.backend import Backend, open_backend
from engine.backend.cpu import CpuBackend
from engine.backend.protocol import SEGMENT_ROWS, Vectors
from engine.dtypes import to_stored
from engine.errors import ConfigError
from engine.types import VectorDtype
from kernels import arrays

pytestmark = pytest.mark.timeout(600)
"""The first run on a machine compiles the kernels."""


@pytest.fixture(scope="module")
def backend() -> Backend:
    return open_backend("cpu", threads=1)


def mapped(path: Path, dtype: VectorDtype, n_rows: int) -> Vectors:
    """Rows 0, 1, 2, ... of one segment as a store maps them: read-only, from a file."""
    stored = to_stored(np.arange(n_rows, dtype=np.float32)[:, None] * np.ones(4, np.float32), dtype)
    whole = np.zeros((SEGMENT_ROWS, 4), stored.dtype)
    whole[:n_rows] = stored
    whole.tofile(path)
    segment = np.memmap(path, stored.dtype, "r", shape=(SEGMENT_ROWS, 4))
    return Vectors([segment], n_rows, 4, dtype, "l2")


def test_kernels_and_backend_agree_on_the_size_of_a_segment() -> None:
    assert arrays.SEGMENT_ROWS == SEGMENT_ROWS


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_both_exact_searches_find_the_nearest_rows(backend: Backend, tmp_path: Path, dtype: VectorDtype) -> None:
    vectors = mapped(tmp_path / "segment.vec", dtype, 200)
    query = np.full((1, 4), 100, np.float32)
    backend.warm_up(vectors)
    everything = np.full(SEGMENT_ROWS // 8, 255, np.uint8)
    scanned = backend.masked_scan(vectors, query, [everything], k=3)
    gathered = backend.gather(vectors, query, [np.arange(90, 110)], k=3)
    for top in (scanned, gathered):
        assert top.rows.tolist() == [[100, 99, 101]]
        assert top.scores.tolist() == [[0, -4, -4]]


def test_rows_not_yet_written_are_never_found(backend: Backend, tmp_path: Path) -> None:
    vectors = mapped(tmp_path / "segment.vec", "float16", 5)
    query, everything = np.zeros((1, 4), np.float32), np.full(SEGMENT_ROWS // 8, 255, np.uint8)
    assert backend.masked_scan(vectors, query, [everything], k=9, end_row=70).rows.tolist() == [
        [0, 1, 2, 3, 4, -1, -1, -1, -1]
    ]
    assert backend.masked_scan(vectors, query, [everything], k=2, first_row=3).rows.tolist() == [[3, 4]]
    assert backend.gather(vectors, query, [np.array([4, 7])], k=2).rows.tolist() == [[4, -1]]


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of auto, cpu, cuda"):
        open_backend("tpu", threads=1)  # type: ignore[arg-type]


def test_auto_takes_the_cpu_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="engine.backend"):
        assert open_backend("auto", threads=1).device == "cpu"
    assert "searching on the CPU" in caplog.text


def test_more_threads_than_there_are_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="compute threads"):
        CpuBackend(10_000)
