from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.vector_files import (
    read_sparse,
    read_truth,
    sparse_matrix,
    write_sparse,
    write_truth,
    write_vectors,
)
from engine.ingest.vector_files import read_vectors


@pytest.mark.parametrize(("suffix", "element"), [(".u8bin", np.uint8), (".i8bin", np.int8), (".fbin", np.float32)])
def test_vectors_come_back_as_they_were_written(tmp_path: Path, suffix: str, element: type[np.generic]) -> None:
    vectors = np.random.default_rng(1).integers(0, 100, (7, 5)).astype(element)
    path = tmp_path / f"base{suffix}"
    write_vectors(path, vectors)
    found = read_vectors(path)
    assert found.dtype == element
    assert np.array_equal(found, vectors)
    assert path.read_bytes()[:8] == bytes([7, 0, 0, 0, 5, 0, 0, 0])


def test_vectors_of_another_type_than_the_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"base\.u8bin holds uint8, not float32"):
        write_vectors(tmp_path / "base.u8bin", np.zeros((2, 2), np.float32))


def test_sparse_rows_come_back_as_they_were_written_empty_ones_too(tmp_path: Path) -> None:
    matrix = sparse_matrix([[3, 1], [], [0, 4, 2]], n_columns=5)
    path = tmp_path / "tags.spmat"
    write_sparse(path, matrix)
    found = read_sparse(path)
    assert found.n_columns == 5
    assert [found.row(number).tolist() for number in range(3)] == [[1, 3], [], [0, 2, 4]]
    assert np.array_equal(found.values, np.ones(5, np.float32))


def test_the_sparse_layout_is_that_of_the_filter_track(tmp_path: Path) -> None:
    path = tmp_path / "tags.spmat"
    write_sparse(path, sparse_matrix([[1], [0, 2]], n_columns=3))
    written = path.read_bytes()
    assert np.frombuffer(written, "<i8", count=6).tolist() == [2, 3, 3, 0, 1, 3]
    assert np.frombuffer(written, "<i4", count=3, offset=48).tolist() == [1, 0, 2]
    assert np.frombuffer(written, "<f4", offset=60).tolist() == [1.0, 1.0, 1.0]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tags.spmat"
    write_sparse(path, sparse_matrix([[1], [0, 2]], n_columns=3))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="its header says"):
        read_sparse(path)


def test_a_column_beyond_the_matrix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tags.spmat"
    write_sparse(path, sparse_matrix([[9]], n_columns=3))
    with pytest.raises(ValueError, match="outside of 0 to 2"):
        read_sparse(path)


def test_the_truth_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows, distances = np.arange(6).reshape(2, 3), np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    write_truth(tmp_path / "gt.ibin", rows, distances)
    found, told = read_truth(tmp_path / "gt.ibin")
    assert np.array_equal(found, rows)
    assert np.array_equal(told, distances)
