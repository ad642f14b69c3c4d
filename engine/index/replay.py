"""Changes done again to an index that holds an earlier moment, by how the changed items stand now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.errors import CorruptData
from engine.index.changes import LiveRow
from engine.index.version_index import VersionIndex
from engine.types import ItemId


def replay(
    index: VersionIndex, changed: Mapping[ItemId, int], live: Iterable[LiveRow], *, n_rows: int, sequence: int
) -> None:
    """Take the index to ``sequence``, where ``n_rows`` rows were written. Nothing is searched yet.

    Args:
        index: at an earlier sequence number.
        changed: every item that was changed since, with the sequence number of its last change.
        live: the rows of those that are there now, in any order.

    Raises:
        CorruptData: the index is not of this history; it is of no use any more.
    """
    standing = {row.id: row for row in live}
    written = index.rows.n_rows
    appended = []
    for item_id, last in changed.items():
        row = standing.get(item_id)
        if row is not None and row.first_row < written:
            # Its rows are those of then: no more than what changes in place has changed.
            if index.rows.rows_of_item(item_id) != (row.first_row, row.n_rows):
                raise CorruptData(f"item {item_id!r} does not live in rows from {row.first_row} on")
            index.columns.set_volatile(row.first_row, row.n_rows, row.attributes)
            continue
        index.rows.kill(item_id, died=last)
        if row is not None:
            appended.append(row)
    appended.sort(key=lambda row: row.first_row)
    index.recover(appended, n_rows=n_rows, sequence=sequence)
