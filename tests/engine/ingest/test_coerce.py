from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidArgument
from engine.ingest.coerce import FieldMap, coerce_value, map_fields, to_item, to_vector
from engine.types import AttributeSpec, AttributeType, AttributeValue, GeoPoint, Schema, TextField, Timestamp

SCHEMA = Schema(
    name="jobs",
    encoder="minilm",
    text_fields=(TextField("title"), TextField("body", 1)),
    attributes=(AttributeSpec("company", AttributeType.KEYWORD), AttributeSpec("pay", AttributeType.FLOAT)),
)
NEW_YEAR = Timestamp(1_735_689_600_000_000)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("keyword", "", ""),
        ("keyword", 7, "7"),
        ("keyword", True, "true"),
        ("keyword_list", "a| b ||c", ("a", "b", "c")),
        ("keyword_list", ["a", 7, None, ""], ("a", "7")),
        ("keyword_list", [], None),
        ("keyword_list", "", None),
        ("bool", "TRUE", True),
        ("bool", "no", False),
        ("bool", 0, False),
        ("bool", " ", None),
        ("int", "-9223372036854775808", -(2**63)),
        ("int", 5.0, 5),
        ("int", Decimal(7), 7),
        ("int", "", None),
        ("float", "1e3", 1000.0),
        ("float", 90_000, 90_000.0),
        ("float", Decimal("1.5"), 1.5),
        ("timestamp", "2025-01-01", NEW_YEAR),
        ("timestamp", "2025-01-01T00:00:00Z", NEW_YEAR),
        ("timestamp", "2025-01-01T02:00:00.000001+02:00", Timestamp(NEW_YEAR.micros + 1)),
        ("timestamp", "1735689600", NEW_YEAR),
        ("timestamp", 1_735_689_600, NEW_YEAR),
        ("timestamp", 1_735_689_600.5, Timestamp(NEW_YEAR.micros + 500_000)),
        ("timestamp", date(2025, 1, 1), NEW_YEAR),
        ("timestamp", datetime(2025, 1, 1, tzinfo=UTC), NEW_YEAR),
        ("timestamp", datetime(2025, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), NEW_YEAR),
        ("timestamp", "1969-12-31T23:59:59.999999", Timestamp(-1)),
        ("geo_point", {"lat": 1, "lon": "2"}, GeoPoint(1.0, 2.0)),
        ("geo_point", {"lat": 1, "lng": 2}, GeoPoint(1.0, 2.0)),
        ("geo_point", "1.5, -2", GeoPoint(1.5, -2.0)),
    ],
)
def test_a_value_is_read_as_the_schema_has_it(kind: str, value: Any, wanted: AttributeValue | None) -> None:
    coerced = coerce_value(value, AttributeType(kind), "f", list_separator="|")

    assert coerced == wanted
    assert type(coerced) is type(wanted)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("keyword", 1.5),
        ("keyword", ["a"]),
        ("keyword_list", 7),
        ("keyword_list", [["a"]]),
        ("bool", "maybe"),
        ("bool", 2),
        ("int", "1.5"),
        ("int", 1.5),
        ("int", "1,000"),
        ("int", True),
        ("int", float("inf")),
        ("int", float("nan")),
        ("float", "ten"),
        ("float", False),
        ("timestamp", "yesterday"),
        ("timestamp", True),
        ("timestamp", float("nan")),
        ("timestamp", "1e30"),
        ("geo_point", "1,2,3"),
        ("geo_point", [1, 2]),
        ("geo_point", {"lat": 1}),
    ],
)
def test_what_cannot_be_read_so_is_refused_naming_the_field_and_the_value(kind: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"is not a {kind}") as caught:
        coerce_value(value, AttributeType(kind), "source")

    assert caught.value.field == "source"


def test_a_string_is_a_list_of_one_where_the_file_has_types() -> None:
    assert coerce_value("a|b", AttributeType.KEYWORD_LIST, "f") == ("a|b",)


def test_a_record_becomes_an_item_by_the_names_of_the_schema() -> None:
    record = {"_id": "x", "title": "Baker", "body": None, "company": "", "pay": "", "other": 1}

    item = to_item(record, SCHEMA, map_fields(SCHEMA))

    assert (item.id, item.text, item.attributes) == ("x", {"title": "Baker"}, {"company": ""})


def test_names_can_be_moved_and_texts_chosen() -> None:
    fields = map_fields(SCHEMA, id="key", texts=["body=text"], attributes=["pay=salary"], vector="v")
    record = {"key": 7, "title": "no", "text": "yes", "salary": 1, "v": [1, 2]}

    item = to_item(record, SCHEMA, fields)

    assert (item.id, item.text, item.attributes) == ("7", {"body": "yes"}, {"pay": 1.0})
    assert item.vector is not None
    np.testing.assert_array_equal(item.vector, np.array([1, 2], np.float32))
    assert fields.sources() == {"key", "text", "company", "salary", "v"} | {"_visible_from", "_expires_at"}


@pytest.mark.parametrize("given", [{"texts": ["titel"]}, {"attributes": ["cmpany=x"]}])
def test_a_name_that_the_schema_lacks_is_refused(given: Any) -> None:
    with pytest.raises(InvalidArgument, match="the schema has no"):
        map_fields(SCHEMA, **given)


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"title": "a"}, "_id or id"),
        ({"_id": None, "id": ""}, "_id or id"),
        ({"_id": 1.5}, "_id"),
        ({"_id": True}, "_id"),
        ({"_id": "a", "title": 7}, "title"),
        ({"_id": "a", "pay": "much"}, "pay"),
    ],
)
def test_a_record_that_is_no_item_is_refused_naming_its_field(record: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        to_item(record, SCHEMA, map_fields(SCHEMA))

    assert caught.value.field == field


@pytest.mark.parametrize(("value", "wanted"), [("18446744073709551615", 2**64 - 1), (0, 0)])
def test_a_number_is_an_id_whichever_way_it_is_written(value: Any, wanted: int) -> None:
    schema = Schema(name="n", dimension=2, id_type="uint64")

    assert to_item({"id": value}, schema, FieldMap()).id == wanted
    with pytest.raises(InvalidArgument, match="uint64"):
        to_item({"id": "-1"}, schema, FieldMap())


@pytest.mark.parametrize("value", [[1, 2.5], (1, 2.5), "[1, 2.5]", "1 2.5", "1,2.5", "1\n2.5\n"])
def test_a_vector_may_be_written_in_several_ways(value: Any) -> None:
    np.testing.assert_array_equal(to_vector(value, "v"), np.array([1, 2.5], np.float32))


@pytest.mark.parametrize("value", ["one two", [[1], [2, 3]], {"a": 1}, "[1, 2"])
def test_what_is_no_list_of_numbers_is_no_vector(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="not a list of numbers"):
        to_vector(value, "v")


def test_the_times_of_an_item_are_read_from_fields_of_their_own() -> None:
    record = {"_id": "a", "_visible_from": "2026-01-01", "_expires_at": "2026-02-01T00:00:00Z"}
    times = to_item(record, SCHEMA, map_fields(SCHEMA)).times
    assert times.visible_from is not None
    assert times.expires_at is not None
    assert times.expires_at.micros - times.visible_from.micros == 31 * 86_400 * 10**6
    assert to_item({"_id": "a", "_expires_at": ""}, SCHEMA, map_fields(SCHEMA)).times.are_always
    with pytest.raises(InvalidArgument, match="_expires_at"):
        to_item({"_id": "a", "_expires_at": "soon"}, SCHEMA, map_fields(SCHEMA))
