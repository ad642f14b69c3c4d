from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.index.drift import FAR_SHARE, Drift
from engine.types import Float32Array

LIVE = 10_000


def distances(n: int, seed: int, *, times: float = 1.0) -> Float32Array:
    return (times * np.random.default_rng(seed).chisquare(16, n)).astype(np.float32)


def begun(seed: int = 0) -> Drift:
    return Drift.from_unseen(distances(500, seed), live_rows=LIVE)


def test_a_tenth_of_the_rows_that_training_did_not_see_are_far() -> None:
    unseen = distances(500, 0)
    drift = Drift.from_unseen(unseen, live_rows=LIVE).after(unseen)
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
    assert Drift.from_unseen(alike, live_rows=LIVE).after(alike).far == 0


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


@pytest.mark.parametrize("stored", [None, [], {}, {"far_distance": 1.0}, {"far_distance": "1", "live_rows": 1}])
def test_what_is_no_drift_is_corrupt(stored: object) -> None:
    with pytest.raises(CorruptData, match="no drift"):
        Drift.from_json(stored)
