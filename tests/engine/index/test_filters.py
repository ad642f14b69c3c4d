"""Compiled filters against the plain meaning of each, their fingerprints, and everything that is refused."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.index.columns import Columns
from engine.index.filters import MATCH_VALUES, Estimate, compile_filter
from engine.index.version_index import new_columns
from engine.types import (
    AttributeSpec,
    AttributeType,
    AttributeValue,
    Condition,
    Contains,
    Filter,
    GeoPoint,
    GeoRadius,
    HasId,
    Int64Array,
    IsNull,
    ItemId,
    Match,
    Range,
    Schema,
    TextField,
    Timestamp,
)
from tests.engine.index.filter_model import SCHEMA, TextColumns, filters, items, passes

Attributes = Mapping[str, AttributeValue]
T = TypeVar("T")
KEYWORD, INT, FLOAT = Match("keyword", ("a",)), Match("int", (1,)), Range("float", gt=1.0)
HERE = GeoPoint(0.0, 0.0)


def columns_of(rows: Sequence[Attributes]) -> Columns:
    columns = TextColumns()
    columns.append(rows)
    return columns


def own_rows(ids: Sequence[ItemId]) -> Int64Array:
    """Item i has row i, and there are ten."""
    return np.array([int(one) for one in ids if one < 10], np.int64)


def rows_passing(tree: Filter, columns: Columns) -> list[int]:
    mask = compile_filter(tree, SCHEMA).evaluate(columns, own_rows)
    assert mask.dtype == np.uint8
    assert len(mask) == -(-columns.n_rows // 64) * 8
    bits = np.unpackbits(mask, bitorder="little")
    assert not bits[columns.n_rows :].any()
    rows: list[int] = np.flatnonzero(bits).tolist()
    return rows


def fingerprint(*must: Condition) -> bytes:
    return compile_filter(Filter(must=must), SCHEMA).fingerprint


@settings(max_examples=100)
@given(items, filters)
def test_a_row_passes_where_its_item_satisfies_the_filter(rows: list[Attributes], tree: Filter) -> None:
    rows = (rows + [{}] * 10)[: max(10, len(rows))]
    expected = [row for row, item in enumerate(rows) if passes(tree, row if row < 10 else -1, item)]
    assert rows_passing(tree, columns_of(rows)) == expected


def test_ints_compare_as_int64() -> None:
    columns = columns_of([{"int": 2**63 - 2}, {"int": 2**63 - 1}, {"int": -(2**63)}])
    assert rows_passing(Filter(must=(Match("int", (2**63 - 1,)),)), columns) == [1]
    assert rows_passing(Filter(must=(Range("int", gt=2**63 - 2),)), columns) == [1]
    assert rows_passing(Filter(must=(Range("int", gt=2**63 - 1),)), columns) == []
    assert rows_passing(Filter(must=(Range("int", lte=-(2**63)),)), columns) == [2]


def test_an_int_that_no_float_equals_bounds_a_float_exactly() -> None:
    columns = columns_of([{"float": 2.0**53}, {"float": 2.0**53 + 2}, {"float": 2.0**63}])
    assert rows_passing(Filter(must=(Range("float", gte=2**53 + 1),)), columns) == [1, 2]
    assert rows_passing(Filter(must=(Range("float", lt=2**53 + 1),)), columns) == [0]
    assert rows_passing(Filter(must=(Range("float", lte=2**63 - 1),)), columns) == [0, 1]


def test_a_null_passes_must_not_and_no_except() -> None:
    columns = columns_of([{"keyword": "a"}, {"keyword": "b"}, {}])
    assert rows_passing(Filter(must_not=(Match("keyword", ("a",)),)), columns) == [1, 2]
    assert rows_passing(Filter(must=(Match("keyword", except_=("a",)),)), columns) == [1]


def test_except_on_a_list_wants_a_value_and_none_of_these() -> None:
    columns = columns_of([{"keyword_list": ("a", "b")}, {"keyword_list": ("b",)}, {"keyword_list": ()}, {}])
    assert rows_passing(Filter(must=(Match("keyword_list", except_=("a",)),)), columns) == [1]
    assert rows_passing(Filter(must=(IsNull("keyword_list"),)), columns) == [2, 3]


def test_min_should_counts_a_condition_as_often_as_it_stands_there() -> None:
    columns = columns_of([{"bool": True}, {"bool": False}])
    twice = (Match("bool", (True,)), Match("bool", (True,)), IsNull("bool"))
    assert rows_passing(Filter(should=twice, min_should=2), columns) == [0]
    assert rows_passing(Filter(should=twice, min_should=0), columns) == [0, 1]


def test_min_should_wants_so_many_of_several() -> None:
    columns = columns_of([{"bool": True}, {"bool": True, "int": 1}, {"bool": True, "int": 1, "float": 2.0}, {}])
    three = (Match("bool", (True,)), INT, FLOAT)
    for minimum, rows in ((None, [0, 1, 2]), (1, [0, 1, 2]), (2, [1, 2]), (3, [2])):
        assert rows_passing(Filter(should=three, min_should=minimum), columns) == rows
        assert rows_passing(Filter(must_not=(Filter(should=three, min_should=minimum),)), columns) == sorted(
            {0, 1, 2, 3} - set(rows)
        )


@pytest.mark.parametrize(
    "tree", [Filter(), Filter(must=(Filter(),)), Filter(must_not=(HasId(()),)), Filter(min_should=0)]
)
def test_a_filter_without_constraint_passes_all(tree: Filter) -> None:
    assert compile_filter(tree, SCHEMA).is_pass_all
    assert rows_passing(tree, columns_of([{}] * 70)) == list(range(70))


def test_contradictory_bounds_match_nothing() -> None:
    columns = columns_of([{"int": 5}, {}])
    assert rows_passing(Filter(must=(Range("int", gt=5, lt=6),)), columns) == []
    assert rows_passing(Filter(must_not=(Range("int", gt=5, lt=6),)), columns) == [0, 1]


def test_a_mask_is_the_caller_s_to_change() -> None:
    columns = columns_of([{"bool": True, "keyword": "a", "geo_point": GeoPoint(0, 0)}] * 9)
    has_value = Filter(must_not=(IsNull("keyword"),))
    for condition in (Match("bool", (True,)), IsNull("int"), has_value, GeoRadius("geo_point", HERE, 3e7)):
        program = compile_filter(Filter(must=(condition,)), SCHEMA)
        program.evaluate(columns, own_rows)[:] = 0
        assert program.evaluate(columns, own_rows).any()


def test_a_filter_on_an_attribute_the_index_does_not_have_yet_is_refused_by_name() -> None:
    program = compile_filter(Filter(must=(Match("bool", (True,)),)), SCHEMA)
    with pytest.raises(UnknownAttribute, match="'bool'"):
        program.evaluate(Columns(()), own_rows)


# Fingerprints


def rewritten(tree: Filter, rng: random.Random) -> Filter:
    """An equal filter, written in another way."""

    def other(condition: Condition) -> Condition:
        match condition:
            case Filter():
                condition = rewritten(condition, rng)
            case Match(attribute, any_of, except_):
                condition = Match(attribute, _shuffled(any_of * 2, rng), _shuffled(except_ * 2, rng))
            case HasId(ids):
                condition = HasId(_shuffled(ids * 2, rng))
        wrapped = Filter(must=(condition,))
        return rng.choice([condition, wrapped, Filter(must_not=(Filter(must_not=(wrapped,)),))])

    must, should, must_not = (
        _shuffled(tuple(map(other, part)), rng) for part in (tree.must, tree.should, tree.must_not)
    )
    return Filter(must, should, must_not, tree.min_should)


def _shuffled(values: tuple[T, ...], rng: random.Random) -> tuple[T, ...]:
    return tuple(rng.sample(values, len(values)))


@given(filters, st.integers(0, 1000))
def test_equal_filters_written_differently_have_one_fingerprint(tree: Filter, seed: int) -> None:
    other = rewritten(tree, random.Random(seed))
    assert compile_filter(other, SCHEMA).fingerprint == compile_filter(tree, SCHEMA).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Range("int", gt=4), Range("int", gte=5)),
        (Range("float", gte=5), Range("float", gte=5.0)),
        (Range("float", gt=0.0), Range("float", gt=-0.0)),
        (Filter(must=(Range("int", gte=1), Range("int", lt=9))), Range("int", gte=1, lt=9)),
        (Filter(should=(IsNull("int"), IsNull("bool")), min_should=2), Filter(must=(IsNull("bool"), IsNull("int")))),
        (Filter(must_not=(Filter(should=(INT, FLOAT)),)), Filter(must_not=(FLOAT, INT))),
        (Range("int", gt=2**63 - 1), HasId(())),
        (Match("bool", except_=(True,)), Filter(must_not=(IsNull("bool"), Match("bool", (True,))))),
    ],
)  # fmt: skip
def test_equal_conditions_have_one_fingerprint(one: Condition, other: Condition) -> None:
    assert fingerprint(one) == fingerprint(other)


def test_different_filters_have_different_fingerprints() -> None:
    a, b, c = IsNull("int"), IsNull("bool"), IsNull("float")
    conditions: list[Condition] = [
        Match("keyword", ("a",)),
        Match("keyword", ("a", "b")),
        Match("keyword", ("a, b",)),
        Match("keyword", except_=("a",)),
        Match("keyword_list", ("a",)),
        Match("int", (1,)),
        Match("bool", (True,)),
        Range("int", gte=1),
        Range("float", gte=1),
        Range("float", gt=1),
        Range("float", lte=1),
        HasId((1,)),
        Filter(must=(a, b, c)),
        Filter(should=(a, b, c)),
        Filter(should=(a, b, c), min_should=2),
        Filter(should=(a, Filter(must=(b, c)))),
        Filter(must_not=(a, b, c)),
    ]
    assert len({fingerprint(one) for one in conditions}) == len(conditions)


# What is refused


@pytest.mark.parametrize(
    ("tree", "field", "why"),
    [
        (Filter(must=(Match("keyword"),)), "filter.must[0].match", "exactly one"),
        (Filter(must=(Match("keyword", ("a",), ("b",)),)), "filter.must[0].match", "exactly one"),
        (Filter(must=(INT, Match("keyword", ("a", 1)))), "filter.must[1].match.any_of[1]", "1 is no value"),
        (Filter(must=(Match("int", (True,)),)), "filter.must[0].match.any_of[0]", "True is no value"),
        (Filter(must=(Match("bool", (1,)),)), "filter.must[0].match.any_of[0]", "1 is no value"),
        (Filter(must=(Match("int", except_=(2**63,)),)), "filter.must[0].match.except_any[0]", "not in"),
        (Filter(should=(Match("float", (1,)),)), "filter.should[0].match.attribute", "of type float"),
        (Filter(should=(Match("geo_point", (1,)),)), "filter.should[0].match.attribute", "of type geo_point"),
        (Filter(must_not=(Range("int"),)), "filter.must_not[0].range", "at least one of"),
        (Filter(must=(KEYWORD, Range("int", gte=1.0))), "filter.must[1].range.gte", "1.0 is not an int"),
        (Filter(must=(Range("int", lt=True),)), "filter.must[0].range.lt", "True is not an int"),
        (Filter(must=(Range("int", lt=2**63),)), "filter.must[0].range.lt", "is not in"),
        (Filter(must=(Range("float", lte=math.nan),)), "filter.must[0].range.lte", "NaN"),
        (Filter(must=(Range("float", gt=-(2**63) - 1),)), "filter.must[0].range.gt", "is not in"),
        (Filter(must=(Range("float", gt=Timestamp(1)),)), "filter.must[0].range.gt", "not a number"),
        (Filter(must=(Range("timestamp", gt=1),)), "filter.must[0].range.gt", "not a timestamp"),
        (Filter(must=(Range("keyword", gt=1),)), "filter.must[0].range.attribute", "of type keyword"),
        (Filter(must=(GeoRadius("int", HERE, 1.0),)), "filter.must[0].geo_radius.attribute", "of type int"),
        (Filter(must=(GeoRadius("geo_point", HERE, -1.0),)), "filter.must[0].geo_radius.radius_m", "-1.0"),
        (Filter(must=(GeoRadius("geo_point", HERE, math.nan),)), "filter.must[0].geo_radius.radius_m", "nan"),
        (Filter(must=(GeoRadius("geo_point", GeoPoint(91, 0), 1),)), "filter.must[0].geo_radius.center.lat", "91"),
        (Filter(must=(GeoRadius("geo_point", GeoPoint(0, 200), 1),)), "filter.must[0].geo_radius.center.lon", "200"),
        (Filter(must=(HasId((1, "a")),)), "filter.must[0].has_id.ids[1]", "'a'"),
        (Filter(must=(HasId((2**64,)),)), "filter.must[0].has_id.ids[0]", "2**64"),
        (Filter(must=(INT, Contains("text", "the .. of"))), "filter.must[1].contains.text", "has no terms"),
        (Filter(must=(Contains("other", ""),)), "filter.must[0].contains.text", "(plain)"),
        (Filter(should=(INT,), min_should=2), "filter.min_should", "2 is more"),
        (Filter(must=(Filter(min_should=1),)), "filter.must[0].filter.min_should", "1 is more"),
        (Filter(should=(INT,), min_should=-1), "filter.min_should", "below 0"),
        (Filter(must=(FLOAT, Filter(should=(Filter(must_not=(Range("int"),)),)))),
         "filter.must[1].filter.should[0].filter.must_not[0].range", "at least one of"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_path(tree: Filter, field: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        compile_filter(tree, SCHEMA)
    assert caught.value.field == field
    assert why in caught.value.message


@pytest.mark.parametrize("condition", [Match("x", ("a",)), Range("x", gt=1), IsNull("x"), GeoRadius("x", HERE, 1.0)])
@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (AttributeSpec("y", AttributeType.INT), "no such attribute"),
        (AttributeSpec("x", AttributeType.INT, filterable=False), "not filterable"),
        (AttributeSpec("x", AttributeType.INT, volatile=True), "volatile"),
    ],
)
def test_an_attribute_that_cannot_be_filtered_on_is_unknown(
    condition: Condition, spec: AttributeSpec, why: str
) -> None:
    with pytest.raises(UnknownAttribute, match=why):
        compile_filter(Filter(must=(condition,)), Schema("items", attributes=(spec,)))


@pytest.mark.parametrize(("field", "why"), [("body", "no such text field"), ("sku", "no analyser"), ("x", "no such")])
def test_a_text_field_without_terms_cannot_be_filtered_on(field: str, why: str) -> None:
    schema = Schema("items", text_fields=(TextField("sku"),), attributes=(AttributeSpec("x", AttributeType.KEYWORD),))
    with pytest.raises(UnknownAttribute, match=why):
        compile_filter(Filter(must=(Contains(field, "red"),)), schema)


def test_terms_in_another_field_do_not_count() -> None:
    columns = new_columns(SCHEMA)
    columns.append([{}] * 3)
    assert columns.lexical is not None
    texts = [{"other": "red", "text": "big"}, {"text": "red big"}, {"text": "red"}]
    columns.lexical.append([0, 1, 2], [1, 1, 1], texts)
    for field, text, rows in (("text", "big reds", [1]), ("other", "red", [0]), ("text", "red", [1, 2])):
        assert rows_passing(Filter(must=(Contains(field, text),)), columns) == rows


def test_a_text_is_the_same_filter_however_its_terms_are_written() -> None:
    assert fingerprint(Contains("text", "Big  red, reds!")) == fingerprint(Contains("text", "red big"))
    assert fingerprint(Contains("text", "red")) != fingerprint(Contains("other", "red"))


def test_few_rows_with_a_term_are_counted_and_many_estimated() -> None:
    columns = TextColumns()
    columns.append([{"text": "red big" if row < 100 else "red"} for row in range(10_000)])
    few = compile_filter(Filter(must=(Contains("text", "big red"),)), SCHEMA).estimate(columns, own_rows)
    assert few == Estimate(0.01, is_exact=True)
    many = compile_filter(Filter(must=(Contains("text", "red"),)), SCHEMA).estimate(columns, own_rows)
    assert many == Estimate(1.0, is_exact=False)


def nested(depth: int) -> Filter:
    return Filter(must=(nested(depth - 1),)) if depth > 1 else Filter(must=(KEYWORD,))


@pytest.mark.parametrize(
    ("tree", "field", "limit"),
    [
        (nested(17), "filter" + ".must[0].filter" * 16, 16),
        (nested(500), "filter" + ".must[0].filter" * 16, 16),
        (Filter(must=(KEYWORD,) * 1025), "filter", 1024),
        (Filter(must=(Filter(must=(KEYWORD,) * 1000),) + (KEYWORD,) * 24), "filter", 1024),
        (Filter(must=(Match("int", (1,) * (MATCH_VALUES + 1)),)), "filter.must[0].match.any_of", MATCH_VALUES),
        (Filter(must=(HasId((1,) * (MATCH_VALUES + 1)),)), "filter.must[0].has_id.ids", MATCH_VALUES),
        (Filter(must=(Contains("text", " ".join(map(str, range(257)))),)), "filter.must[0].contains.text", 256),
    ],
)
def test_what_is_beyond_a_limit_names_the_limit(tree: Filter, field: str, limit: int) -> None:
    with pytest.raises(LimitExceeded) as caught:
        compile_filter(tree, SCHEMA)
    assert (caught.value.field, caught.value.metadata["limit"]) == (field, str(limit))


@pytest.mark.parametrize(
    "tree",
    [nested(16), Filter(must=(KEYWORD,) * 1024), Filter(must=(Match("int", (1,) * MATCH_VALUES),))],
    ids=["depth", "conditions", "values"],
)
def test_what_is_within_a_limit_passes(tree: Filter) -> None:
    assert not compile_filter(tree, SCHEMA).is_pass_all


def test_a_keyword_with_half_a_surrogate_pair_matches_nothing() -> None:
    program = compile_filter(Filter(must=(Match("keyword", ("\ud800",)),)), SCHEMA)
    assert len(program.fingerprint) == 32
    assert not program.evaluate(columns_of([{"keyword": "a"}]), own_rows).any()
