from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import FailedPrecondition
from engine.index.coarse_depth import CoarseState, Rung
from engine.index.tuning import TARGETS, Band, Costs, Setting, Tuning
from engine.pipeline.planner import (
    NO_BUDGET,
    IndexState,
    Plan,
    PlanRequest,
    plan,
    planned_batch,
    planned_survivors,
    tail_way,
)
from engine.types import Strategy

COSTS = Costs(
    scan_call=5e-5,
    scan_row=1e-10,
    scan_value_dense=1e-10,
    scan_value_sparse=3e-10,
    gather_call=5e-5,
    gather_row=1e-9,
    gather_value=2e-10,
    coarse_call=1e-4,
    coarse_value_dense=3e-11,
    coarse_value_sparse=1e-10,
    coarse_depth_row=1e-7,
)
PROBED = (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)


def setting(k: int, step: int, work: int, target: float) -> Setting:
    """Of more work by more reach; no query met more than twice the usual lists."""
    return Setting(
        reach=float(step * work),
        slack=step / 2,
        lists=4.0 * step * work,
        rows=5000.0 * step * work,
        work=4000.0 * step * work,
        rescored=3.0 * k * step,
        most_lists=8 * step * work,
        most_rescored=6 * k * step,
        expected_recall=target + 0.005,
        seconds_b1=1e-4 * step * work,
        seconds_b64=5e-5 * step * work,
    )


def band(k: int, selectivity: float) -> Band:
    work = max(1, round(k / selectivity / 10))
    steps = enumerate(TARGETS, start=1)
    return Band(k, selectivity, tuple((target, setting(k, step, work, target)) for step, target in steps))


TUNING = Tuning([band(k, p) for k in (10, 100) for p in (1.0, 0.1)], COSTS)
EXACT_ONLY = IndexState(1_000_000, 1_000_000, 0, 0, 128, None, COSTS)
LISTS = IndexState(1_000_000, 1_000_000, 1_000_000, 1024, 128, TUNING, COSTS)
CODED = replace(EXACT_ONLY, coarse=CoarseState(1_000_000, (Rung(2, 0.2), Rung(8, 0.0), Rung(32, 0.0))))


def asked(**changes: object) -> PlanRequest:
    """A request for .85, for which the settings of .95 are taken."""
    return replace(PlanRequest(k=10, survivors=1_000_000, is_filtered=False, recall_target=0.85), **changes)  # type: ignore[arg-type]


def test_where_nothing_passes_nothing_is_searched_whatever_was_asked() -> None:
    for strategy in (None, Strategy.IVFPQ, Strategy.EXACT_SCAN):
        assert plan(asked(survivors=0, is_filtered=True, strategy=strategy), EXACT_ONLY).strategy is Strategy.NONE


def test_without_lists_every_row_is_scanned() -> None:
    assert plan(asked(), EXACT_ONLY).strategy is Strategy.EXACT_SCAN


def test_without_lists_a_few_survivors_are_gathered_and_many_scanned_under_their_mask() -> None:
    few, many = asked(survivors=2_000, is_filtered=True), asked(survivors=900_000, is_filtered=True)
    state = replace(EXACT_ONLY, costs=replace(COSTS, gather_row=1e-10, scan_row=1e-9))
    assert plan(few, state).strategy is Strategy.GATHER
    assert plan(many, state).strategy is Strategy.MASKED_SCAN


def test_codes_are_scanned_where_that_is_faster_at_the_depth_that_is_the_cheapest() -> None:
    found = plan(asked(), CODED)
    assert (found.strategy, found.depth, found.nprobe, found.expected_recall) == (Strategy.COARSE_SCAN, 80, 0, 1.0)
    assert found.seconds < plan(asked(), EXACT_ONLY).seconds
    assert plan(asked(exact=True), CODED) == replace(found, reason="exact search was asked for")
    few = replace(CODED, coarse=CoarseState(1_000_000, (Rung(2, 0.0), Rung(8, 0.0))))
    assert plan(asked(), few).depth == 20


def test_codes_are_not_scanned_where_most_queries_would_have_to_be_scanned_again() -> None:
    state = replace(CODED, coarse=CoarseState(1_000_000, (Rung(2, 0.9), Rung(128, 0.8))))
    assert plan(asked(), state).strategy is Strategy.EXACT_SCAN


