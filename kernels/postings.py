"""Postings of terms, as arrays: which rows a term is in, and how often. Knows no texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.arrays import Float32Array, Int32Array, Int64Array, Uint8Array


@dataclass(frozen=True, slots=True, eq=False)
class TermPostings:
    """Postings in rows of compressed form (CSR); never changed once made.

    ``terms`` int32 [t], ascending; ``offsets`` int64 [t + 1]: postings [offsets[i], offsets[i + 1]) are those of
    ``terms[i]``. Each posting: ``rows`` int32, ascending within a term; ``frequencies`` float32, above 0, how often the
    term is there; ``fields`` uint8, a bit for each field that has it.
    """

    terms: Int32Array
    offsets: Int64Array
    rows: Int32Array
    frequencies: Float32Array
    fields: Uint8Array

    @property
    def n_postings(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        arrays = (self.terms, self.offsets, self.rows, self.frequencies, self.fields)
        return sum(array.nbytes for array in arrays)


EMPTY = TermPostings(
    np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.uint8)
)


@dataclass(frozen=True, slots=True, eq=False)
class LengthNorm:
    """What BM25 adds to a term's frequency in a row, in float32: ``base + slope * lengths[row]``."""

    base: np.float32
    slope: np.float32
    lengths: Float32Array
