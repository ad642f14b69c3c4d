"""Similarity and terms fused by ranks: each finds its own best items, which score by the places they have in either.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): weight / (constant + place), places from 1 on. Knows
nothing of how either leg is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError, InvalidArgument
from engine.pipeline.calls import SearchAnswer, SearchCall, field_of
from engine.scorings import check_least_score
from engine.selection import RankFusion
from engine.types import Float32Array, LegColumn, SearchParams

LEGS = ("dense", "lexical")
_MOST_WEIGHT = 1e6
_LEFT_OUT = InvalidArgument("params", "is not searched by terms")


def is_fused_by_ranks(call: SearchCall) -> bool:
    """Whether any query of the call is."""
    return any(isinstance(one, SearchParams) and one.rank_fusion is not None for one in call.params)


def calls_of(call: SearchCall) -> tuple[SearchCall, SearchCall]:
    """A call for the dense leg of each query, queries that are not fused by ranks as they are; and one for the lexical
    leg of those that are.
    """
    each = list(call.params) * call.n_queries if len(call.params) == 1 else list(call.params)
    dense: list[SearchParams | EngineError] = []
    lexical: list[SearchParams | EngineError] = []
    for place, params in enumerate(each):
        field = field_of("params", place, len(call.params))
        if isinstance(params, EngineError) or params.rank_fusion is None:
            # Columns of legs are of all hits of a call, which ranks have chosen anew.
            has_legs = isinstance(params, SearchParams) and params.legs
            told = InvalidArgument(f"{field}.legs", "are not told beside queries that are fused by ranks")
            dense.append(told if has_legs else params)
            lexical.append(_LEFT_OUT)
            continue
        try:
            _check(params, field)
            if call.item_inputs is not None:
                raise InvalidArgument(f"{field}.rank_fusion", "goes with no ranking by the pipeline: set rank to off")
        except EngineError as error:
            dense.append(error)
            lexical.append(error)
            continue
        leg = replace(params, k=max(params.k, params.rank_fusion.depth), rank_fusion=None, min_score=None, legs=False)
        dense.append(replace(leg, mode="dense"))
        lexical.append(replace(leg, mode="lexical", facets=()))
    return replace(call, params=dense), replace(call, params=lexical, item_inputs=None)


def fused_by_ranks(call: SearchCall, dense: SearchAnswer, lexical: SearchAnswer) -> SearchAnswer:
    """The answer of the call from those of its legs."""
    each = list(call.params) * call.n_queries if len(call.params) == 1 else list(call.params)
    errors: list[EngineError | None] = []
    fused = []
    for place, params in enumerate(each):
        error, hits = _error_of(dense, place), _hits(dense, place)
        if isinstance(params, SearchParams) and params.rank_fusion is not None:
            error = error or _error_of(lexical, place)
            found = _unfused(hits) if error else _query(params, [hits, _hits(lexical, place)])
        else:
            found = _unfused(hits)
        errors.append(error)
        fused.append(found if error is None else _unfused((hits[0][:0], hits[1][:0])))
    counts = np.array([len(ids) for ids, _, _ in fused], np.uint32)
    return replace(
        dense,
        counts=counts,
        ids=np.concatenate([ids for ids, _, _ in fused]),
        scores=np.concatenate([scores for _, scores, _ in fused]),
        errors=errors if any(errors) else (),
        legs=_legs(each, [legs for _, _, legs in fused], counts) if _wants_legs(each) else (),
        sequence=min(dense.sequence, lexical.sequence),
    )


_Hits = tuple[npt.NDArray[Any], Float32Array]
_Leg = tuple[Float32Array, Float32Array, float]
"""Raw, normalised, weight."""


def _check(params: SearchParams, field: str) -> None:
    fusion = params.rank_fusion
    assert fusion is not None
    for name, given in (
        ("group_by", params.group_by is not None),
        ("diversity", params.diversity is not None),
        ("page", params.page or bool(params.cursor)),
        ("mode", params.mode is not None),
    ):
        if given:
            raise InvalidArgument(
                f"{field}.{name}", "is given beside rank_fusion, which knows none: leave one of them out"
            )
    if params.min_score is not None:
        check_least_score(params.min_score, f"{field}.min_score")
    if not (0 <= fusion.constant < np.inf):
        raise InvalidArgument(f"{field}.rank_fusion.constant", f"{fusion.constant} is not a number from 0 on")
    if fusion.depth < 1:
        raise InvalidArgument(f"{field}.rank_fusion.depth", f"{fusion.depth} is not at least 1")
    for name in LEGS:
        weight = getattr(fusion, name)
        if not 0 <= weight <= _MOST_WEIGHT:
            raise InvalidArgument(f"{field}.rank_fusion.{name}", f"{weight} is not a number from 0 to {_MOST_WEIGHT:g}")


def _query(params: SearchParams, found: Sequence[_Hits]) -> tuple[npt.NDArray[Any], Float32Array, list[_Leg]]:
    """The best k ids, their scores, and what each leg gave them; ties go to the better dense hit."""
    fusion = params.rank_fusion
    assert fusion is not None
    ids = list(dict.fromkeys(one for own, _ in found for one in own[: fusion.depth].tolist()))
    place_of = {one: place for place, one in enumerate(ids)}
    legs = [_leg(fusion, name, own, place_of) for name, own in zip(LEGS, found, strict=True)]
    scores = np.zeros(len(ids), np.float32)
    for _, normalised, weight in legs:
        scores += np.float32(weight) * normalised
    order = np.argsort(-scores, kind="stable")[: params.k]
    if params.min_score is not None:
        order = order[scores[order] >= params.min_score]
    kept = np.array([ids[place] for place in order.tolist()], found[0][0].dtype)
    return kept, scores[order], [(raw[order], normalised[order], weight) for raw, normalised, weight in legs]


def _leg(fusion: RankFusion, name: str, hits: _Hits, place_of: dict[Any, int]) -> _Leg:
    ids, scores = hits[0][: fusion.depth], hits[1][: fusion.depth]
    at = np.array([place_of[one] for one in ids.tolist()], np.int64)
    raw, normalised = np.zeros(len(place_of), np.float32), np.zeros(len(place_of), np.float32)
    raw[at] = scores
    normalised[at] = 1 / (fusion.constant + 1 + np.arange(len(ids)))
    return raw, normalised, float(getattr(fusion, name))


def _unfused(hits: _Hits) -> tuple[npt.NDArray[Any], Float32Array, list[_Leg]]:
    nothing = np.zeros(len(hits[0]), np.float32)
    return *hits, [(nothing, nothing, 0.0)] * len(LEGS)


def _hits(answer: SearchAnswer, place: int) -> _Hits:
    end = int(answer.counts[: place + 1].sum())
    first = end - int(answer.counts[place])
    return answer.ids[first:end], answer.scores[first:end]


def _error_of(answer: SearchAnswer, place: int) -> EngineError | None:
    return answer.errors[place] if answer.errors else None


def _wants_legs(each: Sequence[SearchParams | EngineError]) -> bool:
    return any(isinstance(one, SearchParams) and one.legs and one.rank_fusion is not None for one in each)


def _legs(
    each: Sequence[SearchParams | EngineError], fused: Sequence[Sequence[_Leg]], counts: npt.NDArray[np.uint32]
) -> list[LegColumn]:
    told = [isinstance(one, SearchParams) and one.legs for one in each]
    columns = []
    for number, name in enumerate(LEGS):
        raw = np.concatenate([own[number][0] for own in fused])
        normalised = np.concatenate([own[number][1] for own in fused])
        weights = np.array([own[number][2] * is_told for own, is_told in zip(fused, told, strict=True)], np.float32)
        columns.append(LegColumn(name, raw, normalised, weights))
    return columns
