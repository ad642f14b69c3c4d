"""What goes into a collection store and what comes out of a commit. Plain values; knows no disk."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from engine.item_columns import ColumnsChange, ItemColumns
from engine.types import ALWAYS, AttributeValue, Float32Array, Item, ItemId, ItemUpdate, Times

NO_TEXT: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UpsertOp:
    """An item to be written whole.

    ``vectors`` is float32 [chunks, d], normalised already where the metric asks for it; None says that the text is the
    stored one, whose vectors are to be reused. ``text_hash`` covers whatever decides the vectors and the terms.
    """

    item: Item
    text_hash: bytes
    vectors: Float32Array | None

    @property
    def id(self) -> ItemId:
        return self.item.id

    @property
    def if_sequence(self) -> int | None:
        return self.item.if_sequence


@dataclass(frozen=True, slots=True)
class UpsertColumns:
    """Many items to be written whole, as so many ``UpsertOp`` would write them.

    ``vectors`` float32 [n, d], normalised already where the metric asks for it.
    """

    items: ItemColumns
    text_hashes: Sequence[bytes]
    vectors: Float32Array

    def take(self, places: slice) -> UpsertColumns:
        """Some of the items."""
        return UpsertColumns(self.items.take(places), self.text_hashes[places], self.vectors[places])

    def op(self, place: int) -> UpsertOp:
        """One of the items by itself."""
        return UpsertOp(self.items.item(place), self.text_hashes[place], self.vectors[place : place + 1])


@dataclass(frozen=True, slots=True)
class UpdateOp:
    """Attributes of a stored item to be set or cleared; its text and its vectors stay."""

    update: ItemUpdate

    @property
    def id(self) -> ItemId:
        return self.update.id

    @property
    def if_sequence(self) -> int | None:
        return self.update.if_sequence


@dataclass(frozen=True, slots=True)
class DeleteOp:
    """``expired_by``: only an item that has expired by then, microseconds since 1970."""

    id: ItemId
    expired_by: int | None = None


WriteOp: TypeAlias = UpsertOp | UpdateOp | DeleteOp


@dataclass(frozen=True, slots=True)
class Conflict:
    """An operation, by its place in the request, that was not applied: its item has another sequence number than was
    ``wanted``, or is not there to be updated. ``found``: its sequence number, 0 where it is not there.
    """

    index: int
    found: int
    wanted: int | None


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Operations of one caller, applied in order, then ``columns``.

    ``reply`` is kept with ``request_id`` and handed back on a replay.
    """

    ops: Sequence[WriteOp]
    durable: bool = False
    request_id: str = ""
    reply: bytes = b""
    columns: UpsertColumns | None = None

    @property
    def n_items(self) -> int:
        return len(self.ops) + (len(self.columns.items) if self.columns else 0)


@dataclass(frozen=True, slots=True)
class Change:
    """What one applied operation did to the rows of the active version.

    Rows [first_row, first_row + n_rows) are new, or with ``in_place`` the ones that stay; n_rows is 0 for a delete.
    Rows [dead_first_row, dead_first_row + dead_n_rows) died. ``attributes`` are the item's now, empty for a delete.
    ``in_place``: no more than volatile and unfilterable attributes, and times, changed. ``text``: of new rows by field,
    where the schema has fields that are searched by terms.
    """

    sequence: int
    id: ItemId
    first_row: int
    n_rows: int
    dead_first_row: int
    dead_n_rows: int
    attributes: Mapping[str, AttributeValue]
    in_place: bool
    times: Times = ALWAYS
    text: Mapping[str, str] = field(default_factory=lambda: NO_TEXT)


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What became of one request.

    ``sequence``: of the store after the request's last operation. ``stale``: indices of operations that were not
    applied, because they bring no vectors and the item is not there with that text hash; the caller encodes them and
    sends them again. ``conflicts``: those not applied either, for good. ``deleted``: deletes that found an item.
    ``replayed``: the request id was seen before and nothing was applied; sequence, conflicts, deleted and reply are
    those of then.
    """

    sequence: int
    changes: Sequence[Change | ColumnsChange]
    stale: tuple[int, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    deleted: int = 0
    replayed: bool = False
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class LiveRow:
    """The rows of an item that is there now. ``encoded_text``: read where the schema has fields searched by terms."""

    id: ItemId
    first_row: int
    n_rows: int
    sequence: int
    attributes: Mapping[str, AttributeValue]
    encoded_text: str | None = None

    @property
    def text(self) -> Mapping[str, str]:
        """By field; decoded only where it is wanted, which most of those who read rows do not."""
        decoded: Mapping[str, str] = NO_TEXT if self.encoded_text is None else json.loads(self.encoded_text)
        return decoded


class ChangeKind(enum.IntEnum):
    UPSERT = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """An entry of the change log."""

    sequence: int
    kind: ChangeKind
    id: ItemId
