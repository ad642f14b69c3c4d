"""The queries of a batch in cohorts: those of a job that are planned alike, and so are run as one.

Knows nothing of how a plan is carried out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError, InvalidArgument, NoAnalyser
from engine.index.features import FeatureTable, SumFeature, Weighted
from engine.index.lexical import TermWeights
from engine.index.version_index import VersionIndex
from engine.items import lengths, too_long
from engine.pipeline.batch import Batch, CompiledParams, Mask, SearchJob, recall_target_of
from engine.pipeline.calls import unsound_vector
from engine.pipeline.combining import combine, combine_rows
from engine.pipeline.examples import vector_of_examples, vector_of_item
from engine.pipeline.fusing import Extra, Fusing, find_extra
from engine.pipeline.planner import Plan, PlanRequest, plan, planned_survivors
from engine.pipeline.query_masks import of_chosen, only_rows, rows_of, shared_mask
from engine.pipeline.scoring import CompiledScoring
from engine.scorings import LEXICAL
from engine.types import Float32Array, Int64Array, ItemId, Uint8Array


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
        mask = shared_mask(batch, job.compiled[0])
        extra = _extra_of(batch, job.compiled[0], mask, None)
        mask, extra = of_chosen(batch, job.compiled[0], mask, extra)
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
    cursor = cohort.compiled.cursor
    if cursor is not None:
        return None if cursor.factors is None else np.tile(cursor.factors, (len(cohort), 1))
    return batch.factors[cohort.job][cohort.places] if cohort.job in batch.factors else None


def _cohorts_by_id(batch: Batch, number: int) -> list[Cohort]:
    """Items are left out of their own answer, and so each query has a mask of its own."""
    job = batch.jobs[number]
    vectors = np.zeros((job.n_queries, batch.index.version.dimension), np.float32)
    asked: list[_Asked] = []
    for place in range(job.n_queries):
        compiled = job.compiled_of(place)
        try:
            if compiled.cursor is None:
                vectors[place] = _vector_of(batch, job, place)
        except EngineError as error:
            batch.errors[number, place] = error
        else:
            asked.append((place, compiled, [job.item_ids[place]] if job.item_ids else job.examples[place].ids))
    if batch.index.schema.embeddings:
        combined = combine_rows(batch.backend, vectors, job.weights, batch.index.schema)
        vectors, batch.factors[number] = combined.vectors, combined.factors
        _, is_sound = batch.backend.unit_queries(vectors, metric=batch.index.version.metric)
        for place, compiled, _ in asked:
            if compiled.cursor is not None:
                continue
            if not combined.factors[place].any():
                lacking = InvalidArgument(_by_id(job, place), "there is none of the embeddings that count")
                batch.errors[number, place] = lacking
            elif not is_sound[place] or place in combined.unsound:
                batch.errors[number, place] = too_long(float(lengths(vectors[place])), _by_id(job, place))
        asked = [one for one in asked if (number, one[0]) not in batch.errors]
    return _gathered(batch, number, _as_on_first_pages(vectors, asked), asked)


def _gathered(batch: Batch, number: int, vectors: Float32Array, asked: Sequence[_Asked]) -> list[Cohort]:
    """Queries with filters of their own, those that are planned alike together."""
    found: dict[tuple[object, ...], _Alike] = {}
    for place, compiled, own in asked:
        try:
            mask = shared_mask(batch, compiled)
            if own:
                mask = Mask(mask.of.without(rows_of(batch, compiled)(own)), passes_all=False)
            extra = _extra_of(batch, compiled, mask, terms_of(batch, number, place))
            mask, extra = of_chosen(batch, compiled, mask, extra)
            if extra is not None and compiled.scoring is not None and compiled.scoring.is_lexical:
                mask = only_rows(batch.index, extra.matching(LEXICAL))
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


def terms_of(batch: Batch, number: int, place: int) -> TermWeights | None:
    """What the terms of a query weigh, by the statistics of its moment; None where it has no text for them, or terms do
    not count.

    Raises:
        NoAnalyser: no text is searched by terms.
    """
    job, compiled = batch.jobs[number], batch.jobs[number].compiled_of(place)
    text = job.terms[place] if job.terms else ""
    if not text or compiled.scoring is None or not compiled.scoring.lexical:
        return None
    if compiled.cursor is not None:
        return compiled.cursor.terms
    if batch.index.lexical is None:
        raise NoAnalyser(batch.index.schema.name)
    if text not in batch.term_weights:
        batch.term_weights[text] = batch.index.lexical.weigh(text)
    return batch.term_weights[text]


def _extra_of(batch: Batch, compiled: CompiledParams, mask: Mask, terms: TermWeights | None) -> Extra | None:
    """What rows that pass the mask get from the query's keywords and terms, found once for those who ask the same."""
    scoring = compiled.scoring
    if scoring is None or not scoring.has_extras:
        return None
    key = (id(scoring), id(mask), id(terms))
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


def _vector_of(batch: Batch, job: SearchJob, place: int) -> Float32Array:
    """That of a query made of items."""
    weights, path = job.compiled_of(place).weights, _by_id(job, place)
    if job.item_ids:
        return vector_of_item(batch.backend, batch.index, job.item_ids[place], path, weights)
    return vector_of_examples(batch.backend, batch.index, job.examples[place], path, weights)


def _by_id(job: SearchJob, place: int) -> str:
    """What messages call the items that a query is made of."""
    return f"{job.field(place)}.{'item_id' if job.item_ids else 'examples'}"


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
