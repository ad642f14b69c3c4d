"""Parquet files whose rows have a vector and no text, read as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import EngineError, InvalidArgument
from engine.ingest.coerce import ID_FIELDS, TIME_FIELDS, FieldMap, coerce_value, parse_id, to_item
from engine.ingest.column_files import ColumnBatch
from engine.ingest.readers import to_microseconds
from engine.item_columns import BoolArray, IdColumn, ItemColumns, ValueColumn, value_column
from engine.items import validate_item
from engine.limits import Limits
from engine.types import AttributeType, AttributeValue, Float32Array, Schema


class ParquetColumns:
    """See ``open_parquet_columns``. A row in which something is missing or of another kind is judged by itself, as rows
    of other files are.
    """

    def __init__(self, path: Path, schema: Schema, dimension: int, fields: FieldMap, limits: Limits) -> None:
        self.ignored_fields: frozenset[str] = frozenset()
        self._path = path
        self._schema = schema
        self._dimension = dimension
        self._fields = fields
        self._limits = limits
        self._n_rows = 0

    def expected_records(self) -> int:
        return self._n_rows

    def batches(self, *, after: int, rows: int) -> Iterator[ColumnBatch]:
        """See ``ColumnFile``."""
        import pyarrow as pa
        from pyarrow import parquet

        read, place = self._fields.sources(), 0
        try:
            with parquet.ParquetFile(self._path) as opened:
                self._n_rows = opened.metadata.num_rows
                names = opened.schema_arrow.names
                self.ignored_fields = frozenset(names) - read
                for batch in opened.iter_batches(batch_size=rows, columns=[one for one in names if one in read]):
                    left = batch.slice(min(max(after - place, 0), len(batch)))
                    place += len(batch)
                    if len(left):
                        yield self._batch(to_microseconds(left), place)
        except (pa.ArrowException, OSError) as error:
            raise InvalidArgument("file", f"cannot read {self._path.name}: {error}") from error

    def _batch(self, batch: Any, last_place: int) -> ColumnBatch:
        fields, n = self._fields, len(batch)
        is_whole = np.ones(n, np.bool_)
        source = next(one for one in ((fields.id,) if fields.id else ID_FIELDS) if one in batch.schema.names)
        assert fields.vector is not None
        ids = _ids(batch.column(source), self._schema, source, is_whole)
        vectors = _vectors(batch.column(fields.vector), self._dimension, is_whole)
        attributes: dict[str, ValueColumn] = {}
        for spec in self._schema.attributes:
            name = fields.attributes.get(spec.name)
            if name in batch.schema.names:
                attributes[spec.name] = _values(batch.column(name), spec.type, spec.name, is_whole)
        places = np.arange(last_place - n + 1, last_place + 1)
        refused = [(int(places[one]), self._refusal(batch, one)) for one in np.flatnonzero(~is_whole).tolist()]
        kept = np.flatnonzero(is_whole)
        columns = ItemColumns(ids, vectors, attributes)
        return ColumnBatch(columns if len(kept) == n else columns.take(kept), places[kept], last_place, refused)

    def _refusal(self, batch: Any, row: int) -> str:
        """What a load row by row says of this one."""
        (record,) = batch.slice(row, 1).to_pylist()
        try:
            item = validate_item(
                to_item(record, self._schema, self._fields), self._schema, self._dimension, self._limits
            )
        except EngineError as error:
            return error.message
        assert item.vector is None, "a row that is whole was taken for another"
        return "text: the item has neither text to encode nor vectors"


def open_parquet_columns(
    path: Path, schema: Schema, dimension: int, fields: FieldMap, limits: Limits
) -> ParquetColumns | None:
    """The file, where all it has of an item are one id, a vector of one row and attributes; None where it has more, or
    embeddings have names.

    Raises:
        InvalidArgument: the file cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InvalidArgument("file", f"cannot read {path.name}: {error}") from error
    if schema.embeddings:
        return None
    names = set(found.names)
    ids = names & ({fields.id} if fields.id else {*ID_FIELDS})
    has_more = names & {*fields.texts.values(), *TIME_FIELDS} or len(names) < len(found.names)
    if has_more or len(ids) != 1 or not fields.named <= names or fields.vector not in names:
        return None
    kind = found.field(fields.vector).type
    if not _is_list(kind) or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return None
    return ParquetColumns(path, schema, dimension, fields, limits)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    return any(test(kind) for test in tests)


