"""What an index is tuned with: logged queries, or some made of its rows until there are enough of those."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.backend.protocol import Vectors
from engine.index.taking import take
from engine.item_columns import BoolArray
from engine.types import Float32Array, Int64Array

_DRAWN = 256
"""Rows of which the nearest is the other end of a middle: few enough that it is no copy."""


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """``vectors`` float32 [q, d], in random order; ``rows`` int64 [q]: the own row of each, which is left out of its
    answer, -1 where it has none. ``is_middle`` bool [q]: those that lie between two rows.
    """

    vectors: Float32Array
    rows: Int64Array
    is_middle: BoolArray

    def __len__(self) -> int:
        return len(self.vectors)

    def part(self, first: int, n: int) -> Queries:
        some = slice(first, first + n)
        return Queries(self.vectors[some], self.rows[some], self.is_middle[some])


def logged_queries(vectors: Float32Array) -> Queries:
    """Queries that were asked, float32 [q, d]."""
    return Queries(vectors, np.full(len(vectors), -1, np.int64), np.zeros(len(vectors), np.bool_))


def stand_ins(vectors: Vectors, rows: Int64Array, *, among: Int64Array, rng: np.random.Generator) -> Queries:
    """Queries made of rows [q] where none were logged: a row in turn with the middle between a row and the nearest of
    some others, drawn from ``among``.

    Where rows have near copies a row is found in the first list, as no query is that is not a copy; where they have
    none, rows are the harder of the two (docs/adr/0017-queries-that-stand-in.md).
    """
    made, is_middle = take(vectors, rows), np.arange(len(rows)) % 2 == 1
    for place in np.flatnonzero(is_middle).tolist():
        drawn = rng.choice(among, _DRAWN)
        apart = take(vectors, drawn[drawn != rows[place]]) - made[place]
        made[place] += apart[np.einsum("nd,nd->n", apart, apart).argmin()] / 2
    return Queries(made, rows, is_middle)
