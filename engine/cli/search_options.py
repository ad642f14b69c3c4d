"""The options of `ebr search` that have a form of their own, each read from what was typed. Knows no server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from engine.errors import InvalidArgument
from engine.ranking import QueryInput
from engine.selection import Diversity, Facet, RankFusion
from engine.types import Schema

_TOLD_CHARACTERS = 40
_FUSION_NUMBERS: Mapping[str, Callable[[str], int | float]] = {
    "constant": float,
    "depth": int,
    "dense": float,
    "lexical": float,
}

LikeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--like", metavar="ID", help="The neighbours of this item, itself left out; of several: what is like them all."
    ),
]
UnlikeOption = Annotated[
    list[str] | None, typer.Option("--unlike", metavar="ID", help="An item unlike what is wanted, beside --like.")
]
EmbeddingOption = Annotated[
    list[str] | None,
    typer.Option("--embedding", metavar="NAME=WEIGHT", help="How much a named embedding counts; 0: not at all."),
]
RankFusionOption = Annotated[
    bool, typer.Option("--rank-fusion", help="Fuse similarity and terms by the places that items have in either.")
]
FusionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fusion",
        metavar="NAME=VALUE",
        help="--rank-fusion with another constant (60) or depth (100), or weights of its legs, dense and lexical (1).",
    ),
]
RankOption = Annotated[
    bool | None,
    typer.Option("--rank/--no-rank", help="Whether the collection's pipeline ranks the hits; it does unless told."),
]
QueryFeatureOption = Annotated[
    list[str] | None,
    typer.Option("--query-feature", metavar="NAME=V[,V...]", help="Numbers of the query that the ranker reads."),
]
DiversityOption = Annotated[
    float | None,
    typer.Option(
        "--diversity",
        metavar="RELEVANCE",
        help="Hits that resemble one another less: from 1, relevance alone, to 0.",
    ),
]
DiversityCandidatesOption = Annotated[
    int | None,
    typer.Option(
        "--diversity-candidates", min=1, help="From how many of the best --diversity picks; four times k unless given."
    ),
]
FacetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--facet",
        metavar="ATTRIBUTE[=LIMIT]",
        help="Count the values of an attribute among all items that pass the filter, the LIMIT (10) most frequent.",
    ),
]
PageOption = Annotated[bool, typer.Option("--page", help="Tell the cursor of the hits that follow.")]
CursorOption = Annotated[
    str, typer.Option("--cursor", metavar="CURSOR", help="The hits that follow a page; all else as it was for that.")
]


def parse_weights(given: Sequence[str]) -> dict[str, float]:
    """Weights by the names of embeddings."""
    weights: dict[str, float] = {}
    for one in given:
        name, _, weight = one.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise typer.BadParameter(f"--embedding {one}: give NAME=WEIGHT, as in title=2") from None
    return weights


def parse_rank_fusion(is_wanted: bool, given: Sequence[str]) -> RankFusion | None:
    """By default, or with some of its numbers; None where neither is asked for."""
    numbers: dict[str, int | float] = {}
    for one in given:
        name, _, number = one.partition("=")
        if name not in _FUSION_NUMBERS:
            raise typer.BadParameter(f"--fusion {one}: {name!r} is none of {', '.join(_FUSION_NUMBERS)}")
        try:
            numbers[name] = _FUSION_NUMBERS[name](number)
        except ValueError:
            raise typer.BadParameter(f"--fusion {one}: give NAME=VALUE, as in lexical=0.5 or depth=200") from None
    # Each number has a field of its type.
    return RankFusion(**numbers) if is_wanted or given else None  # type: ignore[arg-type]


def parse_features(given: Sequence[str], schema: Schema) -> dict[str, tuple[float, ...]]:
    """Numbers of the query by name.

    Raises:
        InvalidArgument: the collection's pipeline reads nothing of that name.
    """
    known = _features_read(schema)
    features: dict[str, tuple[float, ...]] = {}
    for one in given:
        name, _, numbers = one.partition("=")
        if name in features:
            raise typer.BadParameter(f"--query-feature {one}: {name} is given twice")
        try:
            features[name] = tuple(map(float, numbers.split(",")))
        except ValueError:
            raise typer.BadParameter(f"--query-feature {one}: give NAME=V[,V...], as in user=0.5,1") from None
        if name not in known:
            read = ", ".join(known) or "none"
            told = f"{one}: no ranker of collection {schema.name!r} reads {name!r}; features that are read: {read}"
            raise InvalidArgument("--query-feature", told)
    return features


def _features_read(schema: Schema) -> list[str]:
    if schema.pipeline is None:
        return []
    return [one.feature for one in schema.pipeline.rank.inputs if isinstance(one, QueryInput)]


def parse_diversity(relevance: float | None, candidates: int | None) -> Diversity | None:
    if relevance is None:
        if candidates is not None:
            raise typer.BadParameter(f"--diversity-candidates {candidates}: give --diversity too")
        return None
    if not 0 <= relevance <= 1:
        raise typer.BadParameter(f"--diversity {relevance:g}: is not from 0 to 1")
    return Diversity(relevance, candidates)


def parse_facets(given: Sequence[str]) -> tuple[Facet, ...]:
    return tuple(map(_facet, given))


def _facet(one: str) -> Facet:
    name, has_limit, limit = one.partition("=")
    if not has_limit:
        return Facet(name)
    if not limit.isdecimal() or int(limit) < 1:
        raise typer.BadParameter(f"--facet {one}: {limit!r} is no number from 1 on; give ATTRIBUTE[=LIMIT]")
    return Facet(name, int(limit))


def cursor_text(cursor: bytes) -> str:
    """As ``parse_cursor`` reads it."""
    return base64.urlsafe_b64encode(cursor).decode("ascii")


def parse_cursor(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        told = text if len(text) <= _TOLD_CHARACTERS else f"{text[:_TOLD_CHARACTERS]}..."
        raise typer.BadParameter(f"--cursor {told}: is no cursor that --page told") from error
