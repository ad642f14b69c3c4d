"""What scores of a batch have beside similarity: features of a table, and extras that single rows get from a query.

Also the legs of the hits' scores, told one by one: they are taken in the order told and added up in float32, so that
their sum is the score to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.backend.protocol import Backend, TopK
from engine.index.column_types import KeywordColumn
from engine.index.features import DecayFeature, FeatureSpec, FeatureTable
from engine.index.version_index import VersionIndex
from engine.pipeline.scoring import SIMILARITY, CompiledScoring
from engine.scoring import Overlap
from engine.types import Float32Array, Int64Array, Uint8Array
from kernels.fusion import Fusion


@dataclass(frozen=True, slots=True, eq=False)
class ExtraLeg:
    """Of the rows of an ``Extra``: what they have raw and normalised, float32 [n], and with which weight it counts."""

    name: str
    weight: float
    raw: Float32Array
    normalised: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """Rows int64 [n], ascending, that get more than others from a query, by legs."""

    rows: Int64Array
    legs: Sequence[ExtraLeg]

    def dense(self, n_rows: int) -> Float32Array:
        """What every row gets: float32 [n_rows]."""
        total = np.zeros(len(self.rows), np.float32)
        for leg in self.legs:
            total += np.float32(leg.weight) * leg.normalised
        spread = np.zeros(n_rows, np.float32)
        spread[self.rows] = total
        return spread


@dataclass(frozen=True, slots=True, eq=False)
class Fusing:
    """How the queries of a cohort are scored, one scoring and one extra for each; ``table``: None without features."""

    scorings: Sequence[CompiledScoring]
    table: FeatureTable | None
    extras: Sequence[Extra | None]
    spread: dict[int, Float32Array] = field(default_factory=dict)

    def of(self, query: int) -> Fusing:
        """That of one query."""
        return Fusing([self.scorings[query]], self.table, [self.extras[query]], self.spread)

    def extra_rows(self, query: int) -> Int64Array:
        extra = self.extras[query]
        return np.zeros(0, np.int64) if extra is None else extra.rows

    def dense(self, query: int, n_rows: int) -> Float32Array | None:
        """The extra of one query for every row, made once."""
        extra = self.extras[query]
        if extra is None or not len(extra.rows):
            return None
        if id(extra) not in self.spread:
            self.spread[id(extra)] = extra.dense(n_rows)
        return self.spread[id(extra)]


def fusion_of(fusings: Sequence[Fusing | None], n_rows: int) -> Fusion | None:
    """One fusion for the queries of several cohorts, which are fused with one table, or not at all."""
    if fusings[0] is None:
        return None
    own = [one for one in fusings if one is not None]
    assert len(own) == len(fusings)
    table = own[0].table
    scorings = [scoring for one in own for scoring in one.scorings]
    return Fusion(
        scales=np.array([one.similarity for one in scorings], np.float32),
        weights=np.array([one.weights for one in scorings], np.float32).reshape(len(scorings), -1),
        features=table.segments if table is not None else (),
        extras=[one.dense(query, n_rows) for one in own for query in range(len(one.scorings))],
    )


def without_extras(fusion: Fusion) -> Fusion:
    return fusion._replace(extras=[None] * len(fusion.extras))


def overlap_leg(index: VersionIndex, overlap: Overlap) -> tuple[Int64Array, Float32Array]:
    """Rows that have some of the keywords, and the share of them that each has: float32, by weight."""
    column = index.columns.column(overlap.attribute)
    assert isinstance(column, KeywordColumn)
    weights = np.array(overlap.value_weights or [1.0] * len(overlap.values), np.float64)
    shares = np.zeros(index.rows.n_rows, np.float64)
    for value, share in zip(overlap.values, (weights / weights.sum()).tolist(), strict=True):
        shares[np.asarray(column.rows([value]), np.int64)] += share
    rows = np.flatnonzero(shares)
    return rows, shares[rows].astype(np.float32)


def extra_of(legs: Sequence[tuple[str, float, Int64Array, Float32Array, Float32Array]], mask: Uint8Array) -> Extra:
    """An extra of legs (name, weight, rows, raw, normalised), less the rows that do not pass the mask."""
    union = np.unique(np.concatenate([np.zeros(0, np.int64), *(rows for _, _, rows, _, _ in legs)]))
    union = union[(mask[union >> 3] >> (union & 7).astype(np.uint8)) & 1 > 0]
    told = []
    for name, weight, rows, raw, normalised in legs:
        places = np.searchsorted(rows, union)
        is_there = (places < len(rows)) & (rows[np.minimum(places, len(rows) - 1)] == union) if len(rows) else False
        own_raw, own = np.zeros(len(union), np.float32), np.zeros(len(union), np.float32)
        if len(rows):
            own_raw[is_there], own[is_there] = raw[places[is_there]], normalised[places[is_there]]
        told.append(ExtraLeg(name, weight, own_raw, own))
    return Extra(union, told)


# Legs of hits


@dataclass(frozen=True, slots=True, eq=False)
class Legs:
    """Of hits [m, k]: by name, raw and normalised float32 [m, k] and the weight of each query, float32 [m]."""

    names: tuple[str, ...]
    raw: Sequence[Float32Array]
    normalised: Sequence[Float32Array]
    weights: Sequence[Float32Array]

    @property
    def scores(self) -> Float32Array:
        """The sum of all, leg after leg: float32 [m, k]."""
        total = np.zeros(self.normalised[0].shape, np.float32)
        for normalised, weights in zip(self.normalised, self.weights, strict=True):
            total += weights[:, None] * normalised
        return total


def legs_of(backend: Backend, index: VersionIndex, vectors: Float32Array, rows: Int64Array, fusing: Fusing) -> Legs:
    """Of rows int64 [m, k] found for queries float32 [m, d]; -1 is padding."""
    similarities = _similarities(backend, index, vectors, rows)
    names, raw, normalised, weights = [SIMILARITY], [similarities], [similarities], [_weights(fusing, SIMILARITY)]
    found = np.maximum(rows, 0)
    if fusing.table is not None:
        features = fusing.table.rows(found.ravel()).reshape(*rows.shape, -1)
        for place, spec in enumerate(fusing.table.specs):
            names.append(fusing.scorings[0].names[place])
            raw.append(_raw(index, spec, found, fusing.table.now))
            normalised.append(features[:, :, place])
            weights.append(np.array([one.weights[place] for one in fusing.scorings], np.float32))
    for name in dict.fromkeys(leg.name for extra in fusing.extras if extra is not None for leg in extra.legs):
        own = [_extra_values(fusing.extras[query], name, rows[query]) for query in range(len(rows))]
        names.append(name)
        raw.append(np.stack([one[0] for one in own]))
        normalised.append(np.stack([one[1] for one in own]))
        weights.append(np.array([one[2] for one in own], np.float32))
    return Legs(tuple(names), raw, normalised, weights)


def reordered(top: TopK, legs: Legs) -> tuple[TopK, Legs]:
    """The hits by the scores that their legs add up to, equal ones by row; padding stays behind."""
    scores = np.where(top.rows < 0, -np.inf, legs.scores).astype(np.float32)
    order = np.lexsort((top.rows, -scores, top.rows < 0), axis=1)

    def taken(values: Float32Array) -> Float32Array:
        return np.take_along_axis(values, order, axis=1)

    moved = Legs(legs.names, [*map(taken, legs.raw)], [*map(taken, legs.normalised)], legs.weights)
    return TopK(np.take_along_axis(top.rows, order, axis=1), taken(scores)), moved


def _weights(fusing: Fusing, name: str) -> Float32Array:
    return np.array([getattr(one, name) for one in fusing.scorings], np.float32)


def _similarities(backend: Backend, index: VersionIndex, vectors: Float32Array, rows: Int64Array) -> Float32Array:
    """float32 [m, k], 0 for padding."""
    listed = [np.unique(own[own >= 0]) for own in rows]
    top = backend.gather(index.vectors, vectors, listed, k=max(1, rows.shape[1]))
    found = np.zeros(rows.shape, np.float32)
    for query, own in enumerate(rows):
        order = np.argsort(top.rows[query][: len(listed[query])])
        scores = top.scores[query][order]
        is_hit = own >= 0
        found[query, is_hit] = scores[np.searchsorted(listed[query], own[is_hit])]
    return found


def _raw(index: VersionIndex, spec: FeatureSpec, rows: Int64Array, now: int) -> Float32Array:
    """What the attribute has, ages in seconds, as float32; NaN where an item has none."""
    column = index.columns.require_numbers(spec.attribute)
    values, present = index.columns.numbers_at(column, rows)
    if isinstance(spec, DecayFeature):
        values = spec.ages(values, now)
    return np.where(present, values, np.nan).astype(np.float32)


def _extra_values(extra: Extra | None, name: str, rows: Int64Array) -> tuple[Float32Array, Float32Array, float]:
    raw, normalised = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    leg = None if extra is None else next((one for one in extra.legs if one.name == name), None)
    if extra is None or leg is None:
        return raw, normalised, 0.0
    places = np.searchsorted(extra.rows, rows)
    is_there = (places < len(extra.rows)) & (extra.rows[np.minimum(places, len(extra.rows) - 1)] == rows) if len(
        extra.rows
    ) else np.zeros(len(rows), np.bool_)
    raw[is_there], normalised[is_there] = leg.raw[places[is_there]], leg.normalised[places[is_there]]
    return raw, normalised, leg.weight
