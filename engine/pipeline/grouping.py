"""At most so many hits of each group: the best items are walked, and where too few of them are left the search goes on
without the rows that were met and those of groups that are full.

So what is told is what a walk over all items would tell, as far as each search is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import TopK
from engine.index.filters import compile_filter
from engine.index.growing import inverted
from engine.index.version_index import VersionIndex
from engine.pipeline.batch import Batch, Mask
from engine.pipeline.cohorts import Cohort, narrowed
from engine.pipeline.finding import Found, find
from engine.pipeline.ranking import Ranked, rank
from engine.selection import GroupBy
from engine.types import Filter, Float32Array, Int64Array, Match

_GROWTH = 4
"""Each search is for so many times the items of the one before: there are few even where groups are large."""


def group(batch: Batch, cohorts: Sequence[Cohort], found: Sequence[Found], ranked: Sequence[Ranked]) -> list[Ranked]:
    """The items of cohorts that are to be grouped, grouped; what more it took is added to what was ``found``."""
    told = list(ranked)
    grouped = [place for place, cohort in enumerate(cohorts) if cohort.compiled.params.group_by is not None]
    walks = {place: [_Walk(batch, cohorts[place], query) for query in range(len(cohorts[place]))] for place in grouped}
    for place in grouped:
        found[place].group_rounds[:] = 1
        for query, walk in enumerate(walks[place]):
            walk.take(ranked[place].top, query)
    while unfinished := [
        (place, query) for place in grouped for query, walk in enumerate(walks[place]) if walk.goes_on
    ]:
        again = [walks[place][query].next_search() for place, query in unfinished]
        for (place, query), cohort, one in zip(unfinished, again, find(batch, again), strict=True):
            found[place].add(query, one)
            found[place].group_rounds[query] += 1
            walks[place][query].take(rank(batch, cohort, one).top, 0)
    for place in grouped:
        told[place] = Ranked(_joined([walk.best() for walk in walks[place]]))
    return told


@dataclass(eq=False, slots=True)
class _Walk:
    """Of one query: the items kept so far, and what there is still to search."""

    batch: Batch
    cohort: Cohort
    query: int
    mask: Mask = field(init=False)
    n_searched: int = field(init=False)
    rows: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: Float32Array = field(default_factory=lambda: np.zeros(0, np.float32))
    full: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    goes_on: bool = True

    def __post_init__(self) -> None:
        self.mask = self.cohort.masks[self.query]
        self.n_searched = self.cohort.compiled.n_searched

    @property
    def group_by(self) -> GroupBy:
        asked = self.cohort.compiled.params.group_by
        assert asked is not None
        return asked

    def take(self, top: TopK, query: int) -> None:
        """Keep of the items of the latest search what groups have room for; they end where that found too few."""
        is_item = top.rows[query] >= 0
        met, scores = top.rows[query][is_item], top.scores[query][is_item]
        rows = np.concatenate([self.rows, met])
        keys, has_key = self.batch.index.columns.keys_at(self.group_by.attribute, rows)
        is_kept = np.ones(len(rows), np.bool_)
        is_kept[has_key] = _places_in_groups(keys[has_key]) < self.group_by.per_group
        self.rows, self.scores = rows[is_kept], np.concatenate([self.scores, scores])[is_kept]
        is_short = len(met) < self.n_searched
        self.goes_on = not is_short and len(self.rows) < self.cohort.compiled.n_candidates
        if self.goes_on:
            self._narrow(met, keys[is_kept & has_key])
            self.goes_on = self.mask.survivors > 0

    def next_search(self) -> Cohort:
        """For what is left."""
        self.n_searched = min(self.n_searched * _GROWTH, self.mask.survivors)
        return narrowed(self.batch, self.cohort, self.query, self.mask, k=self.n_searched)

    def best(self) -> TopK:
        """Those kept, as [1, n_candidates]."""
        n = self.cohort.compiled.n_candidates
        order = np.lexsort((self.rows, -self.scores))[:n]
        rows, scores = np.full((1, n), -1, np.int64), np.full((1, n), -np.inf, np.float32)
        rows[0, : len(order)], scores[0, : len(order)] = self.rows[order], self.scores[order]
        return TopK(rows, scores)

    def _narrow(self, met: Int64Array, keys: Int64Array) -> None:
        """Leave out the items that were met and all of the groups that have become full."""
        index = self.batch.index
        values, counts = np.unique(keys, return_counts=True)
        full = values[counts >= self.group_by.per_group]
        fresh = np.setdiff1d(full, self.full, assume_unique=True)
        self.full = full
        rows = self.mask.of.without(_rows_of_items(index, met))
        if len(fresh):
            rows = rows.among(inverted(_rows_of_groups(index, self.group_by.attribute, fresh), index.rows.n_rows))
        self.mask = Mask(rows, passes_all=False)


def _places_in_groups(keys: Int64Array) -> Int64Array:
    """How many equal keys come before each of [n]."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(keys)])
    places = np.empty(len(keys), np.int64)
    places[order] = np.arange(len(keys)) - np.repeat(firsts, np.diff(firsts, append=len(keys)))
    return places


def _rows_of_items(index: VersionIndex, rows: Int64Array) -> Int64Array:
    """All rows of the items that have these."""
    return rows if index.schema.rows_per_item == 1 else index.rows.rows_of(index.rows.ids[rows])


def _rows_of_groups(index: VersionIndex, attribute: str, keys: Int64Array) -> npt.NDArray[np.uint8]:
    """The mask of all rows that have one of the values."""
    values = index.columns.values_of_keys(attribute, keys)
    program = compile_filter(Filter(must=(Match(attribute, any_of=values),)), index.schema)
    return program.evaluate(index.columns, index.rows_of)


def _joined(parts: Sequence[TopK]) -> TopK:
    return TopK(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))
