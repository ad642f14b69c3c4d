"""The queries of a batch in cohorts: those of a job that are planned alike, and so are run as one.

Masks are evaluated once for each distinct filter of the batch. Knows nothing of how a plan is carried out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend
from engine.embeddings import Weights
from engine.errors import CursorLapsed, EngineError, InvalidArgument, UnknownAttribute
from engine.index.facet_counts import FacetCounting
from engine.index.features import FeatureTable, SumFeature, Weighted
from engine.index.filters import FilterProgram
from engine.index.masks import RowMask
from engine.index.predicates import RowsOf
from engine.index.row_views import RowView, view_of
from engine.index.version_index import VersionIndex
from engine.pipeline.calls import field_of, unsound_vector
from engine.pipeline.combining import combine, combine_rows
from engine.pipeline.cursors import Cursor
from engine.pipeline.examples import vector_of_examples, vector_of_item
from engine.pipeline.fusing import Extra, Fusing, find_extra
from engine.pipeline.planner import (
    DEFAULT_RECALL_TARGET,
    IndexState,
    Plan,
    PlanRequest,
    plan,
    planned_batch,
    planned_survivors,
)
from engine.pipeline.rank_columns import ItemInputs
from engine.pipeline.scoring import CompiledScoring
from engine.scorings import LEXICAL
from engine.selection import Facet
from engine.types import Examples, Float32Array, Int64Array, ItemId, SearchParams, Uint8Array
from kernels.cpu_filters import set_rows

_GROUPED_WIDTH = 2
"""Items searched for at first, for each that is wanted of groups."""
_PAGE_MARGIN = 16
"""Items searched for beyond a page, so that rounding at its end does not have it searched again."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledParams:
    """A query's parameters with its filter compiled; shared by the queries of a call that has one for all.

    ``default_recall_target`` holds where the parameters name none; ``is_narrowed``: masks leave out rows that pass the
    filter. ``cursor``: of the page before, where there was one; ``lease_seconds``: how long a page's moment is kept;
    ``weights``: of named embeddings, float64 [E].
    """

    params: SearchParams
    program: FilterProgram
    default_recall_target: float | None = None
    scoring: CompiledScoring | None = None
    is_narrowed: bool = False
    cursor: Cursor | None = None
    lease_seconds: float = 60.0
    weights: Weights | None = None

    @property
    def is_filtered(self) -> bool:
        is_narrowed = self.is_narrowed or self.cursor is not None
        return not self.program.is_pass_all or len(self.params.exclude_ids) > 0 or is_narrowed

    @property
    def needs_vector(self) -> bool:
        """Whether the query has to be encoded: similarity counts, and no cursor brings the vector."""
        return self.cursor is None and (self.scoring is None or self.scoring.similarity > 0)

    @property
    def n_candidates(self) -> int:
        """Items among which the hits are chosen."""
        diversity = self.params.diversity
        if self.params.page:
            return self.params.k + _PAGE_MARGIN + (0 if self.cursor is None else self.cursor.seen)
        return self.params.k if diversity is None or diversity.candidates is None else diversity.candidates

    @property
    def n_searched(self) -> int:
        """Items that a search is to find at first."""
        return self.n_candidates * (1 if self.params.group_by is None else _GROUPED_WIDTH)

    @property
    def tells_the_best(self) -> bool:
        """Whether the hits are the k best items and nothing else."""
        params = self.params
        return params.min_score is None and params.group_by is None and params.diversity is None and not params.page

    @property
    def asked(self) -> tuple[object, ...]:
        """What a plan follows from, but for the filter."""
        params = self.params
        return (
            self.n_searched,
            params.exact,
            recall_target_of(self),
            params.nprobe,
            params.rescore_depth,
            params.strategy,
            self.is_filtered,
            None if self.scoring is None else self.scoring.kind,
            self.cursor is not None,
        )

    @property
    def chosen_by(self) -> tuple[object, ...]:
        """What the hits of a cohort are chosen and told by."""
        params = self.params
        names = self.scoring.names if params.legs and self.scoring is not None else ()
        chosen = (params.group_by, params.diversity, params.page, id(self.cursor))
        return params.k, params.min_score, params.legs, names, *chosen


