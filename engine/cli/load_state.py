"""How far a load came, kept between runs, so that one cut short goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine.client import CollectionInfo


@dataclass(slots=True)
class LoadState:
    """What the server has acknowledged: every row up to ``place`` was written or refused.

    ``sequence`` is that of the last acknowledgement and ``created`` the collection's: a collection that was made anew
    or lost its last writes is not the one this state is about.
    """

    place: int = 0
    sequence: int = 0
    created: str = ""
    accepted: int = 0
    refused: int = 0
    truncated_items: int = 0
    truncated_tokens: int = 0
    unchanged_texts: int = 0
    refusals: list[str] = field(default_factory=list)
    """The first few, told at the end."""


def state_path(path: Path, *, target: str, collection: str, options: Sequence[str]) -> Path:
    """Where the state of this load is kept: in the user's cache, by what is loaded, where to and how."""
    status = path.stat()
    parts = [str(path.resolve()), str(status.st_size), str(status.st_mtime_ns), target, collection, *options]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ebr" / "loads" / f"{key}.json"


def created(info: CollectionInfo) -> str:
    """What tells a collection from another made later under its name."""
    return " ".join(f"{one.id}@{one.message.created_at.ToMicroseconds()}" for one in info.versions)


def read_state(path: Path, info: CollectionInfo) -> LoadState:
    """The state kept there, or a new one where there is none or it is not about this collection as it is."""
    fresh = LoadState(created=created(info))
    try:
        kept = LoadState(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return fresh
    if kept.created != fresh.created or kept.sequence > info.sequence:
        return fresh
    return kept


def write_state(path: Path, state: LoadState) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.part")
    aside.write_text(json.dumps(asdict(state)), "utf-8")
    aside.replace(path)
