"""The queries of a batch in cohorts: those of a job that share parameters and mask, and so are planned and run as one.

Masks are evaluated once for each distinct filter of the batch. Knows nothing of how a plan is carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend
from engine.errors import EngineError, ItemNotFound, UnknownAttribute
from engine.index.filters import FilterProgram
from engine.index.masks import RowMask
from engine.index.version_index import VersionIndex
from engine.pipeline.calls import field_of, unsound_vector
from engine.pipeline.planner import DEFAULT_RECALL_TARGET, IndexState, Plan, PlanRequest, plan
from engine.types import Float32Array, ItemId, SearchParams, Uint8Array


@dataclass(frozen=True, slots=True, eq=False)
class CompiledParams:
    """A query's parameters with its filter compiled; shared by the queries of a call that has one for all.

    ``default_recall_target`` holds where the parameters name none.
    """

    params: SearchParams
    program: FilterProgram
    default_recall_target: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SearchJob:
    """The queries of one call: ``vectors`` float32 [B, d], or items whose neighbours are wanted.

    ``compiled``: one for all queries or one for each. ``fields``: what messages call each query; empty where the
    job has all of the call's.
    """

    index: VersionIndex
    compiled: Sequence[CompiledParams]
    vectors: Float32Array | None = None
    item_ids: Sequence[ItemId] = ()
    explain: bool = False
    fields: Sequence[str] = ()

    @property
    def n_queries(self) -> int:
        return len(self.item_ids) if self.vectors is None else len(self.vectors)

    def field(self, place: int) -> str:
        return self.fields[place] if self.fields else field_of("query", place, self.n_queries)


@dataclass(eq=False, slots=True)
class Mask:
    """Live rows that pass a filter; ``passes_all`` where that is every row there is."""

    of: RowMask
    passes_all: bool

    @property
    def bits(self) -> Uint8Array:
        return self.of.bits

    @property
    def survivors(self) -> int:
        return self.of.count


@dataclass(eq=False, slots=True)
class Cohort:
    """Consecutive queries of one job that share parameters and mask, and so the plan: float32 [m, d].

    ``rows_wanted``: k, or enough rows that k items are among them however many chunks each has.
    """

    job: int
    first_place: int
    vectors: Float32Array
    compiled: CompiledParams
    mask: Mask
    plan: Plan
    rows_wanted: int

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(eq=False, slots=True)
class Batch:
    """The state of one batch over one index."""

    backend: Backend
    index: VersionIndex
    jobs: Sequence[SearchJob]
    masks: dict[bytes, Mask] = field(default_factory=dict)
    reduced: dict[int, Mask] = field(default_factory=dict)
    plans: dict[tuple[int, int], Plan] = field(default_factory=dict)
    errors: dict[tuple[int, int], EngineError] = field(default_factory=dict)
    state: IndexState = field(init=False)

    def __post_init__(self) -> None:
        n_queries = sum(job.n_queries for job in self.jobs)
        self.state = _state(self.index, n_queries, self.backend.threads)


def cohorts_of(batch: Batch, number: int) -> list[Cohort]:
    job = batch.jobs[number]
    if job.vectors is None:
        return _cohorts_by_id(batch, number)
    metric = batch.index.version.metric
    vectors, is_sound = batch.backend.unit_queries(job.vectors, metric=metric)
    for place in np.flatnonzero(~is_sound).tolist():
        batch.errors[number, place] = unsound_vector(job.vectors[place], metric, job.field(place))
    cohorts = []
    for first, end in _spans(is_sound, each=len(job.compiled) > 1):
        compiled = job.compiled[first if len(job.compiled) > 1 else 0]
        try:
            mask = _shared_mask(batch, compiled)
            plan_ = _plan_of(batch, compiled, mask)
        except EngineError as error:
            batch.errors.update({(number, place): error for place in range(first, end)})
        else:
            wanted = _rows_wanted(batch.index, compiled, mask)
            cohorts.append(Cohort(number, first, vectors[first:end], compiled, mask, plan_, wanted))
    return cohorts


def _spans(is_sound: npt.NDArray[np.bool_], *, each: bool) -> list[tuple[int, int]]:
    """Runs of sound queries as (first, end), or every sound query by itself."""
    if each:
        return [(place, place + 1) for place in np.flatnonzero(is_sound).tolist()]
    if is_sound.all():
        return [(0, len(is_sound))]
    borders = np.flatnonzero(np.diff(is_sound, prepend=False, append=False))
    return list(zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True))


def _cohorts_by_id(batch: Batch, number: int) -> list[Cohort]:
    """A cohort for each item: it is left out of its own answer, and so has a mask of its own."""
    job, index = batch.jobs[number], batch.index
    cohorts = []
    for place, own in enumerate(job.item_ids):
        compiled = job.compiled[place if len(job.compiled) > 1 else 0]
        try:
            mask = _without(index, _shared_mask(batch, compiled), [own])
            vector = _vector_of(batch, own)
            plan_, wanted = _plan_of(batch, compiled, mask), _rows_wanted(index, compiled, mask)
            cohorts.append(Cohort(number, place, vector, compiled, mask, plan_, wanted))
        except EngineError as error:
            batch.errors[number, place] = error
    return cohorts


def _shared_mask(batch: Batch, compiled: CompiledParams) -> Mask:
    """The mask of a filter, evaluated once for the batch, less the excluded items, looked up once for a call."""
    program, excluded = compiled.program, compiled.params.exclude_ids
    mask = batch.masks.get(program.fingerprint)
    if mask is None:
        mask = batch.masks[program.fingerprint] = mask_of(batch.index, program)
    if not len(excluded):
        return mask
    if id(compiled) not in batch.reduced:
        batch.reduced[id(compiled)] = _without(batch.index, mask, excluded)
    return batch.reduced[id(compiled)]


def evaluate_filters(batch: Batch) -> None:
    """The masks of all filters of the batch at once, so that columns which several read are read once.

    Where one of them names an attribute that the index lacks, none is: each is told so when its own turn comes.
    """
    index = batch.index
    programs = {one.program.fingerprint: one.program for job in batch.jobs for one in job.compiled}
    parts = {key: program.parts() for key, program in programs.items()}
    wanted = [key for key, (of_columns, _) in parts.items() if not of_columns.is_pass_all]
    if len(wanted) < 2:
        return
    try:
        found = index.masks.masks([parts[key][0] for key in wanted], index.columns)
    except UnknownAttribute:
        return
    for key, mask in zip(wanted, found, strict=True):
        batch.masks[key] = _live(index, mask, parts[key][1])


def mask_of(index: VersionIndex, program: FilterProgram) -> Mask:
    rows = index.rows
    if program.is_pass_all:
        return Mask(RowMask(rows.alive, rows.n_alive), passes_all=rows.n_alive == rows.n_rows)
    of_columns, of_ids = program.parts()
    if of_columns.is_pass_all:
        return _live(index, RowMask(rows.alive, rows.n_alive), of_ids)
    return _live(index, index.masks.mask(of_columns, index.columns), of_ids)


def _live(index: VersionIndex, mask: RowMask, of_ids: FilterProgram) -> Mask:
    """What of a kept mask lives and has the ids that the filter names: both change without a column's doing."""
    if index.rows.n_alive < index.rows.n_rows:
        mask = mask.among(index.rows.alive)
    if not of_ids.is_pass_all:
        mask = mask.among(of_ids.evaluate(index.columns, index.rows_of))
    return Mask(mask, passes_all=False)


