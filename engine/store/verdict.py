"""What was found in one collection's folder, and what a repair needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.store.damage import Fault, FaultKind
from engine.store.inspecting import Contents, Frame


@dataclass(slots=True)
class Verdict:
    """``items``: None where they could not be counted. ``lost``: why, by key, of the items that a repair has to take
    out; ``orphans``: keys of rows that have no item; ``images``: files of damaged ones.
    """

    collection: str
    folder: Path
    faults: list[Fault] = field(default_factory=list)
    sound: list[str] = field(default_factory=list)
    items: int | None = None
    frame: Frame | None = None
    contents: Contents | None = None
    lost: dict[int, str] = field(default_factory=dict)
    orphans: list[int] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return all(one.is_harmless for one in self.faults)

    def has(self, *kinds: FaultKind) -> bool:
        return any(one.kind in kinds for one in self.faults)

    def add(self, kind: FaultKind, where: str, found: str, *, items: int = 0) -> None:
        self.faults.append(Fault(kind, where, found, items))

    def count(self, kind: FaultKind, where: str, keys: list[int], found: str) -> None:
        """A fault for all of ``keys`` together, if there are any."""
        if keys:
            self.add(kind, where, f"{len(keys):,} {found}", items=len(keys))

    def lose(self, kind: FaultKind, where: str, why: dict[int, str]) -> None:
        """The same of items that are lost, but for those that are already."""
        new = {key: reason for key, reason in why.items() if key not in self.lost}
        if new:
            self.add(kind, where, f"{len(new):,}: {next(iter(new.values()))}", items=len(new))
            self.lost |= new

    def to_json(self) -> dict[str, Any]:
        faults = [one.to_json() for one in self.faults]
        told = {"collection": self.collection, "is_sound": self.is_sound, "items": self.items}
        return told | {"sound": self.sound, "faults": faults}
