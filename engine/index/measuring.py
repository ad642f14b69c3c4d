"""Measuring a trained index: the recall and the time of (reach, slack) by k and selectivity, against exact search.

Queries are logged ones, or made of live rows, each of which is left out of its own answer. Half of them choose
settings, the others tell what recall those have: no query does both. Filters are random masks, so recall under a filter
is measured and not derived.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, IvfPqIndex, Rescored, Vectors
from engine.index.costs import Costs, measured_seconds, pack
from engine.index.queries import Queries
from engine.index.tuning import REACH_SLOPE, TARGETS, Band, Setting, deepest, monotone
from engine.item_columns import BoolArray
from engine.types import Float32Array, Int64Array, Uint8Array
from kernels.packed_lists import ProbeLimits, fixed_limits

KS = (10, 100, 1000)
SELECTIVITIES = (1.0, 0.3, 0.1, 0.03, 0.01)

_QUERIES = {10: 256, 100: 96, 1000: 48}
"""For each half: recall averages over queries x k, and a query costs more where k is large."""

_SLACKS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
_REACHES = tuple(step / 2 for step in range(-16, 33))
_TIES = 16
"""Rows beyond the k-th that are looked at for its ties: any of them is as right an answer."""

_ROUNDING = 1e-6
"""Relative: equal vectors may be summed in another order."""

_ROWS_PER_K = 4
"""With fewer survivors than this for each hit, lists cannot beat a gather."""

_BATCH = 64
_ALONE = 32
_SAME_REACH = 0.01
_MISSED_OF_MIDDLES = 2.0
"""How many times as much of a middle may be missed as of a row (docs/adr/0017-queries-that-stand-in.md)."""
_ROUNDS = 3
_RUNGS_BEYOND = 1
"""A longer reach than the highest target needs may allow less slack; further up it cannot pay."""

_SURE = 1.645
"""Standard errors by which a recall must be beyond its target, so that chance alone seldom takes it there: 1 in 20."""

_HOPELESS = 2.0
"""What a first look finds this many times slower than the best, or than exact search, is not looked at again."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is measured: an index over ``vectors``, its live rows, ``alive`` bool [n_rows], and what is asked."""

    backend: Backend
    vectors: Vectors
    ivfpq: IvfPqIndex
    alive: npt.NDArray[np.bool_]
    asked: Queries


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The right answers of some queries: ``keys``, sorted, hold every right (query, row); each wants ``wanted`` [q].

    ``rows``: the own row of each query, -1 where it has none or the mask hides it; ``is_middle`` as ``Queries`` has it.
    """

    rows: Int64Array
    queries: Float32Array
    is_middle: BoolArray
    keys: Int64Array
    wanted: Int64Array

    @property
    def ks(self) -> Int64Array:
        """Hits to end by: what is wanted, and the own row, which is the nearest of all."""
        return np.maximum(self.wanted + (self.rows >= 0), 1)


Pair: TypeAlias = tuple[float, float]
"""Reach and slack."""


@dataclass(slots=True, eq=False)
class Cell:
    """One k under one mask; ``mask`` None where every row passes. ``share``: of all rows, those that pass."""

    subject: Subject
    k: int
    mask: Uint8Array | None
    share: float
    tuned: Truth
    told: Truth
    exact_seconds: float
    seconds_at: dict[Pair, float] = field(default_factory=dict)


def tune(
    subject: Subject, costs: Costs, *, seed: int, report: Callable[[float], None] = lambda fraction: None
) -> list[Band]:
    """Every band worth having: where exact search of the survivors is no faster than the fewest probes."""
    rng = np.random.default_rng(seed)
    bands: list[Band] = []
    for number, selectivity in enumerate(SELECTIVITIES):
        flags = subject.alive & (rng.random(len(subject.alive)) < selectivity)
        for k in KS:
            if flags.sum() < _ROWS_PER_K * k:
                continue
            bands.append(tune_band(_cell(subject, k, flags, costs), selectivity))
            report((number + (KS.index(k) + 1) / len(KS)) / len(SELECTIVITIES))
        if not any(band.settings for band in bands if band.selectivity == selectivity):
            break
    return bands


def fastest(subject: Subject, costs: Costs, *, recall_target: float, selectivity: float = 1.0) -> Setting | None:
    """The fastest setting for the top 10 that reaches the target on both halves of the queries, where a random share
    ``selectivity`` of the live rows passes.
    """
    passing = np.random.default_rng(0).random(len(subject.alive)) < selectivity
    cell = _cell(subject, KS[0], subject.alive & passing, costs)
    return next((setting for _, setting in tune_band(cell, selectivity, targets=(recall_target,)).settings), None)


def tune_band(cell: Cell, selectivity: float, *, targets: Sequence[float] = TARGETS) -> Band:
    """The cheapest setting for each target that can be reached before exact search is as fast."""
    reaches: list[float] = []
    recalls: list[npt.NDArray[np.float64]] = []
    for reach, recall in _climb(cell, targets[-1]):
        reaches.append(reach)
        recalls.append(recall)
    settings = []
    for target in targets:
        pairs = _least_reaches(np.array(recalls), reaches, target)
        if pairs:
            settings.append((target, _measured(cell, *_quickest(cell, pairs))))
    return Band(cell.k, selectivity, monotone(settings))


def _cell(subject: Subject, k: int, flags: npt.NDArray[np.bool_], costs: Costs) -> Cell:
    mask = None if flags.all() else pack(flags)
    half = len(subject.asked) // 2
    n = min(_QUERIES[k], half)
    n_rows, survivors, d = len(flags), int(flags.sum()), subject.vectors.dimension
    exact = min(costs.scan_seconds(n_rows, survivors, d), costs.gather_seconds(n_rows, survivors, d))
    return Cell(
        subject,
        k,
        mask,
        survivors / n_rows,
        _truth(subject, subject.asked.part(0, n), mask, k),
        _truth(subject, subject.asked.part(half, n), mask, k),
        exact,
    )


def _truth(subject: Subject, asked: Queries, mask: Uint8Array | None, k: int) -> Truth:
    """Exact answers with the query's own row left out and ties at the k-th place let in."""
    vectors, rows = subject.vectors, asked.rows
    bits = pack(np.ones(vectors.n_rows, np.bool_)) if mask is None else mask
    top = subject.backend.masked_scan(vectors, asked.vectors, [bits] * len(rows), k=k + 1 + _TIES)
    found, scores = _without_own(top.rows, rows, top.scores)
    worst = scores[:, k - 1 : k]
    is_right = (scores >= worst - np.abs(worst) * _ROUNDING) & (found >= 0)
    keys = np.sort(_keys(found, vectors.n_rows)[is_right])
    is_seen = (rows >= 0) & ((bits[rows >> 3] >> (rows & 7)) & 1 == 1)
    wanted = np.minimum((found >= 0).sum(axis=1), k)
    return Truth(np.where(is_seen, rows, -1), asked.vectors, asked.is_middle, keys, wanted)


