"""Postings walked outside the GIL: scores of every row with any term, rows with all terms, several parts merged.

Compiled as written: no sum is reordered and nothing is fused, so that scores equal the reference's bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels._cpu_jit import compiled, compiled_as_written, int64, lowest_one
from kernels.arrays import Float32Array, Int32Array, Int64Array, Uint8Array
from kernels.filters import Uint64Array

WINDOW_ROWS = 16_384
"""Rows whose scores are summed at a time: 64 KB, which the second-level cache keeps whatever else is read."""


@compiled
def find_spans(terms: Int32Array, offsets: Int64Array, wanted: Int64Array, spans: Int64Array) -> None:
    """First posting and end of each term that is wanted, both 0 where it has none."""
    for place in range(len(wanted)):
        at, end = 0, len(terms)
        while at < end:
            middle = (at + end) >> 1
            if terms[middle] < wanted[place]:
                at = middle + 1
            else:
                end = middle
        is_there = at < len(terms) and terms[at] == wanted[place]
        spans[place, 0] = offsets[at] if is_there else 0
        spans[place, 1] = offsets[at + 1] if is_there else 0


class Scoring(NamedTuple):
    """What a query scores with, and where it writes: ``weights`` float32 [q] of its terms; ``base``, ``slope`` and
    ``lengths`` as ``LengthNorm`` has them; ``cursors`` int64 [q], overwritten; ``sums`` [WINDOW_ROWS] and ``touched``
    [WINDOW_ROWS / 64], all 0, and left so; ``found`` and ``scores`` with room for all.
    """

    weights: Float32Array
    base: np.float32
    slope: np.float32
    lengths: Float32Array
    mask: Uint8Array
    cursors: Int64Array
    sums: Float32Array
    touched: Uint64Array
    found: Int64Array
    scores: Float32Array


@compiled_as_written
def score_part(work: Scoring, spans: Int64Array, rows: Int32Array, frequencies: Float32Array, n: int) -> int:
    """Write the rows of one part, and their scores, from place ``n`` on; returns the place after them."""
    for term in range(len(spans)):
        work.cursors[term] = spans[term, 0]
    while True:
        first = _window(spans, rows, work.cursors)
        if first < 0:
            return n
        for term in range(len(spans)):
            _add_term(work, term, spans[term, 1], rows, frequencies, first)
        n = _emit(work, first, n)


@compiled
def _window(spans: Int64Array, rows: Int32Array, cursors: Int64Array) -> int:
    """The first row of the window that the next posting of any term lies in; -1 where none is left."""
    least = int64(-1)
    for term in range(len(spans)):
        if cursors[term] < spans[term, 1]:
            row = int64(rows[cursors[term]])
            if least < 0 or row < least:
                least = row
    return least if least < 0 else least & ~int64(WINDOW_ROWS - 1)


@compiled_as_written
def _add_term(work: Scoring, term: int, end: int, rows: Int32Array, frequencies: Float32Array, first: int) -> None:
    at, weight, n_masked = work.cursors[term], work.weights[term], 8 * len(work.mask)
    while at < end and rows[at] < first + WINDOW_ROWS:
        row = int64(rows[at])
        if row < n_masked and work.mask[row >> 3] >> (row & 7) & 1:
            place, frequency = row - first, frequencies[at]
            norm = work.base + work.slope * work.lengths[row]
            work.sums[place] += weight * frequency / (frequency + norm)
            work.touched[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
        at += 1
    work.cursors[term] = at


@compiled
def _emit(work: Scoring, first: int, n: int) -> int:
    for w in range(len(work.touched)):
        bits = work.touched[w]
        while bits != 0:
            place = (w << 6) + lowest_one(bits)
            bits &= bits - np.uint64(1)
            work.found[n] = first + place
            work.scores[n] = work.sums[place]
            work.sums[place] = np.float32(0)
            n += 1
        work.touched[w] = np.uint64(0)
    return n


@compiled
def rows_with_all_of_part(
    spans: Int64Array,
    rows: Int32Array,
    bits: Uint8Array,
    fields: int,
    first_row: int,
    end_row: int,
    cursors: Int64Array,
    found: Int64Array,
    n: int,
) -> int:
    """Write the rows from place ``n`` on; returns the place after them. The first of the spans is the shortest."""
    for term in range(len(spans)):
        cursors[term] = _seek(rows, spans[term, 0], spans[term, 1], first_row)
    for at in range(cursors[0], spans[0, 1]):
        row = int64(rows[at])
        if row >= end_row:
            break
        has_all = bits[at] & fields != 0
        for term in range(1, len(spans)):
            if has_all:
                cursors[term] = _seek(rows, cursors[term], spans[term, 1], row)
                place = cursors[term]
                has_all = place < spans[term, 1] and rows[place] == row and bits[place] & fields != 0
        if has_all:
            found[n] = row
            n += 1
    return n


@compiled
def _seek(rows: Int32Array, at: int, end: int, row: int) -> int:
    """The first place of [at, end) whose row is not below ``row``: in steps that double, then halve."""
    step = 1
    while at + step < end and rows[at + step] < row:
        at += step
        step <<= 1
    stop = min(end, at + step)
    while at < stop:
        middle = (at + stop) >> 1
        if rows[middle] < row:
            at = middle + 1
        else:
            stop = middle
    return at


@compiled
def count_kept(
    offsets: Int64Array, rows: Int32Array, living: Uint8Array, places: Int64Array, counts: Int64Array
) -> None:
    """Add to ``counts[places[i]]`` the postings of term i that are kept; an empty mask keeps all."""
    for term in range(len(places)):
        for at in range(offsets[term], offsets[term + 1]):
            counts[places[term]] += int64(_is_kept(living, int64(rows[at])))


@compiled
def copy_kept(
    offsets: Int64Array,
    rows: Int32Array,
    frequencies: Float32Array,
    bits: Uint8Array,
    living: Uint8Array,
    places: Int64Array,
    ends: Int64Array,
    own_rows: Int32Array,
    own_frequencies: Float32Array,
    own_bits: Uint8Array,
) -> None:
    """Copy the postings of term i that are kept to ``ends[places[i]]`` and after, which is moved on."""
    for term in range(len(places)):
        end = ends[places[term]]
        for at in range(offsets[term], offsets[term + 1]):
            if _is_kept(living, int64(rows[at])):
                own_rows[end] = rows[at]
                own_frequencies[end] = frequencies[at]
                own_bits[end] = bits[at]
                end += 1
        ends[places[term]] = end


@compiled
def _is_kept(living: Uint8Array, row: int) -> bool:
    return len(living) == 0 or (row < 8 * len(living) and living[row >> 3] >> (row & 7) & 1 != 0)