def test_codes_are_not_scanned_where_their_cost_was_never_measured() -> None:
    costs = Costs(5e-5, 1e-10, 1e-10, 3e-10, 5e-5, 1e-9, 2e-10)
    assert plan(asked(), replace(CODED, costs=costs)).strategy is Strategy.EXACT_SCAN


def test_rows_without_codes_make_scanning_codes_dear() -> None:
    state = replace(CODED, coarse=CoarseState(100_000, (Rung(2, 0.0),)))
    by_name = plan(asked(strategy=Strategy.COARSE_SCAN), state)
    tail = COSTS.scan_seconds(900_000, 900_000, 128)
    assert by_name.seconds == pytest.approx(COSTS.coarse_seconds(100_000, 100_000, 128, 20) + tail)


def test_few_survivors_are_gathered_even_where_there_are_codes() -> None:
    state = replace(CODED, costs=replace(COSTS, gather_row=1e-10, scan_row=1e-9))
    assert plan(asked(survivors=100, is_filtered=True), state).strategy is Strategy.GATHER


def test_no_more_rows_are_rescored_than_pass_nor_more_than_some_thousands_unless_k_is_larger() -> None:
    by_name = asked(strategy=Strategy.COARSE_SCAN, is_filtered=True)
    never = replace(CODED, coarse=CoarseState(1_000_000, (Rung(2, 1.0), Rung(8, 0.8), Rung(128, 0.0))))
    assert plan(by_name, never).depth == 1280
    assert plan(replace(by_name, survivors=300), never).depth == 301
    assert plan(replace(by_name, k=1000), never).depth == 8000
    assert plan(replace(by_name, k=20_000), never).depth == 40_000


def test_a_coarse_scan_cannot_be_asked_for_without_codes() -> None:
    with pytest.raises(FailedPrecondition, match="needs int8 codes"):
        plan(asked(strategy=Strategy.COARSE_SCAN), EXACT_ONLY)


def test_lists_are_probed_where_that_is_faster() -> None:
    found = plan(asked(), LISTS)
    assert (found.strategy, found.reach, found.slack) == (Strategy.IVFPQ, 3.0, 1.5)
    assert (found.nprobe, found.depth) == (96, 1024)
    assert found.expected_recall == pytest.approx(0.955)


def test_settings_are_those_that_miss_a_third_of_what_may_be_missed_up_to_the_highest_tuned() -> None:
    found = [plan(asked(recall_target=target), LISTS).expected_recall for target in (0.7, 0.85, 0.95, 0.99)]
    assert found == pytest.approx([0.905, 0.955, 0.985 + 0.01 / 3, 0.995])


def test_a_filter_that_keeps_whole_lists_reaches_as_far_as_no_filter_does() -> None:
    """Tuned with random masks, the settings of a tenth end sooner here."""
    short = replace(setting(10, 3, 1, 0.95), reach=1.0)
    tuning = Tuning([band(10, 1.0), Band(10, 0.1, ((0.95, short),))], COSTS)
    found = plan(asked(survivors=100_000, is_filtered=True), replace(LISTS, tuning=tuning))
    assert found.strategy is Strategy.FILTERED_IVFPQ
    assert found.reach + 3 * found.near_slope == plan(asked(), LISTS).reach == 3.0
    assert plan(asked(), LISTS).near_slope == 0.0
    mostly_dead = replace(LISTS, tuning=tuning, alive_rows=200_000)
    found = plan(asked(survivors=20_000, is_filtered=True, strategy=Strategy.FILTERED_IVFPQ), mostly_dead)
    assert found.reach + 5 * found.near_slope == 3.0


def test_a_filter_that_leaves_much_is_probed_under_its_mask() -> None:
    assert plan(asked(survivors=500_000, is_filtered=True), LISTS).strategy is Strategy.FILTERED_IVFPQ


def test_a_filter_that_leaves_little_is_answered_exactly_and_a_wider_one_probes_more() -> None:
    assert plan(asked(survivors=500, is_filtered=True), LISTS).strategy not in PROBED
    wide, wider = (plan(asked(survivors=n, is_filtered=True, recall_target=0.8), LISTS) for n in (900_000, 200_000))
    assert wider.reach > wide.reach


