"""What scores are made of: terms, scorings and profiles."""

from __future__ import annotations

from engine.errors import InvalidArgument
from engine.scoring import Decay, Feature, Overlap, Scale, Scoring, ScoringProfile, Term
from engine.v1 import common_pb2

_SCALES: dict[int, Scale] = {
    common_pb2.SCALE_UNSPECIFIED: "linear",
    common_pb2.SCALE_LINEAR: "linear",
    common_pb2.SCALE_LOG1P: "log1p",
}
_SCALE_VALUES: dict[Scale, common_pb2.Scale] = {"linear": common_pb2.SCALE_LINEAR, "log1p": common_pb2.SCALE_LOG1P}


def scoring_from(message: common_pb2.Scoring, field: str) -> Scoring:
    return Scoring(
        profile=message.profile,
        similarity=message.similarity if message.HasField("similarity") else None,
        lexical=message.lexical if message.HasField("lexical") else None,
        terms=tuple(term_from(one, f"{field}.terms[{i}]") for i, one in enumerate(message.terms)),
        weights=dict(message.weights),
    )


def scoring_to(scoring: Scoring) -> common_pb2.Scoring:
    return common_pb2.Scoring(
        profile=scoring.profile,
        similarity=scoring.similarity,
        lexical=scoring.lexical,
        terms=[term_to(one) for one in scoring.terms],
        weights=scoring.weights,
    )


def profile_from(message: common_pb2.ScoringProfile, field: str) -> ScoringProfile:
    return ScoringProfile(
        name=message.name,
        similarity=message.similarity if message.HasField("similarity") else 1.0,
        lexical=message.lexical,
        terms=tuple(term_from(one, f"{field}.terms[{i}]") for i, one in enumerate(message.terms)),
        revision=message.revision or 1,
    )


def profile_to(profile: ScoringProfile) -> common_pb2.ScoringProfile:
    return common_pb2.ScoringProfile(
        name=profile.name,
        similarity=profile.similarity,
        lexical=profile.lexical,
        terms=[term_to(one) for one in profile.terms],
        revision=profile.revision,
    )


def term_from(message: common_pb2.ScoringTerm, field: str) -> Term:
    kind = message.WhichOneof("kind")
    weight = message.weight if message.HasField("weight") else 1.0
    if kind == "feature":
        return _feature_from(message.feature, weight, message.name, field)
    if kind == "decay":
        decay = message.decay
        return Decay(decay.attribute, decay.half_life_s, weight, decay.missing, message.name)
    if kind == "overlap":
        overlap = message.overlap
        return Overlap(overlap.attribute, tuple(overlap.values), weight, tuple(overlap.value_weights), message.name)
    raise InvalidArgument(field, "give a feature, a decay or an overlap")


def _feature_from(message: common_pb2.Feature, weight: float, name: str, field: str) -> Feature:
    if message.scale not in _SCALES:
        raise InvalidArgument(f"{field}.feature.scale", f"unknown value {message.scale}")
    return Feature(
        message.attribute,
        weight,
        _SCALES[message.scale],
        message.low if message.HasField("low") else None,
        message.high if message.HasField("high") else None,
        message.missing,
        name,
    )


def term_to(term: Term) -> common_pb2.ScoringTerm:
    message = common_pb2.ScoringTerm(name=term.name, weight=term.weight)
    if isinstance(term, Feature):
        message.feature.CopyFrom(
            common_pb2.Feature(
                attribute=term.attribute,
                scale=_SCALE_VALUES[term.scale],
                low=term.low,
                high=term.high,
                missing=term.missing,
            )
        )
    elif isinstance(term, Decay):
        message.decay.CopyFrom(
            common_pb2.Decay(attribute=term.attribute, half_life_s=term.half_life_s, missing=term.missing)
        )
    else:
        message.overlap.CopyFrom(
            common_pb2.Overlap(attribute=term.attribute, values=term.values, value_weights=term.value_weights)
        )
    return message
