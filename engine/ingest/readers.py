"""Files of records (JSON lines, CSV, Parquet) row by row. Knows nothing of schemas: see ``coerce`` for that."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Protocol, cast

from engine.errors import InvalidArgument
from engine.limits import MIB, Limits

_PARQUET_BATCH_ROWS = 1024
_COUNTED_BYTES = 64 * MIB
"""Up to this size a file is read once more to count its rows: a second or two, for a true time left."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file, or why it is none; ``place`` counts from 1 and is the same at every reading."""

    place: int
    fields: Mapping[str, object]
    error: str = ""


class RecordFile(Protocol):
    """Reads from the beginning, once."""

    @property
    def has_types(self) -> bool:
        """False where every value is a string, as in CSV."""
        ...

    @property
    def has_columns(self) -> bool:
        """Whether every record has the same fields."""
        ...

    def expected_records(self) -> int:
        """The last place there will be: counted in small files, else estimated from how far reading has come."""
        ...

    def __iter__(self) -> Iterator[Record]: ...


def open_records(path: Path) -> RecordFile:
    """The reader for the file's suffix: .jsonl, .ndjson, .csv (each also with .gz), .parquet.

    Raises:
        InvalidArgument: no such file, or none of these suffixes.
    """
    suffixes = [one.lower() for one in path.suffixes]
    kind = next((one for one in reversed(suffixes) if one != ".gz"), "")
    if kind not in _READERS:
        raise InvalidArgument("file", f"{path.name} is none of .jsonl, .ndjson, .csv (or these with .gz), .parquet")
    if not path.is_file():
        raise InvalidArgument("file", f"{path} is no file")
    return _READERS[kind](path)


class _TextFile(ABC):
    """A file read line by line, compressed or not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._read_bytes = 0
        self._place = 0
        self._counted: int | None = None

    def expected_records(self) -> int:
        if self._size > _COUNTED_BYTES:
            return round(self._place * self._size / max(self._read_bytes, 1))
        if self._counted is None:
            with self._opened() as (_, content):
                self._counted = sum(1 for _ in self._rows(content))
        return self._counted

    def __iter__(self) -> Iterator[Record]:
        with self._opened() as (raw, content):
            for record in self._records(content):
                self._place, self._read_bytes = record.place, raw.tell()
                yield record

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The file as it lies on disk, and its content; what is wrong with it as a whole is InvalidArgument."""
        try:
            with self._path.open("rb") as raw:
                is_gzip = self._path.suffix.lower() == ".gz"
                yield raw, cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise InvalidArgument("file", f"cannot read {self._path.name}: {error}") from error

    @abstractmethod
    def _rows(self, content: IO[bytes]) -> Iterator[object]:
        """As many as there are places."""

    @abstractmethod
    def _records(self, content: IO[bytes]) -> Iterator[Record]: ...


class _JsonLines(_TextFile):
    """An object a line; empty lines are passed over but keep their place."""

    has_types = True
    has_columns = False

    def _rows(self, content: IO[bytes]) -> Iterator[bytes]:
        return iter(content)

    def _records(self, content: IO[bytes]) -> Iterator[Record]:
        for place, line in enumerate(self._rows(content), 1):
            if line.strip():
                yield _json_record(place, line)


def _json_record(place: int, line: bytes) -> Record:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(place, {}, f"not JSON: {error}")
    if not isinstance(fields, dict):
        return Record(place, {}, f"a JSON {type(fields).__name__}, not an object")
    return Record(place, fields)


class _Csv(_TextFile):
    """A header line, then a record a line; every value is a string."""

    has_types = False
    has_columns = True

    def _rows(self, content: IO[bytes]) -> Iterator[list[str]]:
        """The header aside."""
        return islice(self._lines(content), 1, None)

    def _records(self, content: IO[bytes]) -> Iterator[Record]:
        lines = self._lines(content)
        header = next(lines, [])
        if len(set(header)) < len(header):
            raise InvalidArgument("file", f"{self._path.name} names a column twice in its first line")
        for place, row in enumerate(lines, 1):
            yield _csv_record(place, header, row)

    def _lines(self, content: IO[bytes]) -> Iterator[list[str]]:
        csv.field_size_limit(Limits().message_bytes)
        decoded = (line.decode("utf-8") for line in content)
        first = next(decoded, "").removeprefix("\ufeff")
        return (row for row in csv.reader(chain([first], decoded), strict=True) if row)


def _csv_record(place: int, header: list[str], row: list[str]) -> Record:
    if len(row) != len(header):
        return Record(place, {}, f"{len(row)} values for {len(header)} columns")
    return Record(place, dict(zip(header, row, strict=True)))


class _Parquet:
    """Columns as they are typed; timestamps to the microsecond."""

    has_types = True
    has_columns = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._n_rows = 0
        self._place = 0

    def expected_records(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[Record]:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self._path) as opened:
                self._n_rows = opened.metadata.num_rows
                for batch in opened.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                    for fields in to_microseconds(batch).to_pylist():
                        self._place += 1
                        yield Record(self._place, fields)
        except (pa.ArrowException, OSError) as error:
            raise InvalidArgument("file", f"cannot read {self._path.name}: {error}") from error


def to_microseconds(batch: Any) -> Any:  # pyarrow has no annotations
    """The RecordBatch with nanosecond timestamps, which Python cannot hold, cut to microseconds."""
    import pyarrow as pa

    fields = [
        field.with_type(pa.timestamp("us", field.type.tz))
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns"
        else field
        for field in batch.schema
    ]
    columns = [column.cast(field.type, safe=False) for column, field in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


_READERS: Mapping[str, type[_JsonLines | _Csv | _Parquet]] = {
    ".jsonl": _JsonLines,
    ".ndjson": _JsonLines,
    ".csv": _Csv,
    ".parquet": _Parquet,
}