def test_exact_is_exact_even_where_probes_are_given() -> None:
    found = plan(asked(exact=True, nprobe=4), LISTS)
    assert (found.strategy, found.expected_recall) == (Strategy.EXACT_SCAN, 1.0)


def test_a_target_that_was_never_reached_is_answered_exactly() -> None:
    assert plan(asked(recall_target=0.999), LISTS).strategy is Strategy.EXACT_SCAN


def test_a_k_beyond_the_table_is_answered_exactly() -> None:
    assert plan(asked(k=5000), LISTS).strategy is Strategy.EXACT_SCAN


def test_given_probes_and_depth_are_taken_even_where_a_scan_would_be_faster() -> None:
    found = plan(asked(nprobe=700, rescore_depth=400), LISTS)
    assert (found.strategy, found.nprobe, found.depth) == (Strategy.IVFPQ, 700, 400)
    assert (found.reach, found.slack) == (math.inf, math.inf)
    assert found.expected_recall == pytest.approx(0.995)


def test_given_probes_alone_take_the_tuned_slack_and_a_given_depth_the_tuned_reach() -> None:
    probes, depth = plan(asked(nprobe=7), LISTS), plan(asked(rescore_depth=70), LISTS)
    assert (probes.nprobe, probes.reach, probes.slack) == (7, math.inf, 1.5)
    assert (depth.depth, depth.reach, depth.slack) == (70, 3.0, math.inf)


def test_probes_that_were_never_measured_promise_no_recall() -> None:
    assert plan(asked(nprobe=1, rescore_depth=10), LISTS).expected_recall == 0.0


def test_given_probes_without_lists_are_answered_exactly() -> None:
    assert plan(asked(nprobe=7), EXACT_ONLY).strategy is Strategy.EXACT_SCAN


def test_probing_may_take_as_long_as_an_exact_way_but_for_probes_that_were_asked_for() -> None:
    found = plan(asked(), LISTS)
    exact = plan(asked(exact=True), LISTS)
    # 4,000 rows more take 5e-5 s of a processor, in a batch of which two threads do two queries at a time.
    assert found.budget == pytest.approx(4000 * exact.seconds / 5e-5, rel=0.01)
    shared = replace(LISTS, batch_queries=64, threads=2)
    assert plan(asked(), shared).budget == pytest.approx(2 * 4000 * exact.seconds / 5e-5, rel=0.01)
    for changes in ({"nprobe": 7}, {"strategy": Strategy.IVFPQ}):
        assert plan(asked(**changes), LISTS).budget == NO_BUDGET


def test_a_budget_is_a_number_that_kernels_hold_even_where_more_work_was_measured_to_cost_nothing() -> None:
    def of(work: float, seconds: float) -> Setting:
        return replace(setting(10, 1, 1, 0.95), work=work, seconds_b64=seconds)

    settings = ((0.5, of(1000.0, 1e-9)), (0.99, of(30_000.0, math.nextafter(1e-9, 1))))
    bands = [Band(k, selectivity, settings) for k in (1, 100) for selectivity in (1e-3, 1.0)]
    found = plan(asked(), replace(LISTS, tuning=Tuning(bands, COSTS)))
    assert found.strategy is Strategy.IVFPQ
    assert found.budget == NO_BUDGET


def test_in_a_batch_lists_are_searched_side_by_side_and_so_win_sooner() -> None:
    narrow = asked(survivors=100_000, is_filtered=True, recall_target=0.8)
    alone, batch = LISTS, replace(LISTS, batch_queries=64, threads=2)
    assert plan(narrow, batch).seconds < plan(narrow, alone).seconds
    many = replace(batch, threads=16)
    assert plan(narrow, many).strategy is Strategy.FILTERED_IVFPQ
    assert plan(narrow, many).seconds == pytest.approx(plan(narrow, batch).seconds / 8)


def test_without_a_filter_no_query_takes_many_times_the_lists_of_those_measured() -> None:
    assert plan(asked(), LISTS).nprobe == 4 * 24
    assert plan(asked(survivors=500_000, is_filtered=True), LISTS).nprobe == 1024
    dead = replace(LISTS, alive_rows=500_000)
    assert plan(asked(survivors=500_000), dead).nprobe == 1024


def test_the_depth_is_never_below_k_nor_the_probes_beyond_the_lists() -> None:
    found = plan(asked(k=50, nprobe=5000, rescore_depth=3), LISTS)
    assert (found.nprobe, found.depth) == (1024, 50)


