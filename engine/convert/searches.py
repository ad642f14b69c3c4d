"""What a search asks for, what it did and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import types
from engine.convert.filters import filter_from, filter_to
from engine.convert.ids import item_id_from, item_id_to, item_ids_to, uint64_ids_from
from engine.convert.items import named_vectors_from, named_vectors_to, value_from, value_to
from engine.convert.scoring import scoring_from, scoring_to
from engine.convert.selection import (
    diversity_from,
    diversity_to,
    facet_from,
    facet_to,
    group_by_from,
    group_by_to,
    rank_fusion_from,
    rank_fusion_to,
)
from engine.convert.tensors import DTYPE_NAMES, DTYPE_VALUES, array_to_tensor, tensor_to_array
from engine.convert.times import duration, seconds
from engine.errors import InvalidArgument
from engine.ranking import RankFallback
from engine.scoring import Mode
from engine.types import Float32Array, ItemId
from engine.v1 import common_pb2, retrieval_pb2

_STRATEGY_NAMES = {strategy: f"STRATEGY_{strategy.name}" for strategy in types.Strategy}
_STRATEGIES: dict[int, types.Strategy] = {
    retrieval_pb2.Strategy.Value(name): strategy for strategy, name in _STRATEGY_NAMES.items()
}


_MODE_VALUES: dict[Mode | None, retrieval_pb2.RetrievalMode] = {
    None: retrieval_pb2.RETRIEVAL_MODE_UNSPECIFIED,
    "dense": retrieval_pb2.RETRIEVAL_MODE_DENSE,
    "lexical": retrieval_pb2.RETRIEVAL_MODE_LEXICAL,
    "hybrid": retrieval_pb2.RETRIEVAL_MODE_HYBRID,
}
_MODES: dict[int, Mode | None] = {value: mode for mode, value in _MODE_VALUES.items()}

_RANK_MODES: dict[retrieval_pb2.RankMode, bool | None] = {
    retrieval_pb2.RANK_MODE_UNSPECIFIED: None,
    retrieval_pb2.RANK_MODE_OFF: False,
    retrieval_pb2.RANK_MODE_ON: True,
}
_RANK_MODE_VALUES: dict[bool | None, retrieval_pb2.RankMode] = {wanted: value for value, wanted in _RANK_MODES.items()}
_FALLBACK_VALUES: dict[RankFallback | None, retrieval_pb2.RankFallback] = {
    None: retrieval_pb2.RANK_FALLBACK_UNSPECIFIED,
    "off": retrieval_pb2.RANK_FALLBACK_OFF,
    "late": retrieval_pb2.RANK_FALLBACK_LATE,
    "failed": retrieval_pb2.RANK_FALLBACK_FAILED,
    "too_many": retrieval_pb2.RANK_FALLBACK_TOO_MANY,
}
_FALLBACKS = {value: fallback for fallback, value in _FALLBACK_VALUES.items()}


def rank_fallback_to(fallback: RankFallback | None) -> retrieval_pb2.RankFallback:
    return _FALLBACK_VALUES[fallback]


def rank_fallback_from(value: retrieval_pb2.RankFallback) -> RankFallback | None:
    """One that is not known here is a failure: the hits are not ranked."""
    return _FALLBACKS.get(value, "failed")


def params_from(message: retrieval_pb2.SearchParams, field: str) -> types.SearchParams:
    if message.strategy not in _STRATEGIES and message.strategy != retrieval_pb2.STRATEGY_UNSPECIFIED:
        raise InvalidArgument(f"{field}.strategy", f"unknown strategy {message.strategy}")
    if message.rank not in _RANK_MODES:
        raise InvalidArgument(f"{field}.rank", f"unknown value {message.rank}")
    return types.SearchParams(
        k=message.k if message.HasField("k") else 10,
        filter=filter_from(message.filter, f"{field}.filter") if message.HasField("filter") else types.Filter(),
        exclude_ids=_excluded(message.exclude_ids, f"{field}.exclude_ids") if message.HasField("exclude_ids") else (),
        exact=message.exact,
        recall_target=message.recall_target if message.HasField("recall_target") else None,
        nprobe=message.nprobe if message.HasField("nprobe") else None,
        rescore_depth=message.rescore_depth if message.HasField("rescore_depth") else None,
        strategy=_STRATEGIES.get(message.strategy),
        scoring=scoring_from(message.scoring, f"{field}.scoring") if message.HasField("scoring") else None,
        mode=_mode_from(message.mode, f"{field}.mode"),
        terms=message.terms,
        legs=message.legs,
        min_score=message.min_score if message.HasField("min_score") else None,
        rank_fusion=rank_fusion_from(message.rank_fusion) if message.HasField("rank_fusion") else None,
        group_by=group_by_from(message.group_by) if message.HasField("group_by") else None,
        diversity=diversity_from(message.diversity) if message.HasField("diversity") else None,
        facets=tuple(map(facet_from, message.facets)),
        rank=_RANK_MODES[message.rank],
        query_features={name: tuple(floats.values) for name, floats in message.query_features.items()},
        page=message.page,
        cursor=message.cursor,
        embedding_weights=dict(message.embedding_weights),
    )


def _mode_from(value: int, field: str) -> Mode | None:
    if value not in _MODES:
        raise InvalidArgument(field, f"unknown mode {value}")
    return _MODES[value]


def _excluded(message: common_pb2.ItemIds, field: str) -> tuple[ItemId, ...] | npt.NDArray[np.uint64]:
    numbers = uint64_ids_from(message, field)
    if numbers.size and message.texts:
        raise InvalidArgument(field, "has numbers and texts: one collection's ids are of one kind")
    return numbers if numbers.size else tuple(message.texts)


def params_to(params: types.SearchParams) -> retrieval_pb2.SearchParams:
    message = retrieval_pb2.SearchParams(
        k=params.k,
        exact=params.exact,
        recall_target=params.recall_target,
        nprobe=params.nprobe,
        rescore_depth=params.rescore_depth,
        strategy=_STRATEGY_NAMES[params.strategy] if params.strategy else None,
        scoring=None if params.scoring is None else scoring_to(params.scoring),
        mode=_MODE_VALUES[params.mode],
        terms=params.terms,
        legs=params.legs,
        min_score=params.min_score,
        rank_fusion=None if params.rank_fusion is None else rank_fusion_to(params.rank_fusion),
        group_by=None if params.group_by is None else group_by_to(params.group_by),
        diversity=None if params.diversity is None else diversity_to(params.diversity),
        facets=map(facet_to, params.facets),
        rank=_RANK_MODE_VALUES[params.rank],
        query_features={name: retrieval_pb2.Floats(values=one) for name, one in params.query_features.items()},
        page=params.page,
        cursor=params.cursor,
        embedding_weights=params.embedding_weights,
    )
    if not params.filter.is_empty():
        message.filter.CopyFrom(filter_to(params.filter))
    if len(params.exclude_ids):
        message.exclude_ids.CopyFrom(item_ids_to(params.exclude_ids))
    return message


def explanation_to(explanation: types.Explanation) -> retrieval_pb2.Explanation:
    times = explanation.times
    return retrieval_pb2.Explanation(
        strategy=_STRATEGY_NAMES[explanation.strategy],
        index_version=explanation.index_version,
        encoder_version=explanation.encoder_version,
        selectivity=explanation.selectivity,
        selectivity_exact=explanation.selectivity_exact,
        nprobe=explanation.nprobe,
        lists_scanned=explanation.lists_scanned,
        rows_scanned=explanation.rows_scanned,
        rescored=explanation.rescored,
        expected_recall=explanation.expected_recall,
        second_pass=explanation.second_pass,
        device=explanation.device,
        score_dtype=DTYPE_VALUES[explanation.score_dtype],
        batch_size=explanation.batch_size,
        partial=explanation.partial,
        truncated_tokens=explanation.truncated_tokens,
        sequence=explanation.sequence,
        expected_recall_provisional=explanation.expected_recall_provisional,
        profile=explanation.profile,
        group_rounds=explanation.group_rounds,
        times=retrieval_pb2.StageTimes(
            queue=duration(times.queue),
            encode=duration(times.encode),
            filter=duration(times.filter),
            search=duration(times.search),
            fuse=duration(times.fuse),
            rank=duration(times.rank),
        ),
        ranked=explanation.ranked,
        rank_fallback=rank_fallback_to(explanation.rank_fallback),
        candidates_ranked=explanation.candidates_ranked,
        ranker_version=explanation.ranker_version,
    )


def explanation_from(message: retrieval_pb2.Explanation) -> types.Explanation:
    times = message.times
    return types.Explanation(
        strategy=_STRATEGIES.get(message.strategy, types.Strategy.NONE),
        index_version=message.index_version,
        encoder_version=message.encoder_version,
        selectivity=message.selectivity,
        selectivity_exact=message.selectivity_exact,
        nprobe=message.nprobe,
        lists_scanned=message.lists_scanned,
        rows_scanned=message.rows_scanned,
        rescored=message.rescored,
        expected_recall=message.expected_recall,
        second_pass=message.second_pass,
        device=message.device,
        score_dtype=DTYPE_NAMES[message.score_dtype],
        batch_size=message.batch_size,
        partial=message.partial,
        truncated_tokens=message.truncated_tokens,
        sequence=message.sequence,
        times=types.StageTimes(
            seconds(times.queue),
            seconds(times.encode),
            seconds(times.filter),
            seconds(times.search),
            seconds(times.fuse),
            seconds(times.rank),
        ),
        ranked=message.ranked,
        rank_fallback=rank_fallback_from(message.rank_fallback),
        candidates_ranked=message.candidates_ranked,
        ranker_version=message.ranker_version,
        expected_recall_provisional=message.expected_recall_provisional,
        profile=message.profile,
        group_rounds=message.group_rounds,
    )


def explanations_to(explanations: Sequence[types.Explanation]) -> list[retrieval_pb2.Explanation]:
    """One message for each; one that stands for several queries is made once."""
    made = {id(one): one for one in explanations}
    messages = {key: explanation_to(one) for key, one in made.items()}
    return [messages[id(one)] for one in explanations]


def add_hits(response: retrieval_pb2.SearchResponse, ids: npt.NDArray[Any], scores: Float32Array) -> None:
    """Hits of ids and scores alone; several times quicker than ``hit_to`` of each."""
    is_number = ids.dtype == np.uint64
    for item_id, score in zip(ids.tolist(), scores.tolist(), strict=True):
        hit = response.hits.add(score=score)
        if is_number:
            hit.id.number = item_id
        else:
            hit.id.text = item_id


def add_legs(response: retrieval_pb2.SearchResponse, legs: Sequence[types.LegColumn]) -> None:
    """The legs of the hits of one query, which are there in the same order."""
    for leg in legs:
        weight = float(leg.weights[0])
        for hit, raw, normalised in zip(response.hits, leg.raw.tolist(), leg.normalised.tolist(), strict=True):
            hit.legs.add(name=leg.name, raw=raw, normalised=normalised, weight=weight)


def leg_column_to(leg: types.LegColumn) -> retrieval_pb2.LegColumn:
    columns = (leg.raw, leg.normalised, leg.weights)
    raw, normalised, weights = (column.astype("<f4", copy=False).tobytes() for column in columns)
    return retrieval_pb2.LegColumn(name=leg.name, raw=raw, normalised=normalised, weights=weights)


def leg_column_from(message: retrieval_pb2.LegColumn) -> types.LegColumn:
    columns = (message.raw, message.normalised, message.weights)
    return types.LegColumn(message.name, *(np.frombuffer(column, "<f4") for column in columns))


def hit_to(hit: types.Hit) -> retrieval_pb2.Hit:
    message = retrieval_pb2.Hit(
        id=item_id_to(hit.id),
        score=hit.score,
        attributes={name: value_to(value) for name, value in hit.attributes.items()},
        text=dict(hit.text),
        legs=[
            retrieval_pb2.LegScore(name=leg.name, raw=leg.raw, normalised=leg.normalised, weight=leg.weight)
            for leg in hit.legs
        ],
        named_vectors=named_vectors_to(hit.named_vectors),
    )
    if hit.vector is not None:
        message.vectors.CopyFrom(array_to_tensor(np.atleast_2d(hit.vector)))
    return message


def hit_from(message: retrieval_pb2.Hit) -> types.Hit:
    attributes = _attributes_from(message.attributes)
    vector = tensor_to_array(message.vectors, "vectors") if message.HasField("vectors") else None
    legs = tuple(types.LegScore(leg.name, leg.raw, leg.normalised, leg.weight) for leg in message.legs)
    named = named_vectors_from(message.named_vectors, "named_vectors")
    return types.Hit(item_id_from(message.id, "id"), message.score, attributes, dict(message.text), vector, legs, named)


def _attributes_from(wire: Mapping[str, common_pb2.Value]) -> dict[str, types.AttributeValue]:
    values = {name: value_from(value, name) for name, value in wire.items()}
    return {name: value for name, value in values.items() if value is not None}