def _ids(column: Any, schema: Schema, source: str, is_whole: BoolArray) -> IdColumn:
    import pyarrow as pa

    if schema.id_type == "uint64" and pa.types.is_integer(column.type):
        is_whole &= _valid(column)
        numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
        is_whole &= numbers >= 0
        ids: IdColumn = numbers.astype(np.uint64)
        return ids
    if not (pa.types.is_integer(column.type) or _is_string(column.type)):
        is_whole[:] = False
        return np.zeros(len(column), np.uint64) if schema.id_type == "uint64" else [""] * len(column)
    parsed = _each(column, lambda value: parse_id(str(value), schema, source) if value != "" else None, is_whole)
    if schema.id_type == "uint64":
        return np.array([0 if one is None else one for one in parsed], np.uint64)
    return ["" if one is None else one for one in parsed]


def _each(column: Any, convert: Callable[[Any], Any], is_whole: BoolArray) -> list[Any]:
    """Converted values; None, and no whole row, where there is none or it is none."""
    converted = []
    for row, value in enumerate(column.to_pylist()):
        try:
            one = None if value is None else convert(value)
        except EngineError:
            one = None
        converted.append(one)
        is_whole[row] &= one is not None
    return converted


def _vectors(column: Any, dimension: int, is_whole: BoolArray) -> Float32Array:
    """float32 [n, dimension]; rows that are no such vector are zeros and not whole."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    fits = _valid(column) & (lengths == dimension)
    is_whole &= fits
    if not fits.all():
        column = column.filter(_arrow(fits))
    values = column.flatten()
    numbers = np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(-1, dimension)
    if values.null_count:
        with_nulls = np.flatnonzero(fits)[~_valid(values).reshape(-1, dimension).all(axis=1)]
        is_whole[with_nulls] = False
    if fits.all():
        return np.ascontiguousarray(numbers)
    vectors = np.zeros((len(fits), dimension), np.float32)
    vectors[fits] = numbers
    return vectors


def _values(column: Any, kind: AttributeType, name: str, is_whole: BoolArray) -> ValueColumn:
    import pyarrow as pa

    present = _valid(column)
    if kind is AttributeType.KEYWORD and _is_string(column.type):
        return ValueColumn(kind, column.fill_null("").to_pylist(), present)
    if kind in _NUMBERS and _has_numbers(column.type, kind):
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
        filled = column.fill_null(False if kind is AttributeType.BOOL else 0)
        return ValueColumn(kind, filled.to_numpy(zero_copy_only=False).astype(_NUMBERS[kind]), present)
    values: list[AttributeValue | None] = []
    for row, value in enumerate(column.to_pylist()):
        try:
            values.append(None if value is None else coerce_value(value, kind, name))
        except EngineError:
            values.append(None)
            is_whole[row] = False
    return value_column(values, name)


_NUMBERS: Mapping[AttributeType, type[np.generic]] = {
    AttributeType.BOOL: np.bool_,
    AttributeType.INT: np.int64,
    AttributeType.FLOAT: np.float64,
    AttributeType.TIMESTAMP: np.int64,
}


def _has_numbers(found: Any, kind: AttributeType) -> bool:
    """Whether an Arrow type holds what the attribute's values are, each of them."""
    import pyarrow as pa

    whole: Sequence[bool] = (pa.types.is_integer(found), not pa.types.is_uint64(found))
    if kind is AttributeType.BOOL:
        return bool(pa.types.is_boolean(found))
    if kind is AttributeType.INT:
        return all(whole)
    if kind is AttributeType.FLOAT:
        return bool(pa.types.is_floating(found)) or all(whole)
    return bool(pa.types.is_timestamp(found))


def _is_string(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _valid(column: Any) -> BoolArray:
    valid: BoolArray = column.is_valid().to_numpy(zero_copy_only=False)
    return valid.copy()


def _arrow(flags: BoolArray) -> Any:
    import pyarrow as pa

    return pa.array(flags)
