"""What calls return, and how each is read from its message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.rpc import code_pb2, error_details_pb2, status_pb2

from engine import convert
from engine.errors import EngineError, from_wire
from engine.ranking import RankFallback
from engine.selection import FacetCounts
from engine.types import Explanation, Float32Array, ItemId, LegColumn, NextPage, Schema
from engine.v1 import admin_pb2, ingest_pb2, retrieval_pb2


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The hits of several queries as columns: ids and scores of all hits, query after query, best first.

    ``counts`` uint32 [B]; ``ids`` uint64 [hits] or a list of strings; ``scores`` float32 [hits]; ``errors`` has one
    entry for each query, None where it was answered; ``explanations`` likewise where they were asked for; ``legs``:
    what scores are made of, where some query asked for it; ``facets`` and ``next_pages``: of each query, where some
    query asked for any. ``rank_fallbacks``: why each query's hits were not ranked, None where they were; empty where
    the collection has no pipeline, as ``ranker_version`` is. Asked with several objectives a query is as many, one
    after another: all of this is of queries x ``n_objectives``.
    """

    counts: npt.NDArray[np.uint32]
    ids: npt.NDArray[np.uint64] | list[str]
    scores: Float32Array
    errors: Sequence[EngineError | None]
    explanations: Sequence[Explanation]
    index_version: str
    sequence: int
    legs: Sequence[LegColumn] = ()
    facets: Sequence[Sequence[FacetCounts]] = ()
    ranker_version: str = ""
    rank_fallbacks: Sequence[RankFallback | None] = ()
    next_pages: Sequence[NextPage | None] = ()
    n_objectives: int = 1

    def rows(self, query: int, objective: int = 0) -> tuple[npt.NDArray[np.uint64] | list[str], Float32Array]:
        """The ids and scores of one query, by one of its objectives.

        Raises:
            EngineError: that query failed.
            IndexError: there are fewer objectives.
        """
        if not 0 <= objective < self.n_objectives:
            raise IndexError(f"objective {objective} of {self.n_objectives}")
        place = query * self.n_objectives + objective
        error = self.errors[place]
        if error is not None:
            raise error
        end = int(self.counts[: place + 1].sum())
        first = end - int(self.counts[place])
        return self.ids[first:end], self.scores[first:end]


@dataclass(frozen=True, slots=True)
class ItemRefusal:
    """One item of a request that was not written."""

    index: int
    id: ItemId | None
    error: EngineError


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What became of a batch of items."""

    sequence: int
    accepted: int
    errors: tuple[ItemRefusal, ...]
    truncated_items: int
    truncated_tokens: int
    unchanged_texts: int


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What became of a batch of updates."""

    sequence: int
    accepted: int
    errors: tuple[ItemRefusal, ...]


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """``deleted`` counts the items that existed."""

    sequence: int
    deleted: int


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version of encoder and index; ``message`` has its memory and index by part."""

    id: str
    encoder_version: str
    dimension: int
    active: bool
    message: admin_pb2.Version


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as it is now; ``message`` is the whole reply."""

    schema: Schema
    versions: tuple[VersionStatus, ...]
    items: int
    sequence: int
    searchable_sequence: int
    message: admin_pb2.Collection


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """A long-running operation as it is now; ``progress`` is of its stage. ``error`` is None until it has failed."""

    name: str
    kind: str
    collection: str
    is_done: bool
    stage: str
    progress: float
    error: EngineError | None
    message: admin_pb2.Operation

    @property
    def snapshot(self) -> admin_pb2.Snapshot | None:
        """What it has written or restored, once it has."""
        told = admin_pb2.Snapshot()
        return told if self.message.response.Unpack(told) else None


def status_error(status: status_pb2.Status) -> EngineError | None:
    if status.code == code_pb2.OK:
        return None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return from_wire(code_pb2.Code.Name(status.code), info.reason, status.message, dict(info.metadata))


def batch_result(reply: retrieval_pb2.SearchBatchResponse, n_objectives: int) -> BatchResult:
    counts = np.array(reply.counts, np.uint32)
    numbers = np.frombuffer(reply.ids.numbers, np.dtype("<u8"))
    errors = [status_error(status) for status in reply.statuses] or [None] * len(counts)
    return BatchResult(
        counts=counts,
        ids=numbers if len(numbers) else list(reply.ids.texts),
        scores=np.frombuffer(reply.scores, np.dtype("<f4")),
        errors=errors,
        explanations=[convert.explanation_from(one) for one in reply.explanations],
        index_version=reply.index_version,
        sequence=reply.sequence,
        legs=tuple(convert.leg_column_from(one) for one in reply.legs),
        facets=[tuple(map(convert.facet_counts_from, one.facets)) for one in reply.facets],
        ranker_version=reply.ranker_version,
        rank_fallbacks=tuple(map(convert.rank_fallback_from, reply.rank_fallbacks)),
        next_pages=[convert.next_page_from(one) for one in reply.next_pages],
        n_objectives=n_objectives,
    )


def upsert_result(reply: ingest_pb2.UpsertResponse) -> UpsertResult:
    return UpsertResult(
        sequence=reply.sequence,
        accepted=reply.accepted,
        errors=tuple(refusal(one) for one in reply.errors),
        truncated_items=reply.truncated_items,
        truncated_tokens=reply.truncated_tokens,
        unchanged_texts=reply.unchanged_texts,
    )


def refusal(error: ingest_pb2.ItemError) -> ItemRefusal:
    item_id = convert.item_id_from(error.id, "id") if error.HasField("id") else None
    told = status_error(error.status)
    assert told is not None
    return ItemRefusal(error.index, item_id, told)


def collection_info(message: admin_pb2.Collection) -> CollectionInfo:
    versions = tuple(
        VersionStatus(one.id, one.encoder_version, one.dimension, one.active, one) for one in message.versions
    )
    return CollectionInfo(
        convert.schema_from(message.schema, "schema"),
        versions,
        message.items,
        message.sequence,
        message.searchable_sequence,
        message,
    )


def operation_status(message: admin_pb2.Operation) -> OperationStatus:
    return OperationStatus(
        message.name,
        message.kind,
        message.collection,
        message.done,
        message.stage,
        message.progress,
        status_error(message.error) if message.HasField("error") else None,
        message,
    )
