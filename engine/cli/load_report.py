"""What a load did, told in words on standard error and as one JSON record. Knows no server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from engine.cli import session
from engine.cli.column_loading import ColumnLoader
from engine.cli.load_state import LoadState
from engine.cli.loading import Loader


@dataclass(slots=True)
class LoadRun:
    """One run of a load, from when this is made. ``seconds``: until the server had acknowledged the last row."""

    collection: str
    file: Path
    loader: Loader | ColumnLoader
    began: float = field(default_factory=time.monotonic)
    resumed_after: int = field(init=False)
    seconds: float = 0.0
    is_complete: bool = False
    is_searchable: bool = False

    def __post_init__(self) -> None:
        self.resumed_after = self.loader.state.place

    def end(self) -> None:
        self.seconds = time.monotonic() - self.began

    def to_json(self) -> dict[str, Any]:
        """Counts are of the file so far, those of the runs that this one went on from included; time and rate are this
        run's alone.
        """
        state = self.loader.state
        return {
            "collection": self.collection,
            "file": str(self.file),
            "read_as": "columns" if isinstance(self.loader, ColumnLoader) else "rows",
            "complete": self.is_complete,
            "searchable": self.is_searchable,
            "resumed_after_row": self.resumed_after,
            "rows": state.place,
            "accepted": state.accepted,
            "refused": state.refused,
            "refusals": state.refusals,
            "unchanged_texts": state.unchanged_texts,
            "truncated_items": state.truncated_items,
            "truncated_tokens": state.truncated_tokens,
            "ignored_fields": sorted(self.loader.ignored_fields),
            "missing_fields": sorted(self.loader.missing_fields),
            "sequence": state.sequence,
            "seconds": round(self.seconds, 6),
            "rows_per_second": round((state.place - self.resumed_after) / max(self.seconds, 1e-9), 1),
        }


def tell_fields(loader: Loader | ColumnLoader) -> None:
    """Fields that were left out or looked for in vain, if any."""
    if loader.ignored_fields:
        names = ", ".join(sorted(loader.ignored_fields))
        session.err.print(Text(f"not in the schema and so not loaded: {names}", style="dim"))
    if loader.missing_fields:
        names = ", ".join(sorted(loader.missing_fields))
        session.err.print(Text(f"named, but in no row: {names}", style="yellow"))


def tell_counts(state: LoadState) -> None:
    parts = [f"{state.accepted:,} items loaded"]
    if state.unchanged_texts:
        parts.append(f"{state.unchanged_texts:,} with unchanged text, not encoded again")
    if state.truncated_items:
        tokens = f"{state.truncated_tokens:,} tokens left out"
        parts.append(f"{state.truncated_items:,} with text longer than the encoder reads ({tokens})")
    parts.append(f"{state.refused:,} refused")
    session.err.print(Text("; ".join(parts)))
    for refusal in state.refusals:
        session.err.print(Text(f"  {refusal}", style="red"), soft_wrap=True)
    if state.refused > len(state.refusals):
        session.err.print(Text(f"  and {state.refused - len(state.refusals):,} more", style="red"))
