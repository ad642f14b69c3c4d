"""Whether items, the rows they name and the files that hold rows fit each other. Reads vectors, writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.backend.protocol import SEGMENT_ROWS
from engine.dtypes import numpy_dtype, to_float32
from engine.store.collection_store import version_folder
from engine.store.damage import FaultKind
from engine.store.inspecting import Contents, Frame, Ranges
from engine.store.snapshots import Report
from engine.store.verdict import Verdict
from engine.types import Float32Array, Int64Array

_CHECKED_ROWS = 16_384
_MOST_ROWS = 1 << 20

Span = tuple[int, int]
"""Rows from the first to before the second."""


class MissingRows(NamedTuple):
    """Rows of ``span`` that the file should hold and does not."""

    path: Path
    span: Span


def with_true_end(verdict: Verdict, frame: Frame, contents: Contents) -> Frame:
    """The frame with the next row that its files and items speak for, where the one that is noted cannot be."""
    end = _written_end(verdict.folder, frame, contents)
    noted = frame.next_row
    if end is None:
        end = min(noted, _reached(verdict.folder, frame, contents))
    if end == noted:
        return frame
    verdict.add(FaultKind.COUNTERS_WRONG, "versions", f"next row {noted:,}, yet rows were written up to {end:,}")
    return replace(frame, next_row=end)


def _written_end(folder: Path, frame: Frame, contents: Contents) -> int | None:
    """The end of the rows that items name beyond the next row, if there are: rows of zeros were never written."""
    ranges = contents.ranges
    may_be = (ranges["first_row"] >= 0) & (ranges["n_rows"] > 0) & (ranges["n_rows"] < _MOST_ROWS)
    beyond = [
        (int(one["first_row"]), int(one["n_rows"]))
        for one in ranges[may_be]
        if one["first_row"] + one["n_rows"] > frame.next_row
    ]
    ends = [first + n_rows for first, n_rows in beyond if _are_written(folder, frame, first, n_rows)]
    return max(ends, default=None)


def _reached(folder: Path, frame: Frame, contents: Contents) -> int:
    """The end of all rows that a file holds, the log has or an item names below the next row."""
    ranges = contents.ranges[~np.isin(contents.ranges["key"], _keys_beyond(contents.ranges, frame.next_row))]
    named = int((ranges["first_row"] + ranges["n_rows"]).max()) if len(ranges) else 0
    logged = max((end for _, end in logged_spans(contents, frame)), default=0)
    held = [
        int(path.stem.removeprefix("segment-")) * SEGMENT_ROWS + _held(path, frame)
        for path in version_folder(folder, frame.version).glob("segment-[0-9]*.vec")
    ]
    return max(named, logged, *held, 0)


def check_rows(verdict: Verdict, frame: Frame, contents: Contents, report: Report) -> None:
    """All that can be wrong between items, rows and files, each item under the first kind that fits it."""
    ranges, spans = contents.ranges, logged_spans(contents, frame)
    has_item = np.isin(ranges["key"], contents.keys)
    verdict.orphans = ranges["key"][~has_item].tolist()
    verdict.count(FaultKind.ROWS_WITHOUT_ITEM, "embeddings", verdict.orphans, "name items that are not there")
    verdict.lose(FaultKind.ITEMS_UNREADABLE, "items", contents.unreadable)
    without = np.setdiff1d(contents.keys, ranges["key"]).tolist()
    verdict.lose(FaultKind.ITEMS_WITHOUT_ROWS, "items", dict.fromkeys(without, "no rows are named"))
    owned = ranges[has_item]
    beyond = _keys_beyond(owned, frame.next_row)
    verdict.lose(FaultKind.ROWS_BEYOND_END, "embeddings", dict.fromkeys(beyond, "rows that were never written"))
    owned = owned[~np.isin(owned["key"], beyond)]
    verdict.lose(FaultKind.ROWS_SHARED, "embeddings", dict.fromkeys(_shared(owned), "rows of another item"))
    missing = missing_rows(verdict.folder, frame, spans)
    gone = _keys_meeting(owned, [one.span for one in missing], spans)
    verdict.lose(FaultKind.ITEMS_WITHOUT_ROWS, "items", dict.fromkeys(gone, "rows that no file holds"))
    bad = _keys_meeting(owned, list(_damaged_spans(verdict.folder, frame, report)), spans)
    verdict.lose(FaultKind.ROWS_DAMAGED, "segments", dict.fromkeys(bad, "rows that are no numbers"))


def check_segments(verdict: Verdict, frame: Frame, spans: Sequence[Span]) -> None:
    """Whether files are there and long enough; ``spans``: rows that the log has."""
    missing = missing_rows(verdict.folder, frame, spans)
    for path, (first, end) in missing:
        kind = FaultKind.SEGMENT_SHORT if path.is_file() else FaultKind.SEGMENT_MISSING
        verdict.add(kind, path.name, f"{end - first:,} rows are not in it")
    if not missing:
        verdict.sound.append("segments")


def check_counters(verdict: Verdict, contents: Contents) -> None:
    sequence, item_count, next_key = contents.counters
    found = []
    if sequence < contents.last:
        found.append(f"sequence {sequence:,}, yet {contents.last:,} was given")
    if item_count != len(contents.keys):
        found.append(f"{item_count:,} items, yet {len(contents.keys):,} are there")
    if len(contents.keys) and next_key <= int(contents.keys[-1]):
        found.append(f"next key {next_key:,}, yet {int(contents.keys[-1]):,} was given")
    if found:
        verdict.add(FaultKind.COUNTERS_WRONG, "meta", "; ".join(found))


def check_log(verdict: Verdict, frame: Frame, contents: Contents) -> None:
    verdict.count(FaultKind.CHANGES_WRONG, "changes", contents.wrong_changes, "cannot be read")
    if contents.n_missing_changes:
        # That it does not begin with the first change is none: what nobody needs is forgotten.
        verdict.add(FaultKind.CHANGES_WRONG, "changes", f"{contents.n_missing_changes:,} are missing")
    wrong = wrong_logged(contents, frame)
    verdict.count(FaultKind.LOGGED_ROWS_WRONG, "fresh_rows", wrong, "lie where no rows are")


def wrong_logged(contents: Contents, frame: Frame) -> list[int]:
    """First rows of entries in the log that are no rows of the collection."""
    return [
        first
        for first, n_bytes in contents.logged
        if first < 0 or n_bytes % frame.row_bytes or first + n_bytes // frame.row_bytes > frame.next_row
    ]


def logged_spans(contents: Contents, frame: Frame) -> list[Span]:
    """What the log will write to the segments when the store is opened; those that meet are one."""
    wrong, spans = set(wrong_logged(contents, frame)), list[Span]()
    for first, n_bytes in contents.logged:
        end = first + n_bytes // frame.row_bytes
        if first in wrong:
            continue
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((first, end))
    return spans


def missing_rows(folder: Path, frame: Frame, spans: Sequence[Span]) -> list[MissingRows]:
    """Of the rows written so far; ``spans``: rows that the log has."""
    found = []
    for first, end, path in _segments(folder, frame):
        held = first + _held(path, frame)
        if held < end and not any(start <= held and end <= stop for start, stop in spans):
            found.append(MissingRows(path, (held, end)))
    return found


def read_rows(folder: Path, frame: Frame, first_row: int, n_rows: int) -> Float32Array | None:
    """float32 [n_rows, d]; None where the files do not hold them."""
    content = b""
    row, end_row = first_row, first_row + n_rows
    while row < end_row:
        segment, start = divmod(row, SEGMENT_ROWS)
        count = min(end_row - row, SEGMENT_ROWS - start)
        path = _path(folder, frame, segment)
        if not path.is_file():
            return None
        with path.open("rb") as file:
            file.seek(start * frame.row_bytes)
            content += file.read(count * frame.row_bytes)
        row += count
    if len(content) < n_rows * frame.row_bytes:
        return None
    stored = np.frombuffer(content, numpy_dtype(frame.version.dtype)).reshape(n_rows, frame.version.dimension)
    return to_float32(stored, frame.version.dtype)


def _are_written(folder: Path, frame: Frame, first_row: int, n_rows: int) -> bool:
    rows = read_rows(folder, frame, first_row, n_rows)
    return rows is not None and bool(rows.any(axis=1).all())


def _segments(folder: Path, frame: Frame) -> Iterator[tuple[int, int, Path]]:
    """(first row, end, file) of each."""
    for first in range(0, frame.next_row, SEGMENT_ROWS):
        yield first, min(frame.next_row, first + SEGMENT_ROWS), _path(folder, frame, first // SEGMENT_ROWS)


def _path(folder: Path, frame: Frame, segment: int) -> Path:
    return version_folder(folder, frame.version) / f"segment-{segment:06d}.vec"


def _held(path: Path, frame: Frame) -> int:
    return min(SEGMENT_ROWS, path.stat().st_size // frame.row_bytes) if path.is_file() else 0


def _keys_beyond(ranges: Ranges, next_row: int) -> list[int]:
    first, n_rows = ranges["first_row"], ranges["n_rows"]
    # Written so that numbers near the end of int64 do not overflow.
    is_within = (first >= 0) & (n_rows > 0) & (first <= next_row) & (n_rows <= next_row - np.minimum(first, next_row))
    keys: list[int] = ranges["key"][~is_within].tolist()
    return keys


def _shared(ranges: Ranges) -> list[int]:
    """Keys of all items whose rows are another's too; ranges by first row."""
    if len(ranges) == 0:
        return []
    first, end = ranges["first_row"], ranges["first_row"] + ranges["n_rows"]
    reached = np.maximum.accumulate(end)
    shared: set[int] = set()
    for place in (np.flatnonzero(first[1:] < reached[:-1]) + 1).tolist():
        shared.update(ranges["key"][(first < end[place]) & (end > first[place])].tolist())
    return sorted(shared)


