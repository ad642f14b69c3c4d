"""What a job's queries found, as columns, and how they were answered. Knows nothing of how hits are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import TopK
from engine.errors import EngineError
from engine.index.facet_counts import FacetCounting
from engine.index.version_index import VersionIndex
from engine.pipeline.batch import Batch, Mask, SearchJob
from engine.pipeline.cohorts import Cohort
from engine.pipeline.cursors import Cursor
from engine.pipeline.finding import Found
from engine.pipeline.fusing import hit_legs
from engine.pipeline.ranking import Chosen
from engine.selection import Facet
from engine.types import Explanation, Float32Array, Int64Array, LegColumn, StageTimes, Strategy


@dataclass(frozen=True, slots=True)
class JobResult:
    """Hits as columns: counts uint32 [B], then ids and scores float32 of all hits, query after query, best first.

    ``countings``: of the facets of each query, still to be done, empty where none asks for any. ``cursors``: of the
    page that follows each query's, empty where none asks for pages.
    """

    counts: npt.NDArray[np.uint32]
    ids: npt.NDArray[Any]
    scores: Float32Array
    errors: Sequence[EngineError | None]
    explanations: Sequence[Explanation]
    sequence: int
    times: StageTimes
    legs: Sequence[LegColumn] = ()
    countings: Sequence[FacetCounting | None] = ()
    item_inputs: Float32Array | None = None
    cursors: Sequence[Cursor | None] = ()


def selectivity_of(index: VersionIndex, mask: Mask) -> float:
    return min(1.0, mask.survivors / index.rows.n_alive) if index.rows.n_alive else 0.0


def result_of(batch: Batch, number: int, own: Sequence[tuple[Cohort, Found, Chosen]], times: StageTimes) -> JobResult:
    job, index = batch.jobs[number], batch.index
    counts, rows, scores = _hits(job.n_queries, [(cohort.places, chosen.top) for cohort, _, chosen in own])
    explanations: list[Explanation] = []
    if job.explain:
        explanations = [Explanation(Strategy.NONE, index_version=index.version.id)] * job.n_queries
        for cohort, found, _ in own:
            for place, told in zip(cohort.places, _explained(batch, cohort, found, times), strict=True):
                explanations[place] = told
    return JobResult(
        counts=counts,
        ids=index.rows.ids[rows],
        scores=scores,
        errors=[batch.errors.get((number, place)) for place in range(job.n_queries)] if batch.errors else (),
        explanations=explanations,
        sequence=min([index.sequence, *(one.compiled.cursor.sequence for one, _, _ in own if one.compiled.cursor)]),
        times=times,
        cursors=_cursors(job, own),
        countings=_countings(batch, job, [cohort for cohort, _, _ in own]),
        legs=hit_legs(job.n_queries, [(cohort.places, chosen.top.rows, chosen.legs) for cohort, _, chosen in own]),
        item_inputs=None if job.item_inputs is None else job.item_inputs(index, rows),
    )


def _cursors(job: SearchJob, own: Sequence[tuple[Cohort, Found, Chosen]]) -> list[Cursor | None]:
    if not any(one.params.page for one in job.compiled):
        return []
    cursors: list[Cursor | None] = [None] * job.n_queries
    for cohort, _, chosen in own:
        for place, cursor in zip(cohort.places, chosen.cursors, strict=False):
            cursors[place] = cursor
    return cursors


def _countings(batch: Batch, job: SearchJob, cohorts: Sequence[Cohort]) -> list[FacetCounting | None]:
    """What queries with the same mask count alike is counted once."""
    if not any(one.params.facets for one in job.compiled):
        return []
    countings: list[FacetCounting | None] = [None] * job.n_queries
    for cohort in cohorts:
        for place, mask in zip(cohort.places, cohort.masks, strict=True):
            facets = job.compiled_of(place).params.facets
            if facets:
                countings[place] = _counting(batch, mask, facets)
    return countings


def _counting(batch: Batch, mask: Mask, facets: tuple[Facet, ...]) -> FacetCounting:
    key = (id(mask), facets)
    if key not in batch.countings:
        index = batch.index
        batch.countings[key] = FacetCounting(index.rows, index.columns, index.schema, mask.bits, facets)
    return batch.countings[key]


def _hits(
    n_queries: int, found: Sequence[tuple[Sequence[int], TopK]]
) -> tuple[npt.NDArray[np.uint32], Int64Array, Float32Array]:
    """How many hits each query of a job has, and the rows and scores of all, query after query."""
    rows = np.concatenate([np.zeros(0, np.int64), *(top.rows.ravel() for _, top in found)])
    scores = np.concatenate([np.zeros(0, np.float32), *(top.scores.ravel() for _, top in found)])
    of_query = np.concatenate(
        [np.zeros(0, np.int64), *(np.repeat(np.array(places, np.int64), top.rows.shape[1]) for places, top in found)]
    )
    is_hit = rows >= 0
    rows, scores, of_query = rows[is_hit], scores[is_hit], of_query[is_hit]
    if len(found) > 1:
        order = np.argsort(of_query, kind="stable")
        rows, scores = rows[order], scores[order]
    return np.bincount(of_query, minlength=n_queries).astype(np.uint32), rows, scores


def _explained(batch: Batch, cohort: Cohort, found: Found, times: StageTimes) -> list[Explanation]:
    """What was done for each query; those for which the same was done share one."""
    counts = (
        found.lists_scanned,
        found.rows_scanned,
        found.rescored,
        found.second_pass,
        found.is_exact,
        found.group_rounds,
    )
    made: dict[tuple[object, ...], Explanation] = {}
    told = []
    for mask, *did in zip(cohort.masks, *(column.tolist() for column in counts), strict=True):
        key = (id(mask), *did)
        if key not in made:
            made[key] = _explain(batch, cohort, mask, did, times)
        told.append(made[key])
    return told


def _explain(batch: Batch, cohort: Cohort, mask: Mask, did: Sequence[int], times: StageTimes) -> Explanation:
    index = batch.index
    lists_scanned, rows_scanned, rescored, second_pass, is_exact, group_rounds = did
    return Explanation(
        strategy=cohort.plan.strategy,
        index_version=index.version.id,
        encoder_version=index.version.encoder_version,
        selectivity=selectivity_of(index, mask),
        nprobe=lists_scanned,
        lists_scanned=lists_scanned,
        rows_scanned=rows_scanned,
        rescored=rescored,
        expected_recall=1.0 if is_exact else cohort.plan.expected_recall,
        expected_recall_provisional=cohort.plan.is_provisional and not is_exact,
        second_pass=bool(second_pass),
        device=batch.backend.device,
        score_dtype=index.version.dtype,
        batch_size=sum(job.n_queries for job in batch.jobs),
        sequence=index.sequence if cohort.compiled.cursor is None else cohort.compiled.cursor.sequence,
        times=times,
        profile="" if cohort.compiled.scoring is None else cohort.compiled.scoring.profile,
        group_rounds=group_rounds,
    )
