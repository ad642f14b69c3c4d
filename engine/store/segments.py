"""A version's stored vectors: append-only files of fixed stride. Knows rows, not which items own them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.backend.protocol import SEGMENT_ROWS
from engine.dtypes import StoredArray, numpy_dtype
from engine.errors import CorruptData
from engine.store.folders import sync_file, sync_folder
from engine.types import Int64Array, VectorDtype


class VectorSegments:
    """Rows of d values in files of ``SEGMENT_ROWS`` rows, sparse until written.

    One thread writes and syncs; any thread reads. A row that is written again is one that nobody has been told of.
    """

    def __init__(self, folder: Path, *, dimension: int, dtype: VectorDtype) -> None:
        self.folder = folder
        self.dimension = dimension
        self.dtype: VectorDtype = dtype
        self._numpy_dtype = numpy_dtype(dtype)
        self.row_bytes = dimension * self._numpy_dtype.itemsize
        self._segment_bytes = SEGMENT_ROWS * self.row_bytes
        self._maps: list[StoredArray] = []
        self._maps_lock = threading.Lock()
        self._writable: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._names_changed = False

    def verify(self, n_rows: int) -> None:
        """Check that the files hold ``n_rows`` rows, give the last one its full length, and sync them.

        A process that was killed may have named rows that it never synced.

        Raises:
            CorruptData: a file is missing or too short.
        """
        for segment, _, end in _runs(0, n_rows):
            path = self._path(segment)
            size = path.stat().st_size if path.exists() else 0
            if size < end * self.row_bytes:
                raise CorruptData(f"{path} has {size} bytes where {end} rows need {end * self.row_bytes}", path=path)
            os.truncate(path, max(size, self._segment_bytes))
            sync_file(path)
        if n_rows:
            sync_folder(self.folder)
        self.arrays(n_rows)

    def write(self, first_row: int, rows: StoredArray) -> None:
        """Write rows [m, d] of the stored dtype at ``first_row``, one run per segment.

        Raises:
            OSError: the disk is full or failing.
        """
        self.write_bytes(first_row, np.ascontiguousarray(rows, self._numpy_dtype).reshape(-1).view(np.uint8).data)

    def write_bytes(self, first_row: int, content: memoryview | bytes) -> None:
        """The same of rows as they are stored."""
        content, done = memoryview(content), 0
        for segment, start, end in _runs(first_row, len(content) // self.row_bytes):
            size = (end - start) * self.row_bytes
            self._dirty.add(segment)
            _write_all(self._descriptor(segment), content[done : done + size], start * self.row_bytes)
            done += size
        # Now and not at the first search: what was acknowledged can be read, whatever becomes of the right to open it.
        self.arrays(first_row + len(content) // self.row_bytes)

    def take(self, rows: Int64Array) -> StoredArray:
        """Copies of rows int64 [m], as [m, d] of the stored dtype; all of them must be written."""
        taken = np.empty((len(rows), self.dimension), self._numpy_dtype)
        if not len(rows):
            return taken
        arrays = self.arrays(int(rows.max()) + 1)
        segments = rows // SEGMENT_ROWS
        for segment in np.unique(segments):
            chosen = segments == segment
            taken[chosen] = arrays[segment][rows[chosen] % SEGMENT_ROWS]
        return taken

    def arrays(self, n_rows: int) -> list[StoredArray]:
        """Read-only [SEGMENT_ROWS, d] maps of the segments that hold rows [0, n_rows); they see later writes."""
        count = -(-n_rows // SEGMENT_ROWS)
        with self._maps_lock:
            while len(self._maps) < count:
                self._maps.append(self._map(len(self._maps)))
            return self._maps[:count]

    def paths(self, n_rows: int) -> list[Path]:
        """The files that hold the first ``n_rows`` rows."""
        return [self._path(segment) for segment, _, _ in _runs(0, n_rows)]

    def sync(self) -> None:
        """Make all rows written so far survive power loss.

        Raises:
            OSError: the disk is failing; the rows count as unsynced still.
        """
        for segment in sorted(self._dirty):
            os.fsync(self._descriptor(segment))
        if self._names_changed:
            sync_folder(self.folder)
        self._names_changed = False
        self._dirty.clear()
        self._close_all_but_last()

    def close(self) -> None:
        """Give up the files; maps already handed out stay readable."""
        for descriptor in self._writable.values():
            os.close(descriptor)
        self._writable.clear()
        with self._maps_lock:
            self._maps.clear()

    def _path(self, segment: int) -> Path:
        return self.folder / f"segment-{segment:06d}.vec"

    def _map(self, segment: int) -> StoredArray:
        return np.memmap(self._path(segment), self._numpy_dtype, "r", shape=(SEGMENT_ROWS, self.dimension))

    def _descriptor(self, segment: int) -> int:
        """An open file of the segment's full length."""
        known = self._writable.get(segment)
        if known is not None:
            return known
        path = self._path(segment)
        self._names_changed |= not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._writable[segment] = descriptor
        # Readers map whole segments: one shorter than its stride would fault under them.
        if os.fstat(descriptor).st_size < self._segment_bytes:
            os.ftruncate(descriptor, self._segment_bytes)
        return descriptor

    def _close_all_but_last(self) -> None:
        for segment in sorted(self._writable)[:-1]:
            os.close(self._writable.pop(segment))


def _runs(first_row: int, n_rows: int) -> Iterator[tuple[int, int, int]]:
    """(segment, start, end) of each run of rows [first_row, first_row + n_rows) within one segment."""
    row, end_row = first_row, first_row + n_rows
    while row < end_row:
        segment, start = divmod(row, SEGMENT_ROWS)
        end = min(SEGMENT_ROWS, start + end_row - row)
        yield segment, start, end
        row += end - start


def _write_all(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
