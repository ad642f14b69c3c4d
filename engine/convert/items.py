"""Items, updates of them and the values of their attributes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine import types
from engine.convert.ids import item_id_from, item_id_to
from engine.convert.tensors import array_to_tensor, tensor_to_array
from engine.convert.times import timestamp, timestamp_from
from engine.types import Float32Array
from engine.v1 import common_pb2, ingest_pb2


def value_from(message: common_pb2.Value, field: str) -> types.AttributeValue | None:
    """None for a null value."""
    kind = message.WhichOneof("kind")
    match kind:
        case None:
            return None
        case "keywords":
            return tuple(message.keywords.values)
        case "timestamp":
            return timestamp_from(message.timestamp)
        case "geo_point":
            return types.GeoPoint(message.geo_point.lat, message.geo_point.lon)
    plain: types.AttributeValue = getattr(message, kind)
    return plain


def value_to(value: types.AttributeValue) -> common_pb2.Value:
    match value:
        case bool():
            return common_pb2.Value(boolean=value)
        case str():
            return common_pb2.Value(keyword=value)
        case int():
            return common_pb2.Value(integer=value)
        case float():
            return common_pb2.Value(number=value)
        case types.Timestamp(micros):
            return common_pb2.Value(timestamp=timestamp(micros))
        case types.GeoPoint(lat, lon):
            return common_pb2.Value(geo_point=common_pb2.GeoPoint(lat=lat, lon=lon))
        case _:
            return common_pb2.Value(keywords=common_pb2.KeywordList(values=value))


def item_from(message: common_pb2.Item, field: str) -> types.Item:
    attributes = {
        name: value
        for name, wire in message.attributes.items()
        if (value := value_from(wire, f"{field}.attributes[{name}]")) is not None
    }
    vector = tensor_to_array(message.vectors, f"{field}.vectors") if message.HasField("vectors") else None
    sequence = message.if_sequence if message.HasField("if_sequence") else None
    item_id = item_id_from(message.id, f"{field}.id")
    named = named_vectors_from(message.named_vectors, f"{field}.named_vectors")
    return types.Item(item_id, dict(message.text), attributes, vector, sequence, _times_from(message), named)


def named_vectors_from(message: Mapping[str, common_pb2.Tensor], field: str) -> dict[str, Float32Array]:
    """float32 [d] each, but for those of several rows, which stay as they are."""
    named = {name: tensor_to_array(tensor, f"{field}[{name}]") for name, tensor in message.items()}
    return {name: rows[0] if len(rows) == 1 else rows for name, rows in named.items()}


def named_vectors_to(named: Mapping[str, Float32Array]) -> dict[str, common_pb2.Tensor]:
    return {name: array_to_tensor(np.atleast_2d(vector)) for name, vector in named.items()}


def item_to(item: types.Item) -> common_pb2.Item:
    message = common_pb2.Item(
        id=item_id_to(item.id),
        text=dict(item.text),
        attributes={name: value_to(value) for name, value in item.attributes.items()},
        named_vectors=named_vectors_to(item.named_vectors),
    )
    if item.vector is not None:
        message.vectors.CopyFrom(array_to_tensor(np.atleast_2d(item.vector)))
    if item.if_sequence is not None:
        message.if_sequence = item.if_sequence
    _put_times(message, item.times)
    return message


def _times_from(message: common_pb2.Item | ingest_pb2.ItemUpdate) -> types.Times:
    if not message.HasField("visible_from") and not message.HasField("expires_at"):
        return types.ALWAYS
    given = {
        name: timestamp_from(getattr(message, name))
        for name in ("visible_from", "expires_at")
        if message.HasField(name)
    }
    return types.Times(**given)


def _put_times(message: common_pb2.Item | ingest_pb2.ItemUpdate, times: types.Times) -> None:
    if times.visible_from is not None:
        message.visible_from.CopyFrom(timestamp(times.visible_from.micros))
    if times.expires_at is not None:
        message.expires_at.CopyFrom(timestamp(times.expires_at.micros))


def update_from(message: ingest_pb2.ItemUpdate, field: str) -> types.ItemUpdate:
    """Values that are null are cleared."""
    values = {name: value_from(wire, f"{field}.attributes[{name}]") for name, wire in message.attributes.items()}
    return types.ItemUpdate(
        item_id_from(message.id, f"{field}.id"),
        {name: value for name, value in values.items() if value is not None},
        (*message.clear_attributes, *(name for name, value in values.items() if value is None)),
        message.if_sequence if message.HasField("if_sequence") else None,
        _times_from(message),
    )


def update_to(update: types.ItemUpdate) -> ingest_pb2.ItemUpdate:
    message = ingest_pb2.ItemUpdate(
        id=item_id_to(update.id),
        attributes={name: value_to(value) for name, value in update.attributes.items()},
        clear_attributes=update.clear,
    )
    if update.if_sequence is not None:
        message.if_sequence = update.if_sequence
    _put_times(message, update.times)
    return message


def stored_item_from(item: common_pb2.Item, sequence: int) -> types.StoredItem:
    plain = item_from(item, "item")
    own = (plain.text, plain.attributes, plain.vector, plain.times, plain.named_vectors)
    return types.StoredItem(plain.id, sequence, *own)
