"""Ids and attributes of many items to what database columns hold: column by column, as ``ItemCodec`` has each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.item_columns import IdColumn, ValueColumn
from engine.store.codec import UINT64_SHIFT, StoredId
from engine.types import AttributeType, Schema

_NO_ATTRIBUTES = "{}"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_TO_JSON: Mapping[AttributeType, Callable[[Any], str]] = {
    AttributeType.KEYWORD: _encode,
    AttributeType.KEYWORD_LIST: _encode,
    AttributeType.BOOL: lambda value: "true" if value else "false",
    AttributeType.INT: int.__repr__,
    AttributeType.FLOAT: float.__repr__,
    AttributeType.TIMESTAMP: int.__repr__,
    AttributeType.GEO_POINT: _encode,
}


def to_stored_ids(ids: IdColumn) -> Sequence[StoredId]:
    """As ``to_stored_id`` for each, which are of the schema's type."""
    if isinstance(ids, np.ndarray):
        stored: list[StoredId] = (ids ^ np.uint64(UINT64_SHIFT)).view(np.int64).tolist()
        return stored
    return ids


def encode_columns(attributes: Mapping[str, ValueColumn], schema: Schema, n: int) -> list[str]:
    """The attributes of each of n items, as ``ItemCodec.encode_attributes`` has them."""
    entries = [_entries(spec.name, attributes[spec.name]) for spec in schema.attributes if spec.name in attributes]
    if not entries:
        return [_NO_ATTRIBUTES] * n
    return [f"{{{','.join(filter(None, of_item))}}}" for of_item in zip(*entries, strict=True)]


def _entries(name: str, column: ValueColumn) -> list[str]:
    """``"name":value`` of each item, empty where it has none."""
    label, encode = f"{_encode(name)}:", _TO_JSON[column.type]
    own = column.values.tolist() if isinstance(column.values, np.ndarray) else column.values
    if column.type is AttributeType.KEYWORD:
        known = {value: label + encode(value) for value in set(own)}
        entries = [known[value] for value in own]
    else:
        entries = [label + encode(value) for value in own]
    if column.present.all():
        return entries
    return [entry if is_there else "" for entry, is_there in zip(entries, column.present.tolist(), strict=True)]
