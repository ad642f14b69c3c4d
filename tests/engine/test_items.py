from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.dtypes import MOST_LENGTH
from engine.errors import InvalidArgument, LimitExceeded
from engine.items import validate_id, validate_item
from engine.limits import Limits
from engine.types import AttributeSpec, AttributeType, EmbeddingSpec, GeoPoint, Item, Schema, TextField, Timestamp

D = 4
SCHEMA = Schema(
    name="things",
    dimension=D,
    chunk=2,
    text_fields=(TextField("title"),),
    attributes=tuple(AttributeSpec(kind.value, kind) for kind in AttributeType),
)
LIMITS = Limits(text_bytes=100, item_bytes=400)
ONES = np.ones(D, np.float32)


def _validate(item: Item, schema: Schema = SCHEMA) -> Item:
    return validate_item(item, schema, D, LIMITS)


def test_a_sound_item_comes_back_in_canonical_form() -> None:
    attributes = {
        "keyword": "",
        "keyword_list": ["a", "b"],
        "bool": False,
        "int": -(2**63),
        "float": 3,
        "timestamp": Timestamp(-1),
        "geo_point": GeoPoint(90, -180),
    }

    item = _validate(Item("ä", {"title": "x" * 100}, attributes, np.ones(D, np.float64)))  # type: ignore[arg-type]

    assert item.attributes == attributes | {"keyword_list": ("a", "b"), "float": 3.0}
    assert type(item.attributes["float"]) is float
    assert item.vector is not None
    assert (item.vector.shape, item.vector.dtype) == ((1, D), np.float32)


def test_an_empty_list_is_no_value() -> None:
    assert _validate(Item("a", {}, {"keyword_list": ()})).attributes == {}


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("keyword", 1),
        ("keyword", ("a",)),
        ("keyword", "\ud800"),
        ("keyword_list", "a"),
        ("keyword_list", ("a", 1)),
        ("keyword_list", ("a", "\udfff")),
        ("bool", 1),
        ("bool", "true"),
        ("int", True),
        ("int", 1.0),
        ("int", 2**63),
        ("int", -(2**63) - 1),
        ("int", Timestamp(1)),
        ("float", True),
        ("float", "1"),
        ("float", float("nan")),
        ("float", float("inf")),
        ("float", 2**63),
        ("timestamp", 1),
        ("timestamp", "2025-01-01"),
        ("timestamp", Timestamp(253_402_300_800_000_000)),
        ("geo_point", (1.0, 2.0)),
        ("geo_point", GeoPoint(90.1, 0)),
        ("geo_point", GeoPoint(0, -180.1)),
        ("geo_point", GeoPoint(float("nan"), 0)),
        ("colour", "red"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_naming_item_and_attribute(attribute: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        _validate(Item("id-1", {}, {attribute: value}))

    assert caught.value.field.startswith("item['id-1'].attributes[")
    assert attribute in caught.value.field


@pytest.mark.parametrize(
    ("text", "field"),
    [({"body": "x"}, "body"), ({"title": 1}, "title"), ({"title": "\ud800"}, "title"), ({"title": "ä" * 51}, "title")],
)
def test_a_text_that_does_not_fit_is_refused_naming_item_and_field(text: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        _validate(Item("id-1", text))

    assert caught.value.field == f"item['id-1'].text['{field}']"


@pytest.mark.parametrize("item_id", [1, True, "", "a" * 257, "ä" * 129, "\ud800", None])
def test_an_id_that_is_no_string_of_1_to_256_bytes_is_refused(item_id: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^item\.id"):
        _validate(Item(item_id))


@pytest.mark.parametrize("item_id", ["1", True, -1, 2**64, None, 1.0])
def test_an_id_that_is_no_uint64_is_refused(item_id: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^item\.id"):
        _validate(Item(item_id), replace(SCHEMA, id_type="uint64"))


def test_the_ends_of_the_ids_ranges_are_ids() -> None:
    validate_id("a" * 256, SCHEMA, "id")
    for one in (0, 2**64 - 1):
        validate_id(one, replace(SCHEMA, id_type="uint64"), "id")


@pytest.mark.parametrize(
    ("vector", "told"),
    [
        (np.ones(D + 1), "has 5 dimensions, the collection has 4"),
        (np.ones((0, D)), "has shape"),
        (np.ones((1, 1, D)), "has shape"),
        (np.ones(0), "has shape"),
        (np.ones((3, D)), "3 is beyond the limit of 2"),
        (np.array([1, 2, np.nan, 4]), "value 2 of embedding 0 is nan"),
        (np.array([[1, 2, 3, 4], [-np.inf, 2, 3, 4]]), "value 0 of embedding 1 is -inf"),
        (np.zeros(D), "embedding 0 is zero, which has no cosine"),
        (np.stack([np.ones(D), np.zeros(D)]), "embedding 1 is zero"),
    ],
)
def test_a_vector_that_cannot_be_compared_is_refused(vector: Any, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told) as caught:
        _validate(Item("id-1", vector=vector.astype(np.float32)))

    assert caught.value.field == "item['id-1'].vector"


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_vector_beyond_the_stored_dtype_is_refused_where_it_is_not_normalised(metric: Any) -> None:
    large = Item("a", vector=ONES * np.float32(65_505))

    with pytest.raises(LimitExceeded, match="65504"):
        _validate(large, replace(SCHEMA, metric=metric))

    _validate(large)
    _validate(large, replace(SCHEMA, metric=metric, dtype="bfloat16"))
    _validate(Item("a", vector=ONES * 0), replace(SCHEMA, metric=metric))


@pytest.mark.parametrize("metric", ["dot", "l2"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_vector_so_long_that_scores_might_not_be_finite_is_refused(metric: Any, dtype: Any) -> None:
    schema = replace(SCHEMA, metric=metric, dtype=dtype)
    longest = ONES * np.float32(0.999 * MOST_LENGTH / 2)

    with pytest.raises(LimitExceeded, match=r"vector: 1.00899e\+14 is beyond the limit of 1e\+14 in length"):
        _validate(Item("a", vector=longest * np.float32(1.01)), schema)

    _validate(Item("a", vector=longest), schema)
    _validate(Item("a", vector=longest * np.float32(1e5)), replace(SCHEMA, dtype=dtype))


def test_named_embeddings_that_are_one_row_are_held_to_a_length_together() -> None:
    embeddings = (EmbeddingSpec("a", (), 1.0, D), EmbeddingSpec("b", (), 1.0, D))
    schema = Schema("named", id_type="string", metric="dot", dtype="float32", embeddings=embeddings)
    one = ONES * np.float32(0.9 * MOST_LENGTH / 2)
    with pytest.raises(LimitExceeded, match=r"named_vectors: 1.27279e\+14 is beyond the limit of 1e\+14 in length"):
        _validate(Item("a", named_vectors={"a": one, "b": one}), schema)
    _validate(Item("a", named_vectors={"a": one}), schema)
    _validate(Item("a", named_vectors={"a": one, "b": one}), replace(schema, combine="maximum"))


def test_an_item_beyond_its_limit_is_refused_whole() -> None:
    with pytest.raises(LimitExceeded, match="bytes an item"):
        _validate(Item("a", {"title": "x" * 100}, {"keyword_list": ("y" * 10,) * 31}))


def test_a_message_stays_short_whatever_was_sent() -> None:
    with pytest.raises(InvalidArgument) as caught:
        _validate(Item("a", {}, {"int": "x" * 10_000}))

    assert len(caught.value.message) < 300
