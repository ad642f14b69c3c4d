"""Searches while rows change: 10,000 upserts a second in prepared batches of 100, in turn with nothing changing.

One thread does both, as the engine's search lane does: before each search it applies the batches that are due, and
copies the mask of what is alive where that has changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.gpu_bed import Bed
from bench.gpu_report import Answered, Lines, ways
from bench.gpu_rows import Made, exact_top
from bench.measured import SEED, Samples, Target, interleaved
from bench.metrics import recall_of_survivors
from kernels.arrays import SEGMENT_ROWS, Float32Array, Int64Array, StoredArray

K = 10
BATCH = 64
UPSERTS_PER_S = 10_000
UPSERT_ROWS = 100
SHARE = 0.95
_BITS = np.left_shift(1, np.arange(8)).astype(np.uint8)
_ROUNDS = 5
_CHECKS = 10


def measure(bed: Bed, lines: Lines, *, n_rows: int) -> None:
    made = Made(n_rows, bed.sized(128, 32), bed.where)
    batch, rounds = bed.sized(BATCH, 4), bed.sized(_ROUNDS, 1)
    n_batches = bed.sized(round((rounds + 1) * bed.seconds * UPSERTS_PER_S / UPSERT_ROWS), 4)
    rows = LiveRows(bed, made, n_batches=n_batches)
    queries = made.queries(batch)
    run = _Run(rows, queries.cpu().numpy(), window_s=bed.sized(1, 0) * bed.seconds)
    rates = interleaved({"quiet": run.quiet, "live": run.live}, rounds=rounds)
    case = {"rows": n_rows, "dimension": made.dimension, "batch": batch, "k": K, "upserts_per_s": UPSERTS_PER_S}
    recall = recall_of_survivors(rows.search(run.queries), rows.truth(queries))
    share = float(np.median(np.divide(rates["live"].values, rates["quiet"].values)))
    figures = {
        "live_over_quiet": share,
        "upserts_per_s": run.upserted / run.live_s,
        **ways({name: Answered(_seconds(one, batch), recall) for name, one in rates.items()}, batch),
    }
    lines.tell(case, figures, {"live_over_quiet": Target(share, SHARE, is_floor=True)})
    _honoured(rows, run.queries, lines, case)


def _seconds(rates: Samples, batch: int) -> Samples:
    """Of a search, from queries a second."""
    return Samples(tuple(batch / rate for rate in rates.values))


def _honoured(rows: LiveRows, queries: Float32Array, lines: Lines, case: Mapping[str, object]) -> None:
    """Whatever is deleted before a search is in no answer of it, and what is put there comes first."""
    found_again, not_found = 0, 0
    for _ in range(rows.bed.sized(_CHECKS, 2)):
        best = np.unique(rows.search(queries)[:, 0])
        rows.delete(best)
        found_again += int(np.isin(rows.search(queries), best).sum())
    first = rows.append(rows.stored_of(torch.from_numpy(queries)))
    not_found += int((rows.search(queries)[:, 0] != first + np.arange(len(queries))).sum())
    figures = {"deleted_and_found": found_again, "upserted_and_not_first": not_found}
    targets = {name: Target(value, 0, is_floor=False) for name, value in figures.items()}
    lines.tell({**case, "what": "honoured"}, figures, targets)


class LiveRows:
    """Rows on the device, a mask of those that are alive on both sides, and batches of upserts that wait."""

    def __init__(self, bed: Bed, made: Made, *, n_batches: int) -> None:
        self.bed, self._made = bed, made
        self._rows = bed.rows(made, torch.bfloat16)
        self._fresh = made.fresh(n_batches * UPSERT_ROWS)
        self._more: list[StoredArray] = []
        n_most = made.n_rows + len(self._fresh) + SEGMENT_ROWS
        flags = np.arange(-(-n_most // 64) * 64) < made.n_rows
        self._alive = np.packbits(flags, bitorder="little")
        self._words = bed.device.put(self._alive.view(np.uint32))
        self._is_stale = False
        self._waiting = self._prepared()

    def _prepared(self) -> Iterator[tuple[StoredArray, Int64Array]]:
        """(vectors, rows that they replace): none is replaced twice."""
        stored = self.stored_of(self._fresh)
        order = np.random.default_rng(SEED).permutation(self._made.n_rows)[: len(stored)]
        steps = range(0, len(order) - UPSERT_ROWS + 1, UPSERT_ROWS)
        return iter([(stored[at : at + UPSERT_ROWS], order[at : at + UPSERT_ROWS]) for at in steps])

    def stored_of(self, vectors: Tensor) -> StoredArray:
        stored: StoredArray = vectors.to(torch.bfloat16).view(torch.int16).cpu().numpy().view(np.uint16)
        return stored

    def upsert(self) -> int:
        """The next batch that waits; how many rows it had, 0 where none waits."""
        vectors, replaced = next(self._waiting, (None, None))
        if vectors is None or replaced is None:
            return 0
        self.append(vectors)
        self.delete(replaced)
        return len(vectors)

    def append(self, vectors: StoredArray) -> int:
        """The row that the first of them becomes."""
        first = self._rows.n_rows
        self._rows.append(vectors)
        rows = np.arange(first, first + len(vectors))
        np.bitwise_or.at(self._alive, rows // 8, _BITS[rows % 8])
        self._is_stale = True
        self._more.append(vectors)
        return first

    def delete(self, rows: Int64Array) -> None:
        np.bitwise_and.at(self._alive, rows // 8, ~_BITS[rows % 8])
        self._is_stale = True

    def search(self, queries: Float32Array) -> Int64Array:
        if self._is_stale:
            self.bed.device.write(self._words, 0, self._alive.view(np.uint32))
            self._is_stale = False
        mask = self.bed.device.address(self._words)
        return self.bed.scan(self._rows, queries, [mask] * len(queries), k=K)

    def truth(self, queries: Tensor) -> Int64Array:
        """Of what is alive now, in float32 but for rows that came as they are stored."""
        alive = torch.from_numpy(np.unpackbits(self._alive, bitorder="little")).to(self._made.where) > 0
        more = [torch.from_numpy(one.view(np.int16)).view(torch.bfloat16).float() for one in self._more]
        whole = _Grown(self._made, torch.cat(more).to(self._made.where) if more else None)
        return exact_top(whole, queries, k=K, passes=lambda first, end: alive[first:end][None])


@dataclass(frozen=True)
class _Grown:
    """Rows that were made, and more behind them."""

    made: Made
    more: Tensor | None

    @property
    def where(self) -> str:
        return self.made.where

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        yield from self.made.chunks()
        if self.more is not None:
            yield self.made.n_rows, self.more


class _Run:
    """Windows of searches, one after another: queries a second of each."""

    def __init__(self, rows: LiveRows, queries: Float32Array, *, window_s: float) -> None:
        self._rows, self.queries, self._window_s = rows, queries, window_s
        self.upserted, self.live_s = 0, 0.0

    def quiet(self) -> float:
        return self._window(upserts_per_s=0)

    def live(self) -> float:
        began = time.perf_counter()
        rate = self._window(upserts_per_s=UPSERTS_PER_S)
        self.live_s += time.perf_counter() - began
        return rate

    def _window(self, *, upserts_per_s: int) -> float:
        """Two searches at least; batches are applied as they fall due, whatever a search has taken."""
        began, searches, applied = time.perf_counter(), 0, 0
        while (elapsed := time.perf_counter() - began) < self._window_s or searches < 2:
            while applied + UPSERT_ROWS <= elapsed * upserts_per_s and (taken := self._rows.upsert()):
                applied += taken
            self._rows.search(self.queries)
            searches += 1
        self.upserted += applied
        return searches * len(self.queries) / (time.perf_counter() - began)
