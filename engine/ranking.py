"""The nouns of the second stage: which model ranks a collection's candidates, and what it reads. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

LegForm: TypeAlias = Literal["raw", "normalised"]
RankFallback: TypeAlias = Literal["off", "late", "failed", "too_many"]
"""Why hits stand in the fused order: nobody wanted them ranked, ranking would not have been done in time, or was not,
the model or its loading failed, or the query asks for more hits than are ranked.
"""


@dataclass(frozen=True, slots=True)
class LegInput:
    """A leg of the candidate's fused score by its name (``similarity``, ``lexical``, a term's), or ``fused``: the score
    itself. ``missing`` stands where the query's scoring lacks the leg, and for a raw form that the item lacks.
    """

    leg: str
    form: LegForm = "normalised"
    missing: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class NumberInput:
    """An int, float or bool attribute that is filterable or volatile; ``missing`` where the item has none."""

    attribute: str
    missing: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class KeywordInput:
    """The keywords of a filterable attribute: 1 at the place of each that the item has.

    Places are those of the ``vocabulary``, where others have none, or CRC-32 of the keyword's UTF-8 modulo ``buckets``.
    """

    attribute: str
    vocabulary: tuple[str, ...] = ()
    buckets: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class QueryInput:
    """``size`` floats that the query brings by this name; ``missing``, one or ``size``, where it brings none. A query
    without them is refused where ``missing`` is empty.
    """

    feature: str
    size: int = 1
    missing: tuple[float, ...] = ()
    name: str = ""


RankInput: TypeAlias = LegInput | NumberInput | KeywordInput | QueryInput


@dataclass(frozen=True, slots=True)
class RankStage:
    """The model, a path on the server to an ONNX file or to a folder with ``model.onnx``, and its inputs in order.

    ``deadline_share``: of the time that a call has left, so much may go to ranking. ``max_candidates``: of one query.
    """

    model: str
    inputs: tuple[RankInput, ...]
    deadline_share: float = 0.5
    max_candidates: int = 1000


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Retrieve so many candidates by the fused score (or k, where that is more), rank them, return the best k.

    ``ranker_version``: fingerprint of the model's files and their inputs; ``files``: sha256 by name of the copies that
    the collection keeps. Both are given by the server.
    """

    retrieve: int
    rank: RankStage
    ranker_version: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


def name_of(one: RankInput) -> str:
    """What an input is called: by its own name, or what it reads."""
    match one:
        case LegInput():
            return one.name or one.leg
        case QueryInput():
            return one.name or one.feature
    return one.name or one.attribute


def width_of(one: RankInput) -> int:
    """Columns that an input takes."""
    match one:
        case KeywordInput():
            return len(one.vocabulary) or one.buckets
        case QueryInput():
            return one.size
    return 1
