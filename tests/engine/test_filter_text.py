"""The text form of filters: what it means, what it says back, and where it is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidArgument
from engine.filter_text import format_filter, parse_filter
from engine.index.filters import compile_filter
from engine.types import (
    AttributeSpec,
    AttributeType,
    Condition,
    Contains,
    Filter,
    GeoPoint,
    GeoRadius,
    HasId,
    IsNull,
    Match,
    Range,
    Schema,
    TextField,
    Timestamp,
)
from tests.engine.index.filter_model import SCHEMA, filters

JOBS = Schema(
    "jobs",
    attributes=(
        AttributeSpec("country", AttributeType.KEYWORD),
        AttributeSpec("skills", AttributeType.KEYWORD_LIST),
        AttributeSpec("remote", AttributeType.BOOL),
        AttributeSpec("level", AttributeType.INT),
        AttributeSpec("salary_min", AttributeType.FLOAT),
        AttributeSpec("published_at", AttributeType.TIMESTAMP),
        AttributeSpec("place", AttributeType.GEO_POINT),
        AttributeSpec("id", AttributeType.INT),
        AttributeSpec("not", AttributeType.INT),
    ),
    text_fields=(TextField("title", analyser="english"), TextField("not", analyser="plain"), TextField("sku")),
)
JUNE = Timestamp(1_748_736_000_000_000)
A, B, C = Match("level", (1,)), Match("level", (2,)), Match("level", (3,))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("country = US", Match("country", ("US",))),
        ("country = 'U\\'S\\\\ \\n'", Match("country", ("U'S\\ \n",))),
        ('country = "it\'s"', Match("country", ("it's",))),
        ("country = 12", Match("country", ("12",))),
        ("country = true", Match("country", ("true",))),
        ("country != US", Match("country", except_=("US",))),
        ("skills in (C++, 'machine learning')", Match("skills", ("C++", "machine learning"))),
        ("skills not in (go)", Match("skills", except_=("go",))),
        ("remote = TRUE", Match("remote", (True,))),
        ("level = -9223372036854775808", Match("level", (-(2**63),))),
        ("level<3", Range("level", lt=3)),
        ("salary_min >= 90000", Range("salary_min", gte=90000)),
        ("salary_min > 1.5e3", Range("salary_min", gt=1500.0)),
        ("salary_min between 1 and 2.5", Range("salary_min", gte=1, lte=2.5)),
        ("published_at >= 2025-06-01", Range("published_at", gte=JUNE)),
        ("published_at >= 2025-06-01T02:00:00+02:00", Range("published_at", gte=JUNE)),
        ("published_at >= '2025-06-01 00:00:00Z'", Range("published_at", gte=JUNE)),
        ("place within 50 km of (52.52, -13.40)", GeoRadius("place", GeoPoint(52.52, -13.4), 50_000.0)),
        ("place within 50 m of (52, 13)", GeoRadius("place", GeoPoint(52.0, 13.0), 50.0)),
        ("country is null", IsNull("country")),
        ("title contains 'night nurse'", Contains("title", "night nurse")),
        ("'not' CONTAINS nurse", Contains("not", "nurse")),
        ("title contains contains", Contains("title", "contains")),
        ("id in (1, b)", HasId(("1", "b"))),
        ("id = x", HasId(("x",))),
        ("id in ()", HasId(())),
        ("'id' = 1", Match("id", (1,))),
        ("'not' = 1", Match("not", (1,))),
    ],
)
def test_a_condition_means_what_it_says(text: str, condition: Condition) -> None:
    assert parse_filter(text, JOBS) == Filter(must=(condition,))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", Filter()),
        ("()", Filter()),
        ("level = 1 AND level = 2", Filter(must=(A, B))),
        ("level = 1 or level = 2", Filter(should=(A, B))),
        ("level = 1 or level = 2 and level = 3", Filter(should=(A, Filter(must=(B, C))))),
        ("(level = 1 or level = 2) and level = 3", Filter(must=(Filter(should=(A, B)), C))),
        ("not level = 1 and level = 2", Filter(must=(B,), must_not=(A,))),
        ("not (level = 1 and level = 2)", Filter(must_not=(Filter(must=(A, B)),))),
        ("not not level = 1", Filter(must_not=(Filter(must_not=(A,)),))),
        ("level is not null", Filter(must_not=(IsNull("level"),))),
        ("id != x", Filter(must_not=(HasId(("x",)),))),
        ("at least 2 of (level = 1, level = 2, level = 3)", Filter(should=(A, B, C), min_should=2)),
    ],
)
def test_conditions_combine(text: str, tree: Filter) -> None:
    assert parse_filter(text, JOBS) == tree


def test_a_whole_filter_reads_as_one_would_think() -> None:
    text = (
        "remote = true and salary_min >= 90000 and (country in ('US','CA') or place is null) and not skills = 'x' "
        "and place within 50 km of (52.52, 13.40) and published_at >= 2025-06-01 and id in (1,2)"
    )
    assert parse_filter(text, JOBS) == Filter(
        must=(
            Match("remote", (True,)),
            Range("salary_min", gte=90000),
            Filter(should=(Match("country", ("US", "CA")), IsNull("place"))),
            GeoRadius("place", GeoPoint(52.52, 13.4), 50_000.0),
            Range("published_at", gte=JUNE),
            HasId(("1", "2")),
        ),
        must_not=(Match("skills", ("x",)),),
    )


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a = true", Match("a", (True,))),
        ("a = 'true'", Match("a", ("true",))),
        ("a in (1, 2)", Match("a", (1, 2))),
        ("a = US", Match("a", ("US",))),
        ("a >= 1.5", Range("a", gte=1.5)),
        ("a >= 2025-06-01", Range("a", gte=JUNE)),
        ("id = 7", HasId((7,))),
        ("id = '7'", HasId(("7",))),
    ],
)
def test_without_a_schema_a_literal_is_what_it_looks_like(text: str, condition: Condition) -> None:
    assert parse_filter(text, None) == Filter(must=(condition,))


@given(filters)
def test_what_is_written_reads_as_an_equal_filter(tree: Filter) -> None:
    wanted = compile_filter(tree, SCHEMA).fingerprint
    text = format_filter(tree)
    for schema in (SCHEMA, None):
        assert compile_filter(parse_filter(text, schema), SCHEMA).fingerprint == wanted


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_and_any_keyword_can_be_written(name: str, value: str) -> None:
    tree = Filter(must=(Match(name, (value,)),))
    assert parse_filter(format_filter(tree), None) == tree


@pytest.mark.parametrize(
    "tree",
    [
        Filter(must=(Match("a"),)),
        Filter(must=(Range("a"),)),
        Filter(must=(Range("a", gt=Timestamp(2**62)),)),
    ],
)
def test_what_text_cannot_say_is_refused(tree: Filter) -> None:
    with pytest.raises(InvalidArgument):
        format_filter(tree)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("country", "at character 8: expected an operator: = != < <= > >= in, not in, between"),
        ("country =", "at character 10: expected a keyword, found the end"),
        ("country = and", "at character 11: expected a keyword, found 'and'"),
        ("= 3", "at character 1: expected an attribute, 'not' or '(', found '='"),
        ("12 = 3", "at character 1: expected an attribute"),
        ("level == 3", "at character 7: equality is one '='"),
        ("nowhere = 3", "at character 1: 'nowhere' is the name of no attribute; there are: country, skills"),
        ("level = x", "at character 9: expected an int, found 'x'"),
        ("level = 1.5", "at character 9: expected an int, found '1.5'"),
        ("level in (1; 2)", "at character 11: expected an int, found '1;'"),
        ("level in (1 2)", "at character 13: expected ',' or ')', found '2'"),
        ("level in ()", "at character 7: expected one value or more"),
        ("remote = yes", "at character 10: expected true or false, found 'yes'"),
        ("country < 3", "at character 9: 'country' is of type keyword, which takes = != in, not in and is null"),
        ("salary_min = 3", "at character 12: 'salary_min' is of type float, which takes < <= > >= between"),
        ("salary_min > nan", "at character 14: expected a number, found 'nan'"),
        ("place = 3", "at character 7: 'place' is of type geo_point, which takes within and is null"),
        ("level within 3 km of (1, 2)", "at character 7: 'level' is of type int"),
        ("place within 3 miles of (1, 2)", "at character 16: expected 'km' or 'm', found 'miles'"),
        ("place within 3 km of 1, 2", "at character 22: expected '(', found '1'"),
        ("published_at > tomorrow", "at character 16: expected an ISO 8601 date or datetime, found 'tomorrow'"),
        ("published_at > 2025-02-30", "at character 16: expected an ISO 8601 date"),
        ("level between 1 or 2", "at character 17: expected 'and', found 'or'"),
        ("level is 3", "at character 10: expected 'null', found '3'"),
        ("(level = 1", "at character 11: expected 'and', 'or' or ')', found the end"),
        ("level = 1 level = 2", "at character 11: expected 'and', 'or' or the end, found 'level'"),
        ("level = 1 and", "at character 14: expected an attribute"),
        ("level not 3", "at character 11: expected 'in', found '3'"),
        ("at most 2 of (level = 1)", "at character 4: expected 'least', found 'most'"),
        ("country = 'US", "at character 11: a quote is not closed"),
        ("country = 'U\\qS'", "at character 13: \\q is no escape"),
        ("level ! 3", "at character 7: '!' has no meaning here"),
        ("sku contains x", "at character 1: 'sku' has no analyser; fields with one: title, not"),
        ("level contains x", "at character 1: 'level' is the name of no text field; fields with one: title, not"),
        ("title contains", "at character 15: expected a keyword, found the end"),
        ("title contains (x)", "at character 16: expected a keyword, found '('"),
        ("(" * 1000, "at character 101: nested deeper than 100 levels"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_shown_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_filter(text, JOBS)
    assert message in caught.value.message
    assert caught.value.field == "filter"


def test_a_text_field_is_refused_as_what_it_is() -> None:
    schema = replace(JOBS, text_fields=(TextField("title"),))
    with pytest.raises(
        InvalidArgument, match="'title' is a text field, which takes contains alone; there are: country"
    ):
        parse_filter("title = x", schema)


WORDS = ["level", "country", "place", "=", "!=", "<", "in", "not", "(", ")", ",", "1", "'x'", "and", "or", "is", "null"]
WORDS += [
    "contains",
    "title",
    "between",
    "within",
    "km",
    "of",
    "at",
    "least",
    "id",
    "2025-06-01",
    "-",
    "1e999",
    "\\",
    '"',
    "\x00",
    "٣",
]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), st.sampled_from([JOBS, None]))
def test_whatever_is_typed_is_a_filter_or_an_error_with_a_reason(text: str, schema: Schema | None) -> None:
    try:
        tree = parse_filter(text, schema)
    except InvalidArgument:
        return
    assert format_filter(parse_filter(format_filter(tree), schema)) == format_filter(tree)
