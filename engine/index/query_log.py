"""A sample of a version's live queries, so that its lists can be tuned with what is really asked.

Written in the search lane's thread. Holds vectors only: no text, no filter, no caller.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.types import Float32Array

ENOUGH = 500
"""Logged queries from which on tuning uses them instead of stored rows."""

CAPACITY = 2048
_SHARE_WHEN_FULL = 0.02
"""Of the queries that come once the log is full, each in the place of a random earlier one: recent traffic prevails."""


def query_log_path(folder: Path) -> Path:
    """Where the log of the version in ``folder`` lies."""
    return folder / "queries.npy"


class QueryLog:
    """The first ``CAPACITY`` queries float32 [d], then a sliding random sample."""

    def __init__(self, dimension: int, *, seed: int = 0) -> None:
        self._vectors = np.zeros((0, dimension), np.float32)
        self._rng = np.random.default_rng(seed)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    @property
    def vectors(self) -> Float32Array:
        """A copy, float32 [n, d], in random order."""
        shuffled: Float32Array = self._vectors[self._rng.permutation(self._n)]
        return shuffled

    def add(self, queries: Float32Array) -> None:
        """Take some of the queries float32 [B, d]."""
        room = CAPACITY - self._n
        if room:
            self._fill(queries[:room])
        later = queries[room:]
        if len(later):
            taken = later[self._rng.random(len(later)) < _SHARE_WHEN_FULL]
            self._vectors[self._rng.integers(0, CAPACITY, len(taken))] = taken

    def save(self, path: Path) -> None:
        """Write aside, then put in place. What a crash takes of it is only a sample."""
        aside = path.with_name(path.name + ".new")
        with aside.open("wb") as file:
            np.save(file, self._vectors[: self._n])
        aside.replace(path)

    @classmethod
    def load(cls, path: Path, dimension: int) -> QueryLog:
        """What ``save`` wrote; empty where there is nothing readable of that dimension."""
        log = cls(dimension)
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return log
        if stored.ndim == 2 and stored.shape[1] == dimension and stored.dtype == np.float32:
            log._fill(stored[np.isfinite(stored).all(axis=1)][:CAPACITY])
        return log

    def _fill(self, queries: Float32Array) -> None:
        if not len(self._vectors):
            self._vectors = np.zeros((CAPACITY, queries.shape[1]), np.float32)
        self._vectors[self._n : self._n + len(queries)] = queries
        self._n += len(queries)
