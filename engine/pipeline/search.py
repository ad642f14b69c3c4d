"""Answering a batch of queries, each with its own filter and k: plan, filter and scan, rescore, top k.

Runs in the search lane's thread. Knows nothing of gRPC, of queues or of how vectors came to be.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, TopK
from engine.errors import EngineError, ItemNotFound
from engine.index.filters import FilterProgram
from engine.index.version_index import VersionIndex
from engine.pipeline.planner import IndexState, Plan, PlanRequest, plan
from engine.types import (
    Explanation,
    Float32Array,
    Int64Array,
    ItemId,
    SearchParams,
    StageTimes,
    Strategy,
    Uint8Array,
)

_INVERTED = (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledParams:
    """A query's parameters with its filter compiled; shared by the queries of a call that has one for all."""

    params: SearchParams
    program: FilterProgram


@dataclass(frozen=True, slots=True, eq=False)
class SearchJob:
    """The queries of one call: ``vectors`` float32 [B, d], or items whose neighbours are wanted.

    ``compiled``: one for all queries or one for each.
    """

    index: VersionIndex
    compiled: Sequence[CompiledParams]
    vectors: Float32Array | None = None
    item_ids: Sequence[ItemId] = ()
    explain: bool = False

    @property
    def n_queries(self) -> int:
        return len(self.item_ids) if self.vectors is None else len(self.vectors)


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


@dataclass(eq=False, slots=True)
class _Mask:
    """Live rows that pass a filter, as bits, and how many they are."""

    bits: Uint8Array
    survivors: int
    passes_all: bool


@dataclass(eq=False, slots=True)
class _Cohort:
    """Consecutive queries of one job that share parameters and mask, and so the plan: float32 [m, d]."""

    job: int
    first_place: int
    vectors: Float32Array
    compiled: CompiledParams
    mask: _Mask
    plan: Plan

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(eq=False, slots=True)
class _Found:
    """A cohort's rows int64 [m, k] and scores, best first, and what was scanned for one query on average."""

    top: TopK
    lists_scanned: int = 0
    rows_scanned: int = 0
    rescored: int = 0
    second_pass: bool = False


@dataclass(eq=False, slots=True)
class _Batch:
    """The state of one batch over one index."""

    backend: Backend
    index: VersionIndex
    jobs: Sequence[SearchJob]
    masks: dict[bytes, _Mask] = field(default_factory=dict)
    plans: dict[tuple[int, int], Plan] = field(default_factory=dict)
    errors: dict[tuple[int, int], EngineError] = field(default_factory=dict)


def search_jobs(backend: Backend, jobs: Sequence[SearchJob]) -> list[JobResult | EngineError]:
    """Answer jobs over one index; one outcome for each. A query that cannot be answered fails alone."""
    batch = _Batch(backend, jobs[0].index, jobs)
    began = time.perf_counter()
    cohorts = [cohort for number in range(len(jobs)) for cohort in _cohorts(batch, number)]
    filtered = time.perf_counter()
    found = _run(batch, cohorts)
    searched = time.perf_counter()
    chosen = [_best_items(batch.index, cohort, one) for cohort, one in zip(cohorts, found, strict=True)]
    times = StageTimes(filter=filtered - began, search=searched - filtered, fuse=time.perf_counter() - searched)
    results: list[JobResult | EngineError] = []
    for number in range(len(jobs)):
        own = [(c, f, t) for c, f, t in zip(cohorts, found, chosen, strict=True) if c.job == number]
        results.append(_result_of(batch, number, own, times))
    return results


def count(index: VersionIndex, program: FilterProgram) -> int:
    """Live items that pass the filter."""
    return len(matching_ids(index, program)) if index.schema.chunk > 1 else _mask_of(index, program).survivors


def matching_ids(index: VersionIndex, program: FilterProgram) -> npt.NDArray[Any]:
    """The ids of live items that pass the filter, in the order of their rows."""
    rows = _rows_in(_mask_of(index, program).bits)
    ids: npt.NDArray[Any] = index.rows.ids[rows[index.rows.first_rows[rows] == rows]]
    return ids


