"""The definition of each kernel over postings, in NumPy: slow, plain, and what the other is tested against.

Several ``TermPostings`` that are read together lie in ascending rows: each begins where the one before has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.arrays import Float32Array, Int64Array, Uint8Array
from kernels.postings import LengthNorm, TermPostings


def find_terms(postings: TermPostings, terms: Int64Array) -> Int64Array:
    """int64 [q, 2]: the first posting of each term and the end of them; both 0 where it has none."""
    spans = np.zeros((len(terms), 2), np.int64)
    for place, term in enumerate(terms.tolist()):
        for at in np.flatnonzero(postings.terms == term):
            spans[place] = postings.offsets[at], postings.offsets[at + 1]
    return spans


def score_rows(
    postings: Sequence[TermPostings],
    spans: Sequence[Int64Array],
    weights: Float32Array,
    *,
    norm: LengthNorm,
    mask: Uint8Array,
) -> tuple[Int64Array, Float32Array]:
    """Every row of the mask that has any of the terms, ascending, int64 [n]; and its score, float32 [n].

    ``spans``: of each part, where ``find_terms`` finds the terms [q]. Each adds ``weight * frequency / (frequency +
    norm)``, term after term in the order told, all in float32; one that is told twice counts twice.
    """
    n_rows = len(norm.lengths)
    scores, has_term = np.zeros(n_rows, np.float32), np.zeros(n_rows, np.bool_)
    for term, weight in enumerate(weights):
        for part, own in zip(postings, spans, strict=True):
            at = slice(*own[term].tolist())
            rows, frequencies = part.rows[at], part.frequencies[at]
            scores[rows] += weight * frequencies / (frequencies + (norm.base + norm.slope * norm.lengths[rows]))
            has_term[rows] = True
    passes = np.zeros(n_rows, np.bool_)
    bits = np.unpackbits(mask, bitorder="little").view(np.bool_)[:n_rows]
    passes[: len(bits)] = bits
    found = np.flatnonzero(has_term & passes)
    return found, scores[found]


def rows_with_all(
    postings: Sequence[TermPostings], spans: Sequence[Int64Array], *, fields: int, first_row: int, end_row: int
) -> Int64Array:
    """Rows [n] of [first_row, end_row), ascending, that have every one of the terms in any of the fields (bits)."""
    found = []
    for part, own in zip(postings, spans, strict=True):
        rows = np.arange(first_row, end_row)
        for span in own.tolist():
            at = slice(*span)
            rows = rows[np.isin(rows, part.rows[at][(part.fields[at] & fields) != 0])]
        found.append(rows)
    return np.concatenate([np.zeros(0, np.int64), *found])


def merge_postings(parts: Sequence[TermPostings], living: Uint8Array | None) -> TermPostings:
    """The parts as one, without the rows that a mask of living rows leaves out, where there is one."""
    terms = np.concatenate([np.repeat(part.terms, np.diff(part.offsets)) for part in parts])
    rows = np.concatenate([part.rows for part in parts])
    frequencies = np.concatenate([part.frequencies for part in parts])
    fields = np.concatenate([part.fields for part in parts])
    kept = np.ones(len(rows), np.bool_)
    if living is not None:
        kept = np.unpackbits(living, bitorder="little").view(np.bool_)[rows]
    order = np.flatnonzero(kept)[np.argsort(terms[kept], kind="stable")]
    own, counts = np.unique(terms[order], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return TermPostings(own, offsets, rows[order], frequencies[order], fields[order])
