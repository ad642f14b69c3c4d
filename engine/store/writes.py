"""What goes into a collection store and what comes out of a commit. Plain values; knows no disk."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.types import AttributeValue, Float32Array, Item, ItemId


@dataclass(frozen=True, slots=True)
class UpsertOp:
    """An item to be written whole.

    ``vectors`` is float32 [chunks, d], normalised already where the metric asks for it; None says that the text is the
    stored one, whose vectors are to be reused. ``text_hash`` covers whatever decides the vectors.
    """

    item: Item
    text_hash: bytes
    vectors: Float32Array | None


@dataclass(frozen=True, slots=True)
class DeleteOp:
    id: ItemId


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Operations of one caller, applied in order. ``reply`` is kept with ``request_id`` and handed back on a replay."""

    ops: Sequence[UpsertOp | DeleteOp]
    durable: bool = False
    request_id: str = ""
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class Change:
    """What one applied operation did to the rows of the active version.

    Rows [first_row, first_row + n_rows) are new, or with ``in_place`` the ones that stay; n_rows is 0 for a delete.
    Rows [dead_first_row, dead_first_row + dead_n_rows) died. ``attributes`` are the item's now, empty for a delete.
    ``in_place``: no more than volatile and unfilterable attributes changed.
    """

    sequence: int
    id: ItemId
    first_row: int
    n_rows: int
    dead_first_row: int
    dead_n_rows: int
    attributes: Mapping[str, AttributeValue]
    in_place: bool


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What became of one request.

    ``sequence``: of the store after the request's last operation. ``stale``: indices of operations that were not
    applied, because they bring no vectors and the item is not there with that text hash; the caller encodes them and
    sends them again. ``deleted``: deletes that found an item. ``replayed``: the request id was seen before and nothing
    was applied; sequence, deleted and reply are those of then.
    """

    sequence: int
    changes: Sequence[Change]
    stale: tuple[int, ...] = ()
    deleted: int = 0
    replayed: bool = False
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class LiveRow:
    """The rows of an item that is there now."""

    id: ItemId
    first_row: int
    n_rows: int
    sequence: int
    attributes: Mapping[str, AttributeValue]


class ChangeKind(enum.IntEnum):
    UPSERT = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """An entry of the change log."""

    sequence: int
    kind: ChangeKind
    id: ItemId
