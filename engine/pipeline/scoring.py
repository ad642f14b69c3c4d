"""A query's scoring in the form that searches want. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from engine.errors import NoAnalyser
from engine.index.features import DecayFeature, NumberFeature, SumFeature
from engine.limits import Limits
from engine.scoring import HYBRID_LEXICAL, Decay, Feature, Mode, Overlap, Scoring, ScoringProfile
from engine.scorings import leg_of, resolve_scoring
from engine.types import Schema


@dataclass(frozen=True, slots=True, eq=False)
class CompiledScoring:
    """``similarity`` and ``lexical``: weights of these legs; ``total``: the features with their weights, whose legs are
    called ``names``. ``profile``: by which profile and revision, empty where there is none. ``is_lexical``:
    items without a term of the query are not found.
    """

    similarity: float
    lexical: float
    total: SumFeature
    names: tuple[str, ...]
    overlaps: tuple[Overlap, ...]
    profile: str = ""
    is_lexical: bool = False

    @property
    def kind(self) -> Hashable:
        """What queries must have in common to be planned alike."""
        return self.similarity > 0, self.has_extras, self.is_lexical

    @property
    def has_extras(self) -> bool:
        """Whether some rows get something that no feature of theirs says."""
        return bool(self.overlaps) or self.lexical > 0


SIMILARITY_ALONE = CompiledScoring(1.0, 0.0, SumFeature(()), (), ())
"""For whom wants its legs told."""


def compile_scoring(
    scoring: Scoring | None, schema: Schema, limits: Limits, field: str, mode: Mode | None = None
) -> CompiledScoring | None:
    """None where nothing but similarity counts, with a weight of 1.

    Raises:
        InvalidArgument: the first thing that is wrong with it.
        UnknownAttribute: the schema lacks an attribute.
        NoAnalyser: terms are asked for, and no text field is searched by them.
    """
    if scoring is None and not schema.default_profile and mode in (None, "dense"):
        return None
    given = Scoring(profile=schema.default_profile) if scoring is None else scoring
    resolved = _in_mode(resolve_scoring(given, schema, limits, field), given, mode)
    if resolved.lexical and not schema.analysed_fields:
        raise NoAnalyser(schema.name)
    if resolved.similarity == 1 and not resolved.lexical and not resolved.terms:
        return None
    features = [term for term in resolved.terms if not isinstance(term, Overlap)]
    return CompiledScoring(
        similarity=resolved.similarity,
        lexical=resolved.lexical,
        total=SumFeature(tuple((_spec(term), float(term.weight)) for term in features)),
        names=tuple(leg_of(term) for term in features),
        overlaps=tuple(replace(term, name=leg_of(term)) for term in resolved.terms if isinstance(term, Overlap)),
        profile=f"{resolved.name}@{resolved.revision}" if resolved.name else "",
        is_lexical=mode == "lexical",
    )


def _in_mode(resolved: ScoringProfile, given: Scoring, mode: Mode | None) -> ScoringProfile:
    """With the weights that the mode has where none are given."""
    if mode == "dense":
        return replace(resolved, lexical=0.0)
    if mode == "hybrid":
        return replace(resolved, lexical=resolved.lexical or HYBRID_LEXICAL)
    if mode == "lexical":
        return replace(resolved, similarity=given.similarity or 0.0, lexical=resolved.lexical or 1.0)
    return resolved


def _spec(term: Feature | Decay) -> NumberFeature | DecayFeature:
    if isinstance(term, Decay):
        return DecayFeature(term.attribute, float(term.half_life_s), float(term.missing))
    return NumberFeature(term.attribute, term.scale, term.low, term.high, float(term.missing))
