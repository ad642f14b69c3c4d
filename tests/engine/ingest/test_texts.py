from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.ingest.texts import text_hash
from engine.types import Item, Schema, TextField

PLAIN = Schema("things", dimension=2, text_fields=(TextField("title"), TextField("body", order=1)))
ANALYSED = replace(PLAIN, text_fields=(TextField("title", analyser="english"), TextField("body", order=1)))
VECTOR = np.ones(2, np.float32)


def test_words_that_move_to_another_field_change_terms_though_no_embedding() -> None:
    here, there = Item(1, {"title": "red apple"}), Item(1, {"body": "red apple"})
    assert text_hash(here, PLAIN) == text_hash(there, PLAIN)
    assert text_hash(here, ANALYSED) != text_hash(there, ANALYSED)


def test_a_text_beside_a_given_vector_counts_where_it_is_searched() -> None:
    one, other = (Item(1, {"title": title}, vector=VECTOR) for title in ("apple", "pear"))
    assert text_hash(one, PLAIN) == text_hash(other, PLAIN)
    assert text_hash(one, ANALYSED) != text_hash(other, ANALYSED)
    unsearched = Item(1, {"title": "apple", "body": "x"}, vector=VECTOR)
    assert text_hash(one, ANALYSED) == text_hash(unsearched, ANALYSED)