@dataclass(frozen=True, slots=True, eq=False)
class SearchJob:
    """The queries of one call: ``vectors`` float32 [B, d], or items whose neighbours are wanted, or examples, or
    ``named``: vectors float32 [B, d of each] by the names of embeddings.

    ``compiled``: one for all queries or one for each. ``fields``: what messages call each query; empty where the
    job has all of the call's; ``forms``: and the field of it that says each of ``named``, where that is not one of
    its own. ``terms``: the text of each query that is searched by terms, empty where none is.
    ``item_inputs``: what is to be read of the hits' items.
    """

    index: VersionIndex
    compiled: Sequence[CompiledParams]
    vectors: Float32Array | None = None
    item_ids: Sequence[ItemId] = ()
    examples: Sequence[Examples] = ()
    explain: bool = False
    fields: Sequence[str] = ()
    terms: Sequence[str] = ()
    item_inputs: ItemInputs | None = None
    named: Mapping[str, Float32Array] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_queries(self) -> int:
        vectors = next(iter(self.named.values()), self.vectors)
        return len(self.item_ids) or len(self.examples) if vectors is None else len(vectors)

    @property
    def weights(self) -> Weights:
        """Of the named embeddings, for each query: float64 [B, E]."""
        own = [one.weights for one in self.compiled if one.weights is not None]
        return np.broadcast_to(np.array(own), (self.n_queries, len(own[0])))

    def compiled_of(self, place: int) -> CompiledParams:
        """What one of the queries asks."""
        return self.compiled[place if len(self.compiled) > 1 else 0]

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
    """Queries of one job that are planned alike: float32 [m, d], at ``places`` of the job, ascending.

    ``masks``: one for each. ``compiled``: of any of them; they differ by their filters, and by what ``fusing`` has for
    each where scores are fused. ``rows_wanted``: k, or enough rows that k items are among them however many chunks
    each has.
    """

    job: int
    places: Sequence[int]
    vectors: Float32Array
    compiled: CompiledParams
    masks: Sequence[Mask]
    plan: Plan
    rows_wanted: int
    fusing: Fusing | None = None

    def __len__(self) -> int:
        return len(self.places)

    @property
    def bits(self) -> list[Uint8Array]:
        return [mask.bits for mask in self.masks]

    @property
    def survivors(self) -> Int64Array:
        """Of each query's filter, [m]."""
        return np.array([mask.survivors for mask in self.masks], np.int64)


_NO_WEIGHTS = np.zeros(0, np.float32)

_Asked: TypeAlias = tuple[int, CompiledParams, Sequence[ItemId]]
"""A query's place, its parameters, and the items that it is made of, which are left out."""


@dataclass(eq=False, slots=True)
class Batch:
    """The state of one batch over one index.

    ``factors``: by jobs whose queries are of named embeddings, what their parts were multiplied by, float32 [B, E].
    """

    backend: Backend
    index: VersionIndex
    jobs: Sequence[SearchJob]
    masks: dict[bytes, Mask] = field(default_factory=dict)
    reduced: dict[tuple[bytes, int], Mask] = field(default_factory=dict)
    plans: dict[tuple[tuple[object, ...], int, int, bool], Plan] = field(default_factory=dict)
    avoids_lists: dict[Hashable, bool] = field(default_factory=dict)
    errors: dict[tuple[int, int], EngineError] = field(default_factory=dict)
    extras: dict[tuple[int, int, str], tuple[Mask, Extra]] = field(default_factory=dict)
    weighted: dict[tuple[int, int | None], Weighted] = field(default_factory=dict)
    views: dict[tuple[int, int], RowView] = field(default_factory=dict)
    countings: dict[tuple[int, tuple[Facet, ...]], FacetCounting] = field(default_factory=dict)
    of_chosen: dict[tuple[int, bytes], tuple[Mask, Mask]] = field(default_factory=dict)
    factors: dict[int, Float32Array] = field(default_factory=dict)
    state: IndexState = field(init=False)

    def __post_init__(self) -> None:
        n_queries = sum(job.n_queries for job in self.jobs)
        self.state = _state(self.index, n_queries, self.backend.threads)


