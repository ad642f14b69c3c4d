"""What makes an item fit a schema. Pure: knows neither where items come from nor where they go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.dtypes import LARGEST, MOST_LENGTH
from engine.embeddings import dimension_of, find_embedding
from engine.errors import InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.types import (
    AttributeSpec,
    AttributeType,
    AttributeValue,
    Float32Array,
    GeoPoint,
    Item,
    ItemId,
    ItemUpdate,
    Schema,
    Times,
    Timestamp,
)

ID_BYTES = 256
_INT64 = range(-(2**63), 2**63)
TIMESTAMPS = range(-62_135_596_800_000_000, 253_402_300_800_000_000)
"""Microseconds of the years 1 to 9999, which is what a wire timestamp can say."""


def validate_item(item: Item, schema: Schema, dimension: int, limits: Limits) -> Item:
    """The item in canonical form: ints of float attributes as floats, empty lists left out, vector float32 [chunks, d],
    named vectors float32 [d].

    Raises:
        InvalidArgument: the first thing wrong with it, with a path that names the item and the field.
    """
    validate_id(item.id, schema, "item.id")
    field = f"item[{_shown(item.id)}]"
    size = _check_text(item.text, schema, limits, field)
    attributes = validate_attributes(item.attributes, schema, field)
    size += sum(map(_value_bytes, item.attributes.values()))
    vector = item.vector
    if vector is not None:
        vector = validate_vectors(vector, schema, dimension, f"{field}.vector")
        size += vector.nbytes
    named = {name: _named_vector(name, one, schema, field) for name, one in item.named_vectors.items()}
    size += sum(one.nbytes for one in named.values())
    _check_sum(named, schema, f"{field}.named_vectors")
    if size > limits.item_bytes:
        raise LimitExceeded(field, value=size, limit=limits.item_bytes, unit="bytes an item")
    if item.if_sequence is not None:
        _check_sequence(item.if_sequence, field)
    _check_times(item.times, field)
    return Item(item.id, item.text, attributes, vector, item.if_sequence, item.times, named)


def validate_update(update: ItemUpdate, schema: Schema) -> ItemUpdate:
    """The update in canonical form: what is set to an empty list is cleared.

    Raises:
        InvalidArgument: the first thing wrong with it, with a path that names the item and the field.
    """
    validate_id(update.id, schema, "update.id")
    field = f"update[{_shown(update.id)}]"
    attributes = validate_attributes(update.attributes, schema, field)
    for name in update.clear:
        if schema.attribute(name) is None:
            raise InvalidArgument(f"{field}.clear[{_shown(name)}]", "the schema has no such attribute")
        if name in update.attributes:
            raise InvalidArgument(f"{field}.clear[{_shown(name)}]", "is set and cleared at once")
    emptied = [name for name in update.attributes if name not in attributes]
    if not update.attributes and not update.clear and update.times.are_always:
        raise InvalidArgument(field, "neither sets nor clears anything")
    _check_times(update.times, field)
    if update.if_sequence is not None:
        _check_sequence(update.if_sequence, field)
    return ItemUpdate(update.id, attributes, (*update.clear, *emptied), update.if_sequence, update.times)


def validate_attributes(given: Mapping[str, AttributeValue], schema: Schema, field: str) -> dict[str, AttributeValue]:
    """Canonical values; empty lists are left out.

    Raises:
        InvalidArgument: one that the schema lacks, or a value that does not fit it.
    """
    attributes: dict[str, AttributeValue] = {}
    for name, value in given.items():
        spec = schema.attribute(name)
        if spec is None:
            raise InvalidArgument(f"{field}.attributes[{_shown(name)}]", "the schema has no such attribute")
        canonical = validate_value(value, spec, f"{field}.attributes[{name}]")
        if canonical != ():
            attributes[name] = canonical
    return attributes


def _check_times(times: Times, field: str) -> None:
    for name in ("visible_from", "expires_at"):
        time = getattr(times, name)
        if time is not None and (not isinstance(time, Timestamp) or time.micros not in TIMESTAMPS):
            raise InvalidArgument(f"{field}.{name}", f"{_shown(time)} is no time of the years 1 to 9999")
    begins, ends = times.visible_from, times.expires_at
    if begins is not None and ends is not None and begins.micros >= ends.micros:
        raise InvalidArgument(f"{field}.expires_at", "is not later than visible_from: the item would never be seen")


def _check_sequence(sequence: int, field: str) -> None:
    if not 0 <= sequence < 2**63:
        raise InvalidArgument(f"{field}.if_sequence", f"{sequence} is not in [0, 2**63)")


def validate_id(item_id: ItemId, schema: Schema, field: str) -> None:
    """Raises InvalidArgument where the id is not of the schema's kind or range."""
    wanted = int if schema.id_type == "uint64" else str
    if isinstance(item_id, bool) or not isinstance(item_id, wanted):
        raise InvalidArgument(field, f"{_shown(item_id)} is not a {schema.id_type} id, which this collection has")
    if isinstance(item_id, int):
        if not 0 <= item_id < 2**64:
            raise InvalidArgument(field, f"{item_id} is not in [0, 2**64)")
        return
    size = _utf8_bytes(item_id, field)
    if size == 0:
        raise InvalidArgument(field, "is empty")
    if size > ID_BYTES:
        raise LimitExceeded(field, value=size, limit=ID_BYTES, unit=f"bytes: {_shown(item_id)}")


