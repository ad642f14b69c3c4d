"""The nouns of scoring: what an item's score is made of. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Scale: TypeAlias = Literal["linear", "log1p"]
Mode: TypeAlias = Literal["dense", "lexical", "hybrid"]
"""``dense``: the lexical score does not count. ``lexical``: items that have a term of the query, by their lexical
scores; similarity counts if a weight is given for it. ``hybrid``: both count, the lexical score with a weight of
``HYBRID_LEXICAL`` unless given.
"""

HYBRID_LEXICAL = 0.2
"""Chosen on Cranfield and the alternate titles of O*NET (bench.quality)."""

MOST_WEIGHT = 1e9
"""Of a leg, in magnitude."""
LEAST_SIMILARITY = 1e-7
"""Weight that the similarity has if it has any: lists are searched in its units."""
MOST_VALUE = 1e20
"""In magnitude, of a feature and of the numbers of a term; attributes beyond it count as this. Every int64 is less.

With these three the sum of 64 terms is a float32 in units of the similarity too: 64 * 1e9 * 1e20 / 1e-7 = 6.4e37.
"""

LEAST_HALF_LIFE_S = 1.0
"""Ages are counted in steps of a second."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A number of an item as a leg of its score: ``weight`` times the value, capped, then scaled.

    ``attribute``: an int, float or bool that is filterable or volatile. ``low`` and ``high`` cap the value, ``missing``
    stands for it where an item has none; ``log1p`` takes log(1 + value), of values below 0 as of 0. ``name``: of the
    leg, the attribute's unless given.
    """

    attribute: str
    weight: float = 1.0
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None
    missing: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Decay:
    """The age of an item as a leg of its score: ``weight`` times 2 ** (-age / half-life).

    ``attribute``: a filterable timestamp; one in the future has no age. Ages are counted in steps of a second, or of
    1/4096 of the half-life where that is longer. ``missing`` stands for the power where an item has no timestamp.
    """

    attribute: str
    half_life_s: float
    weight: float = 1.0
    missing: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What an item has of given keywords as a leg of its score: ``weight`` times the share of them that are among the
    attribute's, each counted by its own weight where ``value_weights`` are given.
    """

    attribute: str
    values: tuple[str, ...]
    weight: float = 1.0
    value_weights: tuple[float, ...] = ()
    name: str = ""


Term: TypeAlias = Feature | Decay | Overlap


@dataclass(frozen=True, slots=True)
class Scoring:
    """An item's score: the sum of ``similarity`` times the similarity, of each term's leg, and of ``lexical`` times the
    lexical score over the highest among the items that pass the query's filter.

    ``profile``: a named scoring of the collection that this one begins with; None of the weights given here means the
    profile's, and ``weights`` replace those of its legs by name. ``terms`` come beside the profile's.
    """

    profile: str = ""
    similarity: float | None = None
    lexical: float | None = None
    terms: tuple[Term, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoringProfile:
    """A scoring by name, kept with a collection; ``revision`` counts how often it was replaced."""

    name: str
    similarity: float = 1.0
    lexical: float = 0.0
    terms: tuple[Term, ...] = ()
    revision: int = 1
