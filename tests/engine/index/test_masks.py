from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UnknownAttribute
from engine.index import columns as columns_module
from engine.index import masks as masks_module
from engine.index import regions
from engine.index.columns import Columns
from engine.index.filters import FilterProgram, compile_filter
from engine.index.masks import MaskCache, RowMask
from engine.index.regions import SEGMENT_ROWS
from engine.types import AttributeValue, Filter, HasId, Int64Array, IsNull, Match, Range, Uint8Array
from tests.engine.index.filter_model import SCHEMA, TextColumns, filters, items

Rows = list[dict[str, AttributeValue]]


def no_rows(ids: Any) -> Int64Array:
    return np.zeros(0, np.int64)


def own_rows(ids: Any) -> Int64Array:
    """Item i has row i, and there are six."""
    return np.array([int(one) for one in ids if one < 6], np.int64)


def program_of(*must: Any) -> FilterProgram:
    return compile_filter(Filter(must=must), SCHEMA)


def columns_of(n_rows: int) -> Columns:
    columns = TextColumns()
    columns.append([{"int": row, "keyword": "ab"[row % 2]} for row in range(n_rows)])
    return columns


def rows_in(mask: Uint8Array) -> list[int]:
    rows: list[int] = np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()
    return rows


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 64 rows, so that a few hundred lie in several."""
    for module in (regions, columns_module, masks_module):
        monkeypatch.setattr(module, "SEGMENT_ROWS", 64)
    monkeypatch.setattr(masks_module, "_SEGMENT_BYTES", 8)


steps = st.lists(
    st.tuples(st.sampled_from(["append", "append", "dead", "ask", "volatile"]), st.integers(0, 4), items), max_size=14
)


@settings(max_examples=50)
@given(steps, st.lists(filters, min_size=1, max_size=4), st.sampled_from([0, 2000, 1 << 20]))
def test_a_mask_from_the_cache_is_as_if_evaluated_now(script: Any, trees: list[Filter], budget: int) -> None:
    columns, cache = TextColumns(), MaskCache(budget)
    programs = [compile_filter(tree, SCHEMA).parts()[0] for tree in trees]
    for step, number, rows in script:
        if step == "append":
            columns.append(rows * (1 + 9 * number))
        elif step == "dead":
            columns.append_dead(number * 31)
        elif step == "volatile" and columns.n_rows:
            columns.set_volatile(0, 1, {})
        else:
            asked = programs[: number + 1]
            for program, found in zip(asked, cache.masks(asked, columns), strict=True):
                np.testing.assert_array_equal(found.bits, program.evaluate(columns, no_rows))
                assert found.count == len(rows_in(found.bits))
        assert cache.counters.bytes <= budget


@pytest.mark.usefixtures("small_segments")
def test_segments_evaluated_apart_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = lambda mask: np.bitwise_count(mask).reshape(-1, 8).sum(axis=1)  # noqa: E731  # of segments of 64 rows
    monkeypatch.setattr(masks_module.kernels, "segment_counts", counts)
    columns, cache = columns_of(10), MaskCache()
    program = program_of(Match("keyword", ("a",)), Range("int", gte=5))
    for n_rows in (50, 4, 100, 300):
        columns.append([{"int": columns.n_rows + row, "keyword": "a"} for row in range(n_rows)])
        before = cache.counters.misses
        found = cache.mask(program, columns)
        np.testing.assert_array_equal(found.bits, program.evaluate(columns, no_rows))
        assert found.count == len(rows_in(found.bits))
        assert cache.counters.misses - before <= n_rows // 64 + 2


def test_an_append_spoils_the_last_segment_alone() -> None:
    columns, cache = columns_of(3 * SEGMENT_ROWS + 10), MaskCache()
    program = program_of(Match("keyword", ("a",)))
    cache.mask(program, columns)
    assert (cache.counters.hits, cache.counters.misses) == (0, 4)
    cache.mask(program, columns)
    assert (cache.counters.hits, cache.counters.misses) == (4, 4)
    columns.append([{"keyword": "a"}])
    found = cache.mask(program, columns)
    assert (cache.counters.hits, cache.counters.misses) == (7, 5)
    assert found.count == 3 * SEGMENT_ROWS // 2 + 5 + 1
    assert cache.counters.hit_rate == 7 / 12


def test_the_least_recently_used_mask_goes_first() -> None:
    columns = columns_of(1000)
    one, two, three = (program_of(Range("int", gte=number)) for number in range(3))
    cache = MaskCache(2 * (8192 + 16 + 500))
    for program in (one, two, one, three, one):
        cache.mask(program, columns)
    assert cache.counters.evictions == 1
    assert (cache.counters.hits, cache.counters.misses) == (2, 3)
    cache.mask(two, columns)
    assert cache.counters.misses == 4


def test_masks_of_other_columns_are_others_and_can_be_forgotten() -> None:
    cache, program = MaskCache(), program_of(Match("keyword", ("a",)))
    small, large = columns_of(10), columns_of(20)
    assert (cache.mask(program, small).count, cache.mask(program, large).count) == (5, 10)
    held = cache.counters.bytes
    cache.forget(small)
    assert cache.counters.bytes == held // 2
    assert cache.mask(program, large).count == 10
    assert cache.counters.misses == 2


def test_a_mask_from_the_cache_cannot_be_written_to() -> None:
    found = MaskCache().mask(program_of(Match("keyword", ("a",))), columns_of(10))
    with pytest.raises(ValueError, match="read-only"):
        found.bits[0] = 0
    assert rows_in(found.without(np.array([0, 1, 2, 0])).bits) == [4, 6, 8]
    assert found.without(np.array([0, 1, 2, 0])).count == 3
    assert found.among(np.full(8, 0x0F, np.uint8)).count == 3


def test_an_attribute_that_the_columns_lack_is_refused_and_nothing_is_kept() -> None:
    cache, columns = MaskCache(), Columns(())
    columns.append([{}])
    for program in (program_of(IsNull("int")), program_of(Match("keyword", ("a",)))):
        with pytest.raises(UnknownAttribute):
            cache.mask(program, columns)
    assert cache.counters.bytes == 0


# The parts of a program, and its other forms


@given(items, filters)
def test_a_program_is_both_its_parts_and_the_first_names_no_ids(rows: Rows, tree: Filter) -> None:
    columns = TextColumns()
    columns.append((rows + [{}] * 6)[:12])
    program = compile_filter(tree, SCHEMA)
    of_columns, of_ids = program.parts()
    assert not of_columns.root.names_ids
    expected = of_columns.evaluate(columns, own_rows) & of_ids.evaluate(columns, own_rows)
    np.testing.assert_array_equal(program.evaluate(columns, own_rows), expected)


@given(items, filters, st.lists(st.integers(0, 299), max_size=80))
def test_the_inline_form_says_of_each_row_what_the_mask_says(rows: Rows, tree: Filter, asked: list[int]) -> None:
    columns = TextColumns()
    columns.append(([*rows, {}] * 300)[:300])
    program = compile_filter(tree, SCHEMA)
    flags = np.unpackbits(program.evaluate(columns, own_rows), bitorder="little").view(np.bool_)
    found = program.matches(columns, np.array(asked, np.int64), own_rows)
    assert found.tolist() == flags[asked].tolist()


@given(items, filters, st.integers(1, 3))
def test_an_estimate_that_says_so_is_exact(rows: Rows, tree: Filter, factor: int) -> None:
    columns = TextColumns()
    columns.append(([*rows, {}] * 4200)[: 3000 * factor])
    program = compile_filter(tree, SCHEMA)
    estimate = program.estimate(columns, own_rows)
    share = len(rows_in(program.evaluate(columns, own_rows))) / columns.n_rows
    assert estimate.is_exact or factor > 1
    assert estimate.share == share if estimate.is_exact else abs(estimate.share - share) < 0.06


@pytest.mark.parametrize(
    ("tree", "is_exact"),
    [
        (Filter(must=(Match("keyword", ("a",)),)), True),
        (Filter(must_not=(Match("keyword", ("a",)),)), True),
        (Filter(must=(Match("keyword", ("a", "b")),), must_not=(Match("keyword", ("a",)),)), True),
        (Filter(should=(Match("keyword", ("a",)), HasId((1, 2)))), True),
        (Filter(must_not=(Match("keyword", ("a",)), HasId((1, 2)))), True),
        (Filter(must=(Match("keyword", ("a",)), Range("int", gte=7))), False),
        (Filter(must=(Range("int", gte=30_000),)), False),
    ],
)
def test_keywords_and_ids_are_counted_and_numbers_sampled(tree: Filter, is_exact: bool) -> None:
    columns = columns_of(40_000)
    program = compile_filter(tree, SCHEMA)
    estimate = program.estimate(columns, own_rows)
    share = len(rows_in(program.evaluate(columns, own_rows))) / 40_000
    assert estimate.is_exact is is_exact
    assert estimate.share == share if is_exact else abs(estimate.share - share) < 0.02


def test_a_sample_is_drawn_again_once_the_rows_have_grown() -> None:
    columns = columns_of(10_000)
    first = columns.sample()
    columns.append([{"int": -1}] * 1000)
    assert columns.sample() is first
    columns.append([{"int": -1}] * 9000)
    assert columns.sample() is not first
    assert program_of(Range("int", lt=0)).estimate(columns, no_rows).share == pytest.approx(0.5, abs=0.01)


def test_an_index_without_rows_passes_none() -> None:
    columns = TextColumns()
    assert program_of(Range("int", lt=0)).estimate(columns, no_rows).share == 0.0
    assert MaskCache().mask(program_of(Range("int", lt=0)), columns).count == 0


def test_of_a_row_mask_rows_are_taken_away() -> None:
    mask = RowMask(np.full(8, 0xFF, np.uint8), 64)
    assert mask.without(np.zeros(0, np.int64)).count == 64


@pytest.mark.parametrize("share", [0.5, 0.01, 0.001, 0.0])
def test_a_mask_lists_its_rows_and_those_it_shares_with_others(share: float) -> None:
    rng = np.random.default_rng(3)
    n = 64 * 500
    chosen, alive = rng.random(n) < share, rng.random(n) < 0.9
    mask = RowMask(np.packbits(chosen, bitorder="little"), int(chosen.sum()))
    excluded = np.flatnonzero(chosen)[::2]
    for _ in range(2):
        np.testing.assert_array_equal(mask.rows, np.flatnonzero(chosen))
        live = mask.among(np.packbits(alive, bitorder="little"))
        np.testing.assert_array_equal(live.rows, np.flatnonzero(chosen & alive))
        np.testing.assert_array_equal(mask.without(excluded).rows, np.setdiff1d(np.flatnonzero(chosen), excluded))
    assert (mask.rows is mask.rows) == (8 * chosen.sum() <= n // 8)


def test_a_list_of_rows_that_may_be_kept_counts_against_the_budget() -> None:
    columns, cache = columns_of(20_000), MaskCache()
    cache.mask(program_of(Range("int", lt=100)), columns)
    of_few = cache.counters.bytes
    cache.mask(program_of(Range("int", lt=19_000)), columns)
    assert of_few == cache.counters.bytes - of_few + 8 * 100
