"""What makes a pipeline fit a schema, and query features a pipeline. Pure: knows no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.limits import Limits
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, QueryInput, RankInput, name_of, width_of
from engine.scorings import SIMILARITY, similarity_leg
from engine.types import AttributeType, Float32Array, Schema

COLUMNS = 4096
"""That a model may read of a candidate."""
_LARGEST = float(np.finfo(np.float32).max)
_NUMBERS = (AttributeType.INT, AttributeType.FLOAT, AttributeType.BOOL)
_KEYWORDS = (AttributeType.KEYWORD, AttributeType.KEYWORD_LIST)


def check_pipeline(pipeline: Pipeline, schema: Schema, limits: Limits, field: str) -> Pipeline:
    """The pipeline, sound but for what only its model can tell.

    Raises:
        InvalidArgument: the first thing that is wrong with it; LimitExceeded beyond a limit.
        UnknownAttribute: the schema lacks an attribute.
    """
    check_declaration(pipeline, limits, field)
    for place, one in enumerate(pipeline.rank.inputs):
        if isinstance(one, NumberInput | KeywordInput):
            types = _NUMBERS if isinstance(one, NumberInput) else _KEYWORDS
            _check_attribute(one.attribute, types, schema, f"{field}.rank.inputs[{place}]")
        if isinstance(one, LegInput) and one.leg == SIMILARITY and schema.embeddings:
            known = ", ".join(map(similarity_leg, schema.embeddings))
            told = f"is {SIMILARITY!r}: where embeddings have names each has a leg of its own, {known}"
            raise InvalidArgument(f"{field}.rank.inputs[{place}].leg", told)
    return pipeline


def check_declaration(pipeline: Pipeline, limits: Limits, field: str) -> None:
    """What is wrong with a pipeline whatever the schema; raises as ``check_pipeline``."""
    rank = pipeline.rank
    if not 0 < rank.deadline_share <= 1:
        raise InvalidArgument(f"{field}.rank.deadline_share", f"{rank.deadline_share} is not in (0, 1]")
    for name, number in (("rank.max_candidates", rank.max_candidates), ("retrieve", pipeline.retrieve)):
        if number < 1:
            raise InvalidArgument(f"{field}.{name}", f"{number} is not at least 1")
    if rank.max_candidates > limits.k:
        raise LimitExceeded(f"{field}.rank.max_candidates", value=rank.max_candidates, limit=limits.k)
    if pipeline.retrieve > rank.max_candidates:
        raise LimitExceeded(
            f"{field}.retrieve", value=pipeline.retrieve, limit=rank.max_candidates, unit="(rank.max_candidates)"
        )
    if not rank.inputs:
        raise InvalidArgument(f"{field}.rank.inputs", "is empty: a model reads at least one")
    names = [name_of(one) for one in rank.inputs]
    for place, one in enumerate(rank.inputs):
        own = f"{field}.rank.inputs[{place}]"
        if names[place] in names[:place]:
            raise InvalidArgument(own, f"two inputs are called {names[place]!r}: give one another name")
        _check_input(one, own)
    columns = sum(map(width_of, rank.inputs))
    if columns > COLUMNS:
        raise LimitExceeded(f"{field}.rank.inputs", value=columns, limit=COLUMNS, unit="columns")


def _check_input(one: RankInput, field: str) -> None:
    match one:
        case LegInput():
            if not one.leg:
                raise InvalidArgument(f"{field}.leg", "is empty: name a leg of the score")
            if one.form not in ("raw", "normalised"):
                raise InvalidArgument(f"{field}.form", f"{one.form!r} is neither raw nor normalised")
            _check_floats((one.missing,), f"{field}.missing")
        case NumberInput():
            _check_floats((one.missing,), f"{field}.missing")
        case KeywordInput():
            if bool(one.vocabulary) == (one.buckets != 0) or one.buckets < 0:
                raise InvalidArgument(field, "give a vocabulary, or a number of buckets above 0, and not both")
            if len(set(one.vocabulary)) < len(one.vocabulary):
                raise InvalidArgument(f"{field}.vocabulary", "has a keyword twice")
        case QueryInput():
            if not one.feature:
                raise InvalidArgument(f"{field}.feature", "is empty: name what the query brings")
            if one.size < 1:
                raise InvalidArgument(f"{field}.size", f"{one.size} is not at least 1")
            if one.missing and len(one.missing) not in (1, one.size):
                raise InvalidArgument(f"{field}.missing", f"has {len(one.missing)} numbers for a size of {one.size}")
            _check_floats(one.missing, f"{field}.missing")


def _check_attribute(name: str, types: Sequence[AttributeType], schema: Schema, field: str) -> None:
    spec = schema.attribute(name)
    if spec is None:
        raise UnknownAttribute(name, "the schema has no such attribute")
    if spec.type not in types:
        kinds = ", ".join(kind.value for kind in types)
        raise InvalidArgument(f"{field}.attribute", f"{name!r} is a {spec.type.value}, which is none of {kinds}")
    if not (spec.filterable or spec.volatile):
        raise InvalidArgument(f"{field}.attribute", f"{name!r} is neither filterable nor volatile")


def _check_floats(numbers: Sequence[float], field: str) -> None:
    for number in numbers:
        if not (math.isfinite(number) and abs(number) <= _LARGEST):
            raise InvalidArgument(field, f"{number} is not a finite float32", value=number)


def query_columns(pipeline: Pipeline, features: Mapping[str, Sequence[float]], field: str) -> Float32Array:
    """float32 [width of all query inputs], in their order, of what a query brings.

    Features that no input reads are left alone: callers bring those of the next model before it is set.

    Raises:
        InvalidArgument: one is missing that has no default, has another size, or is not finite.
    """
    columns: list[float] = []
    for one in pipeline.rank.inputs:
        if not isinstance(one, QueryInput):
            continue
        own = f"{field}.query_features[{one.feature}]"
        given = features.get(one.feature)
        if given is None:
            if not one.missing:
                raise InvalidArgument(own, "is missing, and the ranker's input has no default for it")
            given = one.missing if len(one.missing) == one.size else one.missing * one.size
        if len(given) != one.size:
            raise InvalidArgument(own, f"has {len(given)} numbers, the ranker reads {one.size}", limit=one.size)
        _check_floats(given, own)
        columns += given
    return np.array(columns, np.float32)
