"""What a group of write requests changes: item rows, row ranges, sequence numbers. Pure bookkeeping, no disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from engine.errors import InvalidArgument
from engine.item_columns import ColumnsChange
from engine.store.codec import ItemCodec, StoredId, encode_times, to_stored_id
from engine.store.column_codec import encode_columns, to_stored_ids
from engine.store.column_planning import EMPTY_TEXT, FreshItems, alike_runs
from engine.store.standing import Counters, ItemContent, ItemWrite, RowRange, Standing
from engine.store.writes import (
    NO_TEXT,
    Change,
    ChangeKind,
    Conflict,
    DeleteOp,
    UpdateOp,
    UpsertColumns,
    UpsertOp,
    WriteOp,
    WriteOutcome,
    WriteRequest,
)
from engine.types import Float32Array, ItemUpdate, Times

VectorSource: TypeAlias = Float32Array | RowRange
"""Where new rows come from: vectors [m, d] to be stored, or stored rows to be copied."""

_NO_ROWS = RowRange(0, 0)
_SHORT_RUN = 32
"""New items in a row, up to which each is planned by itself: what is done once for a run would take longer."""


class GroupPlan:
    """Takes requests one after the other and holds what the store is to write for all of them.

    ``standing`` are the items named by the group as they are stored; ``seen`` the outcomes of request ids seen before;
    ``texts``, encoded, those of items that are updated, where the schema has fields that are searched by terms. The
    group's new rows begin at ``first_row``.
    """

    def __init__(
        self,
        codec: ItemCodec,
        counters: Counters,
        *,
        dimension: int,
        standing: Mapping[StoredId, Standing],
        seen: Mapping[str, WriteOutcome],
        texts: Mapping[StoredId, str],
    ) -> None:
        self._codec = codec
        self._dimension = dimension
        self._stored = standing
        self._standing: dict[StoredId, Standing | None] = dict(standing)
        self._seen = dict(seen)
        self._texts = texts
        self._source_of: dict[int, VectorSource] = {}
        self._writes: dict[StoredId, ItemWrite] = {}
        self._fresh: list[FreshItems] = []
        self._sequence = counters.sequence
        self._item_count = counters.item_count
        self._next_key = counters.next_key
        self._next_row = counters.next_row
        self.first_row = counters.next_row
        self.sources: list[VectorSource] = []
        self._log_entries: list[tuple[int, ChangeKind, StoredId]] = []
        self.new_requests: list[tuple[str, WriteOutcome]] = []

    @property
    def counters(self) -> Counters:
        """As they are once the plan is stored."""
        return Counters(self._sequence, self._item_count, self._next_key, self._next_row)

    @property
    def is_empty(self) -> bool:
        return not self._log_entries and not self._fresh and not self.new_requests

    def log_rows(self) -> Iterator[tuple[int, ChangeKind, StoredId]]:
        """Entries of the change log."""
        yield from self._log_entries
        for run in self._fresh:
            yield from run.log_rows()

    def item_rows(self) -> Iterator[tuple[int, StoredId, int, bytes, str, str, int | None, int | None]]:
        """Rows of ``items`` to be written: key, id, sequence, text hash, attributes, text, times."""
        for stored_id, write in self._writes.items():
            item = self._standing[stored_id]
            assert item is not None
            if write.text is not None:
                content = (item.text_hash, item.attributes, write.text, *encode_times(item.times))
                yield item.key, stored_id, write.sequence, *content
        for run in self._fresh:
            yield from run.item_rows()

    def updated_rows(self) -> Iterator[tuple[int, str, int | None, int | None, int]]:
        """Rows of ``items`` whose text stays: sequence, attributes, times, key."""
        for stored_id, write in self._writes.items():
            item = self._standing[stored_id]
            assert item is not None
            if write.text is None:
                yield write.sequence, item.attributes, *encode_times(item.times), item.key

    def moved_items(self) -> Iterator[tuple[int, int, int]]:
        """Keys of the items whose rows are others than before, and of those rows the first and how many they are."""
        for stored_id in self._writes:
            item, before = self._standing[stored_id], self._stored.get(stored_id)
            if item is not None and (before is None or before.rows != item.rows):
                yield item.key, item.rows.first_row, item.rows.n_rows
        for run in self._fresh:
            yield from run.moved_items()

    def deleted_keys(self) -> list[int]:
        return [item.key for stored_id, item in self._stored.items() if self._standing[stored_id] is None]

    def add(self, request: WriteRequest) -> WriteOutcome:
        """
        Raises:
            InvalidArgument: an id, attribute or vector does not fit the schema; nothing of the plan may be written.
        """
        seen = self._seen.get(request.request_id) if request.request_id else None
        if seen is not None:
            return seen
        outcome = self._apply(request)
        # A request that is to be continued must not be taken for done when its id comes again.
        if request.request_id and not outcome.stale:
            self._seen[request.request_id] = replace(outcome, changes=(), replayed=True)
            self.new_requests.append((request.request_id, outcome))
        return outcome

    def _apply(self, request: WriteRequest) -> WriteOutcome:
        changes: list[Change | ColumnsChange] = []
        stale: list[int] = []
        conflicts: list[Conflict] = []
        for index, op in enumerate(request.ops):
            conflict = self._conflict(index, op)
            if conflict is not None:
                conflicts.append(conflict)
                continue
            change = self._change(op)
            if change is not None:
                changes.append(change)
            elif isinstance(op, UpsertOp):
                stale.append(index)
        if request.columns is not None:
            changes += self._upsert_columns(request.columns)
        deleted = sum(not change.n_rows for change in changes)
        return WriteOutcome(self._sequence, changes, tuple(stale), tuple(conflicts), deleted, reply=request.reply)

    def _change(self, op: WriteOp) -> Change | None:
        if isinstance(op, DeleteOp):
            return self._delete(op)
        return self._update(op.update) if isinstance(op, UpdateOp) else self._upsert(op)

    def _conflict(self, index: int, op: WriteOp) -> Conflict | None:
        if isinstance(op, DeleteOp):
            return None
        old = self._find(to_stored_id(op.id, self._codec.id_type))
        found = 0 if old is None else old.sequence
        is_other = op.if_sequence is not None and op.if_sequence != found
        is_missing = isinstance(op, UpdateOp) and not found
        return Conflict(index, found, op.if_sequence) if is_other or is_missing else None

    def _upsert(self, op: UpsertOp) -> Change | None:
        """The one place that says what an upsert does; None where its vectors are neither given nor stored."""
        stored_id = to_stored_id(op.item.id, self._codec.id_type)
        attributes = self._codec.encode_attributes(op.item.attributes)
        old = self._find(stored_id)
        encoded_text = self._codec.encode_text(op.item.text)
        text = op.item.text if self._codec.has_terms else NO_TEXT
        content = ItemContent(op.id, op.text_hash, op.item.attributes, attributes, encoded_text, op.item.times, text)
        if op.vectors is not None:
            return self._write(stored_id, content, self._new_rows(self._checked(op.vectors)))
        if old is None or old.text_hash != op.text_hash:
            return None
        return self._write(stored_id, content, self._rows_under(old, attributes))

    def _upsert_columns(self, columns: UpsertColumns) -> Iterator[Change | ColumnsChange]:
        """What ``_upsert`` would do with one after the other: new items many at a time, those that are there by it."""
        stored_ids = to_stored_ids(columns.items.ids)
        for first, end, are_known in alike_runs(self._are_known(stored_ids)):
            if not are_known and end - first > _SHORT_RUN:
                yield self._add_fresh(columns.take(slice(first, end)), stored_ids[first:end])
                continue
            for place in range(first, end):
                change = self._upsert(columns.op(place))
                assert change is not None
                yield change

    def _are_known(self, stored_ids: Sequence[StoredId]) -> list[bool]:
        """Which of them are there, or came before among these."""
        if not self._standing and not self._fresh and len(set(stored_ids)) == len(stored_ids):
            return [False] * len(stored_ids)
        met: set[StoredId] = set()
        known = []
        for stored_id in stored_ids:
            known.append(stored_id in met or self._is_there(stored_id))
            met.add(stored_id)
        return known

    def _is_there(self, stored_id: StoredId) -> bool:
        """Stored, or named by the group before, be it to delete it."""
        return stored_id in self._standing or any(stored_id in run for run in self._fresh)

    def _add_fresh(self, columns: UpsertColumns, stored_ids: Sequence[StoredId]) -> ColumnsChange:
        n = len(stored_ids)
        encoded = encode_columns(columns.items.attributes, self._codec.schema, n)
        rows = self._new_rows(self._checked(columns.vectors))
        run = FreshItems(columns, stored_ids, encoded, self._next_key, self._sequence + 1, rows.first_row)
        self._fresh.append(run)
        self._next_key += n
        self._sequence += n
        self._item_count += n
        return run.change()

    def _find(self, stored_id: StoredId) -> Standing | None:
        """How the item stands now; one of a fresh run is planned by itself from now on."""
        if stored_id not in self._standing:
            for run in self._fresh:
                if stored_id in run:
                    standing, vector = run.let_go(stored_id)
                    self._standing[stored_id] = standing
                    self._writes[stored_id] = ItemWrite(standing.sequence, EMPTY_TEXT)
                    self._source_of[standing.rows.first_row] = vector
        return self._standing.get(stored_id)

    def _update(self, update: ItemUpdate) -> Change:
        stored_id = to_stored_id(update.id, self._codec.id_type)
        old, written = self._find(stored_id), self._writes.get(stored_id)
        assert old is not None
        merged = self._codec.decode_attributes(old.attributes) | dict(update.attributes)
        for name in update.clear:
            merged.pop(name, None)
        attributes = self._codec.encode_attributes(merged)
        encoded_text = None if written is None else written.text
        times = Times(
            update.times.visible_from or old.times.visible_from, update.times.expires_at or old.times.expires_at
        )
        text = self._text_of(stored_id, encoded_text)
        content = ItemContent(update.id, old.text_hash, merged, attributes, encoded_text, times, text)
        return self._write(stored_id, content, self._rows_under(old, attributes))

    def _text_of(self, stored_id: StoredId, encoded_text: str | None) -> Mapping[str, str]:
        """Of an item that is updated: as this group has written it, or else as it is stored."""
        if not self._codec.has_terms:
            return NO_TEXT
        return self._codec.decode_text(self._texts[stored_id] if encoded_text is None else encoded_text)

    def _rows_under(self, old: Standing, attributes: str) -> RowRange:
        """The item's rows where filters see no difference, else copies of them."""
        same = self._codec.same_filterable(old.attributes, attributes)
        return old.rows if same else self._copied_rows(old.rows)

    def _write(self, stored_id: StoredId, content: ItemContent, rows: RowRange) -> Change:
        old = self._find(stored_id)
        in_place = old is not None and old.rows == rows
        dead = old.rows if old is not None and not in_place else _NO_ROWS
        sequence = self._log(ChangeKind.UPSERT, stored_id, added=old is None)
        self._standing[stored_id] = Standing(
            self._key_of(stored_id, old), sequence, content.text_hash, content.encoded, rows, content.times
        )
        self._writes[stored_id] = ItemWrite(sequence, content.encoded_text)
        return Change(
            sequence=sequence,
            id=content.id,
            first_row=rows.first_row,
            n_rows=rows.n_rows,
            dead_first_row=dead.first_row,
            dead_n_rows=dead.n_rows,
            attributes=content.attributes,
            in_place=in_place,
            times=content.times,
            text=NO_TEXT if in_place else content.text,
        )

    def _delete(self, op: DeleteOp) -> Change | None:
        stored_id = to_stored_id(op.id, self._codec.id_type)
        old = self._find(stored_id)
        if old is None or (op.expired_by is not None and not _has_expired(old.times, op.expired_by)):
            return None
        sequence = self._log(ChangeKind.DELETE, stored_id, added=-1)
        self._standing[stored_id] = None
        self._writes.pop(stored_id, None)
        return Change(sequence, op.id, 0, 0, old.rows.first_row, old.rows.n_rows, {}, in_place=False)

    def _log(self, kind: ChangeKind, stored_id: StoredId, *, added: int) -> int:
        self._sequence += 1
        self._item_count += added
        self._log_entries.append((self._sequence, kind, stored_id))
        return self._sequence

    def _key_of(self, stored_id: StoredId, old: Standing | None) -> int:
        """The item's key; one that the group deletes and writes again keeps the key it is stored under."""
        known = old or self._stored.get(stored_id)
        if known is not None:
            return known.key
        self._next_key += 1
        return self._next_key - 1

    def _checked(self, vectors: Float32Array) -> Float32Array:
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != self._dimension:
            shape = "x".join(map(str, vectors.shape))
            raise InvalidArgument("vectors", f"have shape {shape}, the version needs [chunks, {self._dimension}]")
        return vectors

    def _new_rows(self, source: VectorSource) -> RowRange:
        rows = RowRange(self._next_row, source.n_rows if isinstance(source, RowRange) else len(source))
        self._next_row += rows.n_rows
        self.sources.append(source)
        self._source_of[rows.first_row] = source
        return rows

    def _copied_rows(self, rows: RowRange) -> RowRange:
        """Rows of this very group are not on disk yet: their copy has the same source as they have."""
        return self._new_rows(self._source_of.get(rows.first_row, rows))


def _has_expired(times: Times, by: int) -> bool:
    return times.expires_at is not None and times.expires_at.micros <= by
