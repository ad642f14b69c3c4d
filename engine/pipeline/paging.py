"""Pages of one moment: the hits that come after those of earlier pages, in one order for all pages.

Scores are computed anew from the stored vectors, each row by itself: what different ways to search add up in different
orders would let hits near a page's end come twice or never. Ties go to the smaller row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from engine.backend.protocol import TopK
from engine.index.growing import has_rows
from engine.index.lexical import NO_TERMS
from engine.index.version_index import VersionIndex
from engine.pipeline.batch import Batch
from engine.pipeline.cohorts import Cohort, factors_of, narrowed, terms_of
from engine.pipeline.cursors import Cursor
from engine.pipeline.finding import Found, find
from engine.pipeline.fusing import Fusing, legs_of
from engine.pipeline.ranking import Ranked
from engine.pipeline.scoring import SIMILARITY_ALONE
from engine.types import Float32Array, Int64Array, Uint8Array

MICROS = 1_000_000
_GROWTH = 4
_ROUNDING = 1e-5
"""Relative to 1 and to the score: further apart two ways to add up a score do not come."""
_UNFUSED = Fusing([SIMILARITY_ALONE], None, [np.zeros(0, np.float32)], [None])


@dataclass(eq=False, slots=True)
class _Page:
    """Rows [n] and scores, best first; ``has_more``: whether others follow."""

    rows: Int64Array
    scores: Float32Array
    has_more: bool


def turn(batch: Batch, cohort: Cohort, found: Found) -> Ranked:
    """The hits of each query's page, and the cursors of those that others follow."""
    k = cohort.compiled.params.k
    rows, scores = np.full((len(cohort), k), -1, np.int64), np.full((len(cohort), k), -np.inf, np.float32)
    now = _now(batch.index, cohort)
    cursors: list[Cursor | None] = []
    for query in range(len(cohort)):
        page = _page(batch, cohort, query, found, now=now)
        n = len(page.rows)
        rows[query, :n], scores[query, :n] = page.rows, page.scores
        cursors.append(_cursor(batch, cohort, query, page, now=now) if page.has_more and n else None)
    legs = None
    if cohort.compiled.params.legs and cohort.fusing is not None:
        factors, own = factors_of(batch, cohort), partial(similarities, batch.index)
        legs = legs_of(batch.index, cohort.vectors, rows, cohort.fusing, factors, similarities=own, now=now)
    return Ranked(TopK(rows, scores), legs, cursors)


def similarities(index: VersionIndex, queries: Float32Array, rows: Int64Array) -> Float32Array:
    """See ``fusing.Similarities``: each as it is by itself to the last bit."""
    return np.stack([_similarities(index, query, own) for query, own in zip(queries, rows, strict=True)])


def _similarities(index: VersionIndex, query: Float32Array, rows: Int64Array) -> Float32Array:
    """Of rows [n] to a query [d]."""
    vectors = index.vectors_at(np.maximum(rows, 0)).astype(np.float64)
    wide = query.astype(np.float64)
    if index.version.metric == "l2":
        found = -np.square(vectors - wide).sum(axis=1)
    else:
        found = (vectors * wide).sum(axis=1)
    return np.where(rows >= 0, found, 0.0).astype(np.float32)


def _now(index: VersionIndex, cohort: Cohort) -> int:
    """What ages are counted to."""
    if cohort.compiled.cursor is not None:
        return cohort.compiled.cursor.now
    table = None if cohort.fusing is None else cohort.fusing.table
    return index.clock() if table is None else table.now


def _page(batch: Batch, cohort: Cohort, query: int, found: Found, *, now: int) -> _Page:
    """Search for more and more until a page is sure to be whole."""
    n = cohort.compiled.n_searched
    wanted, top = cohort.rows_wanted, TopK(found.top.rows[query], found.top.scores[query])
    while True:
        is_row = top.rows >= 0
        rows, least = top.rows[is_row][:wanted], top.scores[is_row][:wanted].min(initial=np.inf)
        is_all = len(rows) < wanted or len(rows) >= cohort.masks[query].survivors
        if not found.is_exact[query]:
            rows = _rows_of_items(batch.index, rows, cohort.masks[query].bits)
        page = _after(batch, cohort, query, rows, None if is_all else float(least), now=now)
        if page is not None:
            return page
        n *= _GROWTH
        wider = narrowed(batch, cohort, query, cohort.masks[query], k=n)
        (more,) = find(batch, [wider])
        found.add(query, more)
        wanted, top = wider.rows_wanted, TopK(more.top.rows[0], more.top.scores[0])