def cohorts_of(batch: Batch, number: int) -> list[Cohort]:
    """What is wrong with a query goes to the batch's errors, and it is in no cohort."""
    job = batch.jobs[number]
    if job.item_ids or job.examples:
        return _cohorts_by_id(batch, number)
    vectors, is_sound = _unit_queries(batch, number)
    sound = np.flatnonzero(is_sound).tolist()
    if len(job.compiled) > 1 or job.terms or job.compiled[0].cursor is not None:
        own: list[_Asked] = [(place, job.compiled_of(place), ()) for place in sound]
        return _gathered(batch, number, _as_on_first_pages(vectors, own), own)
    try:
        mask = _shared_mask(batch, job.compiled[0])
        extra = _extra_of(batch, job.compiled[0], mask, "")
        mask, extra = _of_chosen(batch, job.compiled[0], mask, extra)
        plan_ = _plan_of(batch, job.compiled[0], mask, extra)
        fusing = _fusing(batch, job.compiled[0], extra, len(sound))
    except EngineError as error:
        batch.errors.update({(number, place): error for place in sound})
        return []
    wanted = _rows_wanted(batch.index, job.compiled[0], mask)
    if not sound:
        return []
    sound_vectors = vectors if is_sound.all() else vectors[is_sound]
    return [Cohort(number, sound, sound_vectors, job.compiled[0], [mask] * len(sound), plan_, wanted, fusing)]


def _as_on_first_pages(vectors: Float32Array, asked: Sequence[_Asked]) -> Float32Array:
    """The vectors [B, d] with those that cursors bring."""
    brought = {place: one.cursor.vector for place, one, _ in asked if one.cursor is not None}
    if brought:
        vectors = vectors.copy()
        vectors[list(brought)] = list(brought.values())
    return vectors


def _unit_queries(batch: Batch, number: int) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """The job's queries as rows are compared with them, and which of them are sound."""
    job, metric = batch.jobs[number], batch.index.version.metric
    blamed: Mapping[int, str] = {}
    if job.named:
        combined = combine(batch.backend, job.named, job.weights, batch.index.schema)
        given, batch.factors[number], blamed = combined.vectors, combined.factors, combined.unsound
    else:
        assert job.vectors is not None
        given = job.vectors
    vectors, is_sound = batch.backend.unit_queries(given, metric=metric)
    for place, name in blamed.items():
        path = f"{job.field(place)}.{job.forms.get(name, f'named.vectors[{name}]')}"
        batch.errors[number, place] = unsound_vector(job.named[name][place], batch.index.schema.metric, path)
        is_sound[place] = False
    for place in np.flatnonzero(~is_sound).tolist():
        if (number, place) not in batch.errors:
            batch.errors[number, place] = unsound_vector(given[place], metric, f"{job.field(place)}.vector")
    return vectors, is_sound


def factors_of(batch: Batch, cohort: Cohort) -> Float32Array | None:
    """What the parts of a cohort's queries were multiplied by, float32 [m, E]; None without named embeddings."""
    return batch.factors[cohort.job][cohort.places] if cohort.job in batch.factors else None


def _cohorts_by_id(batch: Batch, number: int) -> list[Cohort]:
    """Items are left out of their own answer, and so each query has a mask of its own."""
    job = batch.jobs[number]
    vectors = np.zeros((job.n_queries, batch.index.version.dimension), np.float32)
    asked: list[_Asked] = []
    for place in range(job.n_queries):
        try:
            vectors[place], own = _of_items(batch, job, place)
        except EngineError as error:
            batch.errors[number, place] = error
        else:
            asked.append((place, job.compiled_of(place), own))
    if batch.index.schema.embeddings:
        combined = combine_rows(batch.backend, vectors, job.weights, batch.index.schema)
        vectors, batch.factors[number] = combined.vectors, combined.factors
        for place in np.flatnonzero(~combined.factors.any(axis=1)).tolist():
            path = f"{job.field(place)}.{'item_id' if job.item_ids else 'examples'}"
            lacking = InvalidArgument(path, "there is none of the embeddings that count")
            batch.errors.setdefault((number, place), lacking)
        asked = [one for one in asked if (number, one[0]) not in batch.errors]
    return _gathered(batch, number, vectors, asked)


