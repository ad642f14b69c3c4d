"""What makes items as columns fit a schema: all at once, and as ``items`` has it where one may not. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engine.dtypes import LARGEST, MOST_LENGTH
from engine.errors import EngineError, InvalidArgument
from engine.item_columns import BoolArray, ItemColumns, ValueColumn
from engine.items import ID_BYTES, TIMESTAMPS, validate_item
from engine.limits import Limits
from engine.types import AttributeSpec, AttributeType, Float32Array, Int64Array, Schema

_MOST_BYTES_OF_A_CHARACTER = 4
_MOST_DEGREES = (90.0, 180.0)


def validate_columns(
    columns: ItemColumns, schema: Schema, dimension: int, limits: Limits
) -> tuple[ItemColumns, list[tuple[int, EngineError]]]:
    """The items that fit, in canonical form, and the places of the others with what ``validate_item`` says of them.

    Raises:
        InvalidArgument: what is wrong with all of them.
    """
    if schema.embeddings:
        raise InvalidArgument("vectors", "have no names, and the collection has named embeddings: use Upsert")
    wanted = np.ndarray if schema.id_type == "uint64" else list
    if len(columns) and not isinstance(columns.ids, wanted):
        raise InvalidArgument("ids", f"are no {schema.id_type} ids, which this collection has")
    given = columns.vectors.shape[1]
    if len(columns) and given != dimension:
        raise InvalidArgument("vectors", f"have {given} dimensions, the collection has {dimension}", limit=dimension)
    columns = replace(columns, attributes=_canonical(columns.attributes, schema))
    doubtful = _doubtful_ids(columns) | _doubtful_vectors(columns.vectors, schema)
    for column in columns.attributes.values():
        doubtful |= _doubtful_values(column)
    doubtful |= _most_bytes(columns) > limits.item_bytes
    wrong = []
    for place in np.flatnonzero(doubtful).tolist():
        try:
            validate_item(columns.item(place), schema, dimension, limits)
        except EngineError as error:
            wrong.append((place, error))
    if not wrong:
        return columns, wrong
    kept = np.delete(np.arange(len(columns)), [place for place, _ in wrong])
    return columns.take(kept), wrong


def _canonical(given: Mapping[str, ValueColumn], schema: Schema) -> dict[str, ValueColumn]:
    """Of the schema's types; those without any value are left out."""
    canonical = {}
    for name, column in given.items():
        spec = schema.attribute(name)
        if spec is None:
            raise InvalidArgument(f"attributes[{name}]", "the schema has no such attribute")
        own = _of_type(column, spec)
        if own.present.any():
            canonical[name] = own
    return canonical


def _of_type(column: ValueColumn, spec: AttributeSpec) -> ValueColumn:
    if spec.type is AttributeType.FLOAT and column.type is AttributeType.INT:
        return ValueColumn(spec.type, column.values.astype(np.float64), column.present)
    if column.type is not spec.type and column.present.any():
        raise InvalidArgument(f"attributes[{spec.name}]", f"{column.type.value} values are not {spec.type.value}")
    if spec.type is AttributeType.KEYWORD_LIST and column.present.any():
        return replace(column, present=column.present & np.fromiter(map(bool, column.values), np.bool_))
    return column


def _doubtful_ids(columns: ItemColumns) -> BoolArray:
    if isinstance(columns.ids, np.ndarray):
        return np.zeros(len(columns), np.bool_)
    lengths = np.fromiter(map(len, columns.ids), np.int64, len(columns))
    doubtful: BoolArray = (lengths == 0) | (lengths * _MOST_BYTES_OF_A_CHARACTER > ID_BYTES)
    return doubtful


def _doubtful_vectors(vectors: Float32Array, schema: Schema) -> BoolArray:
    """Where a value is not finite, or too large to be stored or compared, or all are zero where that has no meaning."""
    doubtful: BoolArray
    largest = np.maximum(vectors.max(axis=1, initial=0), -vectors.min(axis=1, initial=0)).astype(np.float64)
    if schema.metric == "cosine":
        doubtful = ~np.isfinite(largest) | (largest == 0)
    else:
        doubtful = ~(largest <= min(LARGEST[schema.dtype], MOST_LENGTH / math.sqrt(vectors.shape[1])))
    return doubtful


def _doubtful_values(column: ValueColumn) -> BoolArray:
    values, doubtful = column.values, np.zeros(len(column.present), np.bool_)
    if column.type is AttributeType.FLOAT:
        doubtful = ~np.isfinite(values)
    elif column.type is AttributeType.TIMESTAMP:
        doubtful = (values < TIMESTAMPS.start) | (values >= TIMESTAMPS.stop)
    elif column.type is AttributeType.GEO_POINT:
        doubtful = ~(np.abs(values) <= _MOST_DEGREES).all(axis=1)
    return doubtful & column.present


def _most_bytes(columns: ItemColumns) -> Int64Array:
    """An upper bound of what each item takes."""
    fixed = columns.vectors.itemsize * columns.vectors.shape[1] + 16 * len(columns.attributes)
    most = np.full(len(columns), fixed, np.int64)
    for column in columns.attributes.values():
        if column.type is AttributeType.KEYWORD:
            most += _MOST_BYTES_OF_A_CHARACTER * np.fromiter(map(len, column.values), np.int64, len(columns))
        elif column.type is AttributeType.KEYWORD_LIST:
            lengths = (sum(map(len, words)) for words in column.values)
            most += _MOST_BYTES_OF_A_CHARACTER * np.fromiter(lengths, np.int64, len(columns))
    return most
