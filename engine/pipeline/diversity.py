"""Hits that resemble one another less, picked among the best items by maximal marginal relevance.

Source: Carbonell and Goldstein, The use of MMR, diversity-based reranking, SIGIR 1998.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import TopK
from engine.pipeline.batch import Batch
from engine.pipeline.cohorts import Cohort
from engine.pipeline.ranking import Ranked
from engine.types import Float32Array, Int64Array

_DECIMALS = 6
"""Of a cosine: what lies beyond is rounding, which should decide nothing."""

Float64Array = npt.NDArray[np.float64]


def diversify(batch: Batch, cohorts: Sequence[Cohort], ranked: Sequence[Ranked]) -> list[Ranked]:
    """The items of cohorts that ask for it as they are picked, the others as they are."""
    return [
        _picked(batch, cohort, one.top) if cohort.compiled.params.diversity else one
        for cohort, one in zip(cohorts, ranked, strict=True)
    ]


def _picked(batch: Batch, cohort: Cohort, top: TopK) -> Ranked:
    params = cohort.compiled.params
    assert params.diversity is not None
    rows = np.full((len(cohort), params.k), -1, np.int64)
    scores = np.full((len(cohort), params.k), -np.inf, np.float32)
    for query in range(len(cohort)):
        candidates = np.flatnonzero(top.rows[query] >= 0)
        if not len(candidates):
            continue
        own = top.rows[query][candidates]
        vectors = batch.index.vectors_at(own)
        cosines = _cosines(vectors[:, :-1] if batch.index.schema.takes_maximum else vectors)
        picked = candidates[pick(top.scores[query][candidates], cosines, params.diversity.relevance, k=params.k)]
        rows[query, : len(picked)], scores[query, : len(picked)] = top.rows[query][picked], top.scores[query][picked]
    return Ranked(TopK(rows, scores))


def pick(scores: Float32Array, cosines: Float64Array, relevance: float, *, k: int) -> Int64Array:
    """The places of up to k of candidates by their scores [c], descending, and cosines [c, c], as they are picked."""
    spread = float(scores[0]) - float(scores[-1])
    scaled = (scores.astype(np.float64) - float(scores[-1])) / spread if spread > 0 else np.ones(len(scores))
    nearest = np.full(len(scores), -np.inf)
    left = relevance * scaled
    picked: list[int] = []
    for _ in range(min(k, len(scores))):
        best = int(np.argmax(left - (1 - relevance) * nearest if picked else left))
        picked.append(best)
        np.maximum(nearest, cosines[best], out=nearest)
        left[best] = -np.inf
    return np.array(picked, np.int64)


def _cosines(vectors: Float32Array) -> Float64Array:
    """Of vectors [c, d] with one another, 0 with a vector of zeros."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    cosines: Float64Array = np.round(unit @ unit.T, _DECIMALS)
    return cosines
