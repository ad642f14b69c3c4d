"""Queries times objectives, as values: who asks what, by which name, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidArgument, LimitExceeded, UnknownAttribute
from engine.limits import Limits
from engine.pipeline.calls import SearchCall, check_call
from engine.pipeline.compiling import Compiler
from engine.pipeline.objectives import for_each_objective
from engine.scoring import Feature, Scoring
from engine.selection import RankFusion
from engine.types import AttributeSpec, AttributeType, Examples, Filter, Match, Schema, SearchParams

SCHEMA = Schema("w", dimension=2, attributes=(AttributeSpec("size", AttributeType.INT),))
TWO = (Scoring(terms=(Feature("size"),)), Scoring(similarity=0.5))
LIMITS = Limits(batch_queries=6, reply_hits=60)


def expanded(call: SearchCall, objectives: Sequence[Scoring] = TWO) -> SearchCall:
    return for_each_objective(call, objectives, SCHEMA, LIMITS)


@given(st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_each_query_is_asked_by_each_objective_one_after_the_other(n: int, n_objectives: int, has_own: bool) -> None:
    limits = Limits(batch_queries=16)
    objectives = [Scoring(similarity=1.0 + number) for number in range(n_objectives)]
    texts = [f"text {number}" for number in range(n)]
    params = [SearchParams(k=1 + place) for place in range(n if has_own else 1)]
    call = for_each_objective(SearchCall(params, texts=texts), objectives, SCHEMA, limits)
    check_call(call, limits)
    asked = call.of_each(call.params)
    assert call.n_queries == len(asked) == n * n_objectives
    for place in range(call.n_queries):
        query, objective = divmod(place, n_objectives)
        own = query if has_own else 0
        assert call.own_text(place) == texts[query]
        assert asked[place] == SearchParams(k=1 + own, scoring=objectives[objective])
        assert call.query_field(place) == ("query" if n == 1 else f"query[{query}]")
        assert call.params_field(place) == (f"params[{own}]" if has_own and n > 1 else "params")
    assert call.shares_params == (not has_own or n == 1)


def test_queries_of_every_kind_are_asked_by_each_objective() -> None:
    vectors = np.array([[1, 2], [3, 4]], np.float32)
    params = [SearchParams()]
    assert expanded(SearchCall(params, vectors=vectors)).vectors.tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]  # type: ignore[union-attr]
    assert expanded(SearchCall(params, item_ids=("a", "b"))).item_ids == ["a", "a", "b", "b"]
    examples = [Examples(("a",)), InvalidArgument("query[1].examples", "is wrong")]
    assert expanded(SearchCall(params, examples=examples)).examples == [one for one in examples for _ in range(2)]
    named = expanded(SearchCall(params, named_texts={"t": ["x", "y"]}, named_vectors={"v": vectors}))
    assert named.named_texts == {"t": ["x", "x", "y", "y"]}
    assert named.named_vectors["v"].tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        (SearchParams(scoring=Scoring()), r"params\.scoring: is given beside objectives, which stand in its place"),
        (SearchParams(rank_fusion=RankFusion()), r"params\.rank_fusion: is given beside objectives, whose scores"),
        (SearchParams(page=True), r"params\.page: is given beside objectives, each of which would have pages"),
        (SearchParams(cursor=b"c"), r"params\.cursor: is given beside objectives, and is of one of them"),
    ],
)
def test_what_goes_with_no_objectives_is_refused_by_name(params: SearchParams, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        expanded(SearchCall([params], texts=["a", "b"]))
    call = expanded(SearchCall([SearchParams(), params], texts=["a", "b"]))
    assert [isinstance(one, EngineError) for one in call.params] == [False, False, True, True]
    assert isinstance(call.params[2], InvalidArgument)
    assert call.params[2].message.startswith("params[1].")


@pytest.mark.parametrize(
    ("objective", "error", "told"),
    [
        (Scoring("void"), InvalidArgument, r"objectives\[1\]\.profile: the collection has no profile 'void'"),
        (Scoring(similarity=-1.0), InvalidArgument, r"objectives\[1\]\.similarity: -1.0 is below 0"),
        (Scoring(terms=(Feature("void"),)), UnknownAttribute, "void"),
    ],
)
def test_what_is_wrong_with_an_objective_is_wrong_with_the_call(
    objective: Scoring, error: type[EngineError], told: str
) -> None:
    with pytest.raises(error, match=told):
        expanded(SearchCall([SearchParams(), SearchParams()], texts=["a", "b"]), [Scoring(), objective])


def test_queries_times_objectives_and_their_hits_are_limited() -> None:
    four = SearchCall([SearchParams(k=11)], texts=["a", "b", "c", "d"])
    told = r"objectives: 8 is beyond the limit of 6 queries a call \(queries x objectives\)"
    with pytest.raises(LimitExceeded, match=told):
        expanded(four)
    check_call(expanded(replace(four, texts=["a", "b"])), LIMITS)
    with pytest.raises(LimitExceeded, match=r"params\.k: 66 is beyond the limit of 60 hits a reply"):
        check_call(expanded(replace(four, texts=["a", "b", "c"])), LIMITS)
    with pytest.raises(InvalidArgument, match="queries: the call has no query"):
        expanded(replace(four, texts=[]))
    with pytest.raises(InvalidArgument, match="params: 2 given for 4 queries"):
        expanded(replace(four, params=[SearchParams(), SearchParams()]))


def test_a_filter_and_a_scoring_are_compiled_once_whoever_has_them() -> None:
    params = SearchParams(filter=Filter(must=(Match("size", any_of=(1,)),)))
    call = expanded(SearchCall([params, SearchParams(mode="dense")], texts=["a", "b"]))
    compiler = Compiler(SCHEMA, LIMITS)
    asked = [one for one in call.params if isinstance(one, SearchParams)]
    assert len({id(compiler.program(one.filter)) for one in asked}) == 2
    scorings = [compiler.scoring(one, "scoring") for one in asked]
    assert len(set(map(id, scorings))) == 4, "a mode may weigh an objective's legs otherwise"
    assert all(compiler.scoring(one, "scoring") is scoring for one, scoring in zip(asked, scorings, strict=True))
