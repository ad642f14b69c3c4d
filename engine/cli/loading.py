"""Records of a file to a collection, batch by batch. Knows nothing of how it is shown or where its state is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.cli.load_state import LoadState
from engine.errors import EngineError, InvalidArgument
from engine.ingest.coerce import FieldMap, to_item
from engine.ingest.readers import Record, RecordFile
from engine.items import validate_item
from engine.limits import Limits
from engine.types import Item, Schema

if TYPE_CHECKING:
    from engine.client import RetrievalClient, UpsertResult

REFUSALS_KEPT = 10


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to load where: ``dimension`` is the collection's, a batch ends at so many items or bytes."""

    collection: str
    schema: Schema
    dimension: int
    fields: FieldMap
    limits: Limits
    batch_items: int
    batch_bytes: int


@dataclass(slots=True)
class _Batch:
    """Items on their way, the places they were read from, and what was refused before they were sent."""

    items: list[Item] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    n_bytes: int = 0
    last_place: int = 0
    refusals: list[tuple[int, str]] = field(default_factory=list)
    n_refused: int = 0


class Loader:
    """One load; ``state`` is what has been acknowledged and may be kept at any time.

    The file is read in a thread of the client's, ahead of the acknowledgements.
    """

    def __init__(self, client: RetrievalClient, records: RecordFile, plan: LoadPlan, state: LoadState) -> None:
        self.state = state
        self.ignored_fields: frozenset[str] = frozenset()
        self.missing_fields = plan.fields.named
        self._client = client
        self._records = records
        self._plan = plan
        self._sent: deque[_Batch] = deque()
        self._left = _Batch()
        self._failure: EngineError | None = None

    def expected_records(self) -> int:
        """As the file's."""
        return self._records.expected_records()

    def run(self, acknowledged: Callable[[LoadState], None]) -> LoadState:
        """Load what is left; ``acknowledged`` is called after each batch.

        Raises:
            EngineError: the file or the server failed; ``state`` says how far it came.
        """
        replies = self._client.upsert_stream(self._plan.collection, self._batches(), bulk=True)
        for reply in replies:
            self._take(self._sent.popleft(), reply)
            acknowledged(self.state)
        if self._failure is not None:
            raise self._failure
        self._count_refused(self._left)
        acknowledged(self.state)
        return self.state

    def _batches(self) -> Iterator[list[Item]]:
        """Ends early, with the error kept, where the file fails: the client's thread could only lose it."""
        try:
            for batch in self._read():
                self._sent.append(batch)
                yield batch.items
        except EngineError as error:
            self._failure = error

    def _read(self) -> Iterator[_Batch]:
        batch = self._left
        for record in self._records:
            if record.place <= self.state.place:
                continue
            if self.missing_fields and not record.error:
                self._look_for_named(record)
            self._add(record, batch)
            if len(batch.items) >= self._plan.batch_items or batch.n_bytes >= self._plan.batch_bytes:
                self._left = _Batch()
                yield batch
                batch = self._left
        if batch.items:
            self._left = _Batch()
            yield batch

    def _add(self, record: Record, batch: _Batch) -> None:
        batch.last_place = record.place
        plan = self._plan
        try:
            if record.error:
                raise InvalidArgument("line", record.error)
            if not self.ignored_fields:
                self.ignored_fields = frozenset(record.fields) - plan.fields.sources()
            item = to_item(record.fields, plan.schema, plan.fields)
            item = validate_item(item, plan.schema, plan.dimension, plan.limits)
        except EngineError as error:
            batch.n_refused += 1
            if len(batch.refusals) < REFUSALS_KEPT:
                batch.refusals.append((record.place, error.message))
            return
        batch.items.append(item)
        batch.places.append(record.place)
        batch.n_bytes += _size(item)

    def _look_for_named(self, record: Record) -> None:
        """What options name must be there: items are written whole, and would lose what they have of it."""
        self.missing_fields -= record.fields.keys()
        if self.missing_fields and self._records.has_columns:
            raise InvalidArgument("file", f"has no column {min(self.missing_fields)!r}, which an option names")

    def _take(self, batch: _Batch, reply: UpsertResult) -> None:
        for refusal in reply.errors:
            batch.n_refused += 1
            batch.refusals.append((batch.places[refusal.index], refusal.error.message))
        state = self.state
        state.accepted += reply.accepted
        state.truncated_items += reply.truncated_items
        state.truncated_tokens += reply.truncated_tokens
        state.unchanged_texts += reply.unchanged_texts
        state.sequence = max(state.sequence, reply.sequence)
        self._count_refused(batch)

    def _count_refused(self, batch: _Batch) -> None:
        self.state.refused += batch.n_refused
        told = [f"row {place}: {message}" for place, message in sorted(batch.refusals)]
        self.state.refusals = (self.state.refusals + told)[:REFUSALS_KEPT]
        self.state.place = max(self.state.place, batch.last_place)


def _size(item: Item) -> int:
    """About what the item takes in a message."""
    texts = sum(len(text) for text in item.text.values())
    named = sum(one.nbytes for one in item.named_vectors.values())
    values = sum(len(str(value)) + 24 for value in item.attributes.values())
    return texts + values + (0 if item.vector is None else item.vector.nbytes) + named + 64
