"""Answering a batch of queries, each with its own filter and k: plan, filter and scan, rescore, top k.

Runs in the search lane's thread. Knows nothing of gRPC, of queues or of how vectors came to be.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, TopK
from engine.errors import EngineError
from engine.index.filters import FilterProgram
from engine.index.tuning import REACH_SLOPE
from engine.index.version_index import VersionIndex
from engine.pipeline.coarse_search import coarse_scan
from engine.pipeline.cohorts import (
    Batch,
    Cohort,
    CompiledParams,
    Mask,
    SearchJob,
    answered_exactly,
    cohorts_of,
    evaluate_filters,
    mask_of,
    recall_target_of,
)
from engine.pipeline.fusing import Legs, fusion_of, hit_legs, legs_of, reordered, without_extras
from engine.pipeline.recall_monitor import INEXACT, RecallMonitor, RecallSample
from engine.types import Explanation, Float32Array, Int64Array, LegColumn, StageTimes, Strategy, Uint8Array
from kernels.cpu_filters import clear_rows
from kernels.fusion import Fusion
from kernels.packed_lists import ProbeLimits

__all__ = ["CompiledParams", "JobResult", "SearchJob", "count", "matching_ids", "search_jobs"]

_INVERTED = (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)


@dataclass(frozen=True, slots=True)
class JobResult:
    """Hits as columns: counts uint32 [B], then ids and scores float32 of all hits, query after query, best first."""

    counts: npt.NDArray[np.uint32]
    ids: npt.NDArray[Any]
    scores: Float32Array
    errors: Sequence[EngineError | None]
    explanations: Sequence[Explanation]
    sequence: int
    times: StageTimes
    legs: Sequence[LegColumn] = ()


@dataclass(eq=False, slots=True)
class _Chosen:
    """A cohort's hits: rows int64 [m, k], the first of each item, and scores; their legs where those are asked for."""

    top: TopK
    legs: Legs | None = None


@dataclass(eq=False, slots=True)
class _Found:
    """A cohort's rows int64 [m, k] and scores, best first, and what each query did, [m].

    ``second_pass``: what was found first came short; ``is_exact``: the answer is one of an exact search after all.
    """

    top: TopK
    lists_scanned: Int64Array
    rows_scanned: Int64Array
    rescored: Int64Array
    second_pass: npt.NDArray[np.bool_]
    is_exact: npt.NDArray[np.bool_]

    @classmethod
    def exactly(cls, top: TopK, scanned: Int64Array, *, rescored: Int64Array | None = None) -> _Found:
        n = len(scanned)
        return cls(
            top,
            np.zeros(n, np.int64),
            scanned,
            scanned if rescored is None else rescored,
            np.zeros(n, np.bool_),
            np.ones(n, np.bool_),
        )


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
    found = _run(batch, cohorts)
    searched = time.perf_counter()
    chosen = [_choose(batch, cohort, one) for cohort, one in zip(cohorts, found, strict=True)]
    times = StageTimes(filter=filtered - began, search=searched - filtered, fuse=time.perf_counter() - searched)
    if monitor is not None:
        _sample(monitor, batch, cohorts, chosen)
        if monitor.logs_queries:
            for cohort in cohorts:
                batch.index.query_log.add(cohort.vectors)
    results: list[JobResult | EngineError] = []
    of_job: list[list[tuple[Cohort, _Found, _Chosen]]] = [[] for _ in jobs]
    for one in zip(cohorts, found, chosen, strict=True):
        of_job[one[0].job].append(one)
    for number, own in enumerate(of_job):
        results.append(_result_of(batch, number, own, times))
    return results


def count(index: VersionIndex, program: FilterProgram) -> int:
    """Live items that pass the filter."""
    index.tick()
    return len(matching_ids(index, program)) if index.schema.chunk > 1 else mask_of(index, program).survivors


def matching_ids(index: VersionIndex, program: FilterProgram) -> npt.NDArray[Any]:
    """The ids of live items that pass the filter, in the order of their rows."""
    index.tick()
    rows = mask_of(index, program).of.rows
    ids: npt.NDArray[Any] = index.rows.ids[rows[index.rows.first_rows[rows] == rows]]
    return ids


# Scans


def _run(batch: Batch, cohorts: Sequence[Cohort]) -> list[_Found]:
    """What was found for each cohort; cohorts that one backend call can answer share it."""
    found: dict[int, _Found] = {}
    for members in _grouped(batch.index, cohorts):
        group = [cohorts[member] for member in members]
        found.update(zip(members, _answer(batch, group), strict=True))
    return [found[position] for position in range(len(cohorts))]


