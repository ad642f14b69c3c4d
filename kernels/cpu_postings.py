"""The kernels of ``kernels.reference_postings`` on the CPU: the same names, arguments and answers, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels._cpu_buffers import mask_buffer
from kernels._cpu_postings import (
    WINDOW_ROWS,
    Scoring,
    copy_kept,
    count_kept,
    find_spans,
    rows_with_all_of_part,
    score_part,
)
from kernels.arrays import Float32Array, Int64Array, Uint8Array
from kernels.postings import EMPTY, LengthNorm, TermPostings

__all__ = ["find_terms", "merge_postings", "rows_with_all", "score_rows", "warm_up"]

_ALL_LIVE = np.zeros(0, np.uint8)


def find_terms(postings: TermPostings, terms: Int64Array) -> Int64Array:
    """See the reference."""
    spans = np.empty((len(terms), 2), np.int64)
    find_spans(postings.terms, postings.offsets, terms, spans)
    return spans


def score_rows(
    postings: Sequence[TermPostings],
    spans: Sequence[Int64Array],
    weights: Float32Array,
    *,
    norm: LengthNorm,
    mask: Uint8Array,
) -> tuple[Int64Array, Float32Array]:
    """See the reference. What is handed out is the caller's for as long as anything refers to it."""
    counts = [_n_postings(own) for own in spans]
    # Of sizes that come again, so that the memory does too.
    size = 1 << min(sum(counts), 8 * len(mask)).bit_length()
    found, scores = mask_buffer(8 * size).view(np.int64), mask_buffer(4 * size).view(np.float32)
    cursors = np.empty(len(weights), np.int64)
    sums, touched = np.zeros(WINDOW_ROWS, np.float32), np.zeros(WINDOW_ROWS // 64, np.uint64)
    work, n = Scoring(weights, norm.base, norm.slope, norm.lengths, mask, cursors, sums, touched, found, scores), 0
    for part, own, count in zip(postings, spans, counts, strict=True):
        if count:
            n = score_part(work, own, part.rows, part.frequencies, n)
    return found[:n], scores[:n]


def rows_with_all(
    postings: Sequence[TermPostings], spans: Sequence[Int64Array], *, fields: int, first_row: int, end_row: int
) -> Int64Array:
    """See the reference; of one term or more."""
    found = np.empty(sum(int((own[:, 1] - own[:, 0]).min()) for own in spans), np.int64)
    n = 0
    for part, own in zip(postings, spans, strict=True):
        counts = own[:, 1] - own[:, 0]
        if counts.min():
            ordered, cursors = own[np.argsort(counts, kind="stable")], np.empty(len(own), np.int64)
            n = rows_with_all_of_part(ordered, part.rows, part.fields, fields, first_row, end_row, cursors, found, n)
    return found[:n]


def merge_postings(parts: Sequence[TermPostings], living: Uint8Array | None) -> TermPostings:
    """See the reference."""
    mask = _ALL_LIVE if living is None else living
    terms = np.unique(np.concatenate([part.terms for part in parts]))
    places = [np.searchsorted(terms, part.terms) for part in parts]
    counts = np.zeros(len(terms), np.int64)
    for part, own in zip(parts, places, strict=True):
        count_kept(part.offsets, part.rows, mask, own, counts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(offsets[-1])
    rows, frequencies, fields = np.empty(n, np.int32), np.empty(n, np.float32), np.empty(n, np.uint8)
    ends = offsets[:-1].copy()
    for part, own in zip(parts, places, strict=True):
        copy_kept(part.offsets, part.rows, part.frequencies, part.fields, mask, own, ends, rows, frequencies, fields)
    is_there = counts > 0
    return TermPostings(terms[is_there], np.append(offsets[:-1][is_there], n), rows, frequencies, fields)


def warm_up() -> None:
    """Compile, or load from disk."""
    one = TermPostings(
        np.zeros(1, np.int32), np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32), np.ones(1, np.uint8)
    )
    norm = LengthNorm(np.float32(1), np.float32(1), np.ones(1, np.float32))
    terms, mask = np.zeros(1, np.int64), np.ones(8, np.uint8)
    frozen = np.ones(8, np.uint8)
    frozen.flags.writeable = False
    spans = [find_terms(one, terms)]
    for each in (mask, frozen):
        score_rows([one], spans, np.ones(1, np.float32), norm=norm, mask=each)
    rows_with_all([one], spans, fields=1, first_row=0, end_row=1)
    merge_postings([one, EMPTY], None)


def _n_postings(spans: Int64Array) -> int:
    return int((spans[:, 1] - spans[:, 0]).sum())