def _after(
    batch: Batch, cohort: Cohort, query: int, rows: Int64Array, least: float | None, *, now: int
) -> _Page | None:
    """The page among rows that were found; ``least``: what rows that were not found score at most, None where there are
    none. None where what was not found may belong to it.
    """
    params, cursor = cohort.compiled.params, cohort.compiled.cursor
    scores = _scores(batch, cohort, query, rows, now=now)
    rows, scores = _best_of_items(batch.index, rows, scores)
    is_sure = np.ones(len(rows), np.bool_)
    if least is not None:
        is_sure = scores > least + _ROUNDING * max(1.0, abs(least))
    is_hit = is_sure.copy()
    if params.min_score is not None:
        is_hit &= scores >= params.min_score
    ends = least is None or bool((is_sure & ~is_hit).any())
    if cursor is not None:
        last = np.float32(cursor.last_score)
        is_hit &= (scores < last) | ((scores == last) & (rows > cursor.last_row))
    rows, scores = rows[is_hit], scores[is_hit]
    if not ends and len(rows) <= params.k:
        return None
    return _Page(rows[: params.k], scores[: params.k], len(rows) > params.k)


def _scores(batch: Batch, cohort: Cohort, query: int, rows: Int64Array, *, now: int) -> Float32Array:
    """Of rows [n], as their legs add up to them, whether anybody wants these told or not."""
    fusing = _UNFUSED if cohort.fusing is None else cohort.fusing.of(query)
    factors = factors_of(batch, cohort)
    legs = legs_of(
        batch.index,
        cohort.vectors[query][None],
        rows[None],
        fusing,
        None if factors is None else factors[query][None],
        similarities=partial(similarities, batch.index),
        now=now,
    )
    scores: Float32Array = legs.scores[0]
    return scores


def _rows_of_items(index: VersionIndex, rows: Int64Array, mask: Uint8Array) -> Int64Array:
    """All rows in the mask of the items that these are of: lists may hide an item's best, and not from every page."""
    if index.schema.rows_per_item == 1:
        return rows
    first_rows = index.rows.first_rows
    items = np.unique(first_rows[rows])
    every = [items]
    for place in range(1, index.schema.rows_per_item):
        items = items[items + place < len(first_rows)]
        items = items[first_rows[items + place] == items]
        every.append(items + place)
    whole = np.concatenate(every)
    return whole[has_rows(mask, whole)]


def _best_of_items(index: VersionIndex, rows: Int64Array, scores: Float32Array) -> tuple[Int64Array, Float32Array]:
    """The best row of each item, best first."""
    order = np.lexsort((rows, -scores))
    rows, scores = rows[order], scores[order]
    if index.schema.rows_per_item > 1:
        _, best = np.unique(index.rows.first_rows[rows], return_index=True)
        best.sort()
        rows, scores = rows[best], scores[best]
    return rows, scores


def _cursor(batch: Batch, cohort: Cohort, query: int, page: _Page, *, now: int) -> Cursor:
    index, before, factors = batch.index, cohort.compiled.cursor, factors_of(batch, cohort)
    given_at = index.clock()
    expires_at = index.rows.shown.lease(given_at, given_at + int(cohort.compiled.lease_seconds * MICROS))
    last_row, last_score, n = int(page.rows[-1]), float(page.scores[-1]), len(page.rows)
    if before is not None:
        return replace(before, expires_at=expires_at, seen=before.seen + n, last_row=last_row, last_score=last_score)
    return Cursor(
        generation=index.version.generation,
        n_rows=index.rows.n_rows,
        position=index.rows.shown.n,
        sequence=index.sequence,
        now=now,
        expires_at=expires_at,
        seen=n,
        last_row=last_row,
        last_score=last_score,
        vector=cohort.vectors[query].copy(),
        terms=terms_of(batch, cohort.job, cohort.places[query]) or NO_TERMS,
        factors=None if factors is None else factors[query].copy(),
    )
