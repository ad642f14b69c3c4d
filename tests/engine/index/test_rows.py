"""Rows against a plain model: which rows live, whose they are, what was born and died when."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.index.rows import NEVER, Rows
from engine.types import IdType

steps = st.lists(st.tuples(st.sampled_from(["add", "kill", "skip"]), st.integers(0, 9), st.integers(1, 3)), max_size=60)


def mask_of(rows: Rows) -> list[bool]:
    return np.unpackbits(rows.alive, bitorder="little").astype(bool).tolist()


def test_rows_that_died_are_needed_as_long_as_a_moment_at_which_they_were_seen_is_kept() -> None:
    rows = Rows("uint64")
    for item in range(4):
        rows.add(item, 2 * item, 2, born=item)

    def needed() -> list[int]:
        return np.flatnonzero(np.unpackbits(rows.needed_bits(), bitorder="little")).tolist()

    rows.kill(0, died=5)
    rows.shown.lease(100, 200)
    rows.kill(2, died=6)
    assert needed() == [2, 3, 4, 5, 6, 7]
    rows.shown.forget_ended(200)
    assert needed() == [2, 3, 6, 7]


@given(steps)
def test_rows_agree_with_a_plain_model(script: list[tuple[str, int, int]]) -> None:
    rows = Rows("uint64")
    spans: dict[int, tuple[int, int]] = {}
    written = 0
    for sequence, (step, item, count) in enumerate(script, start=1):
        if step == "add":
            rows.kill(item, died=sequence)
            rows.add(item, written, count, born=sequence)
            spans[item] = (written, count)
            written += count
        elif step == "kill":
            rows.kill(item, died=sequence)
            spans.pop(item, None)
        else:
            written += count
            rows.skip_to(written)
    living = {row for first, count in spans.values() for row in range(first, first + count)}
    assert rows.n_rows == written
    assert rows.n_alive == len(living)
    assert rows.n_items == len(spans)
    assert {row for row, alive in enumerate(mask_of(rows)) if alive} == living
    assert {row for row in range(written) if rows.died[row] == NEVER} == living
    for item, (first, count) in spans.items():
        assert rows.rows_of([item]).tolist() == list(range(first, first + count))
        assert rows.ids[first : first + count].tolist() == [item] * count
        assert rows.first_rows[first : first + count].tolist() == [first] * count


def test_the_alive_mask_has_no_bit_beyond_the_last_row_and_is_whole_words() -> None:
    rows = Rows("string")
    for n in range(130):
        rows.add(f"i{n}", n, 1, born=n + 1)
    assert len(rows.alive) == 24
    assert sum(mask_of(rows)) == 130


def test_growing_keeps_what_was_there() -> None:
    rows = Rows("string")
    for n in range(5000):
        rows.add(f"i{n}", n, 1, born=n + 1)
    rows.kill("i17", died=6000)
    assert rows.ids[4999] == "i4999"
    assert rows.born[4999] == 5000
    assert rows.died[17] == 6000
    assert rows.rows_of(["i17", "i18", "never"]).tolist() == [18]
    assert rows.memory_bytes > 5000 * 25


@given(st.sampled_from(["uint64", "string"]), st.lists(st.tuples(st.integers(0, 70), st.integers(1, 3)), max_size=60))
def test_rows_added_many_at_once_are_as_if_added_one_after_the_other(
    id_type: IdType, items: list[tuple[int, int]]
) -> None:
    at_once, single = Rows(id_type), Rows(id_type)
    ids = [number if id_type == "uint64" else f"i{number}" for number in range(len(items))]
    firsts = []
    for item, (gap, count) in zip(ids, items, strict=True):
        firsts.append(single.n_rows + gap)
        single.add(item, firsts[-1], count, born=7 + len(firsts))
    counts = np.array([count for _, count in items], np.int64)
    for part in (slice(0, 20), slice(20, None)):
        born = 8 + np.arange(len(items))[part]
        at_once.add_many(ids[part], np.array(firsts, np.int64)[part], counts[part], born=born)
    for name in ("ids", "first_rows", "born", "died", "alive"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(single, name))
    assert (at_once.n_rows, at_once.n_alive, at_once.n_items) == (single.n_rows, single.n_alive, single.n_items)
    assert [at_once.rows_of_item(item) for item in ids] == [single.rows_of_item(item) for item in ids]