def test_the_depth_is_never_beyond_the_rows_in_lists() -> None:
    assert plan(asked(rescore_depth=10**9), LISTS).depth == 1_000_000


def test_a_long_tail_makes_probing_dear() -> None:
    assert plan(asked(), replace(LISTS, indexed_rows=1000)).strategy is Strategy.EXACT_SCAN


def test_a_long_tail_is_searched_by_codes_where_it_has_some_and_that_is_quicker() -> None:
    rungs = (Rung(2, 0.9), Rung(8, 0.0))
    coarse = CoarseState(1_000_000, rungs, rungs)
    behind = replace(LISTS, indexed_rows=900_000)
    coded = replace(behind, coarse=coarse)
    by_name = asked(strategy=Strategy.IVFPQ)
    scanned, quick = plan(by_name, behind), plan(by_name, coded)
    assert (scanned.tail_depth, quick.tail_depth) == (0, 80)
    saved = COSTS.scan_seconds(100_000, 100_000, 128) - COSTS.coarse_seconds(100_000, 100_000, 128, 80)
    assert quick.seconds == pytest.approx(scanned.seconds - saved)
    assert plan(by_name, replace(coded, indexed_rows=999_900)).tail_depth == 0
    assert plan(by_name, replace(coded, coarse=replace(coarse, n_rows=800_000))).tail_depth == 0
    for unlike in (asked(strategy=Strategy.IVFPQ, is_fused=True), asked(strategy=Strategy.IVFPQ, sees_dead=True)):
        assert plan(unlike, coded).tail_depth == 0


def test_what_of_a_tail_has_no_codes_is_scanned_beside_those_that_have() -> None:
    coarse = CoarseState(950_000, (Rung(2, 0.0),), (Rung(8, 0.0),))
    seconds, depth = tail_way(10, 100_000, 50_000, 1.0, dimension=128, coarse=coarse, costs=COSTS)
    both = COSTS.coarse_seconds(50_000, 50_000, 128, 80) + COSTS.scan_seconds(50_000, 50_000, 128)
    assert (seconds, depth) == (pytest.approx(both), 80)
    assert tail_way(10, 0, 0, 1.0, dimension=128, coarse=coarse, costs=COSTS) == (0.0, 0)


@pytest.mark.parametrize(
    ("strategy", "is_filtered", "done"),
    [
        (Strategy.EXACT_SCAN, False, Strategy.EXACT_SCAN),
        (Strategy.EXACT_SCAN, True, Strategy.MASKED_SCAN),
        (Strategy.MASKED_SCAN, True, Strategy.MASKED_SCAN),
        (Strategy.GATHER, True, Strategy.GATHER),
        (Strategy.IVFPQ, True, Strategy.FILTERED_IVFPQ),
        (Strategy.FILTERED_IVFPQ, False, Strategy.IVFPQ),
    ],
)
def test_a_strategy_asked_for_is_used_and_named_by_what_it_does(
    strategy: Strategy, is_filtered: bool, done: Strategy
) -> None:
    assert plan(asked(strategy=strategy, is_filtered=is_filtered, survivors=900), LISTS).strategy is done


def test_more_rows_than_lists_were_tuned_among_are_searched_further_for() -> None:
    tuned = Tuning(TUNING.bands, COSTS, logged_queries=600, live_rows=1_000_000)

    def reach(live_rows: int) -> float:
        state = replace(LISTS, n_rows=live_rows, alive_rows=live_rows, indexed_rows=live_rows, tuning=tuned)
        return plan(asked(strategy=Strategy.IVFPQ, survivors=live_rows), state).reach

    assert reach(900_000) == reach(1_000_000) < reach(1_250_000) < reach(2_000_000) < reach(4_000_000)


def test_probing_asked_for_by_name_goes_all_the_way_where_no_setting_is_known_to_have_the_recall_asked_for() -> None:
    low = Tuning([Band(10, 1.0, band(10, 1.0).settings[:2])], COSTS)
    found = plan(asked(strategy=Strategy.IVFPQ, recall_target=0.95), replace(LISTS, tuning=low))
    assert (found.nprobe, found.reach, found.slack, found.expected_recall) == (1024, math.inf, math.inf, 0.905)


