"""What an upsert was answered, as bytes beside its request id: a retry gets the same answer, whatever it brings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.errors import EngineError, from_wire
from engine.types import ItemId


@dataclass(frozen=True, slots=True)
class Refusal:
    """One item of a request that was not written, and why; ``index`` is its place in the request."""

    index: int
    id: ItemId | None
    error: EngineError


@dataclass(slots=True)
class Written:
    """What became of a request; ``sequence`` is that of its last change."""

    sequence: int = 0
    accepted: int = 0
    deleted: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    truncated_items: int = 0
    truncated_tokens: int = 0
    unchanged_texts: int = 0

    def refuse(self, refusal: Refusal) -> None:
        """One that had counted as accepted."""
        self.refusals.append(refusal)
        self.refusals.sort(key=lambda one: one.index)
        self.accepted -= 1


_COUNTS = ("accepted", "truncated_items", "truncated_tokens", "unchanged_texts")


def encode_reply(written: Written) -> bytes:
    """All but the sequence number, which is known only once the request is stored; never empty."""
    counts = {name: getattr(written, name) for name in _COUNTS}
    return json.dumps({**counts, "refusals": [_told(one) for one in written.refusals]}).encode()


def decode_reply(reply: bytes, *, sequence: int) -> Written:
    fields = json.loads(reply)
    refusals = [Refusal(index, item_id, from_wire(*error)) for index, item_id, error in fields.pop("refusals")]
    return Written(sequence=sequence, refusals=refusals, **fields)


def _told(refusal: Refusal) -> Sequence[object]:
    error = refusal.error
    return refusal.index, refusal.id, (error.code, error.reason, error.message, error.metadata)