def validate_request_id(request_id: str) -> None:
    """Raises LimitExceeded for one that is longer than an item's id may be: many are kept."""
    size = _utf8_bytes(request_id, "request_id")
    if size > ID_BYTES:
        raise LimitExceeded("request_id", value=size, limit=ID_BYTES, unit="bytes")


def _check_text(text: Mapping[str, str], schema: Schema, limits: Limits, field: str) -> int:
    """Bytes of the texts in all."""
    known = {one.name for one in schema.text_fields}
    total = 0
    for name, value in text.items():
        path = f"{field}.text[{_shown(name)}]"
        if name not in known:
            raise InvalidArgument(path, "the schema has no such text field")
        if not isinstance(value, str):
            raise InvalidArgument(path, f"{_shown(value)} is not a string")
        size = _utf8_bytes(value, path)
        if size > limits.text_bytes:
            raise LimitExceeded(path, value=size, limit=limits.text_bytes, unit="bytes")
        total += size
    return total


def validate_value(value: AttributeValue, spec: AttributeSpec, field: str) -> AttributeValue:
    """The value as its attribute's type has it. Raises InvalidArgument."""
    canonical = _CANONICAL[spec.type](value, field)
    if canonical is None:
        raise InvalidArgument(field, f"{_shown(value)} is not a {spec.type.value}")
    return canonical


def _keyword(value: object, field: str) -> AttributeValue | None:
    if not isinstance(value, str):
        return None
    _utf8_bytes(value, field)
    return value


def _keyword_list(value: object, field: str) -> AttributeValue | None:
    if not isinstance(value, (tuple, list)) or not all(isinstance(one, str) for one in value):
        return None
    for place, one in enumerate(value):
        _utf8_bytes(one, f"{field}[{place}]")
    return tuple(value)


def _bool(value: object, field: str) -> AttributeValue | None:
    return value if isinstance(value, bool) else None


def _int(value: object, field: str) -> AttributeValue | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    if value not in _INT64:
        raise InvalidArgument(field, f"{value} is not in [-2**63, 2**63)")
    return value


def _float(value: object, field: str) -> AttributeValue | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if isinstance(value, int) and value not in _INT64:
        raise InvalidArgument(field, f"{value} is not in [-2**63, 2**63)")
    if not math.isfinite(value):
        raise InvalidArgument(field, f"{value} is not a finite number")
    return float(value)


def _timestamp(value: object, field: str) -> AttributeValue | None:
    if not isinstance(value, Timestamp):
        return None
    if value.micros not in TIMESTAMPS:
        raise InvalidArgument(field, f"{value.micros} microseconds since 1970 is not in the years 1 to 9999")
    return value


def _geo_point(value: object, field: str) -> AttributeValue | None:
    if not isinstance(value, GeoPoint):
        return None
    if not -90 <= value.lat <= 90:
        raise InvalidArgument(f"{field}.lat", f"{value.lat} is not in [-90, 90]")
    if not -180 <= value.lon <= 180:
        raise InvalidArgument(f"{field}.lon", f"{value.lon} is not in [-180, 180]")
    return GeoPoint(float(value.lat), float(value.lon))


