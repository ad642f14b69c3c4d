"""Which way to answer a query: the cheapest one, by predicted seconds, that meets what was asked. Pure.

Knows nothing of vectors or devices: it compares counts of rows with costs that were measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from engine.errors import FailedPrecondition
from engine.index.coarse_depth import CoarseState, Rung
from engine.index.tuning import Costs, Setting, Tuning, aim, deepest
from engine.types import Strategy

DEFAULT_RECALL_TARGET = 0.95

NO_BUDGET = (1 << 63) - 1

_BATCH = 8
"""From so many queries on the time of one is more like that of one of 64 than of one alone."""

_BEYOND_MOST = 4
"""A query of some hundreds takes many times the lists of the others for a hit in ten: it ends here."""

_MOSTLY_ALIVE = 0.9
"""With a smaller share of live rows, dead ones may lie together and hide what is near, as a filter does."""

_DEEPEST = 16_384
"""Rows by codes that are rescored for a query at most, unless its k wants more."""

_INVERTED = (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)
_SCANS = (Strategy.EXACT_SCAN, Strategy.MASKED_SCAN)


_SAME_TO = 5
"""Counts that agree in so many leading bits, and so to 1 in 16, are planned as one."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What one query asks. ``survivors``: live rows that pass its filter, as counted or as ``planned_survivors`` has
    it; ``strategy``: asked for by name. ``is_fused``: scores have more than similarity; ``has_similarity``: and that at
    all. ``extra_rows``: rows that get something no list bounds, which are scored one by one beside the lists.
    ``avoids_lists``: queries that were scored alike gave up on them. ``sees_dead``: rows that have died may pass, for
    which no codes vouch.
    """

    k: int
    survivors: int
    is_filtered: bool
    exact: bool = False
    recall_target: float | None = None
    nprobe: int | None = None
    rescore_depth: int | None = None
    strategy: Strategy | None = None
    is_fused: bool = False
    has_similarity: bool = True
    extra_rows: int = 0
    avoids_lists: bool = False
    sees_dead: bool = False


@dataclass(frozen=True, slots=True)
class IndexState:
    """What there is to search. Rows from ``indexed_rows`` on are the tail, always searched exactly: by their codes
    first where they have some and that is quicker.

    ``tuning`` is None, and ``nlist`` 0, where there are no inverted lists; ``coarse`` where there are no codes.
    ``batch_queries`` share the device, ``threads`` of them at a time: an exact search of one query alone has all
    threads, one of lists a single one.
    """

    n_rows: int
    alive_rows: int
    indexed_rows: int
    nlist: int
    dimension: int
    tuning: Tuning | None
    costs: Costs
    coarse: CoarseState | None = None
    batch_queries: int = 1
    threads: int = 1

    @property
    def tail_rows(self) -> int:
        return self.n_rows - self.indexed_rows


@dataclass(frozen=True, slots=True)
class Plan:
    """How to answer. ``nprobe`` is 0 unless lists are probed, ``depth`` unless some rows are rescored that a first pass
    found; ``seconds`` is predicted for one query of the batch.

    ``nprobe`` and ``depth`` are limits; ``reach`` and ``slack``, where they are not inf, end a query earlier, and
    ``near_slope`` later: see ``kernels.packed_lists.ProbeLimits``. ``budget``: rows of work done in the time of an
    exact way. ``tail_depth``: rows by codes that are rescored of those in no list, 0 where these are scanned.
    ``expected_recall`` is 1 for exact ways, and 0 where it was never measured; provisional where stored rows
    stood in for queries when it was.
    """

    strategy: Strategy
    nprobe: int
    depth: int
    expected_recall: float
    reason: str
    seconds: float = 0.0
    reach: float = math.inf
    near_slope: float = 0.0
    slack: float = math.inf
    budget: int = NO_BUDGET
    tail_depth: int = 0
    is_provisional: bool = False


def planned_survivors(counted: int, alive_rows: int) -> int:
    """The count rounded up, so that queries whose filters differ share a plan where they pass about as many rows."""
    dropped = max(0, counted.bit_length() - _SAME_TO)
    return min(-(-counted >> dropped) << dropped, alive_rows)


def planned_batch(n_queries: int, threads: int) -> int:
    """The size of a batch, in so far as it makes a difference."""
    return min(n_queries, max(_BATCH, threads))


@lru_cache(maxsize=4096)
def plan(request: PlanRequest, state: IndexState) -> Plan:
    """The plan for one query; kept, for the same is asked again and again.

    Raises:
        FailedPrecondition: the strategy asked for cannot answer this query over this index.
    """
    if request.survivors == 0:
        return Plan(Strategy.NONE, 0, 0, 1.0, "no live row passes the filter")
    if request.strategy is not None:
        return _as_asked(request, state, request.strategy)
    if request.exact:
        return _cheapest(_exact_ways(request, state, "exact search was asked for"))
    if state.tuning is None or state.indexed_rows == 0:
        return _cheapest(_exact_ways(request, state, "there are no inverted lists"))
    if not request.has_similarity:
        return _cheapest(_exact_ways(request, state, "similarity does not count, by which lists are ordered"))
    if request.avoids_lists and request.nprobe is None and request.rescore_depth is None:
        return _cheapest(
            _exact_ways(request, state, "features spread so far that queries scored alike gave up on lists")
        )
    if request.nprobe is not None or request.rescore_depth is not None:
        return _with_settings(request, state, state.tuning, "nprobe or rescore_depth was given")
    ways = _exact_ways(request, state, "exact search is predicted to be the fastest")
    setting = state.tuning.lookup(request.k, _selectivity(request, state), _target(request, state, state.tuning))
    if setting is not None:
        probing = _probing(request, state, setting, "probing is predicted to be the fastest")
        ways.append(replace(probing, budget=_budget(request, state, state.tuning, setting, _cheapest(ways).seconds)))
    return _cheapest(ways)


def _as_asked(request: PlanRequest, state: IndexState, strategy: Strategy) -> Plan:
    if strategy is Strategy.NONE:
        raise FailedPrecondition("strategy: none cannot be asked for: it stands for queries that nothing can match")
    gather, scan, *coarse = _exact_ways(request, state, "the strategy was asked for")
    if strategy is Strategy.GATHER:
        return gather
    if strategy in _SCANS:
        return scan
    if strategy is Strategy.COARSE_SCAN:
        if request.is_fused:
            raise FailedPrecondition(f"strategy: {strategy.value} knows similarity alone, and the score has more")
        if not coarse:
            raise FailedPrecondition(
                f"strategy: {strategy.value} needs int8 codes of the rows, which there are none of"
            )
        return coarse[0]
    if request.exact:
        raise FailedPrecondition(f"strategy: {strategy.value} is not exact, and exact search was asked for")
    if state.tuning is None or state.indexed_rows == 0:
        raise FailedPrecondition(f"strategy: {strategy.value} needs inverted lists, which are not trained yet")
    if not request.has_similarity:
        raise FailedPrecondition(f"strategy: {strategy.value} needs similarity to count, and its weight is 0")
    return _with_settings(request, state, state.tuning, "the strategy was asked for")


def _exact_ways(request: PlanRequest, state: IndexState, reason: str) -> list[Plan]:
    costs = state.costs
    gather = costs.gather_seconds(state.n_rows, request.survivors, state.dimension)
    scan = costs.scan_seconds(state.n_rows, request.survivors, state.dimension)
    name = Strategy.MASKED_SCAN if request.is_filtered else Strategy.EXACT_SCAN
    ways = [Plan(Strategy.GATHER, 0, 0, 1.0, reason, gather), Plan(name, 0, 0, 1.0, reason, scan)]
    return (
        ways
        if state.coarse is None or request.is_fused or request.sees_dead
        else [*ways, _coarse_way(request, state, state.coarse, reason, scan)]
    )


def _coarse_way(request: PlanRequest, state: IndexState, coarse: CoarseState, reason: str, scan_seconds: float) -> Plan:
    """With the cheapest depth: rows without codes are scanned as well, and what is not proven is answered by a scan."""
    share = request.survivors / state.n_rows
    span = _Span(coarse.n_rows, state.n_rows - coarse.n_rows, share, scan_seconds)
    seconds, depth = _two_passes(request.k, span, state.dimension, coarse.rungs, state.costs)
    return Plan(Strategy.COARSE_SCAN, 0, depth, 1.0, reason, seconds)


@dataclass(frozen=True, slots=True)
class _Span:
    """Rows that are searched, with codes and without, of which a share passes; ``scan_seconds``: of a scan of all."""

    coded: int
    uncoded: int
    share: float
    scan_seconds: float


def _two_passes(k: int, span: _Span, dimension: int, rungs: Sequence[Rung], costs: Costs) -> tuple[float, int]:
    """Seconds and depth of the cheapest."""
    coded = round(span.coded * span.share)
    rest = costs.scan_seconds(span.uncoded, round(span.uncoded * span.share), dimension) if span.uncoded else 0.0
    survivors = round((span.coded + span.uncoded) * span.share)
    found: list[tuple[float, int]] = []
    for rung in rungs:
        # One more than there are shows that none was left out.
        depth = max(k, min(k * rung.depth_per_k, survivors + 1))
        if found and depth > _DEEPEST:
            break
        seconds = costs.coarse_seconds(span.coded, coded, dimension, depth) + rest
        found.append((seconds + rung.unproven * span.scan_seconds, depth))
    return min(found)


def tail_way(
    k: int, tail_rows: int, coded: int, share: float, *, dimension: int, coarse: CoarseState | None, costs: Costs
) -> tuple[float, int]:
    """Seconds that a query spends on the rows in no list, of which a share passes and ``coded`` have codes, and the
    depth of a coarse scan, 0 where they are scanned.
    """
    if not tail_rows:
        return 0.0, 0
    scan = costs.scan_seconds(tail_rows, round(tail_rows * share), dimension)
    if coarse is None or not coarse.tail_rungs or coded <= 0:
        return scan, 0
    span = _Span(coded, tail_rows - coded, share, scan)
    return min((scan, 0), _two_passes(k, span, dimension, coarse.tail_rungs, costs))


def _with_settings(request: PlanRequest, state: IndexState, tuning: Tuning, reason: str) -> Plan:
    """Probing, with what the request gives; what it leaves open is tuned, or goes all the way where no setting is known
    to have the recall asked for.
    """
    selectivity = _selectivity(request, state)
    tuned = _tuned(request, state, tuning, selectivity)
    found = _probing(request, state, tuned, reason)
    nprobe, depth = request.nprobe, request.rescore_depth
    if nprobe is None and depth is None:
        return found
    if nprobe is not None:
        found = replace(found, nprobe=_within(nprobe, state.nlist), reach=math.inf)
    if depth is not None:
        found = replace(found, depth=_depth(depth, request, state), slack=math.inf)
    recall = tuning.recall_at_least(
        request.k, selectivity, nprobe=found.nprobe, depth=found.depth, reach=found.reach, slack=found.slack
    )
    return replace(found, expected_recall=recall)


def _tuned(request: PlanRequest, state: IndexState, tuning: Tuning, selectivity: float) -> Setting:
    """The setting to look up, or the best one if that had the recall asked for, or one that ends nothing."""
    aimed = tuning.lookup(request.k, selectivity, _target(request, state, tuning))
    best = aimed or tuning.best(request.k, selectivity)
    if best is not None and (best is aimed or best.expected_recall >= _asked_recall(request)):
        return best
    rows = float(state.indexed_rows)
    known = 0.0 if best is None else best.expected_recall
    return Setting(math.inf, math.inf, state.nlist, rows, rows, 0.0, 0, 0, known, 0.0, 0.0)


def _probing(request: PlanRequest, state: IndexState, setting: Setting, reason: str) -> Plan:
    """Lists, then the tail exactly; lists end with all there are, candidates with the rows but not below k."""
    coarse = None if request.is_fused or request.sees_dead else state.coarse
    tail, tail_depth = tail_way(
        request.k,
        state.tail_rows,
        0 if coarse is None else coarse.n_rows - state.indexed_rows,
        _selectivity(request, state),
        dimension=state.dimension,
        coarse=coarse,
        costs=state.costs,
    )
    return Plan(
        strategy=Strategy.FILTERED_IVFPQ if request.is_filtered else Strategy.IVFPQ,
        nprobe=_most_probes(request, state, setting),
        depth=_depth(deepest(request.k), request, state),
        expected_recall=setting.expected_recall,
        reason=reason,
        seconds=_list_seconds(setting, state) + tail + _extra_seconds(request, state),
        reach=setting.reach,
        near_slope=_near_slope(request, state, setting),
        slack=setting.slack,
        tail_depth=tail_depth,
        is_provisional=state.tuning is not None and state.tuning.is_provisional,
    )


def _extra_seconds(request: PlanRequest, state: IndexState) -> float:
    """Of the rows that are scored one by one beside the lists."""
    if not request.extra_rows:
        return 0.0
    return state.costs.gather_seconds(0, request.extra_rows, state.dimension)


def _near_slope(request: PlanRequest, state: IndexState, setting: Setting) -> float:
    """Such that a query whose filter keeps all of the lists it meets reaches as far as one without a filter.

    The share is of all rows, dead ones too: so it is counted where lists are scanned.
    """
    doublings = int(math.log2(max(1.0, state.n_rows / request.survivors)))
    if state.tuning is None or doublings < 1:
        return 0.0
    unfiltered = state.tuning.lookup(request.k, 1.0, _target(request, state, state.tuning))
    return 0.0 if unfiltered is None else max(0.0, unfiltered.reach - setting.reach) / doublings


def _depth(asked: int, request: PlanRequest, state: IndexState) -> int:
    return max(min(asked, state.indexed_rows), request.k)


def _most_probes(request: PlanRequest, state: IndexState, setting: Setting) -> int:
    """Every list, where a filter or many dead rows may hide what lies near; else a few times what any query took when
    settings were measured.
    """
    is_hidden = request.is_filtered or state.alive_rows < _MOSTLY_ALIVE * state.n_rows
    if is_hidden or setting.most_lists == 0:
        return state.nlist
    return _within(_BEYOND_MOST * setting.most_lists, state.nlist)


def _list_seconds(setting: Setting, state: IndexState) -> float:
    """Of a query of the batch: threads that search side by side share the time."""
    at_once = min(state.batch_queries, state.threads)
    return (setting.seconds_b64 if state.batch_queries >= _BATCH else setting.seconds_b1) / at_once


def _budget(request: PlanRequest, state: IndexState, tuning: Tuning, setting: Setting, exact_seconds: float) -> int:
    """Rows of work done in the time of an exact way: what a query has cost already is no part of the comparison."""
    row_seconds = tuning.row_seconds(request.k, _selectivity(request, state))
    if row_seconds is None:
        row_seconds = setting.seconds_b64 / max(setting.work, 1.0)
    row_seconds /= min(state.batch_queries, state.threads)
    if row_seconds * NO_BUDGET <= exact_seconds:
        return NO_BUDGET
    return int(max(exact_seconds / row_seconds, setting.work))


def _cheapest(ways: list[Plan]) -> Plan:
    return min(ways, key=lambda way: way.seconds)


def _selectivity(request: PlanRequest, state: IndexState) -> float:
    return min(1.0, request.survivors / max(state.alive_rows, request.survivors))


def _target(request: PlanRequest, state: IndexState, tuning: Tuning) -> float:
    """What to look up for the recall asked for."""
    growth = state.alive_rows / tuning.live_rows if tuning.live_rows else 1.0
    return aim(_asked_recall(request), is_provisional=tuning.is_provisional, growth=growth)


def _asked_recall(request: PlanRequest) -> float:
    return DEFAULT_RECALL_TARGET if request.recall_target is None else request.recall_target


def _within(nprobe: int, nlist: int) -> int:
    return max(1, min(nprobe, nlist))
