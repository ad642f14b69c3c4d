"""What makes a scoring fit a schema. Pure: knows neither where scorings come from nor who computes scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.limits import Limits
from engine.scoring import (
    LEAST_HALF_LIFE_S,
    LEAST_SIMILARITY,
    MOST_VALUE,
    MOST_WEIGHT,
    Decay,
    Feature,
    Overlap,
    Scoring,
    ScoringProfile,
    Term,
)
from engine.types import AttributeType, EmbeddingSpec, Schema

SIMILARITY, LEXICAL, FUSED = "similarity", "lexical", "fused"
"""The legs that are no terms; ``fused``, of ranked hits: the sum of all others."""
_LARGEST = float(np.finfo(np.float32).max)
_RESERVED = (SIMILARITY, LEXICAL, FUSED)
_TYPES: Mapping[type, tuple[AttributeType, ...]] = {
    Feature: (AttributeType.INT, AttributeType.FLOAT, AttributeType.BOOL),
    Decay: (AttributeType.TIMESTAMP,),
    Overlap: (AttributeType.KEYWORD, AttributeType.KEYWORD_LIST),
}


def resolve_scoring(scoring: Scoring, schema: Schema, limits: Limits, field: str) -> ScoringProfile:
    """All that a scoring says, with what it takes from its profile; the name and the revision are the profile's.

    Raises:
        InvalidArgument: the first thing that is wrong with it.
        UnknownAttribute: the schema lacks an attribute.
    """
    profile = _profile(scoring.profile, schema, field)
    terms = (*profile.terms, *scoring.terms)
    if len(terms) > limits.scoring_terms:
        raise LimitExceeded(f"{field}.terms", value=len(terms), limit=limits.scoring_terms, unit="terms")
    names = [leg_of(term) for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(f"{field}.terms", f"two legs are called {name!r}: give one another name")
    for name, weight in scoring.weights.items():
        if name not in names:
            raise InvalidArgument(f"{field}.weights[{name}]", "no leg has that name")
        _check_size(weight, MOST_WEIGHT, f"{field}.weights[{name}]")
    similarity = profile.similarity if scoring.similarity is None else scoring.similarity
    lexical = profile.lexical if scoring.lexical is None else scoring.lexical
    weighted = [
        replace(term, weight=scoring.weights.get(name, term.weight)) for term, name in zip(terms, names, strict=True)
    ]
    resolved = ScoringProfile(profile.name, similarity, lexical, tuple(weighted), profile.revision)
    check_profile(resolved, schema, limits, field)
    return resolved


def check_profile(profile: ScoringProfile, schema: Schema, limits: Limits, field: str) -> None:
    """Raises InvalidArgument or UnknownAttribute where no query could be scored so."""
    for name, weight in ((SIMILARITY, profile.similarity), (LEXICAL, profile.lexical)):
        _check_size(weight, MOST_WEIGHT, f"{field}.{name}")
        if weight < 0:
            raise InvalidArgument(f"{field}.{name}", f"{weight} is below 0", value=weight)
    if 0 < profile.similarity < LEAST_SIMILARITY:
        told = f"{profile.similarity} is neither 0 nor at least {LEAST_SIMILARITY}"
        raise InvalidArgument(f"{field}.{SIMILARITY}", told, value=profile.similarity, limit=LEAST_SIMILARITY)
    for place, term in enumerate(profile.terms):
        _check_term(term, schema, limits, f"{field}.terms[{place}]")


def check_least_score(least: float, field: str) -> None:
    """Raises InvalidArgument where no score could be compared with it."""
    if not abs(least) <= _LARGEST:
        raise InvalidArgument(field, f"{least} is not a finite float32", value=least, limit=_LARGEST)


def similarity_leg(spec: EmbeddingSpec) -> str:
    """What the leg of a named embedding is called."""
    return f"{SIMILARITY}.{spec.name}"


def leg_of(term: Term) -> str:
    """What a term's leg is called."""
    return term.name or term.attribute


def _profile(name: str, schema: Schema, field: str) -> ScoringProfile:
    if not name:
        return ScoringProfile("")
    found = next((one for one in schema.profiles if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in schema.profiles) or "none"
        raise InvalidArgument(f"{field}.profile", f"the collection has no profile {name!r}; it has {known}", value=name)
    return found


def _check_term(term: Term, schema: Schema, limits: Limits, field: str) -> None:
    spec = schema.attribute(term.attribute)
    if spec is None:
        raise UnknownAttribute(term.attribute, "the schema has no such attribute")
    wanted = _TYPES[type(term)]
    if spec.type not in wanted:
        kinds = " or ".join(kind.value for kind in wanted)
        raise InvalidArgument(f"{field}.attribute", f"{term.attribute!r} is a {spec.type.value}, not a {kinds}")
    if not (spec.filterable or spec.volatile):
        raise InvalidArgument(f"{field}.attribute", f"{term.attribute!r} is neither filterable nor volatile")
    if leg_of(term) in (*_RESERVED, *map(similarity_leg, schema.embeddings)):
        raise InvalidArgument(f"{field}.name", f"{leg_of(term)!r} is the name of another leg")
    _check_size(term.weight, MOST_WEIGHT, f"{field}.weight")
    for name, number in _numbers_of(term):
        _check_size(number, MOST_VALUE, f"{field}.{name}")
    if isinstance(term, Feature):
        if term.scale not in ("linear", "log1p"):
            raise InvalidArgument(f"{field}.scale", f"{term.scale!r} is neither linear nor log1p")
        if term.low is not None and term.high is not None and term.low > term.high:
            raise InvalidArgument(f"{field}.low", f"{term.low} is above high, {term.high}")
    elif isinstance(term, Decay):
        if term.half_life_s < LEAST_HALF_LIFE_S:
            told = f"{term.half_life_s} is not at least {LEAST_HALF_LIFE_S}, the step that ages are counted in"
            raise InvalidArgument(f"{field}.half_life_s", told, value=term.half_life_s, limit=LEAST_HALF_LIFE_S)
    else:
        _check_overlap(term, limits, field)


def _check_overlap(term: Overlap, limits: Limits, field: str) -> None:
    if not term.values:
        raise InvalidArgument(f"{field}.values", "is empty")
    if len(term.values) > limits.overlap_values:
        raise LimitExceeded(f"{field}.values", value=len(term.values), limit=limits.overlap_values, unit="keywords")
    if len(set(term.values)) < len(term.values):
        raise InvalidArgument(f"{field}.values", "has a keyword twice")
    if term.value_weights and len(term.value_weights) != len(term.values):
        n, wanted = len(term.value_weights), len(term.values)
        raise InvalidArgument(f"{field}.value_weights", f"{n} given for {wanted} values: give one for each or none")
    if any(not 0 < one < math.inf for one in term.value_weights):
        raise InvalidArgument(f"{field}.value_weights", "has one that is not a number above 0")
    _check_size(max(term.value_weights, default=0.0), MOST_WEIGHT, f"{field}.value_weights")


def _numbers_of(term: Term) -> Iterator[tuple[str, float]]:
    for name in ("low", "high", "missing", "half_life_s"):
        number = getattr(term, name, None)
        if number is not None:
            yield name, number


def _check_size(number: float, limit: float, field: str) -> None:
    if not math.isfinite(number):
        raise InvalidArgument(field, f"{number} is not a finite number", value=number)
    if abs(number) > limit:
        raise LimitExceeded(field, value=number, limit=limit, unit="in magnitude")
