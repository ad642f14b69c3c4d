"""Answering a batch of queries, each with its own filter and k: plan, filter and scan, rescore, top k.

Runs in the search lane's thread. Knows nothing of gRPC, of queues or of how vectors came to be.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from engine.backend.protocol import Backend
from engine.errors import EngineError
from engine.index.filters import FilterProgram
from engine.index.version_index import VersionIndex
from engine.pipeline.batch import Batch, CompiledParams, SearchJob, recall_target_of
from engine.pipeline.cohorts import Cohort, cohorts_of
from engine.pipeline.diversity import diversify
from engine.pipeline.finding import Found, find
from engine.pipeline.fusing import fusion_of
from engine.pipeline.grouping import group
from engine.pipeline.paging import turn
from engine.pipeline.query_masks import evaluate_filters, mask_of
from engine.pipeline.ranking import Chosen, choose, rank
from engine.pipeline.recall_monitor import INEXACT, RecallMonitor, RecallSample
from engine.pipeline.results import JobResult, result_of, selectivity_of
from engine.types import StageTimes

__all__ = ["CompiledParams", "JobResult", "SearchJob", "count", "matching_ids", "search_jobs"]


def search_jobs(
    backend: Backend, jobs: Sequence[SearchJob], *, monitor: RecallMonitor | None = None
) -> list[JobResult | EngineError]:
    """Answer jobs over one index; one outcome for each. A query that cannot be answered fails alone."""
    jobs[0].index.tick()
    batch = Batch(backend, jobs[0].index, jobs)
    began = time.perf_counter()
    evaluate_filters(batch)
    cohorts = [cohort for number in range(len(jobs)) for cohort in cohorts_of(batch, number)]
    filtered = time.perf_counter()
    found = find(batch, cohorts)
    searched = time.perf_counter()
    ranked = [
        turn(batch, cohort, one) if cohort.compiled.params.page else rank(batch, cohort, one)
        for cohort, one in zip(cohorts, found, strict=True)
    ]
    ranked = diversify(batch, cohorts, group(batch, cohorts, found, ranked))
    chosen = [choose(batch, cohort, one) for cohort, one in zip(cohorts, ranked, strict=True)]
    times = StageTimes(filter=filtered - began, search=searched - filtered, fuse=time.perf_counter() - searched)
    if monitor is not None:
        _sample(monitor, batch, cohorts, chosen)
        if monitor.logs_queries:
            for cohort in cohorts:
                batch.index.query_log.add(cohort.vectors)
    of_job: list[list[tuple[Cohort, Found, Chosen]]] = [[] for _ in jobs]
    for one in zip(cohorts, found, chosen, strict=True):
        of_job[one[0].job].append(one)
    return [result_of(batch, number, own, times) for number, own in enumerate(of_job)]


def count(index: VersionIndex, program: FilterProgram) -> int:
    """Live items that pass the filter."""
    index.tick()
    return len(matching_ids(index, program)) if index.schema.rows_per_item > 1 else mask_of(index, program).survivors


def matching_ids(index: VersionIndex, program: FilterProgram) -> npt.NDArray[Any]:
    """The ids of live items that pass the filter, in the order of their rows."""
    index.tick()
    rows = mask_of(index, program).of.rows
    ids: npt.NDArray[Any] = index.rows.ids[rows[index.rows.first_rows[rows] == rows]]
    return ids


def _sample(monitor: RecallMonitor, batch: Batch, cohorts: Sequence[Cohort], chosen: Sequence[Chosen]) -> None:
    """Give the monitor what it wants of the queries that were not answered exactly and whose hits are the best k."""
    index = batch.index
    for cohort, top in zip(cohorts, (one.top for one in chosen), strict=True):
        if cohort.plan.strategy not in INEXACT or not cohort.compiled.tells_the_best:
            continue
        for query in monitor.places(len(cohort)):
            monitor.keep(
                RecallSample(
                    collection=index.schema.name,
                    strategy=cohort.plan.strategy,
                    selectivity=selectivity_of(index, cohort.masks[query]),
                    recall_target=recall_target_of(cohort.compiled),
                    k=cohort.compiled.params.k,
                    wanted_rows=cohort.rows_wanted,
                    vectors=index.vectors,
                    query=cohort.vectors[query : query + 1].copy(),
                    mask=cohort.masks[query].bits.copy(),
                    scores=top.scores[query][top.rows[query] >= 0],
                    first_rows=index.rows.first_rows if index.schema.rows_per_item > 1 else None,
                    # Features that change before the check is done with may make it a little wrong.
                    fusion=fusion_of([None if cohort.fusing is None else cohort.fusing.of(query)], index.rows.n_rows),
                )
            )
