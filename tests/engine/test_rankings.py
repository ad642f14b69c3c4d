from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.errors import EngineError, InvalidArgument
from engine.limits import Limits
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, QueryInput, RankInput, RankStage
from engine.rankings import check_pipeline, query_columns
from engine.types import AttributeSpec, AttributeType, Schema

SCHEMA = Schema(
    "jobs",
    dimension=2,
    attributes=(
        AttributeSpec("pay", AttributeType.FLOAT),
        AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True),
        AttributeSpec("place", AttributeType.KEYWORD),
        AttributeSpec("note", AttributeType.FLOAT, filterable=False),
        AttributeSpec("born", AttributeType.TIMESTAMP),
    ),
)


def pipeline(*inputs: RankInput, retrieve: int = 10, **stage: float) -> Pipeline:
    return Pipeline(retrieve, replace(RankStage("m", inputs), **stage))


def test_a_sound_pipeline_is_let_pass() -> None:
    inputs = (LegInput("similarity"), NumberInput("pay"), NumberInput("clicks"), KeywordInput("place", buckets=4))
    check_pipeline(pipeline(*inputs, QueryInput("user", 4095 - 6)), SCHEMA, Limits(), "pipeline")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (pipeline(), "rank.inputs: is empty"),
        (pipeline(LegInput("x"), retrieve=0), "pipeline.retrieve: 0 is not at least 1"),
        (pipeline(LegInput("x"), retrieve=1001), "1001 is beyond the limit of 1000"),
        (pipeline(LegInput("x"), max_candidates=200_000), "200000 is beyond the limit of 100000"),
        (pipeline(LegInput("x"), deadline_share=0.0), "deadline_share: 0.0 is not in"),
        (pipeline(LegInput("x"), LegInput("x", "raw")), r"inputs\[1\]: two inputs are called 'x'"),
        (pipeline(LegInput("")), r"inputs\[0\].leg: is empty"),
        (pipeline(LegInput("x", missing=float("nan"))), "not a finite float32"),
        (pipeline(NumberInput("pay", missing=1e39)), "not a finite float32"),
        (pipeline(NumberInput("nothing")), "no such attribute"),
        (pipeline(NumberInput("born")), "is a timestamp, which is none of int, float, bool"),
        (pipeline(NumberInput("note")), "neither filterable nor volatile"),
        (pipeline(KeywordInput("pay", buckets=3)), "is a float, which is none of keyword"),
        (pipeline(KeywordInput("place")), "give a vocabulary, or a number of buckets"),
        (pipeline(KeywordInput("place", ("a",), 3)), "and not both"),
        (pipeline(KeywordInput("place", ("a", "a"))), "has a keyword twice"),
        (pipeline(QueryInput("q", 0)), "size: 0 is not at least 1"),
        (pipeline(QueryInput("q", 3, (1.0, 2.0))), "has 2 numbers for a size of 3"),
        (pipeline(QueryInput("q", 4097)), "4097 is beyond the limit of 4096 columns"),
    ],
)
def test_what_no_collection_could_rank_by_is_refused_by_its_field(wrong: Pipeline, match: str) -> None:
    with pytest.raises(EngineError, match=match):
        check_pipeline(wrong, SCHEMA, Limits(), "pipeline")


def test_query_features_are_put_in_the_order_of_the_inputs_with_defaults() -> None:
    asked = pipeline(
        QueryInput("b", 2, (7.0,)), LegInput("similarity"), QueryInput("a", missing=(0.5,)), QueryInput("c")
    )
    assert query_columns(asked, {"c": (1.0,), "other": (3.0,)}, "params").tolist() == [7, 7, 0.5, 1]
    assert query_columns(asked, {"c": (1.0,), "b": (3.0, 4.0)}, "params").dtype == np.float32
    for given, match in (
        ({}, r"params.query_features\[c\]: is missing"),
        ({"c": (np.inf,)}, "finite"),
        ({"c": ()}, "0 numbers"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            query_columns(asked, given, "params")
