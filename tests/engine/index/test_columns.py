"""Columns as they grow, and the parts they are made of: masks, postings and sets of ints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from engine.errors import UnknownAttribute
from engine.index.column_types import Interval, KeywordColumn, NumberColumn
from engine.index.columns import Columns
from engine.index.filters import compile_filter
from engine.index.growing import GrowingMask, full_mask, inverted
from engine.index.postings import Postings
from engine.index.regions import Listed, Span
from engine.types import (
    AttributeSpec,
    AttributeType,
    AttributeValue,
    Filter,
    GeoPoint,
    IsNull,
    Match,
    Schema,
    Timestamp,
    Uint8Array,
)
from kernels.cpu_filters import filter_rows
from kernels.filters import IntSet
from tests.engine.index.filter_model import ATTRIBUTES, INTS, SCHEMA, items

VIEWS = AttributeSpec("views", AttributeType.INT, filterable=False, volatile=True)
LIKES = AttributeSpec("likes", AttributeType.FLOAT, filterable=False, volatile=True)
FULL: Mapping[str, AttributeValue] = {
    "keyword": "a",
    "keyword_list": ("a", "b"),
    "bool": True,
    "int": 1,
    "float": 1.0,
    "timestamp": Timestamp(1),
    "geo_point": GeoPoint(1, 1),
}


def rows_in(mask: Uint8Array) -> list[int]:
    rows: list[int] = np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()
    return rows


def nulls(columns: Columns, attribute: str) -> list[int]:
    program = compile_filter(Filter(must=(IsNull(attribute),)), SCHEMA)
    return rows_in(program.evaluate(columns, lambda ids: np.zeros(0, np.int64)))


@given(st.lists(st.one_of(items, st.integers(0, 70)), max_size=6))
def test_rows_appended_in_batches_with_dead_ones_between_are_as_if_appended_at_once(
    batches: list[list[Mapping[str, AttributeValue]] | int],
) -> None:
    grown, whole = Columns(ATTRIBUTES), Columns(ATTRIBUTES)
    rows: list[Mapping[str, AttributeValue]] = []
    for batch in batches:
        if isinstance(batch, int):
            grown.append_dead(batch)
            rows.extend([{}] * batch)
        else:
            grown.append(batch)
            rows.extend(batch)
    whole.append(rows)
    assert grown.n_rows == whole.n_rows == len(rows)
    for tree in (
        Match("keyword", ("a",)),
        Match("keyword_list", ("b", "a")),
        Match("bool", (False,)),
        Match("int", (0,)),
    ):
        program = compile_filter(Filter(must=(tree,)), SCHEMA)
        masks = [program.evaluate(one, lambda ids: np.zeros(0, np.int64)) for one in (grown, whole)]
        np.testing.assert_array_equal(*masks)
    for spec in ATTRIBUTES:
        assert nulls(grown, spec.name) == [row for row, item in enumerate(rows) if item.get(spec.name, ()) == ()]


@pytest.mark.parametrize("spec", ATTRIBUTES, ids=lambda spec: spec.name)
def test_a_new_attribute_is_null_in_every_row_so_far(spec: AttributeSpec) -> None:
    columns = Columns([one for one in ATTRIBUTES if one is not spec])
    columns.append([FULL] * 77)
    columns.add_attribute(spec)
    columns.append([FULL] * 3)
    assert nulls(columns, spec.name) == list(range(77))


def test_volatile_values_change_in_place_and_a_missing_one_becomes_null() -> None:
    columns = Columns([VIEWS, LIKES])
    columns.append([{"views": 1, "likes": 0.5}] * 10)
    columns.set_volatile(3, 2, {"views": 2**63 - 1, "unknown": 1})
    views, likes = columns.volatile("views"), columns.volatile("likes")
    assert views.values.tolist() == [1, 1, 1, 2**63 - 1, 2**63 - 1, 1, 1, 1, 1, 1]
    assert rows_in(views.present.bits) == list(range(10))
    assert rows_in(likes.present.bits) == [0, 1, 2, 5, 6, 7, 8, 9]
    columns.set_volatile(3, 1, {"views": 1, "likes": 2.0})
    assert likes.values[3] == 2.0
    assert rows_in(likes.present.bits) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_volatile_attributes_cannot_be_filtered_on() -> None:
    columns = Columns([VIEWS])
    with pytest.raises(UnknownAttribute):
        columns.column("views")
    with pytest.raises(UnknownAttribute):
        compile_filter(Filter(must=(Match("views", (1,)),)), Schema("items", attributes=(VIEWS,)))


def test_an_attribute_that_is_neither_filterable_nor_volatile_takes_no_memory() -> None:
    columns = Columns([AttributeSpec("note", AttributeType.KEYWORD, filterable=False)])
    columns.append([{"note": "x" * 1000}])
    assert columns.n_rows == 1
    assert columns.memory_bytes == 0


def test_memory_counts_arrays_keywords_and_postings() -> None:
    columns = Columns(ATTRIBUTES)
    empty = columns.memory_bytes
    columns.append([{"int": 1}] * 100_000)
    assert columns.memory_bytes - empty >= 800_000
    before = columns.memory_bytes
    columns.append([{"keyword": f"{row:0100d}"} for row in range(1000)])
    assert columns.memory_bytes - before >= 1000 * 150
    before = columns.memory_bytes
    columns.append([{"keyword": f"{row:0100d}"} for row in range(1000)])
    assert columns.memory_bytes - before >= 1000 * 150


# Masks


@given(st.lists(st.lists(st.booleans(), max_size=20), max_size=8))
def test_a_growing_mask_has_what_was_appended(batches: list[list[bool]]) -> None:
    mask = GrowingMask()
    for batch in batches:
        mask.append(batch)
    flags = [flag for batch in batches for flag in batch]
    assert rows_in(mask.bits) == [row for row, flag in enumerate(flags) if flag]
    assert rows_in(inverted(mask.bits, len(flags))) == [row for row, flag in enumerate(flags) if not flag]


@pytest.mark.parametrize("n_rows", [0, 1, 7, 8, 63, 64, 65, 1000])
def test_a_full_mask_ends_with_the_last_row(n_rows: int) -> None:
    mask = full_mask(n_rows)
    assert len(mask) == -(-n_rows // 64) * 8
    assert rows_in(mask) == list(range(n_rows))


# Postings


def _spread(n_rows: int, share: float) -> list[int]:
    chosen = np.random.default_rng(7).random(n_rows) < share
    rows: list[int] = np.flatnonzero(chosen).tolist()
    return rows


@pytest.mark.parametrize(
    "rows",
    [
        [0],
        [199_999],
        [5, 70_000],
        _spread(200_000, 0.001),
        _spread(200_000, 0.03),
        _spread(200_000, 0.5),
        list(range(200_000)),
        list(range(100, 65_536)),
        [*range(10, 30_000), *range(50_000, 131_073)],
        [*_spread(65_536, 0.02), *range(65_536, 131_072), *range(131_072, 200_000, 3)],
        list(range(0, 8192, 2)),
        list(range(0, 8194, 2)),
    ],
    ids=lambda rows: f"{len(rows)}",
)
def test_postings_of_every_density_unpack_to_their_rows(rows: list[int]) -> None:
    for pieces in ([rows], [rows[: len(rows) // 2], rows[len(rows) // 2 :]]):
        postings = Postings()
        for piece in pieces:
            if piece:
                postings.add("a", piece)
        assert list(postings.rows(["a"])) == rows
        assert united(postings, ["a"], 200_000) == rows


def united(postings: Postings, keywords: list[str], n_rows: int) -> list[int]:
    masks, maps = postings.parts(keywords, n_rows)
    assert all(len(mask.bits) == -(-n_rows // 64) * 8 for mask in masks)
    found = [row for mask in masks for row in rows_in(mask.bits)]
    return sorted({*found, *(row for one in maps for row in rows_in(Span(0, n_rows).members(one)))})


def test_runs_in_four_containers_and_more_unpack_to_their_rows() -> None:
    rows = [row for first in range(0, 400_000, 50_000) for row in range(first, first + 30_000)]
    bitmap = BitMap(rows)
    bitmap.run_optimize()
    assert rows_in(Span(0, 400_001).members(bitmap)) == rows


def test_a_keyword_of_many_rows_becomes_a_mask_and_a_bitmap_again_once_it_is_rare() -> None:
    postings, rows = Postings(), list(range(0, 200_000, 20))
    postings.add("a", rows[:5000])
    assert [len(part) for part in postings.parts(["a"], 200_000)] == [1, 0]
    postings.add("a", rows[5000:])
    assert united(postings, ["a"], 200_000) == rows
    as_mask = postings.memory_bytes
    postings.add("a", [1_000_000])
    assert [len(part) for part in postings.parts(["a"], 1_000_001)] == [0, 1]
    assert list(postings.rows(["a"])) == [*rows, 1_000_000]
    assert postings.memory_bytes < as_mask + 1000


def test_a_mask_that_is_read_over_more_rows_than_it_had_counts_its_new_memory() -> None:
    postings = Postings()
    postings.add("a", list(range(0, 100_000, 10)))
    before = postings.memory_bytes
    (mask,), _ = postings.parts(["a"], 10_000_000)
    assert postings.memory_bytes - before >= 10_000_000 // 8 - 100_000 // 4
    assert mask.nbytes >= 10_000_000 // 8


@pytest.mark.parametrize("first", [0, 65_536])
def test_frequent_and_rare_keywords_are_found_together(first: int) -> None:
    column = KeywordColumn()
    column.append([("often",) if row % 10 == 0 else ("seldom",) if row % 1001 == 0 else () for row in range(150_000)])
    column.append([("once",), (), ("often", "seldom")])
    wanted = [row for row in range(150_000) if row % 10 == 0 or row % 1001 == 0] + [150_000, 150_002]
    values = ["often", "seldom", "once", "never"]
    assert list(column.rows(values)) == wanted
    span = Span(first, 150_003)
    (mask,) = filter_rows([column.matching(values, span)], n_rows=span.n_rows)
    assert [first + row for row in rows_in(mask)] == [row for row in wanted if row >= first]
    listed = Listed(np.array([150_002, 150_001, 10, 11, 1001], np.int64))
    (mask,) = filter_rows([column.matching(values, listed)], n_rows=5)
    assert rows_in(mask) == [0, 2, 4]
    (mask,) = filter_rows([column.matching(["never"], span)], n_rows=span.n_rows)
    assert rows_in(mask) == []


def test_several_keywords_are_united_and_unknown_ones_have_no_rows() -> None:
    postings = Postings()
    postings.add("many", list(range(0, 1000, 2)))
    postings.add("some", [1, 2, 3])
    postings.add("one", [999])
    expected = sorted({*range(0, 1000, 2), 1, 3, 999})
    assert list(postings.rows(["some", "one", "many", "none"])) == expected
    assert list(postings.rows(["none"])) == []


def test_a_keyword_that_stands_twice_in_a_list_has_its_row_once() -> None:
    column = KeywordColumn()
    column.append([("a", "a"), ("a",)])
    assert list(column.rows(["a"])) == [0, 1]


# Numbers


@pytest.mark.parametrize(
    "wanted",
    [
        INTS,
        list(range(0, 3000, 3)),
        [*range(-50, 50), 2**19],
        [*range(2**63 - 40, 2**63)],
        [-(2**63) + step for step in range(40)],
        [*range(100), *INTS],
        [step * 2**40 for step in range(-1000, 1000)],
    ],
    ids=["few", "table", "negative", "top", "bottom", "wide", "hashed"],
)
def test_a_set_of_ints_has_exactly_its_members(wanted: list[int]) -> None:
    neighbours = {min(max(one + step, -(2**63)), 2**63 - 1) for one in [*wanted, *INTS] for step in (-1, 0, 1)}
    strangers = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 2000, endpoint=True).tolist()
    asked, members = [*neighbours, *strangers], set(wanted)
    column = NumberColumn(np.int64)
    column.append(asked)
    (mask,) = filter_rows(
        [column.matching(IntSet(np.unique(np.array(wanted, np.int64))), Span(0, len(asked)))], n_rows=len(asked)
    )
    assert rows_in(mask) == [row for row, one in enumerate(asked) if one in members]


def test_an_interval_is_found_across_tiles() -> None:
    column = NumberColumn(np.int64)
    column.append(list(range(200_000)))
    for first, n_rows in ((0, 200_000), (65_536, 70_000), (131_072, 68_928)):
        test = column.within(Interval(low=65_530, high=131_080, high_open=True), Span(first, first + n_rows))
        (mask,) = filter_rows([test], n_rows=n_rows)
        expected = range(max(65_530, first), min(131_080, first + n_rows))
        assert [first + row for row in rows_in(mask)] == list(expected)