def _recalls(cell: Cell, truth: Truth, reach: float, slacks: Sequence[float]) -> npt.NDArray[np.float64]:
    """Recall [q, slacks] of every query: what exact rescoring of the candidates within each slack would return."""
    index, n_rows = cell.subject.ivfpq, cell.subject.vectors.n_rows
    limits = _limits(cell, truth.ks, reach, math.inf)
    candidates = index.search(truth.queries, limits=limits, masks=[cell.mask] * len(truth.queries))
    at = np.minimum(truth.ks, candidates.rows.shape[1]) - 1
    kth = np.take_along_axis(candidates.scores, at[:, None], axis=1)
    found, scores = _without_own(candidates.rows, truth.rows, candidates.scores)
    keys = _keys(found, n_rows)
    place = np.minimum(np.searchsorted(truth.keys, keys), len(truth.keys) - 1)
    is_right = truth.keys[place] == keys
    scales = index.scales(truth.queries, np.where(np.isfinite(kth[:, 0]), kth[:, 0], 0))[:, None]
    hits = np.stack([(is_right & (scores >= kth - slack * scales)).sum(axis=1) for slack in slacks], axis=1)
    wanted = truth.wanted[:, None]
    recall: npt.NDArray[np.float64] = np.minimum(hits, wanted) / np.maximum(wanted, 1)
    return recall


def _limits(cell: Cell, ks: Int64Array, reach: float, slack: float) -> ProbeLimits:
    n, index = len(ks), cell.subject.ivfpq
    limits = fixed_limits(n, k=cell.k, nprobe=index.nlist, depth=min(deepest(cell.k) + 1, max(index.n_rows, 1)))
    return limits._replace(
        ks=ks,
        reaches=np.full(n, reach, np.float32),
        slopes=np.full(n, REACH_SLOPE, np.float32),
        shares=np.full(n, cell.share),
        slacks=np.full(n, slack, np.float32),
    )


def _climb(cell: Cell, top_target: float) -> Iterator[tuple[float, npt.NDArray[np.float64]]]:
    """(reach, the recall [slacks] it is sure to have), by rising reach until more of it cannot pay."""
    beyond = 0
    for reach in _REACHES:
        recall = _recall_of_both(_recalls(cell, cell.tuned, reach, _SLACKS), cell.tuned.is_middle)
        yield reach, recall
        beyond += recall[-1] >= top_target
        if beyond > _RUNGS_BEYOND or _first_look(cell, reach, 1.0) > _HOPELESS * cell.exact_seconds:
            return


