"""A batch of items' texts to postings: what each term weighs in each item, and how long each item is. Any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.index.lexical.analysers import analyser
from engine.index.lexical.terms import Terms
from engine.types import Float32Array, Int64Array, TextField
from kernels.postings import EMPTY, TermPostings


@dataclass(frozen=True, slots=True, eq=False)
class AnalysedTexts:
    """What items [m] add to an index: their rows, ascending, and their postings at the first of these.

    ``lengths``: terms of each item, each as many as its field weighs.
    """

    first_rows: Int64Array
    n_rows: Int64Array
    lengths: Float32Array
    postings: TermPostings

    def __len__(self) -> int:
        return len(self.first_rows)

    @property
    def end_row(self) -> int:
        return int(self.first_rows[-1] + self.n_rows[-1])


def analyse(
    first_rows: Sequence[int],
    n_rows: Sequence[int],
    texts: Sequence[Mapping[str, str]],
    *,
    fields: Sequence[TextField],
    terms: Terms,
) -> AnalysedTexts:
    """Analyse each item's fields and enter new terms; fields that an item lacks, and others, are passed over."""
    rows = np.array(first_rows, np.int64)
    keys, lengths = [], np.zeros(len(texts))
    for field in fields:
        numbers, counts = _terms_of(field, texts, terms)
        lengths += field.lexical_weight * counts
        keys.append(numbers << 32 | np.repeat(np.arange(len(texts)), counts))
    analysed = AnalysedTexts(rows, np.array(n_rows, np.int64), lengths.astype(np.float32), EMPTY)
    return replace(analysed, postings=_postings(keys, fields, rows)) if any(map(len, keys)) else analysed


def _terms_of(field: TextField, texts: Sequence[Mapping[str, str]], terms: Terms) -> tuple[Int64Array, Int64Array]:
    """Numbers of the field's terms, item after item, and how many each item has."""
    assert field.analyser is not None
    cut = analyser(field.analyser)
    words = [cut(text) if (text := item.get(field.name)) else () for item in texts]
    flat = [word for own in words for word in own]
    return terms.add(field.analyser, flat), np.array([*map(len, words)], np.int64)


def _postings(keys: Sequence[Int64Array], fields: Sequence[TextField], rows: Int64Array) -> TermPostings:
    """``keys``: of each field, a term's number above the place of its item."""
    own, places = np.unique(np.concatenate(keys), return_inverse=True)
    frequencies, bits = np.zeros(len(own)), np.zeros(len(own), np.uint8)
    ends = np.cumsum([len(one) for one in keys])
    for number, field in enumerate(fields):
        counts = np.bincount(places[ends[number] - len(keys[number]) : ends[number]], minlength=len(own))
        frequencies += field.lexical_weight * counts
        bits |= (counts > 0).astype(np.uint8) << np.uint8(number)
    terms, firsts = np.unique(own >> 32, return_index=True)
    return TermPostings(
        terms.astype(np.int32),
        np.append(firsts, len(own)).astype(np.int64),
        rows[own & 0xFFFFFFFF].astype(np.int32),
        frequencies.astype(np.float32),
        bits,
    )