def _grouped(index: VersionIndex, cohorts: Sequence[Cohort]) -> list[list[int]]:
    """Every way takes any masks; all queries of a call keep as many rows as one of them wants, those of a coarse scan
    rescore as many, and scores are fused with one table.
    """
    if len(cohorts) == 1:
        return [[0]]
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, cohort in enumerate(cohorts):
        way = Strategy.IVFPQ if cohort.plan.strategy in _INVERTED else cohort.plan.strategy
        depth = _size_class(cohort.plan.depth, least=6) if way is Strategy.COARSE_SCAN else 0
        fused = None if cohort.fusing is None else id(cohort.fusing.table)
        groups.setdefault((way, _size_class(cohort.rows_wanted), depth, fused), []).append(position)
    return list(groups.values())


def _size_class(rows: int, *, least: int = 10) -> int:
    """Queries that want up to 2**least rows share a call, larger ones only with their like.

    Otherwise one query for 100,000 hits would have a megabyte kept for each of its neighbours.
    """
    return max(least, (rows - 1).bit_length())


def _answer(batch: Batch, group: Sequence[Cohort]) -> list[_Found]:
    strategy = group[0].plan.strategy
    k = max(cohort.rows_wanted for cohort in group)
    vectors = group[0].vectors if len(group) == 1 else np.concatenate([cohort.vectors for cohort in group])
    if strategy in _INVERTED:
        found = _probe(batch, group, vectors, k)
    elif strategy is Strategy.GATHER:
        found = _gather(batch, group, vectors, k)
    elif strategy is Strategy.COARSE_SCAN:
        found = _coarse(batch, group, vectors, k)
    elif strategy is Strategy.NONE:
        found = [_Found.exactly(_empty(len(cohort)), np.zeros(len(cohort), np.int64)) for cohort in group]
    else:
        found = _scan(batch, group, vectors, k)
    return found


