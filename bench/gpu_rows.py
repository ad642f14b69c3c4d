"""Rows, queries and filters that are made on the device, the same each time, and the exact truth about them.

Rows are never kept in float32: they are made again, chunk by chunk, whenever they are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor

from bench.measured import SEED
from kernels.arrays import SEGMENT_ROWS, Int64Array

Passes = Callable[[int, int], Tensor]
"""Of rows [first, end) those that pass each query's filter: bool [B, end - first], or [1, ...] where all have one."""

_QUERIES, _CENTRES, _FRESH = 1 << 40, 1 << 41, 1 << 42
"""Beyond every chunk's own seed."""

_SPREAD = 0.7
"""Of rows around the centre of their cluster, whose own length is about 1."""

_PRODUCTS_BYTES = 1 << 28


@dataclass(frozen=True)
class Made:
    """Rows float32 [n, d] of length 1: Gaussian, or around centres [c, d] where there are any."""

    n_rows: int
    dimension: int
    where: str
    centres: Tensor | None = None

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """(its first row, chunk), a segment each."""
        for first in range(0, self.n_rows, SEGMENT_ROWS):
            yield first, self._drawn(first, min(SEGMENT_ROWS, self.n_rows - first))

    def queries(self, n: int) -> Tensor:
        """Float32 [n, d] from where the rows are from."""
        return self._drawn(_QUERIES, n)

    def fresh(self, n: int) -> Tensor:
        """Float32 [n, d], as the rows but none of them."""
        return self._drawn(_FRESH, n)

    def stored(self, dtype: torch.dtype) -> Tensor:
        """All rows in one piece."""
        whole = torch.empty((self.n_rows, self.dimension), dtype=dtype, device=self.where)
        for first, chunk in self.chunks():
            whole[first : first + len(chunk)] = chunk
        return whole

    def _drawn(self, first: int, n: int) -> Tensor:
        generator = torch.Generator(self.where).manual_seed(SEED + first)
        drawn = torch.randn((n, self.dimension), generator=generator, device=self.where)
        if self.centres is not None:
            own = torch.randint(len(self.centres), (n,), generator=generator, device=self.where)
            drawn = self.centres[own] + _SPREAD * drawn / self.dimension**0.5
        return torch.nn.functional.normalize(drawn)


def clustered(n_rows: int, dimension: int, where: str, *, clusters: int) -> Made:
    """Rows around so many centres, drawn at random."""
    generator = torch.Generator(where).manual_seed(SEED + _CENTRES)
    drawn = torch.randn((clusters, dimension), generator=generator, device=where)
    return Made(n_rows, dimension, where, centres=torch.nn.functional.normalize(drawn))


def first_rows(made: Made, n: int) -> Tensor:
    """A sample: rows are drawn independently, so that the first are as random as any."""
    chunks = [chunk for first, chunk in takewhile(lambda one: one[0] < n, made.chunks())]
    return torch.cat(chunks)[:n]


@dataclass(frozen=True)
class Shuffled:
    """A filter of its own for each of B queries, at one pass rate: ranges of a column that has nothing to do with the
    rows. ``column``: int32 [n], the numbers 0 to n - 1 in random order; ``lows`` int32 [B].
    """

    column: Tensor
    lows: Tensor
    width: int

    def passes(self, first: int, end: int) -> Tensor:
        """Bool [B, end - first]."""
        return self.those(self.column[first:end][None])

    def those(self, values: Tensor) -> Tensor:
        """Which of the column's values, int32 [1 or B, m], pass: bool [B, m]."""
        low = self.lows[:, None]
        return (values >= low) & (values < low + self.width)

    def of(self, query: int) -> Tensor:
        """The rows that pass, ascending: int64."""
        low = self.lows[query]
        return ((self.column >= low) & (self.column < low + self.width)).nonzero().squeeze(1)

    def of_rows(self, rows: Tensor) -> Tensor:
        """Which of the rows int64 [B, m] pass: bool [B, m]."""
        return self.those(self.column[rows])

    def part(self, queries: slice) -> Shuffled:
        """Those of some queries."""
        return Shuffled(self.column, self.lows[queries], self.width)


def shuffled(n_rows: int, n_queries: int, where: str, *, rate: float) -> Shuffled:
    generator = torch.Generator(where).manual_seed(SEED)
    column = torch.randperm(n_rows, generator=generator, device=where).to(torch.int32)
    width = max(1, round(n_rows * rate))
    lows = torch.randint(n_rows - width + 1, (n_queries,), generator=generator, device=where, dtype=torch.int32)
    return Shuffled(column, lows, width)


class Chunked(Protocol):
    """Rows float32 that come chunk by chunk, each with the number of its first."""

    @property
    def where(self) -> str: ...

    def chunks(self) -> Iterator[tuple[int, Tensor]]: ...


def exact_top(made: Chunked, queries: Tensor, *, k: int, passes: Passes | None = None) -> Int64Array:
    """The best rows that pass by float32 dot product, int64 [B, k], best first, padded with -1: in host memory."""
    n = len(queries)
    scores = torch.full((n, k), -torch.inf, device=made.where)
    rows = torch.full((n, k), -1, dtype=torch.int64, device=made.where)
    for first, chunk in made.chunks():
        passing = None if passes is None else passes(first, first + len(chunk)).expand(n, -1)
        step = max(1, _PRODUCTS_BYTES // (4 * len(chunk)))
        for start in range(0, n, step):
            part = slice(start, start + step)
            products = queries[part] @ chunk.T
            if passing is not None:
                products.masked_fill_(~passing[part], -torch.inf)
            scores[part], rows[part] = _better(scores[part], rows[part], products, first)
    found: Int64Array = torch.where(scores > -torch.inf, rows, -1).cpu().numpy()
    return found


def _better(scores: Tensor, rows: Tensor, products: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The best of those so far and of a chunk's products [B, m]."""
    k = scores.shape[1]
    best, at = products.topk(min(k, products.shape[1]))
    scores, rows = torch.cat([scores, best], dim=1), torch.cat([rows, at + first], dim=1)
    kept, places = scores.topk(k)
    return kept, rows.gather(1, places)