# Masks and plans


def _cohorts(batch: _Batch, number: int) -> list[_Cohort]:
    job = batch.jobs[number]
    if len(job.compiled) == 1 and job.vectors is not None:
        spans = [(0, len(job.vectors))]
    else:
        spans = [(place, 1) for place in range(job.n_queries)]
    cohorts = []
    for place, size in spans:
        try:
            cohorts.append(_cohort(batch, number, place, size))
        except EngineError as error:
            batch.errors.update({(number, place + i): error for i in range(size)})
    return cohorts


def _cohort(batch: _Batch, number: int, place: int, size: int) -> _Cohort:
    job, index = batch.jobs[number], batch.index
    compiled = job.compiled[place if len(job.compiled) > 1 else 0]
    mask = _shared_mask(batch, compiled.program)
    if job.vectors is not None:
        vectors = job.vectors[place : place + size]
    else:
        own = job.item_ids[place]
        vectors = _vector_of(index, own)
        mask = _without(index, mask, [own])
    if len(compiled.params.exclude_ids):
        mask = _without(index, mask, compiled.params.exclude_ids)
    return _Cohort(number, place, vectors, compiled, mask, _plan_of(batch, compiled, mask))


def _shared_mask(batch: _Batch, program: FilterProgram) -> _Mask:
    """The mask of a filter, evaluated once for the batch."""
    mask = batch.masks.get(program.fingerprint)
    if mask is None:
        mask = batch.masks[program.fingerprint] = _mask_of(batch.index, program)
    return mask


def _mask_of(index: VersionIndex, program: FilterProgram) -> _Mask:
    rows = index.rows
    if program.is_pass_all:
        return _Mask(rows.alive, rows.n_alive, passes_all=rows.n_alive == rows.n_rows)
    bits = program.evaluate(index.columns, index.rows_of) & rows.alive
    return _Mask(bits, _popcount(bits), passes_all=False)


def _without(index: VersionIndex, mask: _Mask, ids: Sequence[ItemId] | npt.NDArray[np.uint64]) -> _Mask:
    rows = index.rows.rows_of(ids)
    bits = mask.bits.copy()
    np.bitwise_and.at(bits, rows >> 3, ~(1 << (rows & 7)).astype(np.uint8))
    return _Mask(bits, _popcount(bits), passes_all=False)


def _popcount(bits: Uint8Array) -> int:
    return int(np.bitwise_count(bits.view(np.uint64)).sum())


def _rows_in(bits: Uint8Array) -> Int64Array:
    return np.flatnonzero(np.unpackbits(bits, bitorder="little"))


def _vector_of(index: VersionIndex, item_id: ItemId) -> Float32Array:
    vector = index.vector_of(item_id)
    if vector is None:
        raise ItemNotFound(item_id)
    return vector[None, :]


def _plan_of(batch: _Batch, compiled: CompiledParams, mask: _Mask) -> Plan:
    key = (id(compiled), mask.survivors)
    known = batch.plans.get(key)
    if known is None:
        known = batch.plans[key] = plan(_request(batch.index, compiled, mask), _state(batch.index))
    return known


def _request(index: VersionIndex, compiled: CompiledParams, mask: _Mask) -> PlanRequest:
    params = compiled.params
    return PlanRequest(
        k=params.k * index.schema.chunk,
        survivors=mask.survivors,
        is_filtered=not compiled.program.is_pass_all or len(params.exclude_ids) > 0,
        exact=params.exact,
        recall_target=params.recall_target,
        nprobe=params.nprobe,
        rescore_depth=params.rescore_depth,
        strategy=params.strategy,
    )


def _state(index: VersionIndex) -> IndexState:
    return IndexState(
        n_rows=index.rows.n_rows,
        alive_rows=index.rows.n_alive,
        indexed_rows=index.indexed_rows,
        nlist=index.lists.ivfpq.nlist if index.lists else 0,
        dimension=index.version.dimension,
        tuning=index.lists.tuning if index.lists else None,
        costs=index.costs,
    )


# Scans