def _recall_of_both(of_queries: npt.NDArray[np.float64], is_middle: BoolArray) -> npt.NDArray[np.float64]:
    """The recall [slacks] that rows are sure to have, or less where middles have less still: of these more may be
    missed; [q, slacks] of queries.
    """
    recall = _sure(of_queries[~is_middle])
    if is_middle.any():
        recall = np.minimum(recall, 1 - (1 - _sure(of_queries[is_middle])) / _MISSED_OF_MIDDLES)
    return recall


def _sure(of_queries: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    error = of_queries.std(axis=0) / np.sqrt(len(of_queries))
    recall: npt.NDArray[np.float64] = of_queries.mean(axis=0) - _SURE * error
    return recall


def _least_reaches(recalls: npt.NDArray[np.float64], reaches: Sequence[float], target: float) -> list[Pair]:
    """By rising slack, each with the least reach that gets to the target, while that still falls; recalls
    [reaches, slacks]. Between two rungs recall is taken to rise in a straight line.
    """
    pairs: list[Pair] = []
    for column, slack in enumerate(_SLACKS):
        reached = np.flatnonzero(recalls[:, column] >= target)
        if not len(reached):
            continue
        above = int(reached[0])
        reach = reaches[above]
        if above > 0:
            low, high = recalls[above - 1, column], recalls[above, column]
            reach -= (reaches[above] - reaches[above - 1]) * (high - target) / (high - low)
        if not pairs or reach < pairs[-1][0] - _SAME_REACH:
            pairs.append((float(reach), slack))
    return pairs


def _quickest(cell: Cell, pairs: Sequence[Pair]) -> Pair:
    """The pair of least time in a batch, all of them looked at once and the near ones again."""
    looks = {pair: _first_look(cell, *pair) for pair in pairs}
    bound = _HOPELESS * min(looks.values())
    near = [pair for pair in pairs if looks[pair] <= bound]
    return min(near, key=lambda pair: _batch_seconds(cell, *pair))


def _first_look(cell: Cell, reach: float, slack: float) -> float:
    """Processor seconds of one query in a small batch."""
    look = measured_seconds(
        lambda: _search(cell, cell.tuned, slice(0, 8), reach, slack), rounds=2, clock=time.process_time
    )
    return look / len(cell.tuned.queries[:8])


def _batch_seconds(cell: Cell, reach: float, slack: float) -> float:
    """Processor seconds a query takes in a batch of 64, measured once for each pair."""
    known = cell.seconds_at.get((reach, slack))
    if known is None:
        n = min(_BATCH, len(cell.tuned.queries))
        batch = measured_seconds(
            lambda: _search(cell, cell.tuned, slice(0, n), reach, slack), rounds=_ROUNDS, clock=time.process_time
        )
        known = cell.seconds_at[(reach, slack)] = batch / n
    return known


def _measured(cell: Cell, reach: float, slack: float) -> Setting:
    """The median over different queries alone: one that is repeated would find its rows in the caches."""
    alone = []
    for turn in range(_ALONE):
        one = turn % len(cell.told.queries)
        search = partial(_search, cell, cell.told, slice(one, one + 1), reach, slack)
        alone.append(measured_seconds(search, rounds=1))
    done = _search(cell, cell.told, slice(None), reach, slack)
    return Setting(
        reach=reach,
        slack=slack,
        lists=float(done.lists_scanned.mean()),
        rows=float(done.rows_scanned.mean()),
        work=float(done.work.mean()),
        rescored=float(done.rescored.mean()),
        most_lists=int(done.lists_scanned.max()),
        most_rescored=int(done.rescored.max()),
        expected_recall=float(_recalls(cell, cell.told, reach, (slack,)).mean()),
        seconds_b1=float(np.median(alone)),
        seconds_b64=_batch_seconds(cell, reach, slack),
    )


def _search(cell: Cell, truth: Truth, places: slice, reach: float, slack: float) -> Rescored:
    """From queries to their top k, as a search does it."""
    subject, queries = cell.subject, truth.queries[places]
    return subject.ivfpq.search_rescored(
        subject.vectors,
        queries,
        limits=_limits(cell, truth.ks[places], reach, slack),
        masks=[cell.mask] * len(queries),
        k=cell.k,
    )


def _without_own(rows: Int64Array, own: Int64Array, *others: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Rows [q, c] as [q, c - 1]: without the query's own row, or without the last where it is not among them."""
    order: Int64Array = np.argsort(rows == own[:, None], axis=1, kind="stable")[:, :-1]
    arrays: tuple[npt.NDArray[Any], ...] = (rows, *others)
    return tuple(np.take_along_axis(array, order, axis=1) for array in arrays)


def _keys(rows: Int64Array, n_rows: int) -> Int64Array:
    """One number for each (query, row) of [q, c]; padding has numbers of its own."""
    return np.arange(len(rows), dtype=np.int64)[:, None] * (n_rows + 1) + rows + 1
