from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.index.drift import FAR_SHARE, Drift, imbalance_of
from engine.types import Float32Array, Int64Array

LIVE = 10_000
EVEN = np.full(100, LIVE // 100, np.int64)


def distances(n: int, seed: int, *, times: float = 1.0) -> Float32Array:
    return (times * np.random.default_rng(seed).chisquare(16, n)).astype(np.float32)


def begun(seed: int = 0) -> Drift:
    return Drift.from_unseen(distances(500, seed), live_rows=LIVE, sizes=EVEN)


def test_a_tenth_of_the_rows_that_training_did_not_see_are_far() -> None:
    unseen = distances(500, 0)
    drift = Drift.from_unseen(unseen, live_rows=LIVE, sizes=EVEN).after(unseen)
    assert drift.rows == 500
    assert drift.far == pytest.approx(500 * FAR_SHARE, abs=1)
    assert drift.excess < 0.002


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_the_same_distribution_never_want_training_however_many_come(seed: int) -> None:
    drift = begun(seed)
    for part in range(100):
        drift = drift.after(distances(1000, 1000 * seed + part))
        assert not drift.wants_training


@pytest.mark.parametrize("times", [1.5, 100])
def test_rows_of_another_distribution_want_training_once_they_are_a_tenth_of_all(times: float) -> None:
    others = distances(LIVE // 10, 1, times=times)
    assert not begun().after(others[:-1]).wants_training
    assert begun().after(others).wants_training


def test_rows_of_another_distribution_are_seen_after_many_of_the_same() -> None:
    drift = begun()
    for part in range(30):
        drift = drift.after(distances(1000, part))
    assert drift.after(distances(LIVE // 20, 99, times=100)).wants_training


def test_few_rows_far_away_do_not_want_training_however_far() -> None:
    drift = begun().after(np.full(LIVE // 20, np.inf, np.float32))
    assert not drift.wants_training
    assert drift.excess == pytest.approx(0.9 / 5)


def test_rows_nearer_than_before_are_no_drift() -> None:
    assert begun().after(distances(LIVE, 1, times=0.01)).excess == 0.0


def test_rows_that_are_all_alike_are_not_far_from_themselves() -> None:
    alike = np.full(400, 2.5, np.float32)
    assert Drift.from_unseen(alike, live_rows=LIVE, sizes=EVEN).after(alike).far == 0


@given(parts=st.lists(st.integers(0, 3000), max_size=20))
def test_of_all_rows_as_many_are_remembered_as_a_quarter_of_those_that_lists_were_trained_among(
    parts: list[int],
) -> None:
    drift = Drift(1.0, live_rows=1000)
    for rows in parts:
        drift = drift.after(np.full(rows, 2.0, np.float32))
        assert drift.far == pytest.approx(min(drift.rows, 250))
    assert drift.rows == sum(parts)


def test_what_was_far_is_forgotten_as_others_come() -> None:
    drift = begun().after(distances(LIVE // 20, 1, times=100))
    for part in range(30):
        drift = drift.after(distances(1000, part))
    assert not drift.wants_training


def test_a_drift_is_what_its_json_says() -> None:
    drift = begun().after(distances(700, 3, times=1.5))
    assert Drift.from_json(json.loads(json.dumps(asdict(drift)))) == drift


def test_a_drift_that_was_stored_without_how_even_the_lists_were_opens_and_finds_no_lists_uneven() -> None:
    stored = {name: one for name, one in asdict(begun()).items() if name != "imbalance"}
    drift = Drift.from_json(stored).after(distances(LIVE, 1))
    assert drift.imbalance is None
    assert drift.imbalance_over_trained(EVEN) == 0
    assert not drift.wants_other_lists(flooded(EVEN, LIVE, n_lists=1))
    assert Drift.from_json(json.loads(json.dumps(asdict(drift)))) == drift


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        {"far_distance": 1.0},
        {"far_distance": None, "live_rows": 1},
        {"far_distance": "1", "live_rows": 1},
        {"far_distance": 1.0, "live_rows": 1, "imbalance": "1"},
    ],
)
def test_what_is_no_drift_is_corrupt(stored: object) -> None:
    with pytest.raises(CorruptData, match="no drift"):
        Drift.from_json(stored)


# How even the lists are


def flooded(sizes: Int64Array, rows: int, *, n_lists: int) -> Int64Array:
    """So many rows more, all in the first lists."""
    grown = sizes.copy()
    grown[:n_lists] += rows // n_lists
    return grown


def grown(rows: int) -> Drift:
    """After so many near rows."""
    return begun().after(np.zeros(rows, np.float32))


def drawn(rows: int, seed: int) -> Int64Array:
    """Sizes of lists with a few long ones among them, of rows drawn at random."""
    shares = np.random.default_rng(0).pareto(3.0, 100) + 0.5
    return np.random.default_rng(seed).multinomial(rows, shares / shares.sum())


def scanned(sizes: Int64Array) -> float:
    """Rows of the list that a row is in, on average."""
    return float((sizes @ sizes) / sizes.sum())


def test_lists_of_one_length_are_even_and_a_single_long_one_is_as_uneven_as_there_are_lists() -> None:
    assert imbalance_of(EVEN) == imbalance_of(3 * EVEN) == 1
    assert imbalance_of(np.array([40, 0, 0, 0])) == 4
    assert imbalance_of(np.array([0, 0])) == 0


def test_imbalance_is_told_over_that_of_when_lists_were_trained() -> None:
    uneven = np.array([30, 10, 10, 10])
    drift = Drift.from_unseen(np.ones(10, np.float32), live_rows=60, sizes=uneven)
    assert drift.imbalance_over_trained(uneven) == drift.imbalance_over_trained(5 * uneven) == 1
    assert drift.imbalance_over_trained(np.array([60, 0, 0, 0])) == pytest.approx(3)
    empty = Drift.from_unseen(np.ones(10, np.float32), live_rows=60, sizes=np.zeros(4, np.int64))
    assert empty.imbalance_over_trained(uneven) == 0


@pytest.mark.parametrize("seed", range(20))
def test_growth_of_the_same_distribution_never_wants_other_lists_however_uneven_they_were(seed: int) -> None:
    sizes = drawn(LIVE, 1000 + seed)
    drift, total = Drift.from_unseen(distances(500, 0), live_rows=LIVE, sizes=sizes), sizes.copy()
    for part in range(20):
        total = total + drawn(LIVE // 4, 100 * seed + part)
        drift = drift.after(np.zeros(LIVE // 4, np.float32))
        assert not drift.wants_other_lists(total)


@pytest.mark.parametrize("n_lists", [1, 3, 10, 30])
def test_a_flood_of_a_few_lists_that_doubles_the_rows_scanned_wants_others_though_none_lies_far(n_lists: int) -> None:
    floods = [LIVE * percent // 100 for percent in range(10, 100)]
    doubling = next(rows for rows in floods if scanned(flooded(EVEN, rows, n_lists=n_lists)) >= 2 * scanned(EVEN))
    drift = grown(doubling)
    assert not drift.wants_training
    assert drift.wants_other_lists(flooded(EVEN, doubling, n_lists=n_lists))


def test_a_flood_of_fewer_than_a_tenth_of_all_rows_wants_no_other_lists() -> None:
    rows = LIVE // 10
    assert not grown(rows - 1).wants_other_lists(flooded(EVEN, rows - 1, n_lists=1))
    assert grown(rows).wants_other_lists(flooded(EVEN, rows, n_lists=1))


def test_lists_trained_anew_are_held_against_what_they_are_then_even_where_training_could_not_make_them_even() -> None:
    sizes = flooded(EVEN, LIVE // 2, n_lists=1)
    anew = Drift.from_unseen(distances(500, 1), live_rows=int(sizes.sum()), sizes=sizes)
    anew = anew.after(np.zeros(LIVE, np.float32))
    assert not anew.wants_other_lists(2 * sizes)


def test_a_flood_that_no_training_can_part_has_lists_trained_a_few_times_and_no_more() -> None:
    sizes, trainings = EVEN, 0
    drift = begun()
    for _ in range(400):
        sizes = flooded(sizes, LIVE // 10, n_lists=1)
        drift = drift.after(np.zeros(LIVE // 10, np.float32))
        if drift.wants_other_lists(sizes):
            trainings += 1
            drift = Drift.from_unseen(distances(500, 1), live_rows=int(sizes.sum()), sizes=sizes)
    assert 1 <= trainings <= np.log(len(EVEN)) / np.log(1.25)
