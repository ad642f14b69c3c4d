"""Records of a file to items: which field becomes what, and values as the schema's types have them. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from engine.errors import InvalidArgument
from engine.types import AttributeType, AttributeValue, Float32Array, GeoPoint, Item, ItemId, Schema, Times, Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRUE = ("true", "1", "yes", "y", "t")
_FALSE = ("false", "0", "no", "n", "f")
ID_FIELDS = ("_id", "id")
TIME_FIELDS = ("_visible_from", "_expires_at")
NAMED_VECTORS_FIELD = "_named_vectors"
"""Of vectors by the names of embeddings, unless another field is named."""


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Which field of a record becomes what of an item.

    ``id``: None for the first of ``ID_FIELDS`` that is there. ``texts`` and ``attributes`` map the schema's names to
    the record's. ``list_separator`` splits strings into lists; None takes a string as a list of one. ``named``: the
    record's fields that somebody asked for by name, so that a file without them is not what was meant.
    """

    id: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    vector: str | None = None
    list_separator: str | None = None
    named: frozenset[str] = frozenset()

    def sources(self) -> frozenset[str]:
        """The record's fields that are read."""
        ids = ID_FIELDS if self.id is None else (self.id,)
        vector = () if self.vector is None else (self.vector,)
        return frozenset((*ids, *TIME_FIELDS, *self.texts.values(), *self.attributes.values(), *vector))


def map_fields(
    schema: Schema,
    *,
    id: str | None = None,
    texts: Sequence[str] = (),
    attributes: Sequence[str] = (),
    vector: str | None = None,
    list_separator: str | None = None,
) -> FieldMap:
    """Every name of the schema is read from the field of that name, but for what ``NAME=FIELD`` says otherwise.

    ``texts`` (``NAME`` or ``NAME=FIELD``) also chooses: where given, no other text field is read.

    Raises:
        InvalidArgument: a name that the schema lacks.
    """
    text_names = [one.name for one in schema.text_fields]
    chosen = _pairs(texts, text_names, "text")
    moved = _pairs(attributes, [one.name for one in schema.attributes], "map")
    return FieldMap(
        id=id,
        texts=chosen or {name: name for name in text_names},
        attributes={one.name: moved.get(one.name, one.name) for one in schema.attributes},
        vector=vector or (NAMED_VECTORS_FIELD if schema.embeddings else None),
        list_separator=list_separator,
        named=frozenset((*chosen.values(), *moved.values(), *filter(None, (id, vector)))),
    )


