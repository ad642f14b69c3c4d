"""Which waiting entries form the next batch: a pure decision, without threads, clocks or devices."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """What plan_batch reads of an entry that waits. Times are seconds on the clock that ``now`` is on."""

    @property
    def group(self) -> Hashable:
        """Only entries of one group share a batch."""
        ...

    @property
    def cost(self) -> float:
        """In the unit of ``BatchLimits.cost``."""
        ...

    @property
    def priority(self) -> int:
        """Smaller goes first."""
        ...

    @property
    def deadline(self) -> float | None:
        """When the caller gives up."""
        ...

    @property
    def leave_queue_by(self) -> float | None:
        """When the caller would rather be refused than wait on."""
        ...

    @property
    def is_cancelled(self) -> bool: ...


E = TypeVar("E", bound=Entry)


class Dropped(enum.Enum):
    """Why an entry left the queue uncomputed."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    WAITED_TOO_LONG = "waited_too_long"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """``entries`` at most, and ``cost`` in all; an entry that costs more by itself forms a batch of its own."""

    entries: int
    cost: float


@dataclass(frozen=True, slots=True)
class BatchPlan(Generic[E]):
    """Every entry given is in exactly one of the three, each in the order of arrival."""

    batch: tuple[E, ...]
    dropped: tuple[tuple[E, Dropped], ...]
    rest: tuple[E, ...]


def plan_batch(pending: Sequence[E], limits: BatchLimits, now: float) -> BatchPlan[E]:
    """Split what waits (in order of arrival) into the next batch, what is dropped, and the rest.

    The most urgent entry, the oldest among equals, always leads. Entries of its group join in order of priority and
    arrival until one would break a limit; nothing overtakes within a priority and a group.
    """
    dropped = tuple((entry, why) for entry in pending if (why := _drop_reason(entry, now)) is not None)
    gone = {id(entry) for entry, _ in dropped}
    live = [entry for entry in pending if id(entry) not in gone]
    if not live:
        return BatchPlan((), dropped, ())
    chosen = _choose(live, limits)
    return BatchPlan(
        tuple(entry for entry in live if id(entry) in chosen),
        dropped,
        tuple(entry for entry in live if id(entry) not in chosen),
    )


def _drop_reason(entry: Entry, now: float) -> Dropped | None:
    if entry.is_cancelled:
        return Dropped.CANCELLED
    if entry.deadline is not None and entry.deadline <= now:
        return Dropped.EXPIRED
    if entry.leave_queue_by is not None and entry.leave_queue_by <= now:
        return Dropped.WAITED_TOO_LONG
    return None


def _choose(live: Sequence[Entry], limits: BatchLimits) -> set[int]:
    """The identities of the entries that form the batch; at least one."""
    by_urgency = sorted(live, key=lambda entry: entry.priority)
    group = by_urgency[0].group
    chosen: set[int] = set()
    cost = 0.0
    for entry in by_urgency:
        if entry.group != group:
            continue
        cost += entry.cost
        if chosen and (len(chosen) >= limits.entries or cost > limits.cost):
            break
        chosen.add(id(entry))
    return chosen
