"""Rows against a plain model: which rows live, whose they are, what was born and died when."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.index.rows import NEVER, Rows

steps = st.lists(st.tuples(st.sampled_from(["add", "kill", "skip"]), st.integers(0, 9), st.integers(1, 3)), max_size=60)


def mask_of(rows: Rows) -> list[bool]:
    return np.unpackbits(rows.alive, bitorder="little").astype(bool).tolist()


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
