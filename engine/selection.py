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


@dataclass(frozen=True, slots=True)
class Diversity:
    """Hits that resemble one another less, by maximal marginal relevance: of the best ``candidates`` that one is picked
    next for which ``relevance`` times its own less (1 - ``relevance``) times its similarity to the most similar hit so
    far is the greatest; ties go to the better ranked. Hits come in the order in which they are picked.

    Relevance is the score, scaled to 1 for the best of the candidates and 0 for the last; similarity is the cosine of
    the stored vectors whatever the metric, of items with several embeddings that of the ones which scored.
    ``candidates``: four times k, and 100 at least, unless given.
    """

    relevance: float
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class Facet:
    """How many items have each value of a filterable keyword, keyword list, bool or int: the ``limit`` most frequent
    values are told.
    """

    attribute: str
    limit: int = 10


@dataclass(frozen=True, slots=True)
class FacetCounts:
    """Values of an attribute with how many items have each, largest first, equal ones by value."""

    attribute: str
    counts: tuple[tuple[str | bool | int, int], ...]


@dataclass(frozen=True, slots=True)
class RankFusion:
    """Similarity and terms each find ``depth`` items; an item scores weight / (constant + its place), places from 1 on,
    of each leg that has it, ``dense`` and ``lexical`` being the weights (reciprocal rank fusion).
    """

    constant: float = 60.0
    depth: int = 100
    dense: float = 1.0
    lexical: float = 1.0
