"""What places a row's keywords have, by whichever way rows and places came to be."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.index.column_types import KeywordColumn
from engine.index.hashed import Buckets, Places, Vocabulary

WORDS = tuple(f"w{n}" for n in range(12))
rows = st.lists(st.none() | st.lists(st.sampled_from(WORDS), max_size=4).map(tuple), max_size=30)
places = st.one_of(
    st.integers(1, 20).map(Buckets),
    st.lists(st.sampled_from((*WORDS, "unheard of")), min_size=1, max_size=9, unique=True).map(tuple).map(Vocabulary),
)


def expected(values: list[tuple[str, ...] | None], which: Places) -> np.ndarray:
    told = np.zeros((len(values), which.width), np.float32)
    for row, words in enumerate(values):
        for word in words or ():
            if isinstance(which, Buckets):
                told[row, crc32(word.encode()) % which.width] = 1
            elif word in which.keywords:
                told[row, which.keywords.index(word)] = 1
    return told


@given(before=rows, after=rows, dead=st.integers(0, 70), which=places)
def test_rows_have_the_places_of_their_keywords_whenever_they_came(
    before: list[tuple[str, ...] | None], after: list[tuple[str, ...] | None], dead: int, which: Places
) -> None:
    column = KeywordColumn()
    column.append(before)
    column.places(which)
    column.append_nulls(dead)
    column.append(after)
    values = [*before, *[None] * dead, *after]
    order = np.random.default_rng(len(values)).permutation(len(values)).astype(np.int64)
    np.testing.assert_array_equal(column.places(which).of(order), expected(values, which)[order])


def test_places_of_models_that_are_gone_are_forgotten() -> None:
    column = KeywordColumn()
    column.append([("a",)] * 1000)
    for width in range(1, 200):
        column.places(Buckets(width))
    assert len(column._places) == 64
    assert column.places(Buckets(1)).of(np.arange(3)).tolist() == [[1], [1], [1]]
