"""From the rows found for a query to its hits: the best row of each item, scores by legs, which of them are told.

Knows nothing of how rows were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from engine.backend.protocol import TopK
from engine.index.version_index import VersionIndex
from engine.pipeline.batch import Batch
from engine.pipeline.cohorts import Cohort, factors_of
from engine.pipeline.cursors import Cursor
from engine.pipeline.finding import Found
from engine.pipeline.fusing import Fusing, Legs, gathered, legs_of, reordered


@dataclass(eq=False, slots=True)
class Ranked:
    """A cohort's best items: the best row of each, int64 [m, n], and their scores, best first, -1 where there is none
    or it scores too little. Their legs where those are asked for and these are the hits.
    """

    top: TopK
    legs: Legs | None = None
    cursors: Sequence[Cursor | None] = ()


@dataclass(eq=False, slots=True)
class Chosen:
    """A cohort's hits: rows int64 [m, k], the first of each item, and scores; their legs where those are asked for.

    ``cursors``: of each query whose hits are a page, None where no other page follows.
    """

    top: TopK
    legs: Legs | None = None
    cursors: Sequence[Cursor | None] = ()


def rank(batch: Batch, cohort: Cohort, found: Found) -> Ranked:
    """The best items; those that score too little are left out. Where legs are told, by the sum of these."""
    params, best, legs = cohort.compiled.params, _best_rows(batch.index, cohort, found), None
    if params.legs and cohort.fusing is not None:
        legs = _legs(batch, cohort, best, cohort.fusing)
        best, legs = reordered(best, legs)
    if params.min_score is not None:
        best = TopK(np.where(best.scores >= params.min_score, best.rows, -1), best.scores)
    return Ranked(best, legs)


def choose(batch: Batch, cohort: Cohort, ranked: Ranked) -> Chosen:
    """The hits, told by the first row of each item."""
    best, legs = ranked.top, None
    if cohort.compiled.params.legs and cohort.fusing is not None:
        legs = ranked.legs
        if legs is None:
            legs = _legs(batch, cohort, best, cohort.fusing)
            if not ranked.cursors:
                # Beside other rows a similarity may be summed in another order: the score told is the sum of the legs.
                best = TopK(best.rows, np.where(best.rows < 0, best.scores, legs.scores).astype(np.float32))
    if batch.index.schema.rows_per_item == 1:
        return Chosen(best, legs, ranked.cursors)
    rows, is_hit = best.rows.copy(), best.rows >= 0
    rows[is_hit] = batch.index.rows.first_rows[rows[is_hit]]
    return Chosen(TopK(rows, best.scores), legs, ranked.cursors)


def _legs(batch: Batch, cohort: Cohort, best: TopK, fusing: Fusing) -> Legs:
    similarities = partial(gathered, batch.backend, batch.index)
    factors = factors_of(batch, cohort)
    return legs_of(batch.index, cohort.vectors, best.rows, fusing, factors, similarities=similarities)


def _best_rows(index: VersionIndex, cohort: Cohort, found: Found) -> TopK:
    """The best row of each of the best items, whose score is the item's."""
    n = cohort.compiled.n_searched
    top = found.top
    if index.schema.rows_per_item == 1:
        return TopK(top.rows[:, :n], top.scores[:, :n])
    rows = np.full((len(cohort), n), -1, np.int64)
    scores = np.full((len(cohort), n), -np.inf, np.float32)
    for query in range(len(cohort)):
        kept = top.rows[query][top.rows[query] >= 0]
        _, best = np.unique(index.rows.first_rows[kept], return_index=True)
        order = np.argsort(best, kind="stable")[:n]
        rows[query, : len(order)] = kept[best[order]]
        scores[query, : len(order)] = top.scores[query][best[order]]
    return TopK(rows, scores)