def _gathered(batch: Batch, number: int, vectors: Float32Array, asked: Sequence[_Asked]) -> list[Cohort]:
    """Queries with filters of their own, those that are planned alike together."""
    found: dict[tuple[object, ...], _Alike] = {}
    terms = batch.jobs[number].terms
    for place, compiled, own in asked:
        try:
            mask = _shared_mask(batch, compiled)
            if own:
                mask = Mask(mask.of.without(_rows_of(batch, compiled)(own)), passes_all=False)
            extra = _extra_of(batch, compiled, mask, terms[place] if terms else "")
            mask, extra = _of_chosen(batch, compiled, mask, extra)
            if extra is not None and compiled.scoring is not None and compiled.scoring.is_lexical:
                mask = _only(batch.index, extra.matching(LEXICAL))
            plan_ = _plan_of(batch, compiled, mask, extra)
            weighted = _weighted(batch, compiled)
        except EngineError as error:
            batch.errors[number, place] = error
            continue
        kind = (
            None
            if compiled.scoring is None
            else (compiled.scoring.kind, compiled.scoring.names, id(weighted.table) if weighted else 0)
        )
        wanted = _rows_wanted(batch.index, compiled, mask)
        alike = found.setdefault((id(plan_), wanted, kind, compiled.chosen_by), _Alike(compiled, plan_, wanted))
        alike.add(place, mask, compiled.scoring, weighted, extra)
    return [alike.cohort(number, vectors) for alike in found.values()]


@dataclass(eq=False, slots=True)
class _Alike:
    """Queries that will be a cohort."""

    compiled: CompiledParams
    plan: Plan
    wanted: int
    places: list[int] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    scorings: list[CompiledScoring] = field(default_factory=list)
    table: FeatureTable | None = None
    weights: list[Float32Array] = field(default_factory=list)
    extras: list[Extra | None] = field(default_factory=list)

    def add(
        self, place: int, mask: Mask, scoring: CompiledScoring | None, weighted: Weighted | None, extra: Extra | None
    ) -> None:
        self.places.append(place)
        self.masks.append(mask)
        if scoring is not None:
            self.scorings.append(scoring)
            self.extras.append(extra)
            self.weights.append(_NO_WEIGHTS if weighted is None else weighted.weights)
            self.table = None if weighted is None else weighted.table

    def cohort(self, number: int, vectors: Float32Array) -> Cohort:
        fusing = Fusing(self.scorings, self.table, self.weights, self.extras) if self.scorings else None
        return Cohort(
            number, self.places, vectors[self.places], self.compiled, self.masks, self.plan, self.wanted, fusing
        )


def _extra_of(batch: Batch, compiled: CompiledParams, mask: Mask, terms: str) -> Extra | None:
    """What rows that pass the mask get from the query's keywords, found once for those who ask the same."""
    scoring = compiled.scoring
    if scoring is None or not scoring.has_extras:
        return None
    key = (id(scoring), id(mask), terms)
    if key not in batch.extras:
        # With the mask that it is of, whose id is a key: another must not get it.
        batch.extras[key] = mask, find_extra(batch.index, scoring, mask.bits, terms)
    return batch.extras[key][1]


def _fusing(batch: Batch, compiled: CompiledParams, extra: Extra | None, n_queries: int) -> Fusing | None:
    """Of queries that ask the same."""
    if compiled.scoring is None:
        return None
    weighted = _weighted(batch, compiled)
    table, weights = (None, _NO_WEIGHTS) if weighted is None else (weighted.table, weighted.weights)
    return Fusing([compiled.scoring] * n_queries, table, [weights] * n_queries, [extra] * n_queries)


def _weighted(batch: Batch, compiled: CompiledParams) -> Weighted | None:
    """The features that scores are fused with and their weights, found once a batch for those who ask the same."""
    scoring = compiled.scoring
    if scoring is None or not scoring.total.parts:
        return None
    now = None if compiled.cursor is None else compiled.cursor.now
    key = (id(scoring), now)
    if key not in batch.weighted:
        batch.weighted[key] = _found_weighted(batch.index, scoring.total, now)
    return batch.weighted[key]


def _found_weighted(index: VersionIndex, total: SumFeature, now: int | None) -> Weighted:
    """``now``: of a cursor, where there is one."""
    if now is None:
        return index.weighted_features(total)
    return Weighted(index.feature_table_at(total.features, now), total.weights)


