"""The nouns of how hits are chosen among the best items. Plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupBy:
    """At most ``per_group`` hits for each value of a filterable keyword, int or bool; an item without a value stands
    alone.
    """

    attribute: str
    per_group: int = 1
