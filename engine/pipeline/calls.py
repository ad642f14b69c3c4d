"""A search call from admission to answer, as values: what was asked, which of its queries are sound, what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError, InvalidArgument, LimitExceeded
from engine.items import lengths, too_long
from engine.limits import Limits
from engine.pipeline.rank_columns import ItemInputs
from engine.ranking import RankFallback
from engine.scorings import check_least_score
from engine.selection import FacetCounts
from engine.types import (
    Examples,
    Explanation,
    Float32Array,
    ItemId,
    LegColumn,
    Metric,
    NextPage,
    Priority,
    SearchParams,
    StageTimes,
    VersionInfo,
)

T = TypeVar("T")
Query: TypeAlias = Float32Array | str | ItemId | Examples | Mapping[str, "str | Float32Array"]
"""A vector, a text, an item, examples, or by the names of embeddings a text or a vector for each."""


@dataclass(frozen=True, slots=True)
class SearchCall:
    """What one call asks: exactly one of ``vectors`` float32 [B, d], ``texts``, ``item_ids`` and ``examples``, or, by
    the names of embeddings, ``named_texts`` and ``named_vectors`` float32 [B, d of each].

    ``params`` holds one for all queries or one for each; an error in place of one, or of an example, fails that query
    alone.
    ``deadline`` is on the clock of ``time.monotonic``, ``max_queue_delay`` in seconds. ``item_inputs``: what is to be
    read of the hits' items.

    ``n_objectives``: so many queries in a row are one that was given, by different scorings, and ``params`` are of
    these: for one query, which all others then share, or for each.
    """

    params: Sequence[SearchParams | EngineError]
    vectors: Float32Array | None = None
    texts: Sequence[str] = ()
    item_ids: Sequence[ItemId] = ()
    examples: Sequence[Examples | EngineError] = ()
    version: str = ""
    explain: bool = False
    min_sequence: int | None = None
    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    max_queue_delay: float | None = None
    item_inputs: ItemInputs | None = None
    named_texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    named_vectors: Mapping[str, Float32Array] = field(default_factory=dict)
    n_objectives: int = 1

    @property
    def n_queries(self) -> int:
        for texts in self.named_texts.values():
            return len(texts)
        for vectors in self.named_vectors.values():
            return len(vectors)
        if self.vectors is not None:
            return len(self.vectors)
        return len(self.texts) or len(self.item_ids) or len(self.examples)

    def query(self, place: int) -> Query:
        """What one of the queries is, where it is sound."""
        if self.named_texts or self.named_vectors:
            texts = {name: each[place] for name, each in self.named_texts.items()}
            return {**texts, **{name: each[place] for name, each in self.named_vectors.items()}}
        if self.vectors is not None:
            vector: Float32Array = self.vectors[place]
            return vector
        if self.texts or self.item_ids:
            return self.texts[place] if self.texts else self.item_ids[place]
        examples = self.examples[place]
        return Examples() if isinstance(examples, EngineError) else examples

    @property
    def names_items(self) -> bool:
        """Whether vectors are to be found for its queries where the items are."""
        return len(self.item_ids) + len(self.examples) > 0

    @property
    def shares_params(self) -> bool:
        """Whether parameters were given once for all queries: what is wrong with them is wrong with the call."""
        return len(self.params) == self.n_objectives

    def of_each(self, own: Sequence[T]) -> list[T]:
        """What there is of each of ``params``, by query."""
        return list(own) * (self.n_queries // len(own))

    def query_field(self, place: int) -> str:
        """How a message names one of the queries, as they were given."""
        return field_of("query", place // self.n_objectives, self.n_queries // self.n_objectives)

    def params_field(self, place: int) -> str:
        """How a message names the parameters of one of the queries, as they were given."""
        return field_of("params", place // self.n_objectives, len(self.params) // self.n_objectives)

    def own_text(self, place: int) -> str:
        """A query's text, or its texts, each once; empty where it has none."""
        if self.named_texts:
            return " ".join(dict.fromkeys(each[place] for each in self.named_texts.values()))
        return self.texts[place] if self.texts else ""


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits as columns: ``counts`` uint32 [B], then ids and scores of all hits, query after query, best first.

    ``errors`` is empty where every query was answered, else has one entry for each. ``legs``: what the scores are made
    of, where some query asked for it; ``facets`` and ``next_pages``: of each query, where some
    query asked for any. ``item_inputs`` float32 [hits, width]: what the call wanted read of the items.
    ``rank_fallbacks``: why each query was not ranked, None where it was; empty without a pipeline, as the version is.
    """

    counts: npt.NDArray[np.uint32]
    ids: npt.NDArray[Any]
    scores: Float32Array
    errors: Sequence[EngineError | None]
    explanations: Sequence[Explanation]
    version: VersionInfo
    sequence: int
    times: StageTimes
    legs: Sequence[LegColumn] = ()
    facets: Sequence[Sequence[FacetCounts]] = ()
    item_inputs: Float32Array | None = None
    ranker_version: str = ""
    rank_fallbacks: Sequence[RankFallback | None] = ()
    next_pages: Sequence[NextPage | None] = ()


def check_call(call: SearchCall, limits: Limits) -> None:
    """What is wrong with the call as a whole.

    Raises:
        InvalidArgument: no query, or parameters that are neither one for all nor one for each.
        LimitExceeded: more queries, or more hits in all, than a reply may hold.
    """
    n = call.n_queries
    if n == 0:
        raise InvalidArgument("queries", "the call has no query")
    if n > limits.batch_queries:
        raise LimitExceeded("queries", value=n, limit=limits.batch_queries, unit="queries a call")
    if len(call.params) not in (call.n_objectives, n):
        raise InvalidArgument("params", f"{len(call.params)} given for {n} queries: give one for all or one for each")
    each = n // len(call.params)
    hits = sum(each * one.k for one in call.params if isinstance(one, SearchParams))
    if hits > limits.reply_hits:
        raise LimitExceeded("params.k", value=hits, limit=limits.reply_hits, unit="hits a reply (k x queries)")
    facets = [facet for one in call.params if isinstance(one, SearchParams) for facet in one.facets]
    values = each * sum(facet.limit for facet in facets)
    if values > limits.reply_hits:
        raise LimitExceeded("params.facets", value=values, limit=limits.reply_hits, unit="values a reply (x queries)")


def check_params(params: SearchParams, limits: Limits, field: str) -> None:
    """What is wrong with one query's parameters, their filter aside."""
    if params.k < 1:
        raise InvalidArgument(f"{field}.k", f"{params.k} is not at least 1")
    if params.k > limits.k:
        raise LimitExceeded(f"{field}.k", value=params.k, limit=limits.k, unit="hits")
    if params.recall_target is not None and not 0 < params.recall_target <= 1:
        raise InvalidArgument(f"{field}.recall_target", f"{params.recall_target} is not in (0, 1]")
    if params.nprobe is not None and params.nprobe < 1:
        raise InvalidArgument(f"{field}.nprobe", f"{params.nprobe} is not at least 1")
    if params.rescore_depth is not None and params.rescore_depth < 1:
        raise InvalidArgument(f"{field}.rescore_depth", f"{params.rescore_depth} is not at least 1")
    if params.min_score is not None:
        check_least_score(params.min_score, f"{field}.min_score")
    if len(params.exclude_ids) > limits.exclude_ids:
        raise LimitExceeded(f"{field}.exclude_ids", value=len(params.exclude_ids), limit=limits.exclude_ids, unit="ids")


def check_vectors(vectors: Float32Array, version: VersionInfo) -> None:
    """The dimension is the version's."""
    check_dimension(vectors, version, "query.vector")


def check_dimension(vectors: Float32Array, version: VersionInfo, field: str) -> None:
    """Raises InvalidArgument where the vectors [n, d] are not of the version's dimension."""
    if vectors.shape[1] != version.dimension:
        raise InvalidArgument(
            field,
            f"has {vectors.shape[1]} dimensions, version {version.id!r} has {version.dimension}",
            value=vectors.shape[1],
            limit=version.dimension,
        )


def field_of(name: str, place: int, n_queries: int) -> str:
    """How a message names a field of one query: by its place, where there are several."""
    return name if n_queries == 1 else f"{name}[{place}]"


def unsound_vector(vector: Float32Array, metric: Metric, field: str) -> EngineError:
    """Why no search can answer this query: NaN, infinite, zero where the metric is cosine, or else too long."""
    is_finite = np.isfinite(vector)
    if not is_finite.all():
        return InvalidArgument(field, f"value {int(np.argmin(is_finite))} is NaN or infinite")
    if metric == "cosine":
        return InvalidArgument(field, "is zero, which has no cosine")
    return too_long(float(lengths(vector).max()), field)