def _without(index: VersionIndex, mask: Mask, ids: Sequence[ItemId] | npt.NDArray[np.uint64]) -> Mask:
    return Mask(mask.of.without(index.rows.rows_of(ids)), passes_all=False)


def _vector_of(batch: Batch, item_id: ItemId) -> Float32Array:
    vector = batch.index.vector_of(item_id)
    if vector is None:
        raise ItemNotFound(item_id)
    # The mean of several unit vectors is shorter than one, and a score by it would be no cosine.
    return batch.backend.unit_queries(vector[None, :], metric=batch.index.version.metric)[0]


def _plan_of(batch: Batch, compiled: CompiledParams, mask: Mask) -> Plan:
    key = (id(compiled), mask.survivors)
    known = batch.plans.get(key)
    if known is None:
        known = batch.plans[key] = plan(_request(batch.index, compiled, mask), batch.state)
    return known


def answered_exactly(batch: Batch, cohort: Cohort, place: int) -> Cohort:
    """One query of a cohort as a cohort of its own, planned anew as an exact search."""
    request = replace(
        _request(batch.index, cohort.compiled, cohort.mask), exact=True, strategy=None, nprobe=None, rescore_depth=None
    )
    vectors = cohort.vectors[place : place + 1]
    return replace(cohort, first_place=cohort.first_place + place, vectors=vectors, plan=plan(request, batch.state))


def _rows_wanted(index: VersionIndex, compiled: CompiledParams, mask: Mask) -> int:
    return max(1, min(compiled.params.k * index.schema.chunk, mask.survivors))


def recall_target_of(compiled: CompiledParams) -> float:
    """What the query asks, or else its collection, or else everybody."""
    asked = compiled.params.recall_target
    if asked is None:
        asked = compiled.default_recall_target
    return DEFAULT_RECALL_TARGET if asked is None else asked


def _request(index: VersionIndex, compiled: CompiledParams, mask: Mask) -> PlanRequest:
    params = compiled.params
    return PlanRequest(
        k=params.k * index.schema.chunk,
        survivors=mask.survivors,
        is_filtered=not compiled.program.is_pass_all or len(params.exclude_ids) > 0,
        exact=params.exact,
        recall_target=recall_target_of(compiled),
        nprobe=params.nprobe,
        rescore_depth=params.rescore_depth,
        strategy=params.strategy,
    )


def _state(index: VersionIndex, n_queries: int, threads: int) -> IndexState:
    return IndexState(
        n_rows=index.rows.n_rows,
        alive_rows=index.rows.n_alive,
        indexed_rows=index.indexed_rows,
        nlist=index.lists.ivfpq.nlist if index.lists else 0,
        dimension=index.version.dimension,
        tuning=index.lists.tuning if index.lists else None,
        costs=index.planning_costs,
        coarse=index.coarse.state,
        batch_queries=n_queries,
        threads=threads,
    )
