from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.backend.protocol import SEGMENT_ROWS
from engine.dtypes import StoredArray, numpy_dtype
from engine.errors import CorruptData
from engine.store import VectorSegments
from engine.types import VectorDtype


def numbered(first: int, count: int, dtype: VectorDtype = "float32") -> StoredArray:
    return (np.arange(2 * first, 2 * (first + count)) % 1000).reshape(count, 2).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_run_over_two_borders_lies_in_three_segments(tmp_path: Path, dtype: VectorDtype) -> None:
    segments = VectorSegments(tmp_path, dimension=2, dtype=dtype)
    first, rows = SEGMENT_ROWS - 3, numbered(0, SEGMENT_ROWS + 5, dtype)
    segments.write(first, rows)
    arrays = segments.arrays(first + len(rows))
    assert [array.shape for array in arrays] == [(SEGMENT_ROWS, 2)] * 3
    assert {array.dtype for array in arrays} == {numpy_dtype(dtype)}
    assert np.array_equal(np.concatenate(arrays)[first : first + len(rows)], rows)
    picked = np.array([first + 4, first, 2 * SEGMENT_ROWS + 1, first], np.int64)
    assert np.array_equal(segments.take(picked), rows[picked - first])


def test_arrays_see_later_writes_and_cannot_be_written(tmp_path: Path) -> None:
    segments = VectorSegments(tmp_path, dimension=2, dtype="float32")
    segments.write(0, numbered(0, 1))
    (array,) = segments.arrays(1)
    segments.write(1, numbered(1, 2))
    assert np.array_equal(array[:3], numbered(0, 3))
    assert segments.arrays(3)[0] is array
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_files_are_sparse_until_written(tmp_path: Path) -> None:
    segments = VectorSegments(tmp_path, dimension=384, dtype="float32")
    segments.write(5, np.ones((1, 384), np.float32))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == SEGMENT_ROWS * 384 * 4
    assert path.stat().st_blocks * 512 < 100_000


def test_a_last_segment_cut_behind_its_rows_is_made_whole(tmp_path: Path) -> None:
    segments = VectorSegments(tmp_path, dimension=2, dtype="float32")
    segments.write(0, numbered(0, 3))
    segments.close()
    (path,) = tmp_path.iterdir()
    with path.open("r+b") as file:
        file.truncate(3 * 8)
    reopened = VectorSegments(tmp_path, dimension=2, dtype="float32")
    reopened.verify(3)
    assert path.stat().st_size == SEGMENT_ROWS * 8
    assert np.array_equal(reopened.arrays(3)[0][:3], numbered(0, 3))


def test_a_sealed_segment_must_be_whole(tmp_path: Path) -> None:
    segments = VectorSegments(tmp_path, dimension=2, dtype="float32")
    segments.write(0, numbered(0, SEGMENT_ROWS + 1))
    segments.close()
    first = min(tmp_path.iterdir())
    with first.open("r+b") as file:
        file.truncate(SEGMENT_ROWS * 8 - 1)
    with pytest.raises(CorruptData, match="segment-000000"):
        VectorSegments(tmp_path, dimension=2, dtype="float32").verify(SEGMENT_ROWS + 1)


def test_only_what_was_written_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = VectorSegments(tmp_path, dimension=2, dtype="float32")
    segments.write(0, numbered(0, SEGMENT_ROWS + 1))
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    segments.sync()
    assert len(synced) == 3  # two segments and the folder that names them
    segments.sync()
    assert len(synced) == 3
    segments.write(SEGMENT_ROWS + 1, numbered(0, 1))
    segments.sync()
    assert len(synced) == 4
    segments.close()