def _run(batch: _Batch, cohorts: Sequence[_Cohort]) -> list[_Found]:
    """What was found for each cohort; cohorts that one backend call can answer share it."""
    found: dict[int, _Found] = {}
    for members in _grouped(cohorts):
        group = [cohorts[member] for member in members]
        found.update(zip(members, _answer(batch, group), strict=True))
    return [found[position] for position in range(len(cohorts))]


def _grouped(cohorts: Sequence[_Cohort]) -> list[list[int]]:
    """A scan or a gather takes any masks, inverted lists take one."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, cohort in enumerate(cohorts):
        key: tuple[object, ...] = (cohort.plan.strategy,)
        if cohort.plan.strategy in _INVERTED:
            key = (*key, cohort.plan.nprobe, cohort.plan.depth, id(cohort.mask))
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def _answer(batch: _Batch, group: Sequence[_Cohort]) -> list[_Found]:
    strategy = group[0].plan.strategy
    k = max(_rows_wanted(batch.index, cohort) for cohort in group)
    vectors = group[0].vectors if len(group) == 1 else np.concatenate([cohort.vectors for cohort in group])
    if strategy in _INVERTED:
        found = _probe(batch, group, vectors, k)
    elif strategy is Strategy.GATHER:
        found = _gather(batch, group, vectors, k)
    elif strategy is Strategy.NONE:
        found = [_Found(_empty(len(cohort))) for cohort in group]
    else:
        found = _scan(batch, group, vectors, k)
    return found


def _rows_wanted(index: VersionIndex, cohort: _Cohort) -> int:
    """k, or enough rows that k items are among them however many chunks each has."""
    return max(1, min(cohort.compiled.params.k * index.schema.chunk, cohort.mask.survivors))


def _scan(batch: _Batch, group: Sequence[_Cohort], vectors: Float32Array, k: int) -> list[_Found]:
    masks = [cohort.mask.bits for cohort in group for _ in range(len(cohort))]
    top = batch.backend.masked_scan(batch.index.vectors, vectors, masks, k=k)
    return [
        _Found(part, rows_scanned=cohort.mask.survivors, rescored=cohort.mask.survivors)
        for cohort, part in zip(group, _split(top, group), strict=True)
    ]


def _gather(batch: _Batch, group: Sequence[_Cohort], vectors: Float32Array, k: int) -> list[_Found]:
    rows_of_mask = {id(cohort.mask): _rows_in(cohort.mask.bits) for cohort in group}
    rows = [rows_of_mask[id(cohort.mask)] for cohort in group for _ in range(len(cohort))]
    top = batch.backend.gather(batch.index.vectors, vectors, rows, k=k)
    return [
        _Found(part, rows_scanned=cohort.mask.survivors, rescored=cohort.mask.survivors)
        for cohort, part in zip(group, _split(top, group), strict=True)
    ]


def _probe(batch: _Batch, group: Sequence[_Cohort], vectors: Float32Array, k: int) -> list[_Found]:
    """Inverted lists, exact rescoring of what they gave, and the exact tail; one mask for the whole group."""
    index, plan_, mask = batch.index, group[0].plan, group[0].mask
    assert index.lists is not None
    bits = None if mask.passes_all else mask.bits
    candidates = index.lists.ivfpq.search(vectors, nprobe=plan_.nprobe, depth=max(plan_.depth, k), mask=bits)
    rows, tail_rows = candidates.rows, index.rows.n_rows - index.indexed_rows
    if tail_rows:
        masks = [mask.bits] * len(vectors)
        tail = batch.backend.masked_scan(index.vectors, vectors, masks, k=min(k, tail_rows), first_row=index.indexed_rows)
        rows = np.concatenate([rows, tail.rows], axis=1)
    top = batch.backend.rescore(index.vectors, vectors, rows, k=k)
    short = (top.rows >= 0).sum(axis=1) < min(k, mask.survivors)
    if short.any():
        top = _second_pass(batch, group[0], vectors, top, short, k)
    n = len(vectors)
    return [
        _Found(
            part,
            lists_scanned=candidates.lists_scanned // n,
            rows_scanned=candidates.rows_scanned // n + tail_rows,
            rescored=rows.shape[1],
            second_pass=bool(short.any()),
        )
        for part in _split(top, group)
    ]


def _second_pass(
    batch: _Batch, cohort: _Cohort, vectors: Float32Array, top: TopK, short: npt.NDArray[np.bool_], k: int
) -> TopK:
    """Exact search for the queries whose probes met fewer rows than there are survivors to return."""
    masks = [cohort.mask.bits] * int(short.sum())
    exact = batch.backend.masked_scan(batch.index.vectors, vectors[short], masks, k=k)
    rows, scores = top.rows.copy(), top.scores.copy()
    rows[short], scores[short] = exact.rows, exact.scores
    return TopK(rows, scores)


def _split(top: TopK, group: Sequence[_Cohort]) -> list[TopK]:
    ends = np.cumsum([len(cohort) for cohort in group])[:-1]
    if not len(ends):
        return [top]
    return [TopK(*pair) for pair in zip(np.split(top.rows, ends), np.split(top.scores, ends), strict=True)]


def _empty(n_queries: int) -> TopK:
    return TopK(np.zeros((n_queries, 0), np.int64), np.zeros((n_queries, 0), np.float32))


# Results


def _best_items(index: VersionIndex, cohort: _Cohort, found: _Found) -> TopK:
    """The k best items: an item's score is its best row's, and its first row stands for it."""
    k = cohort.compiled.params.k
    top = found.top
    if index.schema.chunk == 1:
        return TopK(top.rows[:, :k], top.scores[:, :k])
    rows = np.full((len(cohort), k), -1, np.int64)
    scores = np.full((len(cohort), k), -np.inf, np.float32)
    for query in range(len(cohort)):
        kept = top.rows[query][top.rows[query] >= 0]
        firsts, best = np.unique(index.rows.first_rows[kept], return_index=True)
        order = np.argsort(best, kind="stable")[:k]
        rows[query, : len(order)] = firsts[order]
        scores[query, : len(order)] = top.scores[query][best[order]]
    return TopK(rows, scores)


def _result_of(
    batch: _Batch, number: int, own: Sequence[tuple[_Cohort, _Found, TopK]], times: StageTimes
) -> JobResult:
    job, index = batch.jobs[number], batch.index
    counts = np.zeros(job.n_queries, np.uint32)
    rows, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for cohort, _, top in own:
        valid = top.rows >= 0
        counts[cohort.first_place : cohort.first_place + len(cohort)] = valid.sum(axis=1)
        rows.append(top.rows[valid])
        scores.append(top.scores[valid])
    explanations: list[Explanation] = []
    if job.explain:
        explanations = [Explanation(Strategy.NONE, index_version=index.version.id)] * job.n_queries
        for cohort, found, _ in own:
            told = [_explain(batch, cohort, found, times)] * len(cohort)
            explanations[cohort.first_place : cohort.first_place + len(cohort)] = told
    return JobResult(
        counts=counts,
        ids=index.rows.ids[np.concatenate(rows)],
        scores=np.concatenate(scores),
        errors=[batch.errors.get((number, place)) for place in range(job.n_queries)] if batch.errors else (),
        explanations=explanations,
        sequence=index.sequence,
        times=times,
    )


def _explain(batch: _Batch, cohort: _Cohort, found: _Found, times: StageTimes) -> Explanation:
    index = batch.index
    return Explanation(
        strategy=cohort.plan.strategy,
        index_version=index.version.id,
        encoder_version=index.version.encoder_version,
        selectivity=cohort.mask.survivors / index.rows.n_alive if index.rows.n_alive else 0.0,
        nprobe=cohort.plan.nprobe,
        lists_scanned=found.lists_scanned,
        rows_scanned=found.rows_scanned,
        rescored=found.rescored,
        expected_recall=1.0 if found.second_pass else cohort.plan.expected_recall,
        second_pass=found.second_pass,
        device=batch.backend.device,
        score_dtype=index.version.dtype,
        batch_size=sum(job.n_queries for job in batch.jobs),
        sequence=index.sequence,
        times=times,
    )