def _scan(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[_Found]:
    masks = [bits for cohort in group for bits in cohort.bits]
    top = batch.backend.masked_scan(batch.index.vectors, vectors, masks, k=k, fusion=_fusion(batch, group))
    return [_Found.exactly(part, cohort.survivors) for cohort, part in zip(group, _split(top, group), strict=True)]


def _coarse(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[_Found]:
    depth = max(cohort.plan.depth for cohort in group)
    top, proven = coarse_scan(batch.backend, batch.index, vectors, group, k=k, depth=depth)
    told = []
    for cohort, part, own in zip(group, _split(top, group), _parts(proven, group), strict=True):
        scanned = cohort.survivors
        found = _Found.exactly(part, scanned, rescored=np.minimum(max(depth, k), scanned))
        found.second_pass = ~own
        told.append(found)
    return told


def _gather(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[_Found]:
    rows_of = {id(mask): mask.of.rows for cohort in group for mask in cohort.masks}
    rows = [rows_of[id(mask)] for cohort in group for mask in cohort.masks]
    top = batch.backend.gather(batch.index.vectors, vectors, rows, k=k, fusion=_fusion(batch, group))
    return [_Found.exactly(part, cohort.survivors) for cohort, part in zip(group, _split(top, group), strict=True)]


def _probe(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[_Found]:
    """Inverted lists with exact rescoring, then the exact tail; what comes short is searched exactly.

    Rows that get something extra are left out of the lists, which cannot bound it, and scored one by one.
    """
    index = batch.index
    assert index.lists is not None
    fusion, bounded, extremes = _fusion(batch, group), None, None
    masks = [None if mask.passes_all else mask.bits for cohort in group for mask in cohort.masks]
    extra = _extra_rows(index, group)
    if fusion is not None:
        bounded = without_extras(fusion)
        masks = [mask if not len(own) else _less(index, mask, own) for mask, own in zip(masks, extra, strict=True)]
        table = group[0].fusing.table if group[0].fusing is not None else None
        extremes = None if table is None else table.extremes(index.lists.ivfpq, index.rows.living_bits())
    probed = index.lists.ivfpq.search_rescored(
        index.vectors, vectors, limits=_limits(index, group), masks=masks, k=k, fusion=bounded, extremes=extremes
    )
    parts, more_rows = [probed.top], np.array([len(own) for own in extra], np.int64)
    tail_rows = index.rows.n_rows - index.indexed_rows
    if tail_rows:
        own = [bits for cohort in group for bits in cohort.bits]
        parts.append(
            batch.backend.masked_scan(
                index.vectors, vectors, own, k=min(k, tail_rows), first_row=index.indexed_rows, fusion=fusion
            )
        )
    if more_rows.any():
        parts.append(batch.backend.gather(index.vectors, vectors, extra, k=k, fusion=fusion))
    top = batch.backend.merge_topk(parts, k=k) if len(parts) > 1 else probed.top
    wanted = np.repeat([cohort.rows_wanted for cohort in group], [len(cohort) for cohort in group])
    short = (top.rows[np.arange(len(vectors)), wanted - 1] < 0) | probed.gave_up
    if short.any():
        top = _second_pass(batch, group, top, short)
    more_rows += tail_rows
    scanned, rescored = probed.rows_scanned + more_rows, probed.rescored + more_rows
    columns = (probed.lists_scanned, scanned, rescored, short, short)
    parted = (_parts(column, group) for column in columns)
    return [_Found(*one) for one in zip(_split(top, group), *parted, strict=True)]


def _fusion(batch: Batch, group: Sequence[Cohort]) -> Fusion | None:
    return fusion_of([cohort.fusing for cohort in group], batch.index.rows.n_rows)


def _extra_rows(index: VersionIndex, group: Sequence[Cohort]) -> list[Int64Array]:
    """Rows in lists that get something extra from each query."""
    own = [
        np.zeros(0, np.int64) if cohort.fusing is None else cohort.fusing.extra_rows(query)
        for cohort in group
        for query in range(len(cohort))
    ]
    return [rows[: np.searchsorted(rows, index.indexed_rows)] for rows in own]


def _less(index: VersionIndex, mask: Uint8Array | None, rows: Int64Array) -> Uint8Array:
    """The mask, or the one of all rows, without some that it has."""
    bits = (index.rows.alive if mask is None else mask).copy()
    clear_rows(bits, rows)
    return bits


def _limits(index: VersionIndex, group: Sequence[Cohort]) -> ProbeLimits:
    """How far each query goes, as planned for its cohort."""
    sizes = [len(cohort) for cohort in group]
    plans = [cohort.plan for cohort in group]

    def each(values: Sequence[float], dtype: type) -> npt.NDArray[Any]:
        return np.repeat(np.array(values, dtype), sizes)

    return ProbeLimits(
        ks=each([cohort.rows_wanted for cohort in group], np.int64),
        nprobes=each([one.nprobe for one in plans], np.int64),
        reaches=each([one.reach for one in plans], np.float32),
        slopes=np.full(sum(sizes), REACH_SLOPE, np.float32),
        shares=np.concatenate([cohort.survivors for cohort in group]) / index.rows.n_rows,
        near_slopes=each([one.near_slope for one in plans], np.float32),
        depths=each([one.depth for one in plans], np.int64),
        slacks=each([one.slack for one in plans], np.float32),
        budgets=each([one.budget for one in plans], np.int64),
    )


def _second_pass(batch: Batch, group: Sequence[Cohort], top: TopK, short: npt.NDArray[np.bool_]) -> TopK:
    """Exact search, whichever way is the fastest, for the queries whose probes met too few of the rows that pass, or
    would have taken longer.
    """
    queries = [(cohort, query) for cohort in group for query in range(len(cohort))]
    again = np.flatnonzero(short).tolist()
    found = _run(batch, [answered_exactly(batch, *queries[query]) for query in again])
    rows, scores = top.rows.copy(), top.scores.copy()
    for query, one in zip(again, found, strict=True):
        width = min(rows.shape[1], one.top.rows.shape[1])
        rows[query], scores[query] = -1, -np.inf
        rows[query, :width], scores[query, :width] = one.top.rows[0, :width], one.top.scores[0, :width]
    return TopK(rows, scores)


def _split(top: TopK, group: Sequence[Cohort]) -> list[TopK]:
    if len(group) == 1:
        return [top]
    return [TopK(*one) for one in zip(_parts(top.rows, group), _parts(top.scores, group), strict=True)]


def _parts(values: npt.NDArray[Any], group: Sequence[Cohort]) -> list[npt.NDArray[Any]]:
    """Each cohort's own, of what all queries have."""
    ends = list(accumulate(len(cohort) for cohort in group))
    return [values[first:end] for first, end in zip([0, *ends], ends, strict=False)]


def _empty(n_queries: int) -> TopK:
    return TopK(np.zeros((n_queries, 0), np.int64), np.zeros((n_queries, 0), np.float32))


# Results


def _choose(batch: Batch, cohort: Cohort, found: _Found) -> _Chosen:
    """The k best items; those that score too little are left out. Where their legs are told, by the sum of these."""
    params, best, legs = cohort.compiled.params, _best_rows(batch.index, cohort, found), None
    if params.legs and cohort.fusing is not None:
        told = legs_of(batch.backend, batch.index, cohort.vectors, best.rows, cohort.fusing)
        best, legs = reordered(best, told)
    if params.min_score is None and batch.index.schema.chunk == 1:
        return _Chosen(best, legs)
    rows, is_hit = best.rows.copy(), best.rows >= 0
    if params.min_score is not None:
        is_hit &= best.scores >= params.min_score
    rows[is_hit], rows[~is_hit] = batch.index.rows.first_rows[best.rows[is_hit]], -1
    return _Chosen(TopK(rows, best.scores), legs)


def _best_rows(index: VersionIndex, cohort: Cohort, found: _Found) -> TopK:
    """The best row of each of the k best items, whose score is the item's."""
    k = cohort.compiled.params.k
    top = found.top
    if index.schema.chunk == 1:
        return TopK(top.rows[:, :k], top.scores[:, :k])
    rows = np.full((len(cohort), k), -1, np.int64)
    scores = np.full((len(cohort), k), -np.inf, np.float32)
    for query in range(len(cohort)):
        kept = top.rows[query][top.rows[query] >= 0]
        _, best = np.unique(index.rows.first_rows[kept], return_index=True)
        order = np.argsort(best, kind="stable")[:k]
        rows[query, : len(order)] = kept[best[order]]
        scores[query, : len(order)] = top.scores[query][best[order]]
    return TopK(rows, scores)


def _sample(monitor: RecallMonitor, batch: Batch, cohorts: Sequence[Cohort], chosen: Sequence[_Chosen]) -> None:
    """Give the monitor what it wants of the queries that were not answered exactly."""
    index = batch.index
    for cohort, top in zip(cohorts, (one.top for one in chosen), strict=True):
        if cohort.plan.strategy not in INEXACT or cohort.compiled.params.min_score is not None:
            continue
        for query in monitor.places(len(cohort)):
            monitor.keep(
                RecallSample(
                    collection=index.schema.name,
                    strategy=cohort.plan.strategy,
                    selectivity=_selectivity(index, cohort.masks[query]),
                    recall_target=recall_target_of(cohort.compiled),
                    k=cohort.compiled.params.k,
                    wanted_rows=cohort.rows_wanted,
                    vectors=index.vectors,
                    query=cohort.vectors[query : query + 1].copy(),
                    mask=cohort.masks[query].bits.copy(),
                    scores=top.scores[query][top.rows[query] >= 0],
                    first_rows=index.rows.first_rows if index.schema.chunk > 1 else None,
                    # Features that change before the check is done with may make it a little wrong.
                    fusion=fusion_of([None if cohort.fusing is None else cohort.fusing.of(query)], index.rows.n_rows),
                )
            )


def _selectivity(index: VersionIndex, mask: Mask) -> float:
    return mask.survivors / index.rows.n_alive if index.rows.n_alive else 0.0


def _result_of(
    batch: Batch, number: int, own: Sequence[tuple[Cohort, _Found, _Chosen]], times: StageTimes
) -> JobResult:
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
        sequence=index.sequence,
        times=times,
        legs=hit_legs(job.n_queries, [(cohort.places, chosen.top.rows, chosen.legs) for cohort, _, chosen in own]),
    )


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


def _explained(batch: Batch, cohort: Cohort, found: _Found, times: StageTimes) -> list[Explanation]:
    """What was done for each query; those for which the same was done share one."""
    counts = (found.lists_scanned, found.rows_scanned, found.rescored, found.second_pass, found.is_exact)
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
    lists_scanned, rows_scanned, rescored, second_pass, is_exact = did
    return Explanation(
        strategy=cohort.plan.strategy,
        index_version=index.version.id,
        encoder_version=index.version.encoder_version,
        selectivity=_selectivity(index, mask),
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
        sequence=index.sequence,
        times=times,
        profile="" if cohort.compiled.scoring is None else cohort.compiled.scoring.profile,
    )