def _view(batch: Batch, cursor: Cursor) -> RowView:
    """The rows of a cursor's moment.

    Raises:
        CursorLapsed: it is kept no longer.
    """
    index = batch.index
    if cursor.generation != index.version.generation:
        raise CursorLapsed("params.cursor: rows were written anew since, without those that had died")
    if not index.rows.shown.holds(cursor.position) or index.clock() >= cursor.expires_at:
        raise CursorLapsed("params.cursor: its lease has ended")
    key = (cursor.position, cursor.n_rows)
    if key not in batch.views:
        batch.views[key] = view_of(index.rows, cursor.position, cursor.n_rows)
    return batch.views[key]


def _rows_of(batch: Batch, compiled: CompiledParams) -> RowsOf:
    """Which rows items have, or had at the moment of a cursor."""
    return batch.index.rows_of if compiled.cursor is None else _view(batch, compiled.cursor).rows_of


def _view_mask(batch: Batch, compiled: CompiledParams, cursor: Cursor) -> Mask:
    """The rows of a cursor's moment that pass, less the excluded items."""
    index, view = batch.index, _view(batch, cursor)
    of_columns, of_ids = compiled.program.parts()
    mask = view.seen
    if not of_columns.is_pass_all:
        mask = index.masks.mask(of_columns, index.columns).among(mask.bits)
    if not of_ids.is_pass_all:
        mask = mask.among(of_ids.evaluate(index.columns, view.rows_of))
    if len(compiled.params.exclude_ids):
        mask = mask.without(view.rows_of(compiled.params.exclude_ids))
    return Mask(mask, passes_all=False)


def _shared_mask(batch: Batch, compiled: CompiledParams) -> Mask:
    """The mask of a filter, evaluated once for the batch, less the excluded items, looked up once where they are the
    same object.
    """
    if compiled.cursor is not None:
        return _view_mask(batch, compiled, compiled.cursor)
    program, excluded = compiled.program, compiled.params.exclude_ids
    mask = batch.masks.get(program.fingerprint)
    if mask is None:
        mask = batch.masks[program.fingerprint] = mask_of(batch.index, program)
    if not len(excluded):
        return mask
    key = (program.fingerprint, id(excluded))
    if key not in batch.reduced:
        batch.reduced[key] = _without(batch.index, mask, excluded)
    return batch.reduced[key]


def _of_chosen(batch: Batch, compiled: CompiledParams, mask: Mask, extra: Extra | None) -> tuple[Mask, Extra | None]:
    """Without rows of embeddings that do not count, where each is a row; after what concerns items, all rows alike."""
    index, weights = batch.index, compiled.weights
    if weights is None or weights.all() or not index.schema.takes_maximum:
        return mask, extra
    key = (id(mask), weights.tobytes())
    if key not in batch.of_chosen:
        counts = np.append(weights > 0, False)  # which rows never written have by their -1
        bits = np.zeros_like(index.rows.alive)
        set_rows(bits, np.flatnonzero(counts[index.marked_rows()]))
        # With the mask that it is of, whose id is a key: another must not get it.
        batch.of_chosen[key] = mask, Mask(mask.of.among(bits), passes_all=False)
    _, chosen = batch.of_chosen[key]
    return chosen, None if extra is None else extra.among(chosen.bits)


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


def _only(index: VersionIndex, rows: Int64Array) -> Mask:
    """Some rows of a mask."""
    bits = np.zeros_like(index.rows.alive)
    set_rows(bits, rows)
    return Mask(RowMask(bits, len(rows)), passes_all=False)


def _of_items(batch: Batch, job: SearchJob, place: int) -> tuple[Float32Array, Sequence[ItemId]]:
    """A query's vector and the items that it is made of."""
    cursor = job.compiled_of(place).cursor
    if cursor is not None:
        return cursor.vector, [job.item_ids[place]] if job.item_ids else job.examples[place].ids
    if job.item_ids:
        own = job.item_ids[place]
        return vector_of_item(batch.backend, batch.index, own, job.compiled_of(place).weights), [own]
    examples = job.examples[place]
    path = f"{job.field(place)}.examples"
    vector = vector_of_examples(batch.backend, batch.index, examples, path, job.compiled_of(place).weights)
    return vector, examples.ids


