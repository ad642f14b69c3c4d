"""Pipelines: their ranker's declaration and inputs."""

from __future__ import annotations

from engine.errors import InvalidArgument
from engine.ranking import KeywordInput, LegForm, LegInput, NumberInput, Pipeline, QueryInput, RankInput, RankStage
from engine.v1 import admin_pb2

_FORMS: dict[int, LegForm] = {
    admin_pb2.LEG_FORM_UNSPECIFIED: "normalised",
    admin_pb2.LEG_FORM_NORMALISED: "normalised",
    admin_pb2.LEG_FORM_RAW: "raw",
}
_FORM_VALUES: dict[LegForm, admin_pb2.LegForm] = {
    "normalised": admin_pb2.LEG_FORM_NORMALISED,
    "raw": admin_pb2.LEG_FORM_RAW,
}


def pipeline_from(message: admin_pb2.Pipeline, field: str) -> Pipeline:
    """The pipeline with its fingerprint, if it is told; what the server keeps of files is not on the wire."""
    rank = message.rank
    if not rank.model:
        raise InvalidArgument(f"{field}.rank.model", "is empty")
    given = {name: getattr(rank, name) for name in ("deadline_share", "max_candidates") if rank.HasField(name)}
    inputs = tuple(_input_from(one, f"{field}.rank.inputs[{i}]") for i, one in enumerate(rank.inputs))
    return Pipeline(message.retrieve, RankStage(rank.model, inputs, **given), message.ranker_version)


def pipeline_to(pipeline: Pipeline, *, error: str = "") -> admin_pb2.Pipeline:
    """``error``: why its model could not be loaded."""
    rank = pipeline.rank
    return admin_pb2.Pipeline(
        retrieve=pipeline.retrieve,
        rank=admin_pb2.RankStage(
            model=rank.model,
            inputs=[_input_to(one) for one in rank.inputs],
            deadline_share=rank.deadline_share,
            max_candidates=rank.max_candidates,
        ),
        ranker_version=pipeline.ranker_version,
        error=error,
    )


def _input_from(message: admin_pb2.RankInput, field: str) -> RankInput:
    match message.WhichOneof("kind"):
        case "leg":
            leg = message.leg
            if leg.form not in _FORMS:
                raise InvalidArgument(f"{field}.leg.form", f"unknown value {leg.form}")
            return LegInput(leg.leg, _FORMS[leg.form], leg.missing, message.name)
        case "number":
            return NumberInput(message.number.attribute, message.number.missing, message.name)
        case "keyword":
            keyword = message.keyword
            return KeywordInput(keyword.attribute, tuple(keyword.vocabulary), keyword.buckets, message.name)
        case "query":
            query = message.query
            return QueryInput(query.feature, query.size or 1, tuple(query.missing), message.name)
    raise InvalidArgument(field, "give a leg, a number, a keyword or a query input")


def _input_to(one: RankInput) -> admin_pb2.RankInput:
    message = admin_pb2.RankInput(name=one.name)
    match one:
        case LegInput():
            form = _FORM_VALUES[one.form]
            message.leg.CopyFrom(admin_pb2.LegInput(leg=one.leg, form=form, missing=one.missing))
        case NumberInput():
            message.number.CopyFrom(admin_pb2.NumberInput(attribute=one.attribute, missing=one.missing))
        case KeywordInput():
            message.keyword.CopyFrom(
                admin_pb2.KeywordInput(attribute=one.attribute, vocabulary=one.vocabulary, buckets=one.buckets)
            )
        case QueryInput():
            message.query.CopyFrom(admin_pb2.QueryInput(feature=one.feature, size=one.size, missing=one.missing))
    return message
