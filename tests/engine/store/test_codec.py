from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidArgument
from engine.store.codec import (
    ItemCodec,
    decode_schema,
    decode_version,
    encode_schema,
    encode_version,
    from_stored_id,
    to_stored_id,
)
from engine.types import AttributeValue, EmbeddingSpec, GeoPoint, IdType, ItemId, Timestamp
from tests.engine.store.stores import schema, version

int64s = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
all_attributes = st.fixed_dictionaries(
    {},
    optional={
        "color": texts,
        "tags": st.lists(texts).map(tuple),
        "sold": st.booleans(),
        "year": int64s,
        "price": floats,
        "at": int64s.map(Timestamp),
        "place": st.builds(GeoPoint, floats, floats),
        "note": texts,
        "clicks": int64s,
    },
)


@given(attributes=all_attributes)
def test_attributes_come_back_equal_and_of_the_same_types(attributes: dict[str, AttributeValue]) -> None:
    codec = ItemCodec(schema())
    decoded = codec.decode_attributes(codec.encode_attributes(attributes))
    assert repr(sorted(decoded.items())) == repr(sorted(attributes.items()))


@given(sets=st.lists(all_attributes, max_size=5))
def test_attribute_sets_decoded_together_are_as_if_decoded_apart(sets: list[dict[str, AttributeValue]]) -> None:
    codec = ItemCodec(schema())
    encoded = [codec.encode_attributes(attributes) for attributes in sets]
    assert repr(codec.decode_many(encoded)) == repr([codec.decode_attributes(one) for one in encoded])


@pytest.mark.parametrize("damaged", [["{}, {}"], ["{}", "{"], ["{}", ""], ["", ""]])
def test_damage_in_attribute_sets_decoded_together_is_found(damaged: list[str]) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        ItemCodec(schema()).decode_many(damaged)


@given(text=st.dictionaries(texts, texts))
def test_texts_come_back(text: dict[str, str]) -> None:
    codec = ItemCodec(schema())
    assert codec.decode_text(codec.encode_text(text)) == text


@given(one=st.integers(0, 2**64 - 1), other=st.integers(0, 2**64 - 1))
def test_stored_ids_have_the_order_of_ids(one: int, other: int) -> None:
    stored = to_stored_id(one, "uint64"), to_stored_id(other, "uint64")
    assert (stored[0] < stored[1]) == (one < other)  # type: ignore[operator]
    assert from_stored_id(stored[0]) == one


@pytest.mark.parametrize(
    ("item_id", "id_type"), [(1, "string"), ("1", "uint64"), (-1, "uint64"), (2**64, "uint64"), (True, "uint64")]
)
def test_an_id_of_the_other_type_is_refused(item_id: ItemId, id_type: IdType) -> None:
    with pytest.raises(InvalidArgument):
        to_stored_id(item_id, id_type)


def test_schemas_and_versions_come_back() -> None:
    assert decode_schema(encode_schema(schema(id_type="uint64"))) == schema(id_type="uint64")
    named = replace(schema(), embeddings=(EmbeddingSpec("a", (), 2.0, 4), EmbeddingSpec("b", ("title",))))
    assert decode_schema(encode_schema(named)) == named
    assert decode_version(encode_version(version())) == version()


def test_a_schema_stored_before_embeddings_had_names_has_none() -> None:
    stored = json.loads(encode_schema(schema()))
    del stored["embeddings"]
    assert decode_schema(json.dumps(stored)) == schema()


def test_a_whole_number_given_for_a_float_comes_back_as_a_float() -> None:
    codec = ItemCodec(schema())
    assert repr(codec.decode_attributes(codec.encode_attributes({"price": 3}))) == "{'price': 3.0}"


def test_the_order_in_which_attributes_are_given_is_no_change() -> None:
    codec = ItemCodec(schema())
    one, other = codec.encode_attributes({"year": 1, "color": "c"}), codec.encode_attributes({"color": "c", "year": 1})
    assert one == other


def test_a_schema_stored_before_fields_had_analysers_has_none() -> None:
    stored = json.loads(encode_schema(schema()))
    for name in ("bm25_k1", "bm25_b"):
        del stored[name]
    for field in stored["text_fields"]:
        del field["analyser"], field["lexical_weight"]
    decoded = decode_schema(json.dumps(stored))
    assert decoded.text_fields == schema().text_fields
    assert (decoded.bm25_k1, decoded.bm25_b, decoded.analysed_fields) == (0.9, 0.4, ())
