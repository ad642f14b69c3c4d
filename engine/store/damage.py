"""Words for what can be wrong with a data directory: each kind of fault, what it means and what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class FaultKind(enum.StrEnum):
    DATABASE_MISSING = "database missing"
    DATABASE_UNREADABLE = "database unreadable"
    DATABASE_DAMAGED = "database damaged"
    INDEX_DAMAGED = "database index damaged"
    FORMAT_UNKNOWN = "format unknown"
    TABLES_UNREADABLE = "tables unreadable"
    SCHEMA_UNREADABLE = "schema unreadable"
    VERSION_UNREADABLE = "version unreadable"
    COUNTERS_WRONG = "counters wrong"
    ITEMS_UNREADABLE = "items unreadable"
    ITEMS_WITHOUT_ROWS = "items without rows"
    ROWS_WITHOUT_ITEM = "rows without an item"
    ROWS_SHARED = "rows shared"
    ROWS_BEYOND_END = "rows beyond the end"
    ROWS_DAMAGED = "rows damaged"
    LOGGED_ROWS_WRONG = "logged rows wrong"
    CHANGES_WRONG = "changes wrong"
    SEGMENT_MISSING = "segment missing"
    SEGMENT_SHORT = "segment short"
    IMAGE_DAMAGED = "image damaged"
    RANKER_MISSING = "ranker missing"
    RANKER_DAMAGED = "ranker damaged"
    LEFTOVER = "leftover"
    SNAPSHOT_DAMAGED = "snapshot damaged"
    SNAPSHOT_HALF = "snapshot half"


class _Meaning(NamedTuple):
    means: str
    remedy: str


_REPAIR = "`ebr verify --repair`"
_RESTORE = "restore a snapshot: `ebr snapshot restore`"
_LOST_FILE = f"{_REPAIR} writes them to a file that `ebr load` reads, so that they are encoded again"
_NOTHING = "nothing is lost"
_UNRANKED = "nothing is lost; hits stay in the fused order"
_SET_AGAIN = "`ebr pipeline set`, with the server running, copies it anew"

_MEANINGS: Mapping[FaultKind, _Meaning] = {
    FaultKind.DATABASE_MISSING: _Meaning("the items are lost, but for a snapshot", _RESTORE),
    FaultKind.DATABASE_UNREADABLE: _Meaning("no item can be saved from here", _RESTORE),
    FaultKind.DATABASE_DAMAGED: _Meaning(
        "items on damaged pages are lost, all others can be saved", f"{_REPAIR} saves what can be read"
    ),
    FaultKind.INDEX_DAMAGED: _Meaning("nothing is lost; items may not be found by their id", f"{_REPAIR} rebuilds it"),
    FaultKind.FORMAT_UNKNOWN: _Meaning(
        "written by another engine, or its header is damaged", f"use the engine that wrote it, or {_RESTORE}"
    ),
    FaultKind.TABLES_UNREADABLE: _Meaning("what the database notes of its own tables is damaged", _RESTORE),
    FaultKind.SCHEMA_UNREADABLE: _Meaning("without it no item can be read", _RESTORE),
    FaultKind.VERSION_UNREADABLE: _Meaning("without it no vector can be read", _RESTORE),
    FaultKind.COUNTERS_WRONG: _Meaning(_NOTHING, f"{_REPAIR} sets them"),
    FaultKind.ITEMS_UNREADABLE: _Meaning("of these items only what is readable can be saved", _LOST_FILE),
    FaultKind.ITEMS_WITHOUT_ROWS: _Meaning("their vectors are lost, texts and attributes are not", _LOST_FILE),
    FaultKind.ROWS_WITHOUT_ITEM: _Meaning("the items are gone, their rows serve nobody", f"{_REPAIR} deletes them"),
    FaultKind.ROWS_SHARED: _Meaning(
        "whose vectors these are cannot be told; texts and attributes are kept", _LOST_FILE
    ),
    FaultKind.ROWS_BEYOND_END: _Meaning("their vectors are lost, texts and attributes are not", _LOST_FILE),
    FaultKind.ROWS_DAMAGED: _Meaning("their vectors are lost, texts and attributes are not", _LOST_FILE),
    FaultKind.LOGGED_ROWS_WRONG: _Meaning("nothing that is readable is lost", f"{_REPAIR} deletes them"),
    FaultKind.CHANGES_WRONG: _Meaning(
        "entries of the change log are lost, items are not", f"{_REPAIR} lets the log begin after them"
    ),
    FaultKind.SEGMENT_MISSING: _Meaning("the vectors in it are lost", f"{_REPAIR} makes it anew, empty"),
    FaultKind.SEGMENT_SHORT: _Meaning("the vectors beyond its end are lost", f"{_REPAIR} makes it as long as needed"),
    FaultKind.IMAGE_DAMAGED: _Meaning(
        "nothing is lost: it is made anew", f"{_REPAIR} removes it; the next start does without it too"
    ),
    FaultKind.RANKER_MISSING: _Meaning(_UNRANKED, _SET_AGAIN),
    FaultKind.RANKER_DAMAGED: _Meaning(_UNRANKED, _SET_AGAIN),
    FaultKind.LEFTOVER: _Meaning("nothing is lost; a crash left it", f"{_REPAIR} removes it; the next start may too"),
    FaultKind.SNAPSHOT_DAMAGED: _Meaning("it cannot be restored", "remove its folder, and take another"),
    FaultKind.SNAPSHOT_HALF: _Meaning("it has no manifest and cannot be restored", "remove its folder by hand"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``where``: the file or table; ``found``: what is wrong there; ``items``: how many it concerns, where known."""

    kind: FaultKind
    where: str
    found: str
    items: int = 0

    @property
    def means(self) -> str:
        """What of it is lost, and what can be saved."""
        return _MEANINGS[self.kind].means

    @property
    def remedy(self) -> str:
        return _MEANINGS[self.kind].remedy

    @property
    def is_harmless(self) -> bool:
        """Whether a crash leaves such things in the normal course, for the next start to remove."""
        return self.kind is FaultKind.LEFTOVER

    @property
    def is_of_ranker(self) -> bool:
        """Whether it is about a model, which a repair has no other copy of."""
        return self.kind in (FaultKind.RANKER_MISSING, FaultKind.RANKER_DAMAGED)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "where": self.where,
            "found": self.found,
            "items": self.items,
            "means": self.means,
            "remedy": self.remedy,
            "harmless": self.is_harmless,
        }
