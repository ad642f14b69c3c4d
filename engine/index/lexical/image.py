"""An index of postings as flat arrays by name, made again of these, or of some of its rows alone. For any thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import CorruptData
from engine.index.lexical.lexical_index import LexicalIndex
from engine.index.lexical.merging import Moment, Segment
from engine.index.lexical.terms import Vocabulary
from engine.types import Int32Array, Int64Array, Schema, Uint8Array
from kernels.cpu_filters import mask_of_rows
from kernels.postings import TermPostings

PREFIX = "lexical/"
_CHUNK = 1024
_POSTINGS = ("terms", "offsets", "rows", "frequencies", "fields")


def renumbered(moment: Moment, live: Int64Array) -> LexicalIndex:
    """An index of the rows ``live``, ascending, alone: the first becomes row 0. It shares the dictionary."""
    index = LexicalIndex(moment.schema, moment.terms)
    index.skip_to(len(live))
    index.lengths[:] = moment.lengths[live]
    if index.row_counts is not None and moment.row_counts is not None:
        index.row_counts[:] = moment.row_counts[live]
    numbers = np.zeros(moment.n_rows, np.int32)
    numbers[live] = np.arange(len(live), dtype=np.int32)
    whole = moment.whole(mask_of_rows(live, first_row=0, n_rows=moment.n_rows))
    postings = replace(whole.postings, rows=numbers[whole.postings.rows])
    index.restore(Segment(postings, numbers[whole.items], whole.total_length))
    return index


def lexical_arrays(moment: Moment, living: Uint8Array) -> dict[str, npt.NDArray[Any]]:
    """Postings of the rows that live, and the terms that these have."""
    whole = moment.whole(living)
    arrays: dict[str, npt.NDArray[Any]] = {name: getattr(whole.postings, name) for name in _POSTINGS}
    arrays |= {"items": whole.items, "lengths": moment.lengths}
    if moment.row_counts is not None:
        arrays["row_counts"] = moment.row_counts
    is_used = np.zeros(int(whole.postings.terms.max(initial=-1)) + 1, np.bool_)
    is_used[whole.postings.terms] = True
    for kind, vocabulary in moment.terms.vocabularies.items():
        texts, numbers = _used(vocabulary, is_used)
        arrays |= {f"{kind}/texts": texts, f"{kind}/numbers": numbers}
    return {f"{PREFIX}{name}": array for name, array in arrays.items()}


def lexical_from(arrays: Mapping[str, npt.NDArray[Any]], schema: Schema, n_rows: int) -> LexicalIndex:
    """
    Raises:
        CorruptData: the arrays are not of that many rows and such a schema.
    """
    # Of what was read they are views, which would keep all of it.
    own = {name.removeprefix(PREFIX): array.copy() for name, array in arrays.items()}
    index = LexicalIndex(schema)
    index.skip_to(n_rows)
    try:
        _fill(index, own)
    except (LookupError, TypeError, ValueError) as error:
        raise CorruptData(f"postings in a row image: {error!r}") from error
    return index


def _fill(index: LexicalIndex, own: Mapping[str, npt.NDArray[Any]]) -> None:
    index.lengths[:] = own["lengths"]
    if index.row_counts is not None:
        index.row_counts[:] = own["row_counts"]
    for kind in index.terms.vocabularies:
        texts = own[f"{kind}/texts"].tobytes().decode().split("\n")
        index.terms.restore(kind, texts[:-1], own[f"{kind}/numbers"].tolist())
    items = own["items"]
    total_length = float(index.lengths[items].sum(dtype=np.float64))
    index.restore(Segment(TermPostings(**{name: own[name] for name in _POSTINGS}), items, total_length))


def _used(vocabulary: Vocabulary, is_used: npt.NDArray[np.bool_]) -> tuple[Uint8Array, Int32Array]:
    """The terms whose numbers are used, each on a line of its own, and these numbers; larger ones are used by none."""
    lines, numbers = [], [np.zeros(0, np.int32)]
    for texts, own in _chunks(vocabulary):
        places = np.flatnonzero(own < len(is_used))
        places = places[is_used[own[places]]]
        numbers.append(own[places])
        lines += [f"{texts[place]}\n" for place in places.tolist()]
    return np.frombuffer("".join(lines).encode(), np.uint8), np.concatenate(numbers)


def _chunks(vocabulary: Vocabulary) -> Iterator[tuple[list[str], Int32Array]]:
    """A thread may be adding terms: those whose number is there are there."""
    n_terms = len(vocabulary.numbers)
    for first in range(0, n_terms, _CHUNK):
        chosen = slice(first, min(first + _CHUNK, n_terms))
        yield vocabulary.texts[chosen], np.array(vocabulary.numbers[chosen], np.int32)
