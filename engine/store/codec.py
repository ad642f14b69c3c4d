"""Ids, texts, attributes and schemas to and from what a database column holds. Knows nothing of SQL."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from engine.errors import InvalidArgument
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, QueryInput, RankInput, RankStage
from engine.scoring import Decay, Feature, Overlap, ScoringProfile, Term
from engine.store.writes import Conflict
from engine.types import (
    ALWAYS,
    AttributeSpec,
    AttributeType,
    AttributeValue,
    EmbeddingSpec,
    GeoPoint,
    IdType,
    ItemId,
    Schema,
    TextField,
    Times,
    Timestamp,
    VersionInfo,
)

StoredId: TypeAlias = int | str
"""An id as a column holds it: a uint64 less 2**63, so that signed order is unsigned order, or the string itself."""

UINT64_SHIFT = 1 << 63
_UINT64_END = 1 << 64

_TERM_OF: dict[str, type[Feature | Decay | Overlap]] = {"feature": Feature, "decay": Decay, "overlap": Overlap}
_KIND_OF = {kind: name for name, kind in _TERM_OF.items()}

_INPUT_OF: dict[str, type[RankInput]] = {
    "leg": LegInput,
    "number": NumberInput,
    "keyword": KeywordInput,
    "query": QueryInput,
}
_KIND_OF_INPUT = {kind: name for name, kind in _INPUT_OF.items()}

_CONFLICTS = b"\x00"
"""In no JSON."""

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_ATTRIBUTE_TO_JSON: dict[AttributeType, Callable[[Any], Any]] = {
    AttributeType.KEYWORD_LIST: list,
    AttributeType.TIMESTAMP: lambda value: value.micros,
    AttributeType.GEO_POINT: lambda value: [value.lat, value.lon],
}
_ATTRIBUTE_FROM_JSON: dict[AttributeType, Callable[[Any], AttributeValue]] = {
    AttributeType.KEYWORD_LIST: tuple,
    AttributeType.FLOAT: float,
    AttributeType.TIMESTAMP: Timestamp,
    AttributeType.GEO_POINT: lambda value: GeoPoint(lat=value[0], lon=value[1]),
}


def to_stored_id(item_id: ItemId, id_type: IdType) -> StoredId:
    """
    Raises:
        InvalidArgument: the id is not of the schema's type.
    """
    if id_type == "string" and isinstance(item_id, str):
        return item_id
    if id_type == "uint64" and type(item_id) is int and 0 <= item_id < _UINT64_END:
        return item_id - UINT64_SHIFT
    raise InvalidArgument("id", f"{item_id!r} is not a {id_type} id", value=item_id)


def from_stored_id(stored_id: StoredId) -> ItemId:
    return stored_id + UINT64_SHIFT if isinstance(stored_id, int) else stored_id


class ItemCodec:
    """Texts and attributes of one schema as compact JSON; the schema says which type a value goes back to.

    Any thread may use it while one thread extends it.
    """

    def __init__(self, schema: Schema) -> None:
        self.id_type: IdType = schema.id_type
        self.extend(schema)

    def extend(self, schema: Schema) -> None:
        """Go over to a schema that has all the attributes of the one before, and more."""
        self.schema = schema
        self.has_terms = bool(schema.analysed_fields)
        self._to_json = {spec.name: _ATTRIBUTE_TO_JSON.get(spec.type) for spec in schema.attributes}
        self._from_json = {spec.name: _ATTRIBUTE_FROM_JSON.get(spec.type) for spec in schema.attributes}
        self._filterable = {spec.name for spec in schema.attributes if spec.filterable and not spec.volatile}

    def encode_text(self, text: Mapping[str, str]) -> str:
        return _to_json(dict(text))

    def decode_text(self, encoded: str) -> dict[str, str]:
        decoded: dict[str, str] = json.loads(encoded)
        return decoded

    def encode_attributes(self, attributes: Mapping[str, AttributeValue]) -> str:
        """JSON in the schema's order of attributes: equal values have equal text.

        Raises:
            InvalidArgument: an attribute that the schema lacks.
        """
        converters = self._to_json
        if not attributes.keys() <= converters.keys():
            unknown = min(attributes.keys() - converters.keys())
            raise InvalidArgument(f"attributes.{unknown}", "the schema has no such attribute", value=unknown)
        ordered = [(name, convert) for name, convert in converters.items() if name in attributes]
        return _to_json({name: convert(attributes[name]) if convert else attributes[name] for name, convert in ordered})

    def decode_attributes(self, encoded: str) -> dict[str, AttributeValue]:
        return self._converted(json.loads(encoded))

    def decode_many(self, encoded: Sequence[str]) -> list[dict[str, AttributeValue]]:
        """As ``decode_attributes`` for each: parsed as one text, which is twice as fast.

        Raises:
            ValueError: one of them is no attribute set.
        """
        decoded = json.loads(f"[{','.join(encoded)}]")
        if len(decoded) != len(encoded):
            raise ValueError("attributes are not JSON")
        return [*map(self._converted, decoded)]

    def _converted(self, decoded: dict[str, Any]) -> dict[str, AttributeValue]:
        converters = self._from_json
        for name, value in decoded.items():
            convert = converters[name]
            if convert is not None:
                decoded[name] = convert(value)
        return decoded

    def same_filterable(self, one: str, other: str) -> bool:
        """Whether two encoded attribute sets agree in every filterable attribute."""
        return one == other or self._filterable_part(one) == self._filterable_part(other)

    def _filterable_part(self, encoded: str) -> str:
        # As text, for 0.0 equals -0.0 but is another value.
        return repr([entry for entry in json.loads(encoded).items() if entry[0] in self._filterable])


def encode_times(times: Times) -> tuple[int | None, int | None]:
    """What the columns hold: microseconds since 1970."""
    begins, ends = times.visible_from, times.expires_at
    return None if begins is None else begins.micros, None if ends is None else ends.micros


def decode_times(visible_from: int | None, expires_at: int | None) -> Times:
    """The inverse of ``encode_times``."""
    if visible_from is None and expires_at is None:
        return ALWAYS
    return Times(*(None if one is None else Timestamp(one) for one in (visible_from, expires_at)))


def with_conflicts(reply: bytes, conflicts: Sequence[Conflict]) -> bytes:
    """A reply to be kept, and beside it what of its request was not applied."""
    if not conflicts:
        return reply
    return reply + _CONFLICTS + _to_json([(one.index, one.found, one.wanted) for one in conflicts]).encode()


def split_conflicts(kept: bytes) -> tuple[bytes, tuple[Conflict, ...]]:
    """The inverse of ``with_conflicts``."""
    reply, mark, told = kept.partition(_CONFLICTS)
    return reply, tuple(Conflict(*one) for one in json.loads(told)) if mark else ()


def encode_schema(schema: Schema) -> str:
    fields = dataclasses.asdict(schema)
    for encoded, profile in zip(fields["profiles"], schema.profiles, strict=True):
        encoded["terms"] = [{"kind": _KIND_OF[type(term)], **dataclasses.asdict(term)} for term in profile.terms]
    if schema.pipeline is not None:
        inputs = schema.pipeline.rank.inputs
        told = [{"kind": _KIND_OF_INPUT[type(one)], **dataclasses.asdict(one)} for one in inputs]
        fields["pipeline"]["rank"]["inputs"] = told
    return json.dumps(fields, default=lambda kind: kind.value)


def decode_schema(encoded: str) -> Schema:
    """
    Raises:
        KeyError, TypeError, ValueError: the text is no schema.
    """
    fields = json.loads(encoded)
    fields["text_fields"] = tuple(TextField(**field) for field in fields["text_fields"])
    fields["attributes"] = tuple(_decode_spec(spec) for spec in fields["attributes"])
    fields["profiles"] = tuple(_decode_profile(profile) for profile in fields.get("profiles", ()))
    if fields.get("pipeline") is not None:
        fields["pipeline"] = _decode_pipeline(fields["pipeline"])
    fields["embeddings"] = tuple(_decode_embedding(one) for one in fields.get("embeddings", ()))
    return Schema(**fields)


def _decode_pipeline(fields: dict[str, Any]) -> Pipeline:
    rank = {**fields["rank"], "inputs": tuple(map(_decode_input, fields["rank"]["inputs"]))}
    return Pipeline(**{**fields, "rank": RankStage(**rank)})


def _decode_input(fields: dict[str, Any]) -> RankInput:
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return _INPUT_OF[fields["kind"]](**{name: one for name, one in {**fields, **lists}.items() if name != "kind"})


def _decode_embedding(fields: dict[str, Any]) -> EmbeddingSpec:
    return EmbeddingSpec(**{**fields, "text_fields": tuple(fields["text_fields"])})


def _decode_profile(fields: dict[str, Any]) -> ScoringProfile:
    return ScoringProfile(**{**fields, "terms": tuple(_decode_term(term) for term in fields["terms"])})


def _decode_term(fields: dict[str, Any]) -> Term:
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return _TERM_OF[fields.pop("kind")](**{**fields, **lists})


def _decode_spec(fields: dict[str, Any]) -> AttributeSpec:
    return AttributeSpec(**{**fields, "type": AttributeType(fields["type"])})


def encode_version(version: VersionInfo) -> str:
    return json.dumps(dataclasses.asdict(version))


def decode_version(encoded: str) -> VersionInfo:
    """
    Raises:
        TypeError, ValueError: the text is no version.
    """
    return VersionInfo(**json.loads(encoded))
