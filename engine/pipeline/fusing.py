"""What scores of a batch have beside similarity: features of a table, and extras that single rows get from a query.

Also the legs of the hits' scores, told one by one: they are taken in the order told and added up in float32, so that
their sum is the score to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, TopK
from engine.embeddings import parts
from engine.index.column_types import KeywordColumn
from engine.index.features import DecayFeature, FeatureSpec, FeatureTable, SumFeature
from engine.index.growing import has_rows
from engine.index.lexical import TermWeights
from engine.index.version_index import VersionIndex
from engine.pipeline.scoring import CompiledScoring
from engine.scoring import Overlap
from engine.scorings import LEXICAL, SIMILARITY, similarity_leg
from engine.types import Float32Array, Int64Array, LegColumn, Uint8Array
from kernels.fusion import Fusion

_LARGEST = float(np.finfo(np.float32).max)


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

    def matching(self, name: str) -> Int64Array:
        """The rows that have some of a leg."""
        found = [self.rows[leg.normalised > 0] for leg in self.legs if leg.name == name]
        return found[0] if found else np.zeros(0, np.int64)

    def dense(self, n_rows: int) -> Float32Array:
        """What every row gets: float32 [n_rows]."""
        total = np.zeros(len(self.rows), np.float32)
        for leg in self.legs:
            total += np.float32(leg.weight) * leg.normalised
        spread = np.zeros(n_rows, np.float32)
        spread[self.rows] = total
        return spread

    def among(self, mask: Uint8Array) -> Extra:
        """Of the rows that the mask has."""
        kept = has_rows(mask, self.rows)
        legs = [replace(leg, raw=leg.raw[kept], normalised=leg.normalised[kept]) for leg in self.legs]
        return Extra(self.rows[kept], legs)


@dataclass(frozen=True, slots=True, eq=False)
class Fusing:
    """How the queries of a cohort are scored, one scoring, one array of weights and one extra for each; ``table``: of
    the features that are weighted so, None without any.
    """

    scorings: Sequence[CompiledScoring]
    table: FeatureTable | None
    weights: Sequence[Float32Array]
    extras: Sequence[Extra | None]
    spread: dict[int, Float32Array] = field(default_factory=dict)

    def of(self, query: int) -> Fusing:
        """That of one query."""
        return Fusing([self.scorings[query]], self.table, [self.weights[query]], [self.extras[query]], self.spread)

    def among(self, mask: Uint8Array) -> Fusing:
        """For fewer rows."""
        extras = [None if one is None else one.among(mask) for one in self.extras]
        return Fusing(self.scorings, self.table, self.weights, extras)

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
    each = [weights for one in own for weights in one.weights]
    is_shared = all(weights is each[0] for weights in each)  # as of most calls, whose queries share their parameters
    return Fusion(
        scales=np.array([one.similarity for one in scorings], np.float32),
        weights=np.broadcast_to(each[0], (len(each), len(each[0]))) if is_shared else np.stack(each),
        features=table.segments if table is not None else (),
        extras=[one.dense(query, n_rows) for one in own for query in range(len(one.scorings))],
        stamps=table.stamps if table is not None else None,
    )


def without_extras(fusion: Fusion) -> Fusion:
    return fusion._replace(extras=[None] * len(fusion.extras))


def find_extra(index: VersionIndex, scoring: CompiledScoring, mask: Uint8Array, terms: TermWeights | None) -> Extra:
    """What rows that pass the mask get from keywords, and from terms where the query has a text for them."""
    found: list[_FoundLeg] = []
    for overlap in scoring.overlaps:
        rows, shares = _overlap(index, overlap)
        found.append((overlap.name, overlap.weight, rows, shares, shares))
    if terms is not None:
        rows, scores = _lexical(index, terms, mask)
        most = scores.max(initial=0.0)
        found.append((LEXICAL, scoring.lexical, rows, scores, scores / most if most > 0 else scores))
    union = np.unique(np.concatenate([np.zeros(0, np.int64), *(rows for _, _, rows, _, _ in found)]))
    union = union[has_rows(mask, union)]
    legs = []
    for name, weight, rows, raw, normalised in found:
        at, is_there = _places(rows, union)
        legs.append(ExtraLeg(name, weight, _spread(raw, at, is_there), _spread(normalised, at, is_there)))
    return Extra(union, legs)


_FoundLeg: TypeAlias = tuple[str, float, Int64Array, Float32Array, Float32Array]
"""Name, weight, rows ascending, raw and normalised."""


def _overlap(index: VersionIndex, overlap: Overlap) -> tuple[Int64Array, Float32Array]:
    """Rows that have some of the keywords, and the share of them that each has, by weight."""
    column = index.columns.column(overlap.attribute)
    assert isinstance(column, KeywordColumn)
    weights = np.array(overlap.value_weights or [1.0] * len(overlap.values), np.float64)
    shares = np.zeros(index.rows.n_rows, np.float64)
    for value, share in zip(overlap.values, (weights / weights.sum()).tolist(), strict=True):
        shares[np.asarray(column.rows([value]), np.int64)] += share
    rows = np.flatnonzero(shares)
    return rows, shares[rows].astype(np.float32)


def _lexical(index: VersionIndex, terms: TermWeights, mask: Uint8Array) -> tuple[Int64Array, Float32Array]:
    """Rows that have any of the terms, all rows of their items, and their BM25 scores."""
    assert index.lexical is not None
    rows, scores = index.lexical.scores(terms, mask)
    if index.schema.rows_per_item == 1:
        return rows, scores
    spread = np.zeros(index.rows.n_rows, np.float32)
    spread[rows] = scores
    of_items = spread[index.rows.first_rows]
    rows = np.flatnonzero(of_items)
    return rows, of_items[rows]


def _places(rows: Int64Array, wanted: Int64Array) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
    """Where ascending rows have the rows wanted, and whether they do."""
    at = np.searchsorted(rows, wanted)
    if not len(rows):
        return at, np.zeros(len(wanted), np.bool_)
    return at, rows[np.minimum(at, len(rows) - 1)] == wanted


def _spread(values: Float32Array, at: Int64Array, is_there: npt.NDArray[np.bool_]) -> Float32Array:
    """The values that are there, zeros else."""
    spread = np.zeros(len(at), np.float32)
    spread[is_there] = values[at[is_there]]
    return spread


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


Similarities: TypeAlias = Callable[[Float32Array, Int64Array], Float32Array]
"""Of rows int64 [m, k] to queries float32 [m, d]: float32 [m, k], 0 for padding, which is -1."""


def legs_of(
    index: VersionIndex,
    vectors: Float32Array,
    rows: Int64Array,
    fusing: Fusing,
    factors: Float32Array | None,
    *,
    similarities: Similarities,
    now: int | None = None,
) -> Legs:
    """Of rows int64 [m, k] found for queries float32 [m, d]; -1 is padding. ``factors``: of named embeddings, see
    ``Combined``; ``now``: what ages are counted to, where that is earlier.
    """
    names, raw, normalised, weights = [], [], [], []
    has_more = fusing.table is not None or any(extra is not None and extra.legs for extra in fusing.extras)
    if not has_more or any(one.similarity for one in fusing.scorings):
        for name, own, factor in _similarity_legs(index, vectors, rows, factors, similarities):
            names.append(name)
            raw.append(own)
            normalised.append(own)
            weights.append(_similarity_weights(fusing) * factor)
    if fusing.table is not None:
        features = fusing.scorings[0].total.features
        table = index.feature_table(features) if now is None else index.feature_table_at(features, now)
        is_hit = rows >= 0
        found = np.zeros((*rows.shape, table.n_features), np.float32)
        found[is_hit] = table.rows(rows[is_hit])
        for place, spec in enumerate(table.specs):
            names.append(fusing.scorings[0].names[place])
            own = np.zeros(rows.shape, np.float32)
            own[is_hit] = _raw(index, spec, rows[is_hit], table.now if now is None else now)
            raw.append(own)
            normalised.append(found[:, :, place])
            weights.append(np.array([one.total.parts[place][1] for one in fusing.scorings], np.float32))
    for name in dict.fromkeys(leg.name for extra in fusing.extras if extra is not None for leg in extra.legs):
        told = [_extra_values(fusing.extras[query], name, rows[query]) for query in range(len(rows))]
        names.append(name)
        raw.append(np.stack([one[0] for one in told]))
        normalised.append(np.stack([one[1] for one in told]))
        weights.append(np.array([one[2] for one in told], np.float32))
    return Legs(tuple(names), raw, normalised, weights)


def reordered(top: TopK, legs: Legs) -> tuple[TopK, Legs]:
    """The hits by the scores that their legs add up to, equal ones by row; padding stays behind."""
    scores = np.where(top.rows < 0, -np.inf, legs.scores).astype(np.float32)
    order = np.lexsort((top.rows, -scores, top.rows < 0), axis=1)

    def taken(values: Float32Array) -> Float32Array:
        return np.take_along_axis(values, order, axis=1)

    moved = Legs(legs.names, [*map(taken, legs.raw)], [*map(taken, legs.normalised)], legs.weights)
    return TopK(np.take_along_axis(top.rows, order, axis=1), taken(scores)), moved


def _similarity_legs(
    index: VersionIndex,
    vectors: Float32Array,
    rows: Int64Array,
    factors: Float32Array | None,
    similarities: Similarities,
) -> Iterator[tuple[str, Float32Array, Float32Array]]:
    """What each is called, what rows have of it, float32 [m, k], and by what that is multiplied, float32 [m]."""
    if factors is None:
        yield SIMILARITY, similarities(vectors, rows), np.ones(len(vectors), np.float32)
        return
    schema = index.schema
    best = similarities(vectors, rows) if schema.takes_maximum else None
    for column, (spec, part) in enumerate(zip(schema.embeddings, parts(schema).values(), strict=True)):
        name, factor = similarity_leg(spec), factors[:, column]
        if not factor.any():
            continue
        if best is not None:
            is_own = rows >= 0
            is_own[is_own] = index.marked_rows()[rows[is_own]] == column
            yield name, np.where(is_own, best, np.float32(0)), factor
        else:
            alone = np.zeros_like(vectors)
            alone[:, part] = vectors[:, part] / np.where(factor > 0, factor, 1)[:, None]
            yield name, similarities(alone, rows), factor


def _similarity_weights(fusing: Fusing) -> Float32Array:
    return np.array([one.similarity for one in fusing.scorings], np.float32)


def gathered(backend: Backend, index: VersionIndex, vectors: Float32Array, rows: Int64Array) -> Float32Array:
    """See ``Similarities``: as the backend adds them up."""
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
    """What the attribute has, ages in seconds, as the nearest float32; NaN where an item has none."""
    assert not isinstance(spec, SumFeature)
    values, present = index.columns.numbers_at(spec.attribute, rows)
    if isinstance(spec, DecayFeature):
        values = spec.ages(values, now)
    return np.where(present, np.clip(values, -_LARGEST, _LARGEST), np.nan).astype(np.float32)


def _extra_values(extra: Extra | None, name: str, rows: Int64Array) -> tuple[Float32Array, Float32Array, float]:
    leg = None if extra is None else next((one for one in extra.legs if one.name == name), None)
    if extra is None or leg is None:
        return np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32), 0.0
    at, is_there = _places(extra.rows, rows)
    return _spread(leg.raw, at, is_there), _spread(leg.normalised, at, is_there), leg.weight


def hit_legs(n_queries: int, found: Sequence[tuple[Sequence[int], Int64Array, Legs | None]]) -> list[LegColumn]:
    """The legs of a job's hits from those of its cohorts: places, rows [m, k] and legs, None where nobody asked."""
    told = [one for _, _, one in found if one is not None]
    names = dict.fromkeys(name for legs in told for name in legs.names)
    if not names:
        return []
    of_query = np.concatenate([np.repeat(np.array(places, np.int64), rows.shape[1]) for places, rows, _ in found])
    is_hit = np.concatenate([rows.ravel() >= 0 for _, rows, _ in found])
    order = np.argsort(of_query[is_hit], kind="stable")
    return [_hit_leg(name, n_queries, found, is_hit, order) for name in names]


def _hit_leg(
    name: str,
    n_queries: int,
    found: Sequence[tuple[Sequence[int], Int64Array, Legs | None]],
    is_hit: npt.NDArray[np.bool_],
    order: Int64Array,
) -> LegColumn:
    weights = np.zeros(n_queries, np.float32)
    raw, normalised = [], []
    for places, rows, legs in found:
        place = -1 if legs is None or name not in legs.names else legs.names.index(name)
        if legs is None or place < 0:
            raw.append(np.zeros(rows.size, np.float32))
            normalised.append(raw[-1])
        else:
            weights[list(places)] = legs.weights[place]
            raw.append(legs.raw[place].ravel())
            normalised.append(legs.normalised[place].ravel())
    return LegColumn(name, np.concatenate(raw)[is_hit][order], np.concatenate(normalised)[is_hit][order], weights)
