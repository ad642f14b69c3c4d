"""A batch of the search lane: the jobs of its calls, what each query asks, and what is found once for all of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.backend.protocol import Backend
from engine.embeddings import Weights
from engine.errors import EngineError
from engine.index.facet_counts import FacetCounting
from engine.index.features import Weighted
from engine.index.filters import FilterProgram
from engine.index.lexical import TermWeights
from engine.index.masks import RowMask
from engine.index.row_views import RowView
from engine.index.version_index import VersionIndex
from engine.pipeline.calls import field_of
from engine.pipeline.cursors import Cursor
from engine.pipeline.fusing import Extra
from engine.pipeline.planner import DEFAULT_RECALL_TARGET, IndexState, Plan, planned_batch
from engine.pipeline.rank_columns import ItemInputs
from engine.pipeline.scoring import CompiledScoring
from engine.selection import Facet
from engine.types import Examples, Float32Array, ItemId, SearchParams, Uint8Array

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
    term_weights: dict[str, TermWeights] = field(default_factory=dict)
    extras: dict[tuple[int, int, int], tuple[Mask, Extra]] = field(default_factory=dict)
    weighted: dict[tuple[int, int | None], Weighted] = field(default_factory=dict)
    views: dict[tuple[int, int], RowView] = field(default_factory=dict)
    countings: dict[tuple[int, tuple[Facet, ...]], FacetCounting] = field(default_factory=dict)
    of_chosen: dict[tuple[int, bytes], tuple[Mask, Mask]] = field(default_factory=dict)
    factors: dict[int, Float32Array] = field(default_factory=dict)
    state: IndexState = field(init=False)

    def __post_init__(self) -> None:
        n_queries = sum(job.n_queries for job in self.jobs)
        self.state = _state(self.index, n_queries, self.backend.threads)


def recall_target_of(compiled: CompiledParams) -> float:
    """What the query asks, or else its collection, or else everybody."""
    asked = compiled.params.recall_target
    if asked is None:
        asked = compiled.default_recall_target
    return DEFAULT_RECALL_TARGET if asked is None else asked


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
