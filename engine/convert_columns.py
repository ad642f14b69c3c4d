"""Items as columns to and from their wire messages. Knows the shapes, not the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine import convert
from engine.errors import InvalidArgument
from engine.item_columns import BoolArray, ItemColumns, ValueColumn
from engine.types import AttributeType
from engine.v1 import common_pb2, ingest_pb2

_PACKED: Mapping[str, tuple[AttributeType, np.dtype[Any]]] = {
    "booleans": (AttributeType.BOOL, np.dtype("u1")),
    "integers": (AttributeType.INT, np.dtype("<i8")),
    "numbers": (AttributeType.FLOAT, np.dtype("<f8")),
    "timestamps": (AttributeType.TIMESTAMP, np.dtype("<i8")),
    "geo_points": (AttributeType.GEO_POINT, np.dtype("<f8")),
}
_FIELDS = {kind: (form, dtype) for form, (kind, dtype) in _PACKED.items()}


def item_columns_from(message: ingest_pb2.UpsertColumnsRequest) -> ItemColumns:
    """
    Raises:
        InvalidArgument: columns of other lengths than the ids, or bytes that are no such column.
    """
    ids = _ids_from(message.ids)
    vectors = convert.tensor_to_array(message.vectors, "vectors")
    if len(vectors) != len(ids):
        raise InvalidArgument("vectors.rows", f"{len(vectors)} vectors for {len(ids)} ids")
    attributes: dict[str, ValueColumn] = {}
    for one in message.attributes:
        if one.name in attributes:
            raise InvalidArgument(f"attributes[{one.name}]", "is given twice")
        attributes[one.name] = _column_from(one, len(ids))
    return ItemColumns(ids, vectors, attributes)


def _ids_from(message: common_pb2.ItemIds) -> Any:
    numbers = convert.uint64_ids_from(message, "ids")
    if numbers.size and message.texts:
        raise InvalidArgument("ids", "has numbers and texts: one collection's ids are of one kind")
    return list(message.texts) if message.texts else numbers


def _column_from(message: ingest_pb2.AttributeColumn, n: int) -> ValueColumn:
    field = f"attributes[{message.name}]"
    form = message.WhichOneof("values")
    if form is None:
        raise InvalidArgument(field, "is empty: set its values")
    present = _present_from(message.present, n, field)
    if form == "keywords":
        return ValueColumn(AttributeType.KEYWORD, _counted(list(message.keywords.values), n, field), present)
    if form == "keyword_lists":
        return ValueColumn(AttributeType.KEYWORD_LIST, _lists_from(message.keyword_lists, n, field), present)
    kind, dtype = _PACKED[form]
    content = getattr(message, form)
    if len(content) % dtype.itemsize:
        raise InvalidArgument(f"{field}.{form}", f"{len(content)} bytes are no whole number of {dtype.itemsize}")
    values = np.frombuffer(content, dtype)
    if kind is AttributeType.GEO_POINT:
        if len(values) % 2:
            raise InvalidArgument(f"{field}.{form}", f"{len(values)} numbers are no pairs of latitude and longitude")
        values = values.reshape(-1, 2)
    elif kind is AttributeType.BOOL:
        values = values != 0
    return ValueColumn(kind, _counted(values, n, field), present)


def _present_from(content: bytes, n: int, field: str) -> BoolArray:
    if not content:
        return np.ones(n, np.bool_)
    present: BoolArray = _counted(np.frombuffer(content, np.uint8), n, f"{field}.present") != 0
    return present


def _lists_from(message: ingest_pb2.KeywordLists, n: int, field: str) -> list[tuple[str, ...]]:
    words, counts = list(message.values), _counted(list(message.counts), n, f"{field}.keyword_lists.counts")
    if sum(counts) != len(words):
        raise InvalidArgument(f"{field}.keyword_lists", f"{len(words)} keywords where counts tell {sum(counts)}")
    lists, at = [], 0
    for count in counts:
        lists.append(tuple(words[at : at + count]))
        at += count
    return lists


def _counted(values: Any, n: int, field: str) -> Any:
    if len(values) != n:
        raise InvalidArgument(field, f"has {len(values)} values for {n} ids")
    return values


def item_columns_to(columns: ItemColumns) -> ingest_pb2.UpsertColumnsRequest:
    """The request without what is not of the items."""
    return ingest_pb2.UpsertColumnsRequest(
        ids=convert.item_ids_to(columns.ids),
        vectors=convert.array_to_tensor(columns.vectors),
        attributes=[_column_to(name, column) for name, column in columns.attributes.items()],
    )


def _column_to(name: str, column: ValueColumn) -> ingest_pb2.AttributeColumn:
    present = b"" if column.present.all() else column.present.astype(np.uint8).tobytes()
    message = ingest_pb2.AttributeColumn(name=name, present=present)
    if column.type is AttributeType.KEYWORD:
        message.keywords.values.extend(column.values)
        message.keywords.SetInParent()
    elif column.type is AttributeType.KEYWORD_LIST:
        message.keyword_lists.counts.extend(map(len, column.values))
        message.keyword_lists.values.extend(word for words in column.values for word in words)
        message.keyword_lists.SetInParent()
    else:
        field, dtype = _FIELDS[column.type]
        setattr(message, field, np.ascontiguousarray(column.values, dtype).tobytes())
    return message