def test_probing_asked_for_by_name_takes_the_best_setting_where_that_has_the_recall_asked_for() -> None:
    below_aim = Tuning([Band(10, 1.0, band(10, 1.0).settings[:3])], COSTS)
    found = plan(asked(strategy=Strategy.IVFPQ, recall_target=0.95), replace(LISTS, tuning=below_aim))
    assert (found.reach, found.expected_recall) == (3.0, 0.955)


def test_probing_asked_for_by_name_beyond_the_table_goes_all_the_way() -> None:
    found = plan(asked(strategy=Strategy.IVFPQ, k=5000), LISTS)
    assert (found.nprobe, found.reach, found.slack) == (1024, math.inf, math.inf)
    assert found.depth >= 5000
    assert found.expected_recall == 0.0


@pytest.mark.parametrize("strategy", PROBED)
def test_probing_cannot_be_asked_for_without_lists_or_with_exact(strategy: Strategy) -> None:
    with pytest.raises(FailedPrecondition, match="not trained yet"):
        plan(asked(strategy=strategy), EXACT_ONLY)
    with pytest.raises(FailedPrecondition, match="is not exact"):
        plan(asked(strategy=strategy, exact=True), LISTS)


def test_nothing_cannot_be_asked_for() -> None:
    with pytest.raises(FailedPrecondition, match="none"):
        plan(asked(strategy=Strategy.NONE), LISTS)


REQUESTS = st.builds(
    PlanRequest,
    k=st.integers(1, 3000),
    survivors=st.integers(0, 1_000_000),
    is_filtered=st.booleans(),
    exact=st.booleans(),
    recall_target=st.none() | st.floats(0.01, 1.0),
    nprobe=st.none() | st.integers(1, 5000),
    rescore_depth=st.none() | st.integers(1, 5000),
)
STATES = st.sampled_from(
    [
        EXACT_ONLY,
        CODED,
        LISTS,
        replace(LISTS, coarse=CODED.coarse),
        replace(LISTS, indexed_rows=900_000),
        replace(LISTS, n_rows=2_000_000),
    ]
)


@given(request=REQUESTS, state=STATES)
def test_every_plan_can_be_carried_out_and_keeps_its_promises(request: PlanRequest, state: IndexState) -> None:
    found = plan(request, state)
    assert (found.strategy is Strategy.NONE) == (request.survivors == 0)
    if found.strategy in PROBED:
        assert state.tuning is not None
        assert not request.exact
        assert 1 <= found.nprobe <= state.nlist
        assert found.depth >= request.k
        assert (found.strategy is Strategy.FILTERED_IVFPQ) == request.is_filtered
        if request.nprobe is None and request.rescore_depth is None:
            assert found.expected_recall >= (request.recall_target or 0.95)
    elif found.strategy is Strategy.COARSE_SCAN:
        assert state.coarse is not None
        assert (found.nprobe, found.expected_recall) == (0, 1.0)
        assert found.depth >= request.k
    else:
        assert (found.nprobe, found.depth, found.expected_recall) == (0, 0, 1.0)


@given(request=REQUESTS, state=STATES)
def test_no_plan_is_slower_than_an_exact_way_unless_it_was_asked_for(request: PlanRequest, state: IndexState) -> None:
    if request.survivors == 0 or request.nprobe is not None or request.rescore_depth is not None:
        return
    exact: Plan = plan(replace(request, exact=True), state)
    assert plan(request, state).seconds <= exact.seconds


@given(st.integers(0, 10_000_000), st.integers(0, 10_000_000))
def test_counts_are_planned_as_no_less_and_as_at_most_a_sixteenth_more(one: int, other: int) -> None:
    alive = max(one, other)
    planned = planned_survivors(one, alive)
    assert one <= planned <= min(one * 17 / 16, alive)
    assert (planned == 0) == (one == 0)
    if one <= other:
        assert planned <= planned_survivors(other, alive)


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 999_999))
def test_a_batch_is_planned_as_what_makes_a_difference_of_it(n: int, threads: int, survivors: int) -> None:
    whole = replace(LISTS, batch_queries=n, threads=threads)
    same = replace(whole, batch_queries=planned_batch(n, threads))
    assert plan(asked(survivors=survivors), whole) == plan(asked(survivors=survivors), same)
