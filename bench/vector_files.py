"""The files of big-ann-benchmarks: dense vectors (written here), sparse matrices (spmat), and the truth (ibin pairs).

Little-endian throughout. A reader refuses a file whose size does not fit its header.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.ingest.vector_files import HEADER_BYTES, check_size, element_of
from engine.types import Float32Array, Int64Array


@dataclass(frozen=True, slots=True)
class SparseMatrix:
    """CSR: row r has ``columns[starts[r] : starts[r + 1]]`` with ``values`` beside them.

    starts int64 [n + 1], columns int32 [nnz] ascending in a row, values float32 [nnz].
    """

    n_columns: int
    starts: Int64Array
    columns: npt.NDArray[np.int32]
    values: Float32Array

    @property
    def n_rows(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> npt.NDArray[np.int32]:
        """The columns of a row."""
        return self.columns[self.starts[number] : self.starts[number + 1]]

    def transposed(self) -> SparseMatrix:
        """The rows of each column, ascending."""
        order = np.argsort(self.columns, kind="stable")
        rows = np.repeat(np.arange(self.n_rows, dtype=np.int32), np.diff(self.starts))[order]
        counts = np.bincount(self.columns, minlength=self.n_columns)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return SparseMatrix(self.n_rows, starts, rows, self.values[order])


def sparse_matrix(rows: list[list[int]], *, n_columns: int) -> SparseMatrix:
    """Ones in these columns of each row."""
    ordered = [sorted(row) for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ordered])]).astype(np.int64)
    columns = np.asarray([column for row in ordered for column in row], np.int32)
    return SparseMatrix(n_columns, starts, columns, np.ones(len(columns), np.float32))


def write_vectors(path: Path, vectors: npt.NDArray[Any]) -> None:
    """uint32 n, uint32 d, then the rows; the suffix names the element type.

    Raises:
        ValueError: the vectors are of another type than the suffix says.
    """
    if vectors.dtype != element_of(path):
        raise ValueError(f"{path.name} holds {np.dtype(element_of(path)).name}, not {vectors.dtype.name}")
    with path.open("wb") as out:
        np.asarray(vectors.shape, "<u4").tofile(out)
        np.ascontiguousarray(vectors).tofile(out)


def write_sparse(path: Path, matrix: SparseMatrix) -> None:
    """int64 rows, columns and entries, int64 starts, int32 columns, float32 values."""
    with path.open("wb") as out:
        np.asarray([matrix.n_rows, matrix.n_columns, len(matrix.columns)], "<i8").tofile(out)
        matrix.starts.astype("<i8").tofile(out)
        matrix.columns.astype("<i4").tofile(out)
        matrix.values.astype("<f4").tofile(out)


def read_sparse(path: Path) -> SparseMatrix:
    """
    Raises:
        ValueError: the file is of another size than its header says, or its rows contradict it.
    """
    with path.open("rb") as file:
        n_rows, n_columns, n_entries = (int(one) for one in np.fromfile(file, "<i8", count=3))
        check_size(path, 8 * (4 + n_rows) + 8 * n_entries)
        starts = np.fromfile(file, "<i8", count=n_rows + 1)
        columns = np.fromfile(file, "<i4", count=n_entries)
        values = np.fromfile(file, "<f4", count=n_entries)
    if starts[0] != 0 or starts[-1] != n_entries or (np.diff(starts) < 0).any():
        raise ValueError(f"{path.name}: the rows' starts do not lead from 0 to {n_entries}")
    if n_entries and not 0 <= columns.min() <= columns.max() < n_columns:
        raise ValueError(f"{path.name}: a column lies outside of 0 to {n_columns - 1}")
    return SparseMatrix(n_columns, starts.astype(np.int64), columns.astype(np.int32), values.astype(np.float32))


def write_truth(path: Path, rows: npt.NDArray[Any], distances: npt.NDArray[Any]) -> None:
    """uint32 n, uint32 k, then int32 rows [n, k], then float32 distances [n, k]."""
    with path.open("wb") as out:
        np.asarray(rows.shape, "<u4").tofile(out)
        rows.astype("<i4").tofile(out)
        distances.astype("<f4").tofile(out)


def read_truth(path: Path) -> tuple[npt.NDArray[np.int32], Float32Array]:
    """
    Raises:
        ValueError: the file is of another size than its header says.
    """
    n, k = (int(one) for one in np.fromfile(path, "<u4", count=2))
    check_size(path, HEADER_BYTES + 8 * n * k)
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        rows = np.fromfile(file, "<i4", count=n * k).reshape(n, k)
        distances = np.fromfile(file, "<f4", count=n * k).reshape(n, k)
    return rows.astype(np.int32), distances.astype(np.float32)
