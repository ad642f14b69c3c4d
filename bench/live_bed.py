"""What every part of the live bench stands on: rows, queries, the pace, servers over copies of one data directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import datasets, filtered_data
from bench.harness import SEED, Options, Report
from bench.live_watch import SecondsWatch
from bench.prepared import prepared
from bench.serving import Running, served, vector_schema
from engine.types import Float32Array, Int64Array

COLLECTION = "live"
DIMENSION = 128
K = 10
BATCH = 8
"""Queries a search call: one at a time would cost the driver about as much as the server."""
N_QUERIES = 1024
NEVER = 1 << 40
"""Rows that no collection reaches."""
_CENTRES = 4096
_NOISE = 0.7
_FRESH_NOISE = 0.2


@dataclass(frozen=True, slots=True)
class Pace:
    """``pairs`` of windows, quiet and busy, each of so many seconds."""

    rows: int
    seconds: float
    pairs: int

    @staticmethod
    def of(options: Options) -> Pace:
        usual = Pace(100_000, 2.0, 3) if options.quick else Pace(1_000_000, 6.0, 5)
        asked = options.extra
        return Pace(asked.rows or usual.rows, asked.seconds or usual.seconds, asked.pairs or usual.pairs)


@dataclass(frozen=True, slots=True)
class Made:
    """Rows float32 [n, d] and queries float32 [Q, d], all of length 1."""

    source: str
    items: Float32Array
    queries: Float32Array

    @property
    def dimension(self) -> int:
        return int(self.items.shape[1])

    def fresh(self, n: int, *, seed: int = SEED) -> tuple[Int64Array, Float32Array]:
        """Ids of rows at random and other vectors for them: other rows' with noise."""
        rng = np.random.default_rng(seed)
        ids = rng.choice(len(self.items), size=n, replace=n > len(self.items))
        others = self.items[rng.integers(0, len(self.items), n)]
        return ids.astype(np.int64), datasets.noisy_copies(others, n, noise=_FRESH_NOISE, seed=seed)


def made(options: Options, n_rows: int) -> Made:
    """The rows of the filtered bench where its data are there, else clusters."""
    if not options.data.is_dir():
        return clustered(n_rows)
    encoder = datasets.minilm(threads=2)
    rows = filtered_data.short_texts(options.data, encoder, n_rows=n_rows, n_queries=N_QUERIES)
    return Made("short texts", rows.items, rows.queries)


def clustered(n_rows: int) -> Made:
    """Rows and queries about the same centres, drawn at random. Of fewer rows: the first of those."""
    centres = np.random.default_rng(SEED).standard_normal((_CENTRES, DIMENSION), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return Made("clusters", _about(centres, n_rows, seed=SEED + 1), _about(centres, N_QUERIES, seed=SEED + 2))


def _about(centres: Float32Array, n: int, *, seed: int) -> Float32Array:
    drawn = np.random.default_rng(seed).integers(0, len(centres), n)
    return datasets.noisy_copies(centres[drawn], n, noise=_NOISE, seed=seed)


@dataclass(slots=True)
class Bed:
    """What a part is handed. ``server_cpu_s``: of the servers that have run so far."""

    made: Made
    pace: Pace
    report: Report
    watch: SecondsWatch
    server_cpu_s: float = 0.0
    settings: Mapping[str, object] = field(default_factory=lambda: {"compact_dead_share": 1.0})
    """Compaction is begun by the bench and never by itself: it is a part of its own."""

    @contextlib.contextmanager
    def folder(self, *, n_rows: int | None = None) -> Iterator[Path]:
        """A copy of a data directory with the rows, or the first of them, and lists trained on just these."""
        rows = self.made.items[:n_rows]
        schema = vector_schema(COLLECTION, dimension=self.made.dimension, metric="dot")
        settings, kept_as = self._training_at(len(rows)), f"{COLLECTION}-{len(rows)}"
        with prepared(schema, rows, settings=settings, trained=True, kept_as=kept_as) as ready:
            self.report.figure("rows", len(rows))
            self.report.figure("made", ready.made)
            self.watch.forget()
            yield ready.folder

    @contextlib.contextmanager
    def served(self, folder: Path, *, train_at: int | None = None) -> Iterator[Running]:
        """A server whose CPU time is kept account of; ``train_at``: rows from which first lists are trained."""
        settings = self._training_at(train_at or len(self.made.items))
        with served(folder, settings=settings) as running:
            yield running
            with contextlib.suppress(FileNotFoundError):  # it was killed
                self.server_cpu_s += running.cpu_s()

    def _training_at(self, n_rows: int) -> dict[str, object]:
        return {**self.settings, "min_rows_to_train": n_rows}
