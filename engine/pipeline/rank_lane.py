"""The rank lane: jobs for one model share a run of it, which is ended once nobody waits for any of them.

Knows nothing of what is ranked, nor of what becomes of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError, RankFailed
from engine.lanes.batching import BatchLimits
from engine.lanes.lane import Lane
from engine.pipeline.rank_columns import Candidates
from engine.types import Float32Array, Int64Array

if TYPE_CHECKING:
    from engine.models.ranker import Ranker

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class RankJob:
    """``has_left``: its caller does not wait for it any more; ``on_leaving``: whom that is told, once the job runs."""

    ranker: Ranker
    candidates: Candidates
    has_left: bool = False
    on_leaving: Callable[[], None] | None = None

    def leave(self) -> None:
        self.has_left = True
        told = self.on_leaving
        if told is not None:
            told()


@dataclass(frozen=True, slots=True, eq=False)
class ModelOrder:
    """Of the candidates of a job: scores float32 [n], and ``order`` int64 [n], each query's own, best first and equal
    ones as they stood. ``failed`` bool [B]: queries that the model gave NaN or infinite scores; theirs mean nothing.
    """

    scores: Float32Array
    order: Int64Array
    failed: npt.NDArray[np.bool_]


RankLane: TypeAlias = Lane[RankJob, ModelOrder]


def open_rank_lane(*, batch_seconds: float, queue_seconds: float) -> RankLane:
    """Requests for one model share batches that take up to ``batch_seconds`` by the model's profile."""
    return Lane(
        "rank",
        rank_jobs,
        limits=BatchLimits(entries=1024, cost=batch_seconds),
        queue_cost=queue_seconds,
        on_failure=lambda error: RankFailed(f"the ranker failed: {error}"),
    )


def rank_jobs(jobs: Sequence[RankJob]) -> list[ModelOrder | EngineError]:
    """In the rank lane's thread: one run of the model for all, which is ended once nobody waits for it."""
    ranker = jobs[0].ranker
    columns = [job.candidates.columns(ranker.inputs) for job in jobs]
    scores = _run(ranker, columns[0] if len(columns) == 1 else np.concatenate(columns), jobs)
    ends = np.cumsum([len(one) for one in columns])[:-1]
    return [_ordered(job.candidates.counts, own) for job, own in zip(jobs, np.split(scores, ends), strict=True)]


def _run(ranker: Ranker, columns: Float32Array, jobs: Sequence[RankJob]) -> Float32Array:
    run = ranker.new_run()

    def end_where_all_have_left() -> None:
        if all(job.has_left for job in jobs):
            run.end()

    began = time.perf_counter()
    for job in jobs:
        job.on_leaving = end_where_all_have_left
    end_where_all_have_left()  # those that left before they had anyone to tell
    try:
        return ranker.score(columns, run)
    except Exception as error:
        if not run.is_ended:
            raise
        _tell_of_ended(ranker, len(columns), time.perf_counter() - began)
        raise RankFailed("nobody waited for the ranker any more") from error
    finally:
        for job in jobs:
            job.on_leaving = None


def _tell_of_ended(ranker: Ranker, n: int, seconds: float) -> None:
    """Once for each model: figures of the lane count all."""
    ranker.runs_ended += 1
    if ranker.runs_ended == 1:
        logger.warning(
            "a run of the ranker %s was ended after %.3f s, when nobody waited for it any more: by its profile %d"
            " candidates take %.3f s. Others will be counted only, in ebr_rank_failed_batches",
            ranker.version,
            seconds,
            n,
            ranker.profile.seconds(n),
        )


def _ordered(counts: Int64Array, scores: Float32Array) -> ModelOrder:
    of_query = np.repeat(np.arange(len(counts)), counts)
    failed = np.zeros(len(counts), np.bool_)
    failed[of_query[~np.isfinite(scores)]] = True
    return ModelOrder(scores, np.lexsort((-scores, of_query)), failed)