def _pairs(given: Sequence[str], known: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for one in given:
        name, equals, source = one.partition("=")
        if name not in known:
            raise InvalidArgument(f"--{option}", f"the schema has no {name!r}; it has {', '.join(known) or 'none'}")
        pairs[name] = source if equals else name
    return pairs


def to_item(fields: Mapping[str, object], schema: Schema, chosen: FieldMap) -> Item:
    """The record as an item; what is absent, null or an empty string (keywords aside) has no value.

    Raises:
        InvalidArgument: naming the record's field that cannot be what the schema wants.
    """
    texts = {name: _text(fields[source], source) for name, source in chosen.texts.items() if _is_given(fields, source)}
    attributes: dict[str, AttributeValue] = {}
    for spec in schema.attributes:
        source = chosen.attributes.get(spec.name)
        if source is None or fields.get(source) is None:
            continue
        value = coerce_value(fields[source], spec.type, source, list_separator=chosen.list_separator)
        if value is not None:
            attributes[spec.name] = value
    vector, named, source = None, {}, chosen.vector
    if source is not None and _is_given(fields, source):
        if schema.embeddings:
            named = _named_vectors(fields[source], source)
        else:
            vector = to_vector(fields[source], source)
    return Item(_id(fields, schema, chosen), texts, attributes, vector, times=_times(fields), named_vectors=named)


def _named_vectors(value: object, source: str) -> dict[str, Float32Array]:
    """float32 [d] each of an object, or of text that is one in JSON; null is one that the item lacks."""
    try:
        given = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        given = None
    if not isinstance(given, Mapping):
        raise InvalidArgument(source, f"{_shown(value)} is no object of vectors by the names of embeddings")
    return {name: to_vector(one, f"{source}[{name}]") for name, one in given.items() if one is not None}


def _times(fields: Mapping[str, object]) -> Times:
    given: dict[str, Timestamp] = {}
    for name in TIME_FIELDS:
        value = coerce_value(fields[name], AttributeType.TIMESTAMP, name) if _is_given(fields, name) else None
        if isinstance(value, Timestamp):
            given[name.removeprefix("_")] = value
    return Times(**given)


def _is_given(fields: Mapping[str, object], source: str) -> bool:
    value = fields.get(source)
    return value is not None and not (isinstance(value, str) and value == "")


def _id(fields: Mapping[str, object], schema: Schema, chosen: FieldMap) -> ItemId:
    names = ID_FIELDS if chosen.id is None else (chosen.id,)
    source = next((name for name in names if _is_given(fields, name)), None)
    if source is None:
        raise InvalidArgument(" or ".join(names), "is missing, and every item needs an id")
    value = fields[source]
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidArgument(source, f"{value!r} is not an id")
    return parse_id(str(value), schema, source) if schema.id_type == "uint64" else str(value)


def parse_id(text: str, schema: Schema, field: str) -> ItemId:
    """An id as it is written. Raises InvalidArgument where the schema wants a number and it is none."""
    if schema.id_type == "string":
        return text
    if not (text.isascii() and text.isdigit()):
        raise InvalidArgument(field, f"{text!r} is not a uint64 id, which this collection has")
    return int(text)


def _text(value: object, source: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(source, f"{_shown(value)} is not text")
    return value


def coerce_value(
    value: object, kind: AttributeType, source: str, *, list_separator: str | None = None
) -> AttributeValue | None:
    """None where it is an empty string that says nothing. Raises InvalidArgument naming ``source``."""
    if isinstance(value, str) and kind is not AttributeType.KEYWORD:
        value = value.strip()
        if not value:
            return None
    if isinstance(value, str) and kind is AttributeType.KEYWORD_LIST:
        value = value.split(list_separator) if list_separator else [value]
    try:
        return _COERCED[kind](value)
    except (ValueError, TypeError, KeyError, OverflowError, ArithmeticError):
        raise InvalidArgument(source, f"{_shown(value)} is not a {kind.value}{_HINTS.get(kind, '')}") from None


def _keyword(value: Any) -> str:  # whatever a file has; each of these raises on what it cannot take
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int)):
        raise TypeError
    return str(value)


def _keyword_list(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    words = (_keyword(one).strip() for one in value if one is not None)
    return tuple(word for word in words if word) or None


def _bool(value: Any) -> bool:
    word = str(value).lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError
    return word in _TRUE


def _int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, (float, Decimal)) and value != int(value)):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _timestamp(value: Any) -> Timestamp:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, (int, float)):
        return Timestamp(round(value * 1_000_000))
    if isinstance(value, str):
        value = _parse_time(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    return Timestamp((moment - _EPOCH) // timedelta(microseconds=1))


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _EPOCH + timedelta(seconds=float(text))


def _geo_point(value: Any) -> GeoPoint:
    if isinstance(value, str):
        lat, lon = value.split(",")
        return GeoPoint(float(lat), float(lon))
    if not isinstance(value, Mapping):
        raise TypeError
    return GeoPoint(float(value["lat"]), float(value["lon"] if "lon" in value else value["lng"]))


_COERCED: Mapping[AttributeType, Callable[[Any], AttributeValue | None]] = {
    AttributeType.KEYWORD: _keyword,
    AttributeType.KEYWORD_LIST: _keyword_list,
    AttributeType.BOOL: _bool,
    AttributeType.INT: _int,
    AttributeType.FLOAT: _float,
    AttributeType.TIMESTAMP: _timestamp,
    AttributeType.GEO_POINT: _geo_point,
}
_HINTS: Mapping[AttributeType, str] = {
    AttributeType.BOOL: " (true or false)",
    AttributeType.TIMESTAMP: " (ISO 8601, UTC unless it says otherwise, or seconds since 1970)",
    AttributeType.GEO_POINT: ' ({"lat": ..., "lon": ...} or "lat,lon")',
}


def to_vector(value: object, source: str) -> Float32Array:
    """float32 [d] or [chunks, d] from a list, or from text: a JSON list, or numbers between commas or spaces."""
    try:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()
        return np.array(value, np.float32)
    except (ValueError, TypeError):
        raise InvalidArgument(source, f"{_shown(value)} is not a list of numbers") from None


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
