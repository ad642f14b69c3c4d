from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels import cpu_postings, reference_postings
from kernels._cpu_postings import WINDOW_ROWS
from kernels.arrays import Float32Array, Int64Array, Uint8Array
from kernels.postings import EMPTY, LengthNorm, TermPostings


@dataclass(frozen=True)
class Case:
    """Parts in ascending rows, a query, and the rows that pass."""

    parts: list[TermPostings]
    terms: Int64Array
    weights: Float32Array
    norm: LengthNorm
    mask: Uint8Array
    n_rows: int

    @property
    def spans(self) -> list[Int64Array]:
        return [reference_postings.find_terms(part, self.terms) for part in self.parts]


def part_of(rng: np.random.Generator, first_row: int, end_row: int, density: float) -> TermPostings:
    """Some of ten terms, each in some of the rows."""
    terms = np.flatnonzero(rng.random(10) < 0.7).astype(np.int32)
    of_term = [np.flatnonzero(rng.random(end_row - first_row) < density) + first_row for _ in terms]
    of_term = [rows if len(rows) else np.array([first_row]) for rows in of_term]
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in of_term])]).astype(np.int64)
    n = int(offsets[-1])
    rows = np.concatenate([np.zeros(0, np.int64), *of_term]).astype(np.int32)
    frequencies = (rng.integers(1, 9, n) / 4).astype(np.float32)
    return TermPostings(terms, offsets, rows, frequencies, rng.integers(1, 8, n).astype(np.uint8))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Rows around words and windows; masks shorter than the rows; terms that are nowhere, and told twice."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ends = draw(st.lists(st.sampled_from([1, 63, 64, 200, WINDOW_ROWS + 3]), min_size=1, max_size=4))
    density = draw(st.sampled_from([0.001, 0.1, 1.0]))
    bounds = np.concatenate([[0], np.cumsum(ends)]).tolist()
    parts = [part_of(rng, first, end, density) for first, end in pairwise(bounds)]
    n_rows = bounds[-1]
    terms = rng.integers(-1, 12, draw(st.integers(1, 6)))
    weights = (rng.random(len(terms)) * 7).astype(np.float32)
    lengths = rng.integers(0, 400, n_rows).astype(np.float32)
    norm = LengthNorm(np.float32(rng.random()), np.float32(rng.random()), lengths)
    n_masked = draw(st.sampled_from([n_rows, n_rows // 2]))
    mask = np.packbits(rng.random(n_masked) < draw(st.sampled_from([0.0, 0.5, 1.0])), bitorder="little")
    return Case(parts, terms, weights, norm, mask, n_rows)


@given(cases())
def test_scores_equal_the_reference_bit_for_bit(case: Case) -> None:
    told = (case.parts, case.spans, case.weights)
    rows, scores = cpu_postings.score_rows(*told, norm=case.norm, mask=case.mask)
    expected = reference_postings.score_rows(*told, norm=case.norm, mask=case.mask)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(scores, expected[1])
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)


@given(cases(), st.integers(1, 7), st.sampled_from([0.0, 0.3]), st.sampled_from([0.7, 1.0]))
def test_rows_with_all_terms_equal_the_reference(case: Case, fields: int, first: float, end: float) -> None:
    bounds = {"first_row": int(first * case.n_rows), "end_row": int(end * case.n_rows)}
    rows = cpu_postings.rows_with_all(case.parts, case.spans, fields=fields, **bounds)
    expected = reference_postings.rows_with_all(case.parts, case.spans, fields=fields, **bounds)
    np.testing.assert_array_equal(rows, expected)


@given(cases(), st.booleans())
def test_merged_parts_equal_the_reference_and_score_alike(case: Case, drops_dead: bool) -> None:
    living = case.mask if drops_dead else None
    if living is not None:
        living = np.concatenate([living, np.zeros(-(-case.n_rows // 8) - len(living), np.uint8)])
    one = cpu_postings.merge_postings([*case.parts, EMPTY], living)
    other = reference_postings.merge_postings([*case.parts, EMPTY], living)
    for name in ("terms", "offsets", "rows", "frequencies", "fields"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(case.parts[0], name).dtype
    spans = [cpu_postings.find_terms(one, case.terms)]
    rows, scores = cpu_postings.score_rows([one], spans, case.weights, norm=case.norm, mask=case.mask)
    expected = reference_postings.score_rows(case.parts, case.spans, case.weights, norm=case.norm, mask=case.mask)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


@given(cases())
def test_terms_are_found_where_the_reference_finds_them(case: Case) -> None:
    for part in [*case.parts, EMPTY]:
        spans = cpu_postings.find_terms(part, case.terms)
        np.testing.assert_array_equal(spans, reference_postings.find_terms(part, case.terms))


def test_scores_are_the_caller_s_to_keep() -> None:
    part = part_of(np.random.default_rng(0), 0, 100, 1.0)
    terms, norm = part.terms[:1].astype(np.int64), LengthNorm(np.float32(1), np.float32(0), np.ones(100, np.float32))
    told, mask = ([part], [cpu_postings.find_terms(part, terms)]), np.full(16, 255, np.uint8)
    _, first = cpu_postings.score_rows(*told, np.ones(1, np.float32), norm=norm, mask=mask)
    kept = first.copy()
    _, second = cpu_postings.score_rows(*told, np.full(1, 2, np.float32), norm=norm, mask=mask)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(second, 2 * kept)