def _plan_of(batch: Batch, compiled: CompiledParams, mask: Mask, extra: Extra | None) -> Plan:
    """One for all queries of the batch that ask the same and whose filters pass about as many rows."""
    survivors = planned_survivors(mask.survivors, max(batch.state.alive_rows, mask.survivors))
    extra_rows = 0 if extra is None else planned_survivors(len(extra.rows), batch.state.alive_rows)
    avoids_lists = _avoids_lists(batch, compiled, survivors)
    key = (compiled.asked, survivors, extra_rows, avoids_lists)
    known = batch.plans.get(key)
    if known is None:
        request = replace(_request(batch.index, compiled, survivors, extra_rows), avoids_lists=avoids_lists)
        known = batch.plans[key] = plan(request, batch.state)
    return known


def _avoids_lists(batch: Batch, compiled: CompiledParams, survivors: int) -> bool:
    """Whether queries that were scored alike gave up on lists; asked once a batch."""
    kind = scored_alike(compiled, survivors)
    if kind is None:
        return False
    if kind not in batch.avoids_lists:
        batch.avoids_lists[kind] = batch.index.give_ups.are_likely(kind)
    return batch.avoids_lists[kind]


def scored_alike(compiled: CompiledParams, survivors: int) -> Hashable | None:
    """What queries have in common that find as much or as little in the lists for their features; None without any."""
    scoring = compiled.scoring
    if scoring is None or not scoring.total.parts:
        return None
    return scoring.total, scoring.similarity, survivors.bit_length()


def answered_exactly(batch: Batch, cohort: Cohort, query: int) -> Cohort:
    """One query of a cohort as a cohort of its own, planned anew as an exact search."""
    mask = cohort.masks[query]
    survivors = planned_survivors(mask.survivors, max(batch.state.alive_rows, mask.survivors))
    request = replace(
        _request(batch.index, cohort.compiled, survivors, 0), exact=True, strategy=None, nprobe=None, rescore_depth=None
    )
    return replace(
        cohort,
        places=[cohort.places[query]],
        vectors=cohort.vectors[query : query + 1],
        masks=[mask],
        plan=plan(request, batch.state),
        fusing=None if cohort.fusing is None else cohort.fusing.of(query),
    )


def narrowed(batch: Batch, cohort: Cohort, query: int, mask: Mask, *, k: int) -> Cohort:
    """One query of a cohort as a cohort of its own, for the k best items of a mask with fewer rows."""
    params = replace(cohort.compiled.params, k=k, group_by=None, diversity=None, page=False)
    compiled = replace(cohort.compiled, params=params, is_narrowed=True)
    fusing = None if cohort.fusing is None else cohort.fusing.of(query).among(mask.bits)
    return replace(
        cohort,
        places=[cohort.places[query]],
        vectors=cohort.vectors[query : query + 1],
        compiled=compiled,
        masks=[mask],
        plan=_plan_of(batch, compiled, mask, None if fusing is None else fusing.extras[0]),
        rows_wanted=_rows_wanted(batch.index, compiled, mask),
        fusing=fusing,
    )


def _rows_wanted(index: VersionIndex, compiled: CompiledParams, mask: Mask) -> int:
    return max(1, min(compiled.n_searched * index.schema.rows_per_item, mask.survivors))


def recall_target_of(compiled: CompiledParams) -> float:
    """What the query asks, or else its collection, or else everybody."""
    asked = compiled.params.recall_target
    if asked is None:
        asked = compiled.default_recall_target
    return DEFAULT_RECALL_TARGET if asked is None else asked


def _request(index: VersionIndex, compiled: CompiledParams, survivors: int, extra_rows: int) -> PlanRequest:
    params, scoring = compiled.params, compiled.scoring
    return PlanRequest(
        k=compiled.n_searched * index.schema.rows_per_item,
        survivors=survivors,
        is_filtered=compiled.is_filtered,
        exact=params.exact,
        recall_target=recall_target_of(compiled),
        nprobe=params.nprobe,
        rescore_depth=params.rescore_depth,
        strategy=params.strategy,
        is_fused=scoring is not None,
        has_similarity=scoring is None or scoring.similarity > 0,
        extra_rows=extra_rows,
        sees_dead=compiled.cursor is not None,
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
        batch_queries=planned_batch(n_queries, threads),
        threads=threads,
    )
