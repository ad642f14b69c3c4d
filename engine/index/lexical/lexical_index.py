"""The postings of a version's rows, live: in segments that are never changed, but appended and merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.index.growing import GrowingArray
from engine.index.lexical.analysing import AnalysedTexts, analyse
from engine.index.lexical.merging import AT_ONCE, Merge, Moment, Segment, Uint16Array, first_to_merge, merged
from engine.index.lexical.term_weights import NO_TERMS, TermWeights
from engine.index.lexical.terms import Terms
from engine.index.rows import rows_of_spans
from engine.types import Float32Array, Int64Array, Schema, Uint8Array
from kernels import cpu as kernels
from kernels.postings import LengthNorm


class LexicalIndex:
    """BM25 over the fields of a schema that have an analyser; an item's postings are at its first row.

    The search lane's thread owns it; ``analyse`` alone may run in others. Statistics (number of items, items with a
    term, mean length) count all that was appended and not merged away since, dead or not, as Lucene does. ``terms``:
    the dictionary, which indexes of the same collection may share.
    """

    def __init__(self, schema: Schema, terms: Terms | None = None) -> None:
        self.n_rows = 0
        self.segments: tuple[Segment, ...] = ()
        self._schema = schema
        self._fields = schema.analysed_fields
        self._k1, self._b = schema.bm25_k1, schema.bm25_b
        self.terms = terms or Terms(kind for one in self._fields if (kind := one.analyser) is not None)
        self._lengths = GrowingArray(np.float32)
        self._row_counts = GrowingArray(np.uint16) if schema.rows_per_item > 1 else None
        self._n_held = 0

    @property
    def memory_bytes(self) -> int:
        """Dictionary, postings and lengths. Any thread may ask."""
        arrays = self._lengths.nbytes + (self._row_counts.nbytes if self._row_counts is not None else 0)
        return self.terms.memory_bytes + sum(one.nbytes for one in self.segments) + arrays

    @property
    def lengths(self) -> Float32Array:
        """[n_rows]: of the item whose first row it is, else 0. A view."""
        return self._lengths.values

    @property
    def row_counts(self) -> Uint16Array | None:
        """[n_rows]: how many rows the item has whose first row it is, else 0; None where each has one. A view."""
        return None if self._row_counts is None else self._row_counts.values

    def analyse(
        self, first_rows: Sequence[int], n_rows: Sequence[int], texts: Sequence[Mapping[str, str]]
    ) -> AnalysedTexts:
        """What ``add`` takes, of items in ascending rows; ``texts`` by field. Any one thread at a time."""
        return analyse(first_rows, n_rows, texts, fields=self._fields, terms=self.terms)

    def append(self, first_rows: Sequence[int], n_rows: Sequence[int], texts: Sequence[Mapping[str, str]]) -> None:
        """Analyse and add items, in ascending rows beyond those there are; rows between them have no text."""
        self.add(self.analyse(first_rows, n_rows, texts))

    def add(self, texts: AnalysedTexts) -> None:
        """Append what was analysed; little is merged with it."""
        if not len(texts):
            return
        assert texts.first_rows[0] >= self.n_rows
        self.skip_to(texts.end_row)
        self.lengths[texts.first_rows] = texts.lengths
        if self.row_counts is not None:
            self.row_counts[texts.first_rows] = texts.n_rows
        items = texts.first_rows[texts.lengths > 0].astype(np.int32)
        if len(items):
            own = Segment(texts.postings, items, float(texts.lengths.sum(dtype=np.float64)))
            self.segments = (*self.segments, own)
        self._merge_small()

    def skip_to(self, n_rows: int) -> None:
        """Rows up to ``n_rows`` exist; those not added have no text."""
        missing = n_rows - self.n_rows
        if missing > 0:
            self._lengths.append(0.0, missing)
            if self._row_counts is not None:
                self._row_counts.append(0, missing)
            self.n_rows = n_rows

    def weigh(self, text: str) -> TermWeights:
        """What the terms of a text weigh by the statistics of now: each as often as the text has it."""
        numbers, repeats = np.unique(self.terms.of_query(text), return_counts=True)
        if not len(numbers) or not self.segments:
            return NO_TERMS
        counts = _counts([kernels.find_terms(one.postings, numbers) for one in self.segments])
        weights = self._idf(counts) * (repeats * (self._k1 + 1)).astype(np.float32)
        return TermWeights(numbers, weights, *self._norm())

    def scores(self, terms: TermWeights, mask: Uint8Array) -> tuple[Int64Array, Float32Array]:
        """BM25 of every first row that is in the mask and has any of the terms: rows int64 [n], ascending, and scores
        float32 [n], above 0. By the same weights a row scores the same to the last bit, whatever comes and is merged.
        """
        if not len(terms.numbers) or not self.segments:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        postings = [one.postings for one in self.segments]
        spans = [kernels.find_terms(one, terms.numbers) for one in postings]
        norm = LengthNorm(terms.base, terms.slope, self.lengths)
        return kernels.score_rows(postings, spans, terms.weights, norm=norm, mask=mask)

    def contains(
        self, field: str, terms: Sequence[str], *, first_row: int = 0, end_row: int | None = None
    ) -> Int64Array:
        """Rows int64 [n] of [first_row, end_row), ascending, whose item's field has every one of the terms.

        ``terms``: one or more, as the field's analyser makes them.
        """
        end = self.n_rows if end_row is None else min(end_row, self.n_rows)
        bit, spans = self._find(field, terms)
        # An item's first row may lie before those that are asked for.
        first = first_row if self.row_counts is None else max(0, first_row - self._schema.rows_per_item)
        postings = [one.postings for one in self.segments]
        rows = kernels.rows_with_all(postings, spans, fields=bit, first_row=first, end_row=end)
        if self.row_counts is not None:
            rows = rows_of_spans(rows, self.row_counts[rows].astype(np.int64))
            rows = rows[(rows >= first_row) & (rows < end)]
        return rows

    def at_most(self, field: str, terms: Sequence[str]) -> int:
        """So many items, or fewer, have every one of the terms in the field: no more than have the rarest at all."""
        return int(_counts(self._find(field, terms)[1]).min()) if self.segments else 0

    @property
    def wants_merge(self) -> bool:
        """Whether more is due to be merged than takes no time, and nothing is merged already. Any thread may ask."""
        return not self._n_held and _first_of_large([one.size for one in self.segments]) is not None

    def begin_merge(self, living: Uint8Array) -> Merge | None:
        """The last segments, where they are due to be merged: nothing touches them until ``switch`` or
        ``give_up_merge``. ``living``: a mask of the rows whose postings are kept, which is not changed any more.
        """
        first = _first_of_large([one.size for one in self.segments])
        if self._n_held or first is None:
            return None
        self._n_held = len(self.segments)
        return Merge(self.segments[first:], self.lengths, living)

    def switch(self, merge: Merge, into: Segment) -> None:
        """Put the merged segment in the place of its parts, behind which others may have come."""
        first = self._n_held - len(merge.parts)
        assert self.segments[first : self._n_held] == merge.parts
        kept = (into,) if into.size else ()
        self.segments = (*self.segments[:first], *kept, *self.segments[self._n_held :])
        self._n_held = 0
        self._merge_small()

    def moment(self) -> Moment:
        """As it is now: what is done later does not show."""
        return Moment(self._schema, self.terms, self.segments, self.n_rows, self.lengths, self.row_counts)

    def restore(self, segment: Segment) -> None:
        """Hold this segment, of rows that exist, and no other."""
        self.segments = (segment,) if segment.size else ()

    def give_up_merge(self) -> None:
        """The segments stay as they are; harmless where none are merged."""
        self._n_held = 0

    def _merge_small(self) -> None:
        """What takes no time at once, without looking which rows are dead."""
        n, total = len(self.segments), 0
        while n > self._n_held and total + self.segments[n - 1].size <= AT_ONCE:
            n -= 1
            total += self.segments[n].size
        first = first_to_merge([one.size for one in self.segments[n:]])
        if first is not None:
            self.segments = (*self.segments[: n + first], merged(self.segments[n + first :], self.lengths, None))

    def _find(self, name: str, terms: Sequence[str]) -> tuple[int, list[Int64Array]]:
        """The field's bit in a posting, and where each segment has the terms."""
        number, field = next((i, one) for i, one in enumerate(self._fields) if one.name == name)
        assert field.analyser is not None
        numbers = self.terms.vocabularies[field.analyser].find(terms)
        return 1 << number, [kernels.find_terms(one.postings, numbers) for one in self.segments]

    def _idf(self, counts: Int64Array) -> Float32Array:
        n_items = sum(len(one.items) for one in self.segments)
        return np.log1p((n_items - counts + 0.5) / (counts + 0.5)).astype(np.float32)

    def _norm(self) -> tuple[np.float32, np.float32]:
        """Base and slope, as ``LengthNorm`` has them."""
        n_items = sum(len(one.items) for one in self.segments)
        mean = sum(one.total_length for one in self.segments) / n_items
        return np.float32(self._k1 * (1 - self._b)), np.float32(self._k1 * self._b / mean)


def _counts(spans: Sequence[Int64Array]) -> Int64Array:
    """How many items have each term; of one segment or more."""
    counts: Int64Array = np.sum([own[:, 1] - own[:, 0] for own in spans], axis=0)
    return counts


def _first_of_large(sizes: Sequence[int]) -> int | None:
    """From which segment on all are to become one that takes time to make."""
    first = first_to_merge(sizes)
    return first if first is not None and sum(sizes[first:]) > AT_ONCE else None
