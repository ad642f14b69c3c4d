from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.index.costs import measured_seconds
from engine.index.tuning import TARGETS, Band, Costs, Setting, Tuning, aim, deepest, monotone

COSTS = Costs(7e-5, 1e-10, 1.3e-10, 3e-10, 8e-5, 1e-9, 3e-10)


def setting(lists: int, rescored: int, recall: float = 0.9) -> Setting:
    """One whose numbers all follow from the work it makes; no query met more than twice of it."""
    return Setting(
        reach=math.log2(lists),
        slack=rescored / 100,
        lists=lists,
        rows=12 * lists,
        work=10 * lists,
        rescored=rescored,
        most_lists=2 * lists,
        most_rescored=2 * rescored,
        expected_recall=recall,
        seconds_b1=lists * 1e-4,
        seconds_b64=lists * 1e-5,
    )


TUNING = Tuning(
    [
        Band(10, 1.0, ((0.9, setting(8, 20, 0.91)), (0.95, setting(16, 40, 0.96)))),
        Band(100, 1.0, ((0.9, setting(32, 200, 0.92)),)),
        Band(10, 0.1, ((0.9, setting(64, 30, 0.93)), (0.95, setting(128, 60, 0.95)))),
        Band(100, 0.1, ((0.9, setting(128, 300, 0.9)),)),
        Band(10, 0.01, ()),
    ],
    COSTS,
    logged_queries=600,
    live_rows=12_345,
)


def test_a_measured_point_is_given_as_measured() -> None:
    assert TUNING.lookup(10, 1.0, 0.95) == setting(16, 40, 0.96)
    assert TUNING.lookup(100, 0.1, 0.9) == setting(128, 300, 0.9)


def test_a_target_between_two_takes_what_lies_between_and_one_beyond_takes_none() -> None:
    low, found, high = TUNING.lookup(10, 1.0, 0.9), TUNING.lookup(10, 1.0, 0.93), TUNING.lookup(10, 1.0, 0.95)
    assert low
    assert found
    assert high
    for name in ("reach", "slack", "lists", "rows", "rescored", "expected_recall", "seconds_b1", "seconds_b64"):
        least, value, most = (getattr(one, name) for one in (low, found, high))
        assert value == pytest.approx(least + 0.6 * (most - least))
    assert (found.most_lists, found.most_rescored) == (high.most_lists, high.most_rescored)
    assert TUNING.lookup(10, 1.0, 0.2) == setting(8, 20, 0.91)
    assert TUNING.lookup(10, 1.0, 0.96) is None
    assert TUNING.lookup(100, 1.0, 0.95) is None


def test_what_lies_beyond_the_table_is_unknown() -> None:
    assert TUNING.lookup(101, 1.0, 0.9) is None
    assert TUNING.lookup(10, 0.001, 0.9) is None
    assert TUNING.lookup(10, 0.05, 0.9) is None


def test_a_k_below_the_table_takes_the_smallest() -> None:
    assert TUNING.lookup(1, 1.0, 0.9) == setting(8, 20, 0.91)


def test_between_bands_the_work_lies_between_and_the_recall_is_the_lower() -> None:
    found = TUNING.lookup(10, math.sqrt(0.1), 0.9)
    assert found is not None
    assert (found.lists, found.rescored, found.expected_recall) == (pytest.approx(36), pytest.approx(25), 0.91)
    assert (found.reach, found.slack) == (pytest.approx(4.5), pytest.approx(0.25))
    assert (found.most_lists, found.most_rescored) == (128, 60)
    assert found.seconds_b1 == pytest.approx(36e-4)


def test_a_filter_that_passes_nearly_all_costs_hardly_more_than_none() -> None:
    found = TUNING.lookup(10, 0.999, 0.95)
    assert found is not None
    assert found.lists == pytest.approx(16, rel=0.01)


@given(
    k=st.integers(1, 100),
    ks=st.integers(0, 90),
    p=st.floats(0.1, 1.0),
    ps=st.floats(0.1, 1.0),
    target=st.sampled_from([0.8, 0.9]),
)
def test_more_hits_or_a_narrower_filter_never_get_less_work(
    k: int, ks: int, p: float, ps: float, target: float
) -> None:
    easy = TUNING.lookup(k, p, target)
    hard = TUNING.lookup(min(100, k + ks), max(0.1, p * ps), target)
    assert easy is not None
    assert hard is not None
    assert hard.lists >= easy.lists - 1e-9
    assert hard.rescored >= easy.rescored - 1e-9


def test_the_best_setting_is_that_of_the_highest_target_reached() -> None:
    assert TUNING.best(10, 1.0) == setting(16, 40, 0.96)
    assert TUNING.best(100, 1.0) == setting(32, 200, 0.92)
    assert TUNING.best(1000, 1.0) is None


def test_candidates_are_kept_for_any_k_and_never_fewer_than_twice_as_many() -> None:
    kept = [deepest(k) for k in (1, 10, 100, 1000, 100_000)]
    assert kept == sorted(kept)
    assert all(2 * k <= most for k, most in zip((1, 10, 100, 1000, 100_000), kept, strict=True))


