"""How an item stands in the store, what is to become of it, and what a commit counts. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.types import ALWAYS, AttributeValue, ItemId, Times


@dataclass(frozen=True, slots=True)
class RowRange:
    first_row: int
    n_rows: int


@dataclass(frozen=True, slots=True)
class Standing:
    """An item as it stands at some moment of a group: its key, encoded attributes and rows."""

    key: int
    sequence: int
    text_hash: bytes
    attributes: str
    rows: RowRange
    times: Times = ALWAYS


@dataclass(frozen=True, slots=True)
class Counters:
    """What a commit moves on: the last sequence given, live items, and the next free item key and row."""

    sequence: int
    item_count: int
    next_key: int
    next_row: int


@dataclass(frozen=True, slots=True)
class ItemWrite:
    """A row of ``items`` as the group leaves it; ``text`` None where it stays as it is stored."""

    sequence: int
    text: str | None


@dataclass(frozen=True, slots=True)
class ItemContent:
    """What an item is to be, but for its rows; ``encoded_text`` None where it stays as it is stored.

    ``text``: by field, where the schema has fields that are searched by terms.
    """

    id: ItemId
    text_hash: bytes
    attributes: Mapping[str, AttributeValue]
    encoded: str
    encoded_text: str | None
    times: Times
    text: Mapping[str, str]
