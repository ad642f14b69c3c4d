"""Columns of a file to a collection, thousands of rows a message. As ``loading``, for what has vectors and no text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from engine.cli.load_state import LoadState
from engine.cli.loading import REFUSALS_KEPT
from engine.errors import EngineError
from engine.ingest.column_files import ColumnBatch, ColumnFile
from engine.item_columns import ItemColumns
from engine.types import AttributeType

if TYPE_CHECKING:
    from engine.client import RetrievalClient, UpsertResult


class ColumnLoader:
    """As ``Loader``; a message has at most ``rows`` rows, and about ``batch_bytes`` unless one row takes more."""

    missing_fields: frozenset[str] = frozenset()

    def __init__(
        self,
        client: RetrievalClient,
        records: ColumnFile,
        collection: str,
        state: LoadState,
        *,
        rows: int,
        batch_bytes: int,
    ) -> None:
        self.state = state
        self._client = client
        self._records = records
        self._collection = collection
        self._rows = rows
        self._batch_bytes = batch_bytes
        self._sent: deque[ColumnBatch] = deque()
        self._failure: EngineError | None = None

    @property
    def ignored_fields(self) -> frozenset[str]:
        return self._records.ignored_fields

    def expected_records(self) -> int:
        """As the file's."""
        return self._records.expected_records()

    def run(self, acknowledged: Callable[[LoadState], None]) -> LoadState:
        """As ``Loader.run``."""
        for reply in self._client.upsert_columns(self._collection, self._batches()):
            self._take(self._sent.popleft(), reply)
            acknowledged(self.state)
        if self._failure is not None:
            raise self._failure
        acknowledged(self.state)
        return self.state

    def _batches(self) -> Iterator[ItemColumns]:
        """Ends early, with the error kept, where the file fails: the client's thread could only lose it."""
        try:
            for batch in self._records.batches(after=self.state.place, rows=self._rows):
                for piece in _pieces(batch, self._batch_bytes):
                    self._sent.append(piece)
                    yield piece.columns
        except EngineError as error:
            self._failure = error

    def _take(self, batch: ColumnBatch, reply: UpsertResult) -> None:
        refused = [*batch.refused, *((int(batch.places[one.index]), one.error.message) for one in reply.errors)]
        state = self.state
        state.accepted += reply.accepted
        state.refused += len(refused)
        state.refusals = (state.refusals + [f"row {place}: {why}" for place, why in sorted(refused)])[:REFUSALS_KEPT]
        state.sequence = max(state.sequence, reply.sequence)
        state.place = batch.last_place


def _pieces(batch: ColumnBatch, most_bytes: int) -> Iterator[ColumnBatch]:
    """In halves, and halves of these, until each takes no more, or has one item."""
    n = len(batch.columns)
    if n <= 1 or _size(batch.columns) <= most_bytes:
        yield batch
        return
    half = n // 2
    middle = int(batch.places[half]) - 1
    for part, last_place in ((slice(half), middle), (slice(half, n), batch.last_place)):
        first_place = 0 if part.start is None else middle + 1
        refused = [one for one in batch.refused if first_place <= one[0] <= last_place]
        yield from _pieces(ColumnBatch(batch.columns.take(part), batch.places[part], last_place, refused), most_bytes)


def _size(columns: ItemColumns) -> int:
    """About what they take in a message."""
    size = columns.vectors.nbytes + 8 * len(columns)
    if not isinstance(columns.ids, np.ndarray):
        size += sum(map(len, columns.ids))
    for column in columns.attributes.values():
        if column.type is AttributeType.KEYWORD:
            size += sum(map(len, column.values))
        elif column.type is AttributeType.KEYWORD_LIST:
            size += sum(len(word) for words in column.values for word in words)
        else:
            size += column.values.nbytes
    return size
