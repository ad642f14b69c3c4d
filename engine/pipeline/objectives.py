"""Several objectives: each query of a call is asked once for each of several scorings, as queries of one call. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from engine.errors import EngineError, InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.pipeline.calls import SearchCall, check_call
from engine.scoring import Scoring
from engine.scorings import resolve_scoring
from engine.types import Schema, SearchParams

T = TypeVar("T")


def for_each_objective(call: SearchCall, objectives: Sequence[Scoring], schema: Schema, limits: Limits) -> SearchCall:
    """The call with each query once for each objective, one after the other, all else of it shared.

    Raises:
        InvalidArgument: something is wrong with the call or an objective, or with parameters that all queries share;
            with those of one query it fails that query alone.
        UnknownAttribute: the schema lacks an attribute that an objective reads.
        LimitExceeded: they are more queries than a call may have.
    """
    check_call(call, limits)
    n = len(objectives)
    if call.n_queries * n > limits.batch_queries:
        unit = "queries a call (queries x objectives)"
        raise LimitExceeded("objectives", value=call.n_queries * n, limit=limits.batch_queries, unit=unit)
    for place, objective in enumerate(objectives):
        resolve_scoring(objective, schema, limits, f"objectives[{place}]")
    params: list[SearchParams | EngineError] = []
    for place, one in enumerate(call.params):
        try:
            params.extend(_by_each(one, objectives, call.params_field(place)))
        except EngineError as error:
            if call.shares_params:
                raise
            params.extend([error] * n)
    return replace(
        call,
        params=params,
        vectors=None if call.vectors is None else np.repeat(call.vectors, n, axis=0),
        texts=_repeated(call.texts, n),
        item_ids=_repeated(call.item_ids, n),
        examples=_repeated(call.examples, n),
        named_texts={name: _repeated(texts, n) for name, texts in call.named_texts.items()},
        named_vectors={name: np.repeat(vectors, n, axis=0) for name, vectors in call.named_vectors.items()},
        n_objectives=n,
    )


def _by_each(params: SearchParams | EngineError, objectives: Sequence[Scoring], field: str) -> list[SearchParams]:
    if isinstance(params, EngineError):
        raise params
    for name, is_given, why in (
        ("scoring", params.scoring is not None, "which stand in its place"),
        ("rank_fusion", params.rank_fusion is not None, "whose scores it does not add up"),
        ("page", params.page, "each of which would have pages of its own"),
        ("cursor", bool(params.cursor), "and is of one of them"),
    ):
        if is_given:
            raise InvalidArgument(f"{field}.{name}", f"is given beside objectives, {why}")
    return [replace(params, scoring=objective) for objective in objectives]


def _repeated(given: Sequence[T], n: int) -> list[T]:
    return [one for one in given for _ in range(n)]