def _keys_meeting(ranges: Ranges, spans: Sequence[Span], logged: Sequence[Span]) -> list[int]:
    """Keys of ranges that have a row in ``spans`` and are not in the log whole."""
    first, end = ranges["first_row"], ranges["first_row"] + ranges["n_rows"]
    meets = np.zeros(len(ranges), bool)
    for start, stop in spans:
        meets |= (first < stop) & (end > start)
    for start, stop in logged:
        meets &= ~((first >= start) & (end <= stop))
    keys: list[int] = ranges["key"][meets].tolist()
    return keys


def _damaged_spans(folder: Path, frame: Frame, report: Report) -> Iterator[Span]:
    """Rows that are no numbers, which no write lets through."""
    for first, end, path in _segments(folder, frame):
        report("rows", first / frame.next_row)
        held = min(end - first, _held(path, frame))
        if held:
            bad = _not_finite(path, frame, held)
            breaks = np.flatnonzero(np.diff(bad) > 1) + 1
            yield from ((first + int(run[0]), first + int(run[-1]) + 1) for run in np.split(bad, breaks) if len(run))


def _not_finite(path: Path, frame: Frame, n_rows: int) -> Int64Array:
    dtype = frame.version.dtype
    rows = np.memmap(path, numpy_dtype(dtype), "r", shape=(n_rows, frame.version.dimension))
    found = []
    for start in range(0, n_rows, _CHECKED_ROWS):
        values = to_float32(rows[start : start + _CHECKED_ROWS], dtype)
        found.append(start + np.flatnonzero(~np.isfinite(values).all(axis=1)))
    return np.concatenate(found).astype(np.int64)
