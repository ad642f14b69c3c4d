"""A query's scoring checked against the schema and put into the form that searches want. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.index.features import DecayFeature, FeatureSpec, NumberFeature, is_finite
from engine.limits import Limits
from engine.scoring import Decay, Feature, Overlap, Scoring, ScoringProfile, Term
from engine.types import AttributeType, Float32Array, Schema

SIMILARITY, LEXICAL = "similarity", "lexical"
_RESERVED = (SIMILARITY, LEXICAL)
_TYPES: Mapping[type, tuple[AttributeType, ...]] = {
    Feature: (AttributeType.INT, AttributeType.FLOAT, AttributeType.BOOL),
    Decay: (AttributeType.TIMESTAMP,),
    Overlap: (AttributeType.KEYWORD, AttributeType.KEYWORD_LIST),
}


@dataclass(frozen=True, slots=True, eq=False)
class CompiledScoring:
    """``similarity`` and ``lexical``: weights of these legs; ``weights`` float32 [F] of the features ``specs``, whose
    legs are called ``names``. ``profile``: by which profile and revision, empty where there is none.
    """

    similarity: float
    lexical: float
    specs: tuple[FeatureSpec, ...]
    weights: Float32Array
    names: tuple[str, ...]
    overlaps: tuple[Overlap, ...]
    profile: str = ""

    @property
    def kind(self) -> Hashable:
        """What queries must have in common to be planned and run as one: weights may differ."""
        return self.specs, self.similarity > 0, self.has_extras

    @property
    def has_extras(self) -> bool:
        """Whether some rows get something that no feature of theirs says."""
        return bool(self.overlaps) or self.lexical > 0


SIMILARITY_ALONE = CompiledScoring(1.0, 0.0, (), np.zeros(0, np.float32), (), ())
"""For whom wants its legs told."""


def compile_scoring(scoring: Scoring | None, schema: Schema, limits: Limits, field: str) -> CompiledScoring | None:
    """None where nothing but similarity counts, with a weight of 1.

    Raises:
        InvalidArgument: the first thing that is wrong with it.
        UnknownAttribute: the schema lacks an attribute.
    """
    given = Scoring(profile=schema.default_profile) if scoring is None else scoring
    profile = _profile(given.profile, schema, field)
    terms = (*profile.terms, *given.terms)
    if len(terms) > limits.scoring_terms:
        raise LimitExceeded(f"{field}.terms", value=len(terms), limit=limits.scoring_terms, unit="terms")
    weights = {_leg(term): term.weight for term in terms}
    if len(weights) < len(terms):
        raise InvalidArgument(f"{field}.terms", f"two legs are called {_repeated(terms)!r}: give one another name")
    for name, weight in given.weights.items():
        if name not in weights:
            raise InvalidArgument(f"{field}.weights[{name}]", "no leg has that name")
        weights[name] = weight
    for place, term in enumerate(terms):
        at = f"{field}.terms[{place}]"
        _check_term(term, schema, limits, at)
        _check_number(weights[_leg(term)], f"{at}.weight")
    similarity = profile.similarity if given.similarity is None else given.similarity
    lexical = profile.lexical if given.lexical is None else given.lexical
    for name, weight in ((SIMILARITY, similarity), (LEXICAL, lexical)):
        _check_number(weight, f"{field}.{name}")
        if weight < 0:
            raise InvalidArgument(f"{field}.{name}", f"{weight} is below 0", value=weight)
    if similarity == 1 and not lexical and not terms:
        return None
    return _compiled(terms, weights, similarity, lexical, profile)


def check_profile(profile: ScoringProfile, schema: Schema, limits: Limits, field: str) -> None:
    """Raises InvalidArgument or UnknownAttribute where no query could be scored so."""
    if not profile.name:
        raise InvalidArgument(f"{field}.name", "is empty")
    own = Scoring(similarity=profile.similarity, lexical=profile.lexical, terms=profile.terms)
    compile_scoring(own, schema, limits, field)


def _compiled(
    terms: Sequence[Term], weights: Mapping[str, float], similarity: float, lexical: float, profile: ScoringProfile
) -> CompiledScoring:
    features = [(term, _leg(term)) for term in terms if not isinstance(term, Overlap)]
    return CompiledScoring(
        similarity=similarity,
        lexical=lexical,
        specs=tuple(_spec(term) for term, _ in features),
        weights=np.array([weights[name] for _, name in features], np.float32),
        names=tuple(name for _, name in features),
        overlaps=tuple(_weighted(term, weights[_leg(term)]) for term in terms if isinstance(term, Overlap)),
        profile=f"{profile.name}@{profile.revision}" if profile.name else "",
    )


def _profile(name: str, schema: Schema, field: str) -> ScoringProfile:
    if not name:
        return ScoringProfile("")
    found = next((one for one in schema.profiles if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in schema.profiles) or "none"
        raise InvalidArgument(f"{field}.profile", f"the collection has no profile {name!r}; it has {known}", value=name)
    return found


def _spec(term: Feature | Decay) -> FeatureSpec:
    if isinstance(term, Decay):
        return DecayFeature(term.attribute, float(term.half_life_s), float(term.missing))
    return NumberFeature(term.attribute, term.scale, term.low, term.high, float(term.missing))


def _weighted(term: Overlap, weight: float) -> Overlap:
    return Overlap(term.attribute, term.values, weight, term.value_weights, _leg(term))


def _leg(term: Term) -> str:
    return term.name or term.attribute


def _repeated(terms: Sequence[Term]) -> str:
    names = [_leg(term) for term in terms]
    return next(name for name in names if names.count(name) > 1)


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
    if _leg(term) in _RESERVED:
        raise InvalidArgument(f"{field}.name", f"{_leg(term)!r} is the name of another leg")
    for name, number in _numbers_of(term):
        _check_number(number, f"{field}.{name}")
    if isinstance(term, Feature):
        if term.scale not in ("linear", "log1p"):
            raise InvalidArgument(f"{field}.scale", f"{term.scale!r} is neither linear nor log1p")
        if term.low is not None and term.high is not None and term.low > term.high:
            raise InvalidArgument(f"{field}.low", f"{term.low} is above high, {term.high}")
    elif isinstance(term, Decay):
        if not term.half_life_s > 0:
            raise InvalidArgument(f"{field}.half_life_s", f"{term.half_life_s} is not above 0")
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


def _numbers_of(term: Term) -> Iterator[tuple[str, float | None]]:
    for name in ("low", "high", "missing", "half_life_s"):
        yield name, getattr(term, name, None)


def _check_number(value: float | None, field: str) -> None:
    if not is_finite(value):
        raise InvalidArgument(field, f"{value} is not a finite float32", value=value)
