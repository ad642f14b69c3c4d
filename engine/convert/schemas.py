"""Schemas of collections and their attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from engine import types
from engine.convert.pipelines import pipeline_from, pipeline_to
from engine.convert.scoring import profile_from, profile_to
from engine.convert.tensors import DTYPE_NAMES, DTYPE_VALUES
from engine.errors import InvalidArgument
from engine.types import AttributeType
from engine.v1 import admin_pb2, common_pb2

T = TypeVar("T")

METRIC_VALUES: dict[str, common_pb2.Metric] = {
    "cosine": common_pb2.METRIC_COSINE,
    "dot": common_pb2.METRIC_DOT,
    "l2": common_pb2.METRIC_L2,
}
_METRIC_NAMES: dict[int, types.Metric] = {
    common_pb2.METRIC_COSINE: "cosine",
    common_pb2.METRIC_DOT: "dot",
    common_pb2.METRIC_L2: "l2",
}
_ID_TYPES: dict[int, types.IdType] = {
    admin_pb2.ID_TYPE_UNSPECIFIED: "string",
    admin_pb2.ID_TYPE_STRING: "string",
    admin_pb2.ID_TYPE_UINT64: "uint64",
}
_TEXT_MODES: dict[int, Literal["joined", "weighted"]] = {
    admin_pb2.TEXT_MODE_UNSPECIFIED: "joined",
    admin_pb2.TEXT_MODE_JOINED: "joined",
    admin_pb2.TEXT_MODE_WEIGHTED: "weighted",
}
_COMBINES: dict[int, types.Combine] = {
    admin_pb2.COMBINE_UNSPECIFIED: "weighted",
    admin_pb2.COMBINE_WEIGHTED: "weighted",
    admin_pb2.COMBINE_MAXIMUM: "maximum",
}
_ANALYSERS: dict[int, types.Analyser | None] = {
    admin_pb2.ANALYSER_UNSPECIFIED: None,
    admin_pb2.ANALYSER_ENGLISH: "english",
    admin_pb2.ANALYSER_PLAIN: "plain",
}
_ANALYSER_VALUES: dict[types.Analyser | None, admin_pb2.Analyser] = {
    None: admin_pb2.ANALYSER_UNSPECIFIED,
    "english": admin_pb2.ANALYSER_ENGLISH,
    "plain": admin_pb2.ANALYSER_PLAIN,
}
_ATTRIBUTE_TYPE_NAMES = {kind: f"ATTRIBUTE_TYPE_{kind.name}" for kind in AttributeType}
_ATTRIBUTE_TYPES: dict[int, AttributeType] = {
    admin_pb2.AttributeType.Value(name): kind for kind, name in _ATTRIBUTE_TYPE_NAMES.items()
}


def attribute_from(message: admin_pb2.AttributeSpec, field: str) -> types.AttributeSpec:
    if message.type not in _ATTRIBUTE_TYPES:
        raise InvalidArgument(f"{field}.type", "give the attribute's type")
    return types.AttributeSpec(
        name=message.name,
        type=_ATTRIBUTE_TYPES[message.type],
        stored=message.stored if message.HasField("stored") else True,
        filterable=message.filterable if message.HasField("filterable") else not message.volatile,
        volatile=message.volatile,
    )


def attribute_to(spec: types.AttributeSpec) -> admin_pb2.AttributeSpec:
    return admin_pb2.AttributeSpec(
        name=spec.name,
        type=_ATTRIBUTE_TYPE_NAMES[spec.type],
        stored=spec.stored,
        filterable=spec.filterable,
        volatile=spec.volatile,
    )


def schema_from(message: admin_pb2.Schema, field: str) -> types.Schema:
    """The schema as asked for; cosine where no metric is given."""
    return types.Schema(
        name=message.name,
        id_type=_known(_ID_TYPES, message.id_type, f"{field}.id_type"),
        metric=_known({**_METRIC_NAMES, common_pb2.METRIC_UNSPECIFIED: "cosine"}, message.metric, f"{field}.metric"),
        dtype=_known({**DTYPE_NAMES, common_pb2.DTYPE_UNSPECIFIED: "float16"}, message.dtype, f"{field}.dtype"),
        encoder=message.encoder or None,
        dimension=message.dimension or None,
        text_fields=tuple(
            _text_field_from(one, f"{field}.text_fields[{i}]") for i, one in enumerate(message.text_fields)
        ),
        text_mode=_known(_TEXT_MODES, message.text_mode, f"{field}.text_mode"),
        chunk=message.chunk or 1,
        attributes=tuple(attribute_from(one, f"{field}.attributes[{i}]") for i, one in enumerate(message.attributes)),
        profiles=tuple(profile_from(one, f"{field}.profiles[{i}]") for i, one in enumerate(message.profiles)),
        default_profile=message.default_profile,
        pipeline=pipeline_from(message.pipeline, f"{field}.pipeline") if message.HasField("pipeline") else None,
        embeddings=tuple(map(_embedding_from, message.embeddings)),
        combine=_known(_COMBINES, message.combine, f"{field}.combine"),
        **{name: getattr(message, name) for name in ("bm25_k1", "bm25_b") if message.HasField(name)},
    )


def _embedding_from(message: admin_pb2.EmbeddingSpec) -> types.EmbeddingSpec:
    weight = message.weight if message.HasField("weight") else 1.0
    return types.EmbeddingSpec(message.name, tuple(message.text_fields), weight, message.dimension or None)


def _text_field_from(message: admin_pb2.TextField, field: str) -> types.TextField:
    return types.TextField(
        message.name,
        message.order,
        message.weight if message.HasField("weight") else 1.0,
        _known(_ANALYSERS, message.analyser, f"{field}.analyser"),
        message.lexical_weight if message.HasField("lexical_weight") else 1.0,
    )


def _known(names: Mapping[int, T], value: int, field: str) -> T:
    """What an enum's number stands for; one of a newer client's must not be taken for the default."""
    if value not in names:
        raise InvalidArgument(field, f"unknown value {value}")
    return names[value]


def schema_to(schema: types.Schema) -> admin_pb2.Schema:
    return admin_pb2.Schema(
        name=schema.name,
        id_type=admin_pb2.ID_TYPE_UINT64 if schema.id_type == "uint64" else admin_pb2.ID_TYPE_STRING,
        metric=METRIC_VALUES[schema.metric],
        dtype=DTYPE_VALUES[schema.dtype],
        encoder=schema.encoder or "",
        dimension=schema.dimension or 0,
        text_fields=[_text_field_to(one) for one in schema.text_fields],
        text_mode=(admin_pb2.TEXT_MODE_WEIGHTED if schema.text_mode == "weighted" else admin_pb2.TEXT_MODE_JOINED),
        chunk=schema.chunk,
        attributes=[attribute_to(one) for one in schema.attributes],
        bm25_k1=schema.bm25_k1,
        bm25_b=schema.bm25_b,
        profiles=[profile_to(one) for one in schema.profiles],
        default_profile=schema.default_profile,
        pipeline=None if schema.pipeline is None else pipeline_to(schema.pipeline),
        embeddings=[
            admin_pb2.EmbeddingSpec(
                name=one.name, text_fields=one.text_fields, weight=one.weight, dimension=one.dimension or 0
            )
            for one in schema.embeddings
        ],
        combine=admin_pb2.COMBINE_MAXIMUM if schema.combine == "maximum" else admin_pb2.COMBINE_WEIGHTED,
    )


def _text_field_to(field: types.TextField) -> admin_pb2.TextField:
    return admin_pb2.TextField(
        name=field.name,
        order=field.order,
        weight=field.weight,
        analyser=_ANALYSER_VALUES[field.analyser],
        lexical_weight=field.lexical_weight,
    )
