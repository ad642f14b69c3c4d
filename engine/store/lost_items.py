"""Items that a repair takes out, as records that `ebr load` reads: all of them that can be read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from engine.embeddings import by_name
from engine.items import validate_attributes
from engine.store.codec import ItemCodec, decode_times
from engine.store.inspecting import (
    ITEM_COLUMNS,
    TROUBLE,
    Contents,
    Frame,
    clean,
    item_columns,
    read_id,
    read_item,
    read_text,
    read_times,
)
from engine.store.row_checks import read_rows
from engine.store.verdict import Verdict
from engine.types import AttributeValue, Float32Array, ItemId, StoredItem

Record = Callable[[StoredItem], dict[str, Any]]
"""An item as `ebr load` reads it."""


def lost_records(
    source: sqlite3.Connection, verdict: Verdict, frame: Frame, record: Record
) -> Iterator[dict[str, Any]]:
    """Of all that ``verdict`` calls lost. Vectors that can be read go with them."""
    assert verdict.contents is not None
    codec = ItemCodec(frame.schema)
    select = f"SELECT {item_columns(source)} FROM items WHERE key = ?"
    for key in verdict.lost:
        fields = source.execute(select, [key]).fetchone()
        vectors = _vectors(verdict, frame, verdict.contents, key)
        try:
            item = read_item(codec, *fields)
        except TROUBLE:
            yield partial_record(codec, dict(zip(ITEM_COLUMNS, fields, strict=True)), record, vectors)
        else:
            yield record(by_name(replace(item, vectors=vectors), frame.schema))


def partial_record(
    codec: ItemCodec, columns: Mapping[str, Any], record: Record, vectors: Float32Array | None = None
) -> dict[str, Any]:
    """Of an item's columns, as far as they are readable; what is not comes as it is, in fields that nothing loads."""
    raw: dict[str, str] = {}

    def read(column: str, decode: Callable[[ItemCodec, Any], Any], otherwise: Any) -> Any:
        try:
            return decode(codec, columns.get(column))
        except TROUBLE:
            raw[f"_unreadable_{column}"] = str(columns.get(column))
            return otherwise

    item_id = cast("ItemId", read("id", read_id, ""))
    attributes = read("attributes", _whole_attributes, None)
    if attributes is None:
        attributes = _each_attribute(codec, columns.get("attributes"))
    times = [read(name, _time, None) for name in ("visible_from", "expires_at")]
    text = read("text", read_text, {})
    item = StoredItem(item_id, 0, text, attributes, vectors, decode_times(*times))
    found = record(by_name(item, codec.schema))
    if "_unreadable_id" in raw:
        del found["_id"]
    return found | raw


def _time(_: ItemCodec, micros: int | None) -> int | None:
    read_times(micros, None)
    return micros


def _whole_attributes(codec: ItemCodec, encoded: str) -> dict[str, AttributeValue]:
    decoded = codec.decode_attributes(clean(encoded))
    validate_attributes(decoded, codec.schema, "item")
    return decoded


def _each_attribute(codec: ItemCodec, encoded: Any) -> dict[str, AttributeValue]:
    """Those that can be read alone."""
    found: dict[str, AttributeValue] = {}
    try:
        values = list(json.loads(encoded).items())
    except TROUBLE:
        return found
    for name, value in values:
        try:
            found |= _whole_attributes(codec, json.dumps({name: value}))
        except TROUBLE:
            continue
    return found


def _vectors(verdict: Verdict, frame: Frame, contents: Contents, key: int) -> Float32Array | None:
    for one in contents.ranges[contents.ranges["key"] == key]:
        first, n_rows = int(one["first_row"]), int(one["n_rows"])
        if 0 <= first < frame.next_row and 0 < n_rows <= frame.next_row - first:
            rows = read_rows(verdict.folder, frame, first, n_rows)
            return rows if rows is not None and np.isfinite(rows).all() else None
    return None
