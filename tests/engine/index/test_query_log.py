from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.index.query_log import CAPACITY, QueryLog


def numbered(first: int, n: int) -> np.ndarray:
    return np.repeat(np.arange(first, first + n, dtype=np.float32)[:, None], 3, axis=1)


def test_the_first_queries_are_all_kept_however_they_come() -> None:
    log = QueryLog(3)
    for first in range(0, 90, 9):
        log.add(numbered(first, 9))
    assert len(log) == 90
    assert sorted(log.vectors[:, 0].tolist()) == list(range(90))


def test_a_full_log_follows_the_traffic() -> None:
    log = QueryLog(3)
    log.add(numbered(0, CAPACITY + 100))
    assert len(log) == CAPACITY
    early = (log.vectors[:, 0] < CAPACITY).mean()
    for _ in range(10):
        log.add(numbered(1_000_000, 50_000))
    late = (log.vectors[:, 0] >= 1_000_000).mean()
    assert early > 0.99
    assert late > 0.95
    assert len(log) == CAPACITY


def test_a_log_is_kept_over_a_restart(tmp_path: Path) -> None:
    log = QueryLog(3)
    log.add(numbered(0, 10))
    log.save(tmp_path / "queries.npy")
    again = QueryLog.load(tmp_path / "queries.npy", 3)
    assert sorted(again.vectors[:, 0].tolist()) == list(range(10))
    again.add(numbered(10, 1))
    assert len(again) == 11


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x93NUMPY\x01\x00"])
def test_what_cannot_be_read_is_an_empty_log(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "queries.npy"
    path.write_bytes(content)
    assert len(QueryLog.load(path, 3)) == 0
    assert len(QueryLog.load(tmp_path / "missing.npy", 3)) == 0


def test_a_log_of_another_dimension_is_not_used(tmp_path: Path) -> None:
    log = QueryLog(3)
    log.add(numbered(0, 10))
    log.save(tmp_path / "queries.npy")
    assert len(QueryLog.load(tmp_path / "queries.npy", 4)) == 0
