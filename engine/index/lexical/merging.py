"""Segments of postings, and when they are merged: few enough that a query reads all, each posting copied seldom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.index.lexical.terms import Terms
from engine.types import Float32Array, Int32Array, Schema, Uint8Array
from kernels import cpu as kernels
from kernels.postings import EMPTY, TermPostings

AT_ONCE = 32_768
"""Postings that are merged in half a millisecond; more are left to a thread."""
_RATIO = 2

Uint16Array: TypeAlias = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Postings of consecutive rows, never changed. ``items``: the first rows, int32 [m], ascending, of items that have
    any term; ``total_length``: their lengths added up.
    """

    postings: TermPostings
    items: Int32Array
    total_length: float

    @property
    def size(self) -> int:
        return self.postings.n_postings

    @property
    def nbytes(self) -> int:
        return self.postings.nbytes + self.items.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """Neighbouring segments that are to become one; ``lengths``: by row, ``living``: a mask of rows."""

    parts: tuple[Segment, ...]
    lengths: Float32Array
    living: Uint8Array

    def run(self) -> Segment:
        """The one segment, without rows that are dead. In any thread, mostly outside the GIL."""
        return merged(self.parts, self.lengths, self.living)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What an index of postings was at some moment; any thread may read it. ``lengths`` and ``row_counts``: by row."""

    schema: Schema
    terms: Terms
    segments: tuple[Segment, ...]
    n_rows: int
    lengths: Float32Array
    row_counts: Uint16Array | None

    def whole(self, living: Uint8Array) -> Segment:
        """All segments as one, without the rows that a mask of the living leaves out."""
        return merged(self.segments, self.lengths, living) if self.segments else _NOTHING


def first_to_merge(sizes: Sequence[int]) -> int | None:
    """From which of the segments on all are to become one: the first that is not twice as large as all behind it.

    What is left grows by more than a factor of two from each to the one before it.
    """
    behind = np.cumsum(sizes[::-1])[::-1]
    due = (one for one in range(len(sizes) - 1) if sizes[one] < _RATIO * behind[one + 1])
    return next(due, None)


def merged(parts: Sequence[Segment], lengths: Float32Array, living: Uint8Array | None) -> Segment:
    """One segment of all, without rows that are dead where ``living`` tells which are not."""
    items = np.concatenate([one.items for one in parts])
    if living is not None:
        items = items[np.unpackbits(living, bitorder="little").view(np.bool_)[items]]
    postings = kernels.merge_postings([one.postings for one in parts], living)
    return Segment(postings, items, float(lengths[items].sum(dtype=np.float64)))


_NOTHING = Segment(EMPTY, np.zeros(0, np.int32), 0.0)
