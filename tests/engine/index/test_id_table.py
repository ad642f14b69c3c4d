from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.index.id_table import IdDict, IdTable

GOLDEN_INVERSE = pow(0x9E3779B97F4A7C15, -1, 2**64)
"""Its multiples by small numbers all want the first place of the table."""
IDS = [0, 1, 2**63, 2**64 - 1, *(GOLDEN_INVERSE * step % 2**64 for step in range(1, 9))]
IDS += [(GOLDEN_INVERSE * (2**64 - step)) % 2**64 for step in range(1, 5)]

steps = st.lists(
    st.tuples(st.sampled_from(["put", "put", "pop"]), st.sampled_from(IDS), st.integers(1, 3)), max_size=80
)


@given(steps)
def test_an_id_table_is_a_dictionary(script: list[tuple[str, int, int]]) -> None:
    table, model = IdTable(), {}
    for row, (step, item, count) in enumerate(script):
        if step == "put":
            table.put(item, row, count)
            model[item] = (row, count)
        else:
            assert table.pop(item) == model.pop(item, None)
        assert len(table) == len(model)
    for item in IDS:
        assert table.get(item) == model.get(item)
    rows = [row for item in IDS if item in model for row in range(model[item][0], sum(model[item]))]
    assert table.rows_of(IDS).tolist() == rows
    assert table.rows_of(np.array(IDS, np.uint64)).tolist() == rows


@pytest.mark.parametrize("table", [IdTable(), IdDict()], ids=["uint64", "string"])
def test_many_come_and_go(table: IdTable | IdDict) -> None:
    ids = np.random.default_rng(4).integers(0, 2**63, 20_000).astype(np.uint64)
    known = ids.tolist() if isinstance(table, IdTable) else [f"i{one}" for one in ids.tolist()]
    for row, one in enumerate(known):
        table.put(one, row, 1)
    for one in known[::3]:
        assert table.pop(one) is not None
    expected = [row for row in range(20_000) if row % 3]
    assert table.rows_of(known).tolist() == expected
    assert len(table) == len(expected)
    assert table.memory_bytes > 20_000 * 16
    assert table.rows_of(known[:0]).tolist() == []


def test_of_thousands_of_ids_those_that_are_there_are_found_in_the_order_they_are_asked_for() -> None:
    rng = np.random.default_rng(5)
    ids = np.unique(rng.integers(0, 2**64 - 1, 6000, dtype=np.uint64))
    table, counts = IdTable(), rng.integers(1, 4, len(ids))
    firsts = np.cumsum(counts) - counts
    for one, first, count in zip(ids[::2].tolist(), firsts[::2].tolist(), counts[::2].tolist(), strict=True):
        table.put(one, first, count)
    asked = rng.permutation(len(ids))
    expected = [row for at in asked.tolist() if at % 2 == 0 for row in range(firsts[at], firsts[at] + counts[at])]
    assert table.rows_of(ids[asked]).tolist() == expected


batches = st.lists(st.tuples(st.sampled_from(IDS), st.integers(1, 3)), max_size=12, unique_by=lambda one: one[0])


@given(st.lists(batches, max_size=4))
def test_many_put_at_once_are_as_if_put_one_after_the_other(batches: list[list[tuple[int, int]]]) -> None:
    for name in (int, str):
        at_once, single = (IdTable(), IdTable()) if name is int else (IdDict(), IdDict())
        for number, batch in enumerate(batches):
            rows = range(100 * number, 100 * number + len(batch))
            for row, (item, count) in zip(rows, batch, strict=True):
                single.put(name(item), row, count)
            firsts, counts = np.array(rows, np.int64), np.array([count for _, count in batch], np.int64)
            at_once.put_many([name(item) for item, _ in batch], firsts, counts)
        assert len(at_once) == len(single)
        assert at_once.memory_bytes == single.memory_bytes or name is int
        assert [at_once.get(name(item)) for item in IDS] == [single.get(name(item)) for item in IDS]


def test_a_table_grows_as_often_as_it_must_for_many_at_once() -> None:
    table, ids = IdTable(), np.random.default_rng(6).integers(0, 2**63, 20_000).astype(np.uint64)
    table.put(7, 30_000, 1)
    table.put_many(ids.tolist(), np.arange(20_000), np.ones(20_000, np.int64))
    assert table.rows_of(ids).tolist() == list(range(20_000))
    assert table.get(7) == (30_000, 1)
    assert table.memory_bytes == 16 * 65_536
