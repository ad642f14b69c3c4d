"""The best rows for the cohorts of a batch: each by the way planned for it, many by one backend call.

Knows nothing of items: rows of one item may come several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import TopK
from engine.index.tuning import REACH_SLOPE
from engine.index.version_index import VersionIndex
from engine.pipeline.batch import Batch
from engine.pipeline.coarse_search import coarse_scan, coarse_scan_from
from engine.pipeline.cohorts import Cohort, answered_exactly, scored_alike
from engine.pipeline.fusing import fusion_of, without_extras
from engine.pipeline.planner import planned_survivors
from engine.types import Float32Array, Int64Array, Strategy, Uint8Array
from kernels.cpu_filters import clear_rows
from kernels.fusion import Fusion
from kernels.packed_lists import ProbeLimits

_INVERTED = (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)


@dataclass(eq=False, slots=True)
class Found:
    """A cohort's rows int64 [m, k] and scores, best first, and what each query did, [m].

    ``second_pass``: what was found first came short; ``is_exact``: the answer is one of an exact search after all;
    ``group_rounds``: searches that grouping took.
    """

    top: TopK
    lists_scanned: Int64Array
    rows_scanned: Int64Array
    rescored: Int64Array
    second_pass: npt.NDArray[np.bool_]
    is_exact: npt.NDArray[np.bool_]
    group_rounds: Int64Array = field(init=False)

    def __post_init__(self) -> None:
        self.group_rounds = np.zeros(len(self.is_exact), np.int64)

    @classmethod
    def exactly(cls, top: TopK, scanned: Int64Array, *, rescored: Int64Array | None = None) -> Found:
        n = len(scanned)
        return cls(
            top,
            np.zeros(n, np.int64),
            scanned,
            scanned if rescored is None else rescored,
            np.zeros(n, np.bool_),
            np.ones(n, np.bool_),
        )

    def add(self, query: int, more: Found) -> None:
        """What another search for one of the queries did, which alone it was for."""
        for name in ("lists_scanned", "rows_scanned", "rescored"):
            self._put(name, query, getattr(self, name)[query] + getattr(more, name)[0])
        self._put("second_pass", query, self.second_pass[query] or more.second_pass[0])
        self._put("is_exact", query, self.is_exact[query] and more.is_exact[0])

    def _put(self, name: str, query: int, value: Any) -> None:
        """Columns may be one and the same array."""
        column = getattr(self, name).copy()
        column[query] = value
        setattr(self, name, column)


def find(batch: Batch, cohorts: Sequence[Cohort]) -> list[Found]:
    """What was found for each cohort; cohorts that one backend call can answer share it."""
    found: dict[int, Found] = {}
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


def _answer(batch: Batch, group: Sequence[Cohort]) -> list[Found]:
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
        found = [Found.exactly(_empty(len(cohort)), np.zeros(len(cohort), np.int64)) for cohort in group]
    else:
        found = _scan(batch, group, vectors, k)
    return found


def _scan(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[Found]:
    masks = [bits for cohort in group for bits in cohort.bits]
    top = batch.backend.masked_scan(batch.index.vectors, vectors, masks, k=k, fusion=_fusion(batch, group))
    return [Found.exactly(part, cohort.survivors) for cohort, part in zip(group, _split(top, group), strict=True)]


def _coarse(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[Found]:
    depth = max(cohort.plan.depth for cohort in group)
    top, proven = coarse_scan(batch.backend, batch.index, vectors, group, k=k, depth=depth)
    told = []
    for cohort, part, own in zip(group, _split(top, group), _parts(proven, group), strict=True):
        scanned = cohort.survivors
        found = Found.exactly(part, scanned, rescored=np.minimum(max(depth, k), scanned))
        found.second_pass = ~own
        told.append(found)
    return told


def _gather(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[Found]:
    rows_of = {id(mask): mask.of.rows for cohort in group for mask in cohort.masks}
    rows = [rows_of[id(mask)] for cohort in group for mask in cohort.masks]
    top = batch.backend.gather(batch.index.vectors, vectors, rows, k=k, fusion=_fusion(batch, group))
    return [Found.exactly(part, cohort.survivors) for cohort, part in zip(group, _split(top, group), strict=True)]


def _probe(batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int) -> list[Found]:
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
        extremes = None if table is None else table.extremes(index.lists.ivfpq, index.rows.living_bits)
    probed = index.lists.ivfpq.search_rescored(
        index.vectors, vectors, limits=_limits(index, group), masks=masks, k=k, fusion=bounded, extremes=extremes
    )
    parts, more_rows = [probed.top], np.array([len(own) for own in extra], np.int64)
    tail_rows = tail_rescored = index.tail_rows
    if tail_rows:
        tail, tail_rescored = _tail(batch, group, vectors, min(k, tail_rows), fusion)
        parts.append(tail)
    if more_rows.any():
        parts.append(batch.backend.gather(index.vectors, vectors, extra, k=k, fusion=fusion))
    top = batch.backend.merge_topk(parts, k=k) if len(parts) > 1 else probed.top
    wanted = np.repeat([cohort.rows_wanted for cohort in group], [len(cohort) for cohort in group])
    _note_give_ups(index, group, probed.gave_up)
    short = (top.rows[np.arange(len(vectors)), wanted - 1] < 0) | probed.gave_up
    if short.any():
        top = _second_pass(batch, group, top, short)
    scanned = probed.rows_scanned + more_rows + tail_rows
    rescored = probed.rescored + more_rows + tail_rescored
    columns = (probed.lists_scanned, scanned, rescored, short, short)
    parted = (_parts(column, group) for column in columns)
    return [Found(*one) for one in zip(_split(top, group), *parted, strict=True)]


def _tail(
    batch: Batch, group: Sequence[Cohort], vectors: Float32Array, k: int, fusion: Fusion | None
) -> tuple[TopK, int]:
    """The best rows in no list, by codes first where that is planned for every cohort; and how many are rescored."""
    index, first = batch.index, batch.index.indexed_rows
    masks = [bits for cohort in group for bits in cohort.bits]
    depths = [cohort.plan.tail_depth for cohort in group]
    if fusion is None and min(depths) > 0:
        depth = max(*depths, k)
        top, proven = coarse_scan_from(first, batch.backend, index, vectors, masks, k=k, depth=depth)
        passing = np.concatenate([cohort.survivors for cohort in group]) * (index.tail_rows / index.rows.n_rows)
        index.coarse.learn_of_tail(depth / k, proven[passing >= depth])
        return top, min(depth, index.tail_rows)
    top = batch.backend.masked_scan(index.vectors, vectors, masks, k=k, first_row=first, fusion=fusion)
    return top, index.tail_rows


def _note_give_ups(index: VersionIndex, group: Sequence[Cohort], gave_up: npt.NDArray[np.bool_]) -> None:
    """For the next queries that are scored as the first of each cohort is."""
    for cohort, own in zip(group, _parts(gave_up, group), strict=True):
        kind = scored_alike(cohort.compiled, planned_survivors(cohort.masks[0].survivors, index.rows.n_alive))
        if kind is not None:
            index.give_ups.note(kind, asked=len(own), gave_up=int(own.sum()))


def _fusion(batch: Batch, group: Sequence[Cohort]) -> Fusion | None:
    return fusion_of([cohort.fusing for cohort in group], batch.index.rows.n_rows)


def _extra_rows(index: VersionIndex, group: Sequence[Cohort]) -> list[Int64Array]:
    """Rows in lists that get something extra from each query."""
    none, own = np.zeros(0, np.int64), []
    for cohort in group:
        for query in range(len(cohort)):
            rows = none if cohort.fusing is None else cohort.fusing.extra_rows(query)
            own.append(rows[: np.searchsorted(rows, index.indexed_rows)] if len(rows) else none)
    return own


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
    found = find(batch, [answered_exactly(batch, *queries[query]) for query in again])
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