_CANONICAL: Mapping[AttributeType, Callable[[object, str], AttributeValue | None]] = {
    AttributeType.KEYWORD: _keyword,
    AttributeType.KEYWORD_LIST: _keyword_list,
    AttributeType.BOOL: _bool,
    AttributeType.INT: _int,
    AttributeType.FLOAT: _float,
    AttributeType.TIMESTAMP: _timestamp,
    AttributeType.GEO_POINT: _geo_point,
}
"""None where the value is of another type."""


def validate_vectors(vector: Float32Array, schema: Schema, dimension: int, field: str) -> Float32Array:
    """float32 [chunks, d] from [d] or [chunks, d]. Raises InvalidArgument for what cannot be stored or compared."""
    if schema.embeddings:
        raise InvalidArgument(field, "has no name: the collection has named embeddings")
    if vector.ndim not in (1, 2) or vector.size == 0:
        raise InvalidArgument(field, f"has shape {vector.shape}, not [d] or [chunks, d]")
    if vector.shape[-1] != dimension:
        raise InvalidArgument(
            field, f"has {vector.shape[-1]} dimensions, the collection has {dimension}", limit=dimension
        )
    rows = np.ascontiguousarray(np.atleast_2d(vector), np.float32)
    if len(rows) > schema.chunk:
        raise LimitExceeded(field, value=len(rows), limit=schema.chunk, unit="embeddings an item in this collection")
    _check_numbers(rows, schema, field)
    return rows


def _named_vector(name: str, vector: Float32Array, schema: Schema, field: str) -> Float32Array:
    """float32 [d] from [d] or [1, d]."""
    path = f"{field}.named_vectors[{_shown(name)}]"
    wanted = dimension_of(find_embedding(name, schema, path))
    if vector.shape not in ((wanted,), (1, wanted)):
        raise InvalidArgument(path, f"has shape {vector.shape}, the embedding has {wanted} dimensions", limit=wanted)
    rows = np.ascontiguousarray(np.atleast_2d(vector), np.float32)
    _check_numbers(rows, schema, path)
    return rows.reshape(wanted)


def _check_sum(named: Mapping[str, Float32Array], schema: Schema, field: str) -> None:
    """Of those that are one row the length is that of all."""
    if schema.metric == "cosine" or schema.takes_maximum:
        return
    length = math.sqrt(sum(float(lengths(one)) ** 2 for one in named.values()))
    if length > MOST_LENGTH:
        raise too_long(length, field)


def _check_numbers(rows: Float32Array, schema: Schema, field: str) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise InvalidArgument(field, f"value {column} of embedding {row} is {rows[row, column]}, not a finite number")
    if schema.metric == "cosine":
        zero = ~rows.any(axis=1)
        if zero.any():
            raise InvalidArgument(field, f"embedding {int(np.argmax(zero))} is zero, which has no cosine")
        return
    largest = float(np.abs(rows).max())
    if largest > LARGEST[schema.dtype]:
        raise LimitExceeded(
            field, value=largest, limit=LARGEST[schema.dtype], unit=f"in magnitude, the largest {schema.dtype} holds"
        )
    if largest * math.sqrt(rows.shape[1]) > MOST_LENGTH and (longest := float(lengths(rows).max())) > MOST_LENGTH:
        raise too_long(longest, field)


def lengths(vectors: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Of each vector [..., d]: float64 [...]."""
    found: npt.NDArray[np.float64] = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    return found


def too_long(length: float, field: str) -> LimitExceeded:
    """What is wrong with a vector that is longer than ``MOST_LENGTH``, where it is not scaled to length 1."""
    unit = "in length, up to which every score is finite"
    return LimitExceeded(field, value=f"{length:.6g}", limit=f"{MOST_LENGTH:g}", unit=unit)


def _value_bytes(value: AttributeValue) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (tuple, list)):
        return sum(len(one.encode()) for one in value)
    return 16 if isinstance(value, GeoPoint) else 8


def _utf8_bytes(text: str, field: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(field, f"character {error.start} is half of a surrogate pair, which is no text") from None


def _shown(value: object) -> str:
    """Short enough for a message, whatever it is."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
