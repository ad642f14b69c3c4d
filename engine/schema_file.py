"""Schema files (TOML) to schemas, and what makes a schema unusable. Knows nothing of encoders but their dimension."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from engine.embeddings import check_embeddings
from engine.errors import ConfigError, InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.pipeline_file import pipeline_from_table
from engine.rankings import check_pipeline
from engine.scoring import Decay, Feature, Overlap, ScoringProfile, Term
from engine.scorings import check_profile
from engine.table_keys import check_keys
from engine.types import (
    Analyser,
    AttributeSpec,
    AttributeType,
    Combine,
    EmbeddingSpec,
    IdType,
    Metric,
    Schema,
    TextField,
    VectorDtype,
)

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_VOLATILE_TYPES = (AttributeType.INT, AttributeType.FLOAT)
_CHOICES: Mapping[str, Sequence[str]] = {
    "id_type": get_args(IdType),
    "metric": get_args(Metric),
    "dtype": get_args(VectorDtype),
    "text_mode": ("joined", "weighted"),
    "combine": get_args(Combine),
}
_DEFAULT_LIMITS = Limits()
_TOP_KEYS: Mapping[str, type] = {
    "name": str,
    "id_type": str,
    "metric": str,
    "dtype": str,
    "encoder": str,
    "dimension": int,
    "text_mode": str,
    "chunk": int,
    "text": list,
    "attribute": list,
    "embedding": list,
    "combine": str,
    "bm25_k1": float,
    "bm25_b": float,
    "profile": list,
    "default_profile": str,
    "pipeline": dict,
}
_TABLES = ("text", "attribute", "profile", "embedding", "pipeline")
_TEXT_KEYS: Mapping[str, type] = {
    "name": str,
    "order": int,
    "weight": float,
    "analyser": str,
    "lexical_weight": float,
}
_EMBEDDING_KEYS: Mapping[str, type] = {"name": str, "text_fields": list, "weight": float, "dimension": int}
_ANALYSED_FIELDS = 8
"""A posting tells in so many bits which fields have its term."""
_PROFILE_KEYS: Mapping[str, type] = {"name": str, "similarity": float, "lexical": float, "term": list}
_TERM_KEYS: Mapping[str, Mapping[str, type]] = {
    "feature": {"scale": str, "low": float, "high": float, "missing": float},
    "decay": {"half_life_s": float, "missing": float},
    "overlap": {"values": list, "value_weights": list},
}
_ATTRIBUTE_KEYS: Mapping[str, type] = {
    "name": str,
    "type": str,
    "stored": bool,
    "filterable": bool,
    "volatile": bool,
}


def read_schema(path: Path) -> Schema:
    """The schema of a TOML file, validated but for what only its encoder can tell.

    Raises:
        ConfigError: the file cannot be read or its schema is unusable; the message names the field.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        return validate_schema(schema_from_table(table))
    except OSError as error:
        raise ConfigError(f"cannot read the schema file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except InvalidArgument as error:
        raise ConfigError(f"{path}: {error.message}", violations=error.violations) from error


def schema_from_table(table: Mapping[str, Any]) -> Schema:
    """A parsed schema file as a schema, not yet validated.

    Raises:
        InvalidArgument: an unknown key, or a value of another type than the key's.
    """
    check_keys(table, _TOP_KEYS, "schema")
    plain = {key: value for key, value in table.items() if key not in _TABLES}
    if "name" not in plain:
        raise InvalidArgument("schema.name", "is missing")
    texts = [_text_field(one, f"schema.text[{i}]", i) for i, one in enumerate(table.get("text", ()))]
    attributes = [_attribute(one, f"schema.attribute[{i}]") for i, one in enumerate(table.get("attribute", ()))]
    profiles = [_profile(one, f"schema.profile[{i}]") for i, one in enumerate(table.get("profile", ()))]
    embeddings = [_embedding(one, f"schema.embedding[{i}]") for i, one in enumerate(table.get("embedding", ()))]
    pipeline = pipeline_from_table(table["pipeline"], "schema.pipeline") if "pipeline" in table else None
    return Schema(
        **plain,
        text_fields=tuple(texts),
        attributes=tuple(attributes),
        profiles=tuple(profiles),
        pipeline=pipeline,
        embeddings=tuple(embeddings),
    )


def _embedding(table: Mapping[str, Any], field: str) -> EmbeddingSpec:
    check_keys(table, _EMBEDDING_KEYS, field)
    if "name" not in table:
        raise InvalidArgument(f"{field}.name", "is missing")
    text_fields = tuple(table.get("text_fields", ()))
    return EmbeddingSpec(table["name"], text_fields, float(table.get("weight", 1.0)), table.get("dimension"))


def _profile(table: Mapping[str, Any], field: str) -> ScoringProfile:
    check_keys(table, _PROFILE_KEYS, field)
    if "name" not in table:
        raise InvalidArgument(f"{field}.name", "is missing")
    terms = [_term(one, f"{field}.term[{i}]") for i, one in enumerate(table.get("term", ()))]
    weights = float(table.get("similarity", 1.0)), float(table.get("lexical", 0.0))
    return ScoringProfile(table["name"], *weights, tuple(terms))


def _term(table: Mapping[str, Any], field: str) -> Term:
    """Its first key says which kind of term it is, and of which attribute."""
    kinds = [key for key in _TERM_KEYS if key in table]
    if len(kinds) != 1:
        raise InvalidArgument(field, f"has {len(kinds)} of {', '.join(_TERM_KEYS)}: give one, with its attribute")
    kind = kinds[0]
    check_keys(table, {kind: str, "name": str, "weight": float, **_TERM_KEYS[kind]}, field)
    given: dict[str, Any] = {key: value for key, value in table.items() if key != kind}
    if kind == "decay":
        if "half_life_s" not in given:
            raise InvalidArgument(f"{field}.half_life_s", "is missing")
        return Decay(table[kind], **given)
    if kind == "feature":
        return Feature(table[kind], **given)
    given |= {key: tuple(given.get(key, ())) for key in ("values", "value_weights")}
    return Overlap(table[kind], **given)


def _text_field(table: Mapping[str, Any], field: str, place: int) -> TextField:
    check_keys(table, _TEXT_KEYS, field)
    if "name" not in table:
        raise InvalidArgument(f"{field}.name", "is missing")
    return TextField(
        table["name"],
        table.get("order", place),
        float(table.get("weight", 1.0)),
        table.get("analyser"),
        float(table.get("lexical_weight", 1.0)),
    )


def _attribute(table: Mapping[str, Any], field: str) -> AttributeSpec:
    check_keys(table, _ATTRIBUTE_KEYS, field)
    missing = [key for key in ("name", "type") if key not in table]
    if missing:
        raise InvalidArgument(f"{field}.{missing[0]}", "is missing")
    types = {one.value: one for one in AttributeType}
    if table["type"] not in types:
        raise InvalidArgument(f"{field}.type", f"{table['type']!r} is none of {', '.join(types)}")
    volatile = table.get("volatile", False)
    return AttributeSpec(
        name=table["name"],
        type=types[table["type"]],
        stored=table.get("stored", True),
        filterable=table.get("filterable", not volatile),
        volatile=volatile,
    )


def validate_name(name: str, field: str) -> str:
    """The name, if a collection may have it.

    Raises:
        InvalidArgument: it may not.
    """
    if not _COLLECTION_NAME.fullmatch(name):
        raise InvalidArgument(field, f"{name!r} is not 1 to 64 of a-z, 0-9, '_', '-' that begin with a letter")
    return name


def validate_schema(
    schema: Schema, limits: Limits = _DEFAULT_LIMITS, *, encoder_dimension: int | None = None
) -> Schema:
    """The schema, sound; ``encoder_dimension`` is its encoder's where that is known.

    Raises:
        InvalidArgument: with the path of the field that is wrong; LimitExceeded beyond a published limit.
    """
    validate_name(schema.name, "schema.name")
    for key, choices in _CHOICES.items():
        if getattr(schema, key) not in choices:
            raise InvalidArgument(f"schema.{key}", f"{getattr(schema, key)!r} is none of {', '.join(choices)}")
    _validate_vectors(schema, limits, encoder_dimension)
    _validate_texts(schema)
    for place, one in enumerate(schema.embeddings):
        taken = [other.name for other in schema.embeddings[:place]]
        _validate_name(one.name, f"schema.embeddings[{place}].name", taken=taken)
    check_embeddings(schema, limits, encoder_dimension)
    _validate_lexical(schema)
    _validate_attributes(schema, limits)
    _validate_profiles(schema, limits)
    if schema.pipeline is not None:
        check_pipeline(schema.pipeline, schema, limits, "schema.pipeline")
    return schema


def _validate_vectors(schema: Schema, limits: Limits, encoder_dimension: int | None) -> None:
    if schema.encoder is None and schema.dimension is None and not schema.embeddings:
        raise InvalidArgument("schema.dimension", "is required without an encoder")
    if schema.encoder == "":
        raise InvalidArgument("schema.encoder", "is empty; leave it out where callers bring the vectors")
    if schema.dimension is not None and schema.dimension < 1:
        raise InvalidArgument("schema.dimension", f"{schema.dimension} is not at least 1")
    if schema.dimension is not None and schema.dimension > limits.dimension:
        raise LimitExceeded("schema.dimension", value=schema.dimension, limit=limits.dimension)
    if schema.dimension is not None and encoder_dimension not in (None, schema.dimension):
        raise InvalidArgument(
            "schema.dimension", f"{schema.dimension} is not the encoder's, which is {encoder_dimension}"
        )
    if schema.chunk < 1:
        raise InvalidArgument("schema.chunk", f"{schema.chunk} is not at least 1")
    if schema.chunk > limits.chunk:
        raise LimitExceeded("schema.chunk", value=schema.chunk, limit=limits.chunk, unit="embeddings an item")


def _validate_texts(schema: Schema) -> None:
    if schema.encoder is not None and not schema.text_fields:
        raise InvalidArgument("schema.text_fields", "is empty: an encoder needs at least one text field to read")
    if schema.text_mode == "weighted" and schema.chunk > 1:
        raise InvalidArgument("schema.chunk", "is more than 1: weighted texts are encoded as one embedding each")
    for place, one in enumerate(schema.text_fields):
        field = f"schema.text_fields[{place}]"
        _validate_name(one.name, f"{field}.name", taken=[other.name for other in schema.text_fields[:place]])
        for key in ("weight", "lexical_weight"):
            weight = getattr(one, key)
            if not (math.isfinite(weight) and weight > 0):
                raise InvalidArgument(f"{field}.{key}", f"{weight} is not a number above 0")
        if one.analyser is not None and one.analyser not in get_args(Analyser):
            raise InvalidArgument(f"{field}.analyser", f"{one.analyser!r} is none of {', '.join(get_args(Analyser))}")


def _validate_lexical(schema: Schema) -> None:
    n_fields = len(schema.analysed_fields)
    if n_fields > _ANALYSED_FIELDS:
        raise LimitExceeded("schema.text_fields", value=n_fields, limit=_ANALYSED_FIELDS, unit="with an analyser")
    if not (math.isfinite(schema.bm25_k1) and schema.bm25_k1 >= 0):
        raise InvalidArgument("schema.bm25_k1", f"{schema.bm25_k1} is not a number from 0 on")
    if not 0 <= schema.bm25_b <= 1:
        raise InvalidArgument("schema.bm25_b", f"{schema.bm25_b} is not in [0, 1]")


def with_profile(schema: Schema, profile: ScoringProfile, limits: Limits, *, default: bool | None) -> Schema:
    """The schema with a profile in the place of the one of that name, a revision on; ``default``: whether it is the
    default, as before unless told.

    Raises:
        InvalidArgument, UnknownAttribute: the profile is not sound.
    """
    old = next((one for one in schema.profiles if one.name == profile.name), None)
    new = replace(profile, revision=1 if old is None else old.revision + 1)
    own = [one for one in schema.profiles if one is not old]
    chosen = schema.default_profile
    if default is not None and (default or chosen == profile.name):
        chosen = profile.name if default else ""
    changed = replace(schema, profiles=(*own, new), default_profile=chosen)
    _validate_profiles(changed, limits)
    return changed


def without_profile(schema: Schema, name: str) -> Schema:
    """
    Raises:
        InvalidArgument: there is none of that name.
    """
    left = tuple(one for one in schema.profiles if one.name != name)
    if len(left) == len(schema.profiles):
        known = ", ".join(one.name for one in left) or "none"
        raise InvalidArgument("profile", f"the collection has no profile {name!r}; it has {known}", value=name)
    return replace(
        schema, profiles=left, default_profile="" if schema.default_profile == name else schema.default_profile
    )


def _validate_profiles(schema: Schema, limits: Limits) -> None:
    if len(schema.profiles) > limits.profiles:
        raise LimitExceeded("schema.profiles", value=len(schema.profiles), limit=limits.profiles)
    for place, profile in enumerate(schema.profiles):
        taken = [one.name for one in schema.profiles[:place]]
        _validate_name(profile.name, f"schema.profiles[{place}].name", taken=taken)
        check_profile(profile, schema, limits, f"schema.profiles[{place}]")
    if schema.default_profile and schema.default_profile not in [one.name for one in schema.profiles]:
        raise InvalidArgument("schema.default_profile", f"there is no profile {schema.default_profile!r}")


def _validate_attributes(schema: Schema, limits: Limits) -> None:
    if len(schema.attributes) > limits.attributes:
        raise LimitExceeded("schema.attributes", value=len(schema.attributes), limit=limits.attributes)
    for place, spec in enumerate(schema.attributes):
        taken = [one.name for one in schema.attributes[:place]]
        _validate_attribute(spec, f"schema.attributes[{place}]", taken)


def validate_new_attribute(spec: AttributeSpec, schema: Schema, limits: Limits) -> AttributeSpec:
    """The attribute, sound as an addition to ``schema``.

    Raises:
        InvalidArgument: with the path of the field that is wrong; LimitExceeded where the schema is full.
    """
    if len(schema.attributes) >= limits.attributes:
        raise LimitExceeded("attribute", value=len(schema.attributes) + 1, limit=limits.attributes, unit="attributes")
    _validate_attribute(spec, "attribute", [one.name for one in schema.attributes])
    return spec


def _validate_attribute(spec: AttributeSpec, field: str, taken: Sequence[str]) -> None:
    _validate_name(spec.name, f"{field}.name", taken=taken)
    if spec.volatile and spec.type not in _VOLATILE_TYPES:
        raise InvalidArgument(f"{field}.volatile", f"{spec.name!r} is a {spec.type.value}; only int and float may be")
    if spec.volatile and spec.filterable:
        raise InvalidArgument(
            f"{field}.filterable", f"{spec.name!r} is volatile, and what changes in place cannot be filtered on"
        )


def _validate_name(name: str, field: str, *, taken: Sequence[str]) -> None:
    if not _FIELD_NAME.fullmatch(name):
        raise InvalidArgument(
            field, f"{name[:80]!r} is not 1 to 64 of A-Z, a-z, 0-9, '_', '.', '-' that begin with a letter or '_'"
        )
    if name in taken:
        raise InvalidArgument(field, f"{name!r} is there twice")
