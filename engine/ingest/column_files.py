"""Files read as columns, thousands of rows at a time; here those of vectors alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument
from engine.ingest.vector_files import read_array, read_vectors
from engine.item_columns import IdColumn, ItemColumns
from engine.types import Int64Array, Schema

VECTOR_SUFFIXES = (".npy", ".fbin")
_UINT64_END = 1 << 64


@dataclass(frozen=True, slots=True)
class ColumnBatch:
    """Rows of a file, the last of them at ``last_place``, which counts from 1.

    ``places`` int64 [n]: where the items come from; ``refused``: places of rows that are no items, and why.
    """

    columns: ItemColumns
    places: Int64Array
    last_place: int
    refused: list[tuple[int, str]]


class ColumnFile(Protocol):
    """Reads from any place on."""

    @property
    def ignored_fields(self) -> frozenset[str]:
        """What the file has beside what is read."""
        ...

    def expected_records(self) -> int: ...

    def batches(self, *, after: int, rows: int) -> Iterator[ColumnBatch]:
        """What comes after the place ``after``, so many rows at a time.

        Raises:
            InvalidArgument: the file cannot be read.
        """
        ...


class VectorFile:
    """Vectors in a .npy or .fbin file; ids are row numbers and ``first_id``, or lie in a .npy file of their own."""

    ignored_fields: frozenset[str] = frozenset()

    def __init__(self, path: Path, schema: Schema, *, first_id: int = 0, ids: Path | None = None) -> None:
        """
        Raises:
            InvalidArgument: no such file, not of vectors, or ids that are none.
        """
        if schema.embeddings:
            raise InvalidArgument("file", f"{path.name} has one vector an item; the collection has named embeddings")
        self._vectors = _read(path, "file")
        self._is_text = schema.id_type == "string"
        self._ids = None if ids is None else _read_ids(ids, len(self._vectors))
        self._first_id = first_id
        if not 0 <= first_id <= _UINT64_END - len(self._vectors):
            raise InvalidArgument("--first-id", f"{first_id} and {len(self._vectors)} rows are not in [0, 2**64)")

    def expected_records(self) -> int:
        return len(self._vectors)

    def batches(self, *, after: int, rows: int) -> Iterator[ColumnBatch]:
        """See ``ColumnFile``."""
        for first in range(after, len(self._vectors), rows):
            end = min(first + rows, len(self._vectors))
            vectors = np.ascontiguousarray(self._vectors[first:end], np.float32)
            places = np.arange(first + 1, end + 1)
            yield ColumnBatch(ItemColumns(self._ids_of(first, end), vectors), places, end, [])

    def _ids_of(self, first: int, end: int) -> IdColumn:
        if self._ids is None:
            ids: npt.NDArray[Any] = np.arange(end - first, dtype=np.uint64) + np.uint64(self._first_id + first)
        else:
            ids = self._ids[first:end]
        if self._is_text:
            return [str(one) for one in ids.tolist()]
        if ids.dtype.kind == "U":
            raise InvalidArgument("--ids", "are strings; this collection has uint64 ids")
        return ids.astype(np.uint64)


def _read(path: Path, field: str) -> npt.NDArray[Any]:
    try:
        return read_array(path) if path.suffix.lower() == ".npy" else read_vectors(path)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgument(field, f"cannot read {path.name}: {error}") from error


def _read_ids(path: Path, n: int) -> npt.NDArray[Any]:
    try:
        ids: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgument("--ids", f"cannot read {path.name}: {error}") from error
    if ids.ndim != 1 or ids.dtype.kind not in "iuU" or (ids.dtype.kind == "i" and len(ids) and ids.min() < 0):
        raise InvalidArgument("--ids", f"{path.name} holds no list of ids: whole numbers from 0 on, or strings")
    if len(ids) != n:
        raise InvalidArgument("--ids", f"{path.name} has {len(ids)} ids for {n} vectors")
    return ids
