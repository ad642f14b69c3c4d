from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.schema_file import read_schema, schema_from_table, validate_new_attribute, validate_schema
from engine.types import AttributeSpec, AttributeType, EmbeddingSpec, Schema, TextField

ROOT = Path(__file__).parents[2]

GOOD = Schema(
    name="jobs",
    encoder="minilm",
    text_fields=(TextField("title"), TextField("body", 1, 0.5)),
    attributes=(
        AttributeSpec("company", AttributeType.KEYWORD),
        AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True),
    ),
)


def _attributes(*specs: AttributeSpec) -> Schema:
    return replace(GOOD, attributes=specs)


KEYWORD = AttributeSpec("a", AttributeType.KEYWORD)


def test_a_file_says_what_the_schema_is(tmp_path: Path) -> None:
    path = tmp_path / "jobs.toml"
    path.write_text(
        """
        name = "jobs"
        encoder = "minilm"
        [[text]]
        name = "title"
        [[text]]
        name = "body"
        weight = 0.5
        [[attribute]]
        name = "company"
        type = "keyword"
        [[attribute]]
        name = "clicks"
        type = "int"
        volatile = true
        """,
        "utf-8",
    )

    assert read_schema(path) == GOOD


@pytest.mark.parametrize("path", ["examples/jobs.toml", "engine/demo_data/onet/schema.toml"])
def test_the_schemas_that_are_shipped_are_sound(path: str) -> None:
    schema = read_schema(ROOT / path)
    assert schema.encoder == "minilm"
    assert schema.analysed_fields == schema.text_fields


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({}, "schema.name"),
        ({"name": "a", "encodr": "x"}, "schema.encodr"),
        ({"name": 1}, "schema.name"),
        ({"name": "a", "dimension": "8"}, "schema.dimension"),
        ({"name": "a", "dimension": True}, "schema.dimension"),
        ({"name": "a", "text": [{"order": 1}]}, "schema.text[0].name"),
        ({"name": "a", "text": [{"name": "t", "wait": 1}]}, "schema.text[0].wait"),
        ({"name": "a", "text": ["t"]}, "schema.text[0]"),
        ({"name": "a", "text": [{"name": "t", "analyser": True}]}, "schema.text[0].analyser"),
        ({"name": "a", "bm25_k1": "high"}, "schema.bm25_k1"),
        ({"name": "a", "attribute": [{"name": "b"}]}, "schema.attribute[0].type"),
        ({"name": "a", "attribute": [{"name": "b", "type": "date"}]}, "schema.attribute[0].type"),
        ({"name": "a", "attribute": [{"name": "b", "type": "int", "stored": 1}]}, "schema.attribute[0].stored"),
        ({"name": "a", "attribute": {"name": "b"}}, "schema.attribute"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(table: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        schema_from_table(table)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (replace(GOOD, name="Jobs"), "schema.name"),
        (replace(GOOD, name="../jobs"), "schema.name"),
        (replace(GOOD, name="a" * 65), "schema.name"),
        (replace(GOOD, name=""), "schema.name"),
        (replace(GOOD, metric="manhattan"), "schema.metric"),  # type: ignore[arg-type]
        (replace(GOOD, dtype="int8"), "schema.dtype"),  # type: ignore[arg-type]
        (replace(GOOD, id_type="int"), "schema.id_type"),  # type: ignore[arg-type]
        (replace(GOOD, encoder=""), "schema.encoder"),
        (replace(GOOD, encoder=None), "schema.dimension"),
        (replace(GOOD, dimension=0), "schema.dimension"),
        (replace(GOOD, dimension=8193), "schema.dimension"),
        (replace(GOOD, dimension=100), "schema.dimension"),
        (replace(GOOD, chunk=0), "schema.chunk"),
        (replace(GOOD, chunk=65), "schema.chunk"),
        (replace(GOOD, text_mode="weighted", chunk=2), "schema.chunk"),
        (replace(GOOD, text_fields=()), "schema.text_fields"),
        (replace(GOOD, text_fields=(TextField("a"), TextField("a"))), "schema.text_fields[1].name"),
        (replace(GOOD, text_fields=(TextField("a b"),)), "schema.text_fields[0].name"),
        (replace(GOOD, text_fields=(TextField("a", weight=0.0),)), "schema.text_fields[0].weight"),
        (replace(GOOD, text_fields=(TextField("a", weight=float("nan")),)), "schema.text_fields[0].weight"),
        (replace(GOOD, text_fields=(TextField("a", analyser="klingon"),)), "schema.text_fields[0].analyser"),
        (replace(GOOD, text_fields=(TextField("a", lexical_weight=0.0),)), "schema.text_fields[0].lexical_weight"),
        (
            replace(GOOD, text_fields=tuple(TextField(f"t{i}", analyser="plain") for i in range(9))),
            "schema.text_fields",
        ),
        (replace(GOOD, bm25_k1=-0.1), "schema.bm25_k1"),
        (replace(GOOD, bm25_k1=float("inf")), "schema.bm25_k1"),
        (replace(GOOD, bm25_b=1.5), "schema.bm25_b"),
        (replace(GOOD, bm25_b=float("nan")), "schema.bm25_b"),
        (_attributes(KEYWORD, KEYWORD), "schema.attributes[1].name"),
        (_attributes(replace(KEYWORD, name="1a")), "schema.attributes[0].name"),
        (_attributes(replace(KEYWORD, volatile=True, filterable=False)), "schema.attributes[0].volatile"),
        (
            _attributes(AttributeSpec("a", AttributeType.INT, volatile=True)),
            "schema.attributes[0].filterable",
        ),
        (_attributes(*(replace(KEYWORD, name=f"a{i}") for i in range(257))), "schema.attributes"),
    ],
)
def test_an_unusable_schema_is_refused_with_the_path_of_what_is_wrong(schema: Schema, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        validate_schema(schema, Limits(), encoder_dimension=384)

    assert caught.value.field == field


def test_a_sound_schema_comes_back_as_it_is() -> None:
    assert validate_schema(GOOD, Limits(), encoder_dimension=384) is GOOD
    without_encoder = Schema(name="vectors", dimension=8192)
    assert validate_schema(without_encoder) is without_encoder


def test_a_text_field_and_an_attribute_may_share_a_name() -> None:
    validate_schema(_attributes(replace(KEYWORD, name="title")))


def test_a_new_attribute_is_held_against_those_there_are() -> None:
    assert validate_new_attribute(KEYWORD, GOOD, Limits()) is KEYWORD

    with pytest.raises(InvalidArgument, match="'company' is there twice"):
        validate_new_attribute(replace(KEYWORD, name="company"), GOOD, Limits())
    with pytest.raises(LimitExceeded):
        validate_new_attribute(KEYWORD, GOOD, Limits(attributes=2))


@pytest.mark.parametrize(("text", "told"), [('name = "A"\ndimension = 3', "schema.name"), ("name =", "is not TOML")])
def test_an_unusable_file_is_a_config_error_that_names_it(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, "utf-8")

    with pytest.raises(ConfigError, match=rf"bad\.toml.*{told}"):
        read_schema(path)


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the schema file"):
        read_schema(tmp_path / "none.toml")


NAMED = replace(GOOD, embeddings=(EmbeddingSpec("title", ("title",), 2.0), EmbeddingSpec("image", dimension=8)))


def test_a_file_names_the_embeddings_of_items(tmp_path: Path) -> None:
    path = tmp_path / "jobs.toml"
    path.write_text(
        """
        name = "jobs"
        encoder = "minilm"
        [[text]]
        name = "title"
        [[text]]
        name = "body"
        weight = 0.5
        [[embedding]]
        name = "title"
        text_fields = ["title"]
        weight = 2
        [[embedding]]
        name = "image"
        dimension = 8
        """
    )
    assert read_schema(path) == replace(NAMED, attributes=())


def _named(*specs: EmbeddingSpec, **changes: Any) -> Schema:
    return replace(NAMED, embeddings=specs or NAMED.embeddings, **changes)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (_named(metric="l2"), "schema.metric: is l2"),
        (_named(chunk=2), "schema.chunk: is more than 1"),
        (
            _named(EmbeddingSpec("a", ("void",))),
            r"schema.embeddings\[0\].text_fields: the schema has no text field 'void'",
        ),
        (_named(EmbeddingSpec("a", ("title", "title"))), "names a text field twice"),
        (_named(EmbeddingSpec("a"), EmbeddingSpec("a")), r"embeddings\[1\].name: 'a' is there twice"),
        (_named(EmbeddingSpec("")), r"embeddings\[0\].name: '' is not"),
        (_named(EmbeddingSpec("a", weight=-1.0)), r"embeddings\[0\].weight: -1.0 is not a float32 from 0 on"),
        (_named(EmbeddingSpec("a", weight=float("inf"))), "weight: inf is not"),
        (_named(EmbeddingSpec("a", weight=0.0)), "schema.embeddings: all weigh 0"),
        (_named(EmbeddingSpec("a", dimension=0)), r"embeddings\[0\].dimension: 0 is not at least 1"),
        (_named(EmbeddingSpec("a", ("title",), dimension=8)), "dimension: 8 is not the encoder's, which is 64"),
        (_named(EmbeddingSpec("a", dimension=8192), EmbeddingSpec("b")), "8256 is beyond the limit of 8192"),
        (_named(*(EmbeddingSpec(f"n{n}") for n in range(65))), "65 is beyond the limit of 64 embeddings an item"),
    ],
)
def test_named_embeddings_that_cannot_be_are_refused(schema: Schema, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        validate_schema(schema, encoder_dimension=64)


def test_a_maximum_is_of_embeddings_of_one_dimension_that_are_taken_or_left_out() -> None:
    sound = _named(EmbeddingSpec("a", ("title",)), EmbeddingSpec("b", (), 0.0, 64), combine="maximum")
    assert validate_schema(sound, encoder_dimension=64) == sound
    for wrong, told in (
        (replace(GOOD, combine="maximum"), "schema.combine: is maximum, and no embedding has a name"),
        (replace(sound, combine="mean"), "schema.combine: 'mean' is none of weighted, maximum"),
        (_named(EmbeddingSpec("a", weight=2.0), combine="maximum"), r"\[0\].weight: 2.0 is neither 0 nor 1"),
        (_named(EmbeddingSpec("a"), EmbeddingSpec("b", dimension=8), combine="maximum"), "several dimensions"),
        (replace(sound, chunk=2), "schema.chunk: is more than 1"),
    ):
        with pytest.raises(InvalidArgument, match=told):
            validate_schema(wrong, encoder_dimension=64)


def test_named_embeddings_without_an_encoder_have_dimensions_of_their_own() -> None:
    bare = replace(NAMED, encoder=None, embeddings=(EmbeddingSpec("a", dimension=2), EmbeddingSpec("b", dimension=3)))
    assert validate_schema(bare) == bare
    for wrong, told in (
        (replace(bare, dimension=4), "schema.dimension: is given beside named embeddings"),
        (replace(bare, embeddings=(EmbeddingSpec("a"),)), r"embeddings\[0\].dimension: is required without an encoder"),
        (replace(bare, embeddings=NAMED.embeddings), r"embeddings\[0\].text_fields: are for an encoder to read"),
    ):
        with pytest.raises(InvalidArgument, match=told):
            validate_schema(wrong)