def test_given_work_promises_what_was_found_by_queries_none_of_which_did_more() -> None:
    assert TUNING.recall_at_least(10, 1.0, nprobe=31, depth=100) == 0.91
    assert TUNING.recall_at_least(10, 1.0, nprobe=32, depth=80) == 0.96
    assert TUNING.recall_at_least(10, 0.5, nprobe=128, depth=60) == 0.93
    assert TUNING.recall_at_least(10, 1.0, nprobe=15, depth=100) == 0.0
    assert TUNING.recall_at_least(10, 1.0, nprobe=1000, depth=1000, reach=3.0) == 0.91
    assert TUNING.recall_at_least(10, 1.0, nprobe=1000, depth=1000, slack=0.1) == 0.0


def test_a_higher_target_never_gets_less_work() -> None:
    noisy = [(0.8, setting(9, 10)), (0.9, setting(4, 20)), (0.95, setting(12, 20)), (0.99, setting(11, 10))]
    cleaned = monotone(noisy)
    assert [target for target, _ in cleaned] == [0.8, 0.9, 0.95, 0.99]
    assert [one.lists for _, one in cleaned] == [4, 4, 11, 11]


def test_what_is_aimed_at_grows_with_the_rows_that_came_since_it_was_measured() -> None:
    assert [aim(target, is_provisional=False) for target in TARGETS] == [*TARGETS]
    assert aim(0.95, is_provisional=False, growth=0.5) == 0.95
    assert aim(0.95, is_provisional=False, growth=2.0) == pytest.approx(0.9634, abs=1e-4)
    assert aim(0.95, is_provisional=True, growth=1.0) == pytest.approx(1 - 0.05 / 3, abs=1e-4)
    assert aim(0.95, is_provisional=True, growth=100.0) == 0.99
    assert aim(0.999, is_provisional=True, growth=100.0) == 0.999


def test_a_table_reads_back_as_written() -> None:
    read = Tuning.from_json(json.loads(json.dumps(TUNING.to_json())))
    assert (read.bands, read.costs) == (TUNING.bands, TUNING.costs)
    assert (read.logged_queries, read.live_rows) == (600, 12_345)


def test_a_table_that_is_older_than_the_count_of_its_rows_is_read_too() -> None:
    stored = TUNING.to_json()
    del stored["live_rows"]
    assert Tuning.from_json(stored).live_rows == 0


@pytest.mark.parametrize("stored", [{}, {"bands": [{"k": 1}], "costs": {}}, {"bands": 3, "costs": {}}])
def test_what_is_no_table_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(CorruptData):
        Tuning.from_json(stored)


def test_what_a_row_of_work_costs_is_told_from_settings_of_little_and_much_work() -> None:
    def of(work: float, seconds: float) -> Setting:
        return replace(setting(8, 20, 0.9), work=work, seconds_b64=seconds)

    far = ((0.8, of(1000.0, 3e-5)), (0.9, of(2000.0, 3.5e-5)), (0.95, of(9000.0, 7e-5)))
    near = ((0.8, of(1000.0, 3e-5)), (0.9, of(1500.0, 4e-5)))
    tuning = Tuning([Band(10, 0.1, far), Band(100, 0.1, near), Band(10, 1.0, near)], COSTS)
    assert tuning.row_seconds(10, 0.1) == tuning.row_seconds(7, 0.3) == pytest.approx(5e-9)
    assert tuning.row_seconds(50, 0.1) is None
    assert tuning.row_seconds(10, 1.0) is None
    assert tuning.row_seconds(10, 0.01) is None


def test_a_short_call_is_measured_until_its_time_is_up_and_a_long_one_for_its_rounds() -> None:
    ticks = iter([0.0, 0.3, 1.0, 1.1, 2.0, 2.4, 3.0, 3.3])
    assert measured_seconds(lambda: None, rounds=1, least_seconds=1.0, clock=lambda: next(ticks)) == pytest.approx(0.1)
    assert next(ticks, None) is None
    ticks = iter([0.0, 5.0, 6.0, 8.0])
    assert measured_seconds(lambda: None, rounds=2, least_seconds=1.0, clock=lambda: next(ticks)) == 2.0


def test_settings_of_more_hits_are_not_lent_to_fewer_whose_own_were_measured_and_none_did() -> None:
    """A reach counts from the k-th best score: from the hundredth it goes further than from the tenth."""
    one = ((0.9, setting(8, 20)),)
    tuning = Tuning([Band(10, 1.0, ()), Band(100, 1.0, one), Band(1000, 1.0, one)], COSTS)
    assert [tuning.lookup(k, 1.0, 0.9) for k in (1, 10, 50)] == [None, None, None]
    assert tuning.lookup(100, 1.0, 0.9) == tuning.lookup(500, 1.0, 0.9) == setting(8, 20)
