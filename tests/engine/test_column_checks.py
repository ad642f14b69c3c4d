from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.column_checks import validate_columns
from engine.errors import EngineError, InvalidArgument
from engine.item_columns import ItemColumns, value_column
from engine.items import validate_item
from engine.limits import Limits
from engine.types import AttributeSpec, AttributeType, AttributeValue, Float32Array, GeoPoint, IdType, Schema, Timestamp

D = 3
LIMITS = Limits(item_bytes=200)
SCHEMA = Schema(
    "c",
    metric="dot",
    dimension=D,
    attributes=(
        AttributeSpec("word", AttributeType.KEYWORD),
        AttributeSpec("words", AttributeType.KEYWORD_LIST),
        AttributeSpec("number", AttributeType.FLOAT),
        AttributeSpec("count", AttributeType.INT),
        AttributeSpec("at", AttributeType.TIMESTAMP),
        AttributeSpec("place", AttributeType.GEO_POINT),
    ),
)
BAD_VALUES: list[tuple[str, list[AttributeValue | None]]] = [
    ("word", ["fine", None, "é" * 120, "x" * 120]),
    ("words", [("a",), (), ("b" * 100, "c" * 100), None]),
    ("number", [1.0, float("nan"), float("inf"), None]),
    ("number", [1, 2, 3, None]),
    ("at", [Timestamp(0), Timestamp(2**62), Timestamp(-(2**62)), None]),
    ("place", [GeoPoint(0, 0), GeoPoint(91, 0), GeoPoint(0, -181), GeoPoint(float("nan"), 0)]),
]


def judged_alone(columns: ItemColumns, schema: Schema) -> list[str]:
    told = []
    for place in range(len(columns)):
        try:
            told.append(repr(validate_item(columns.item(place), schema, D, LIMITS)))
        except EngineError as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def judged_together(columns: ItemColumns, schema: Schema) -> list[str]:
    kept, wrong = validate_columns(columns, schema, D, LIMITS)
    told = {place: f"{type(error).__name__}: {error}" for place, error in wrong}
    items = iter(range(len(kept)))
    shaped = (replace(kept.item(one), vector=kept.vectors[one : one + 1]) for one in items)
    return [told[place] if place in told else repr(next(shaped)) for place in range(len(columns))]


def vectors(rows: Sequence[Sequence[float]]) -> Float32Array:
    return np.array(rows, np.float32)


@pytest.mark.parametrize(("name", "values"), BAD_VALUES)
def test_a_value_is_refused_as_that_of_a_single_item_is(name: str, values: list[AttributeValue | None]) -> None:
    columns = ItemColumns(["a", "b", "c", "d"], np.ones((4, D), np.float32), {name: value_column(values, name)})
    assert judged_together(columns, SCHEMA) == judged_alone(columns, SCHEMA)


@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_vector_is_refused_as_that_of_a_single_item_is(metric: str, dtype: str) -> None:
    given = vectors(
        [
            [1, 2, 3],
            [0, 0, 0],
            [1, np.nan, 1],
            [-np.inf, 0, 0],
            [-7e4, 0, 0],
            [0, 3.39e38, 0],
            [0, -0.0, 0],
            [1e14] * 3,
            [6e13, 0, 0],
            [9e13] * 3,
        ]
    )
    schema = replace(SCHEMA, metric=metric, dtype=dtype)
    columns = ItemColumns([f"i{row}" for row in range(len(given))], given)
    assert judged_together(columns, schema) == judged_alone(columns, schema)


def test_an_id_is_refused_as_that_of_a_single_item_is() -> None:
    ids = ["", "a", "b" * 256, "b" * 257, "é" * 128, "é" * 129]
    columns = ItemColumns(ids, np.ones((len(ids), D), np.float32))
    assert judged_together(columns, SCHEMA) == judged_alone(columns, SCHEMA)


@pytest.mark.parametrize(
    ("columns", "id_type", "told"),
    [
        (ItemColumns(np.arange(2, dtype=np.uint64), np.ones((2, D), np.float32)), "string", "ids: are no string ids"),
        (ItemColumns(["a"], np.ones((1, D), np.float32)), "uint64", "ids: are no uint64 ids"),
        (ItemColumns(["a"], np.ones((1, D + 1), np.float32)), "string", "have 4 dimensions, the collection has 3"),
        (
            ItemColumns(["a"], np.ones((1, D), np.float32), {"other": value_column([1], "other")}),
            "string",
            "no such attribute",
        ),
        (
            ItemColumns(["a"], np.ones((1, D), np.float32), {"word": value_column([1], "word")}),
            "string",
            r"attributes\[word\]: int values are not keyword",
        ),
    ],
)
def test_what_is_wrong_with_all_is_told_of_the_column(columns: ItemColumns, id_type: IdType, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        validate_columns(columns, replace(SCHEMA, id_type=id_type), D, LIMITS)


def test_values_of_two_kinds_make_no_column() -> None:
    with pytest.raises(InvalidArgument, match="values of int, str"):
        value_column([1, "one"], "count")


def test_arrays_and_values_make_the_same_columns() -> None:
    moments = np.array(["1970-01-01T00:00:01", "NaT"], "datetime64[ns]")
    assert value_column(moments, "at").as_values() == [Timestamp(1_000_000), None]
    assert value_column(np.array([1, 2], np.int32), "n").as_values() == value_column([1, 2], "n").as_values()
    assert value_column(np.array(["a", "b"]), "n").as_values() == ["a", "b"]
    with pytest.raises(InvalidArgument, match="not in"):
        value_column(np.array([2**63], np.uint64), "n")
