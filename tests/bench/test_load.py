from __future__ import annotations

import numpy as np
import pytest

from bench.load import Load, fire, poisson_schedule


class FakeClock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, when: float) -> None:
        self.time = max(self.time, when)


def test_calls_are_sent_when_they_are_due() -> None:
    clock = FakeClock()
    sent: list[tuple[int, float]] = []
    fire([0.5, 0.7, 2.0], lambda place, due: sent.append((place, clock.now() - due)), clock)
    assert sent == [(0, 0.0), (1, 0.0), (2, 0.0)]
    assert clock.now() == 1002.0


def test_a_stall_shows_in_the_latency_of_every_call_that_was_due_in_it() -> None:
    clock = FakeClock()
    latencies: list[float] = []

    def send(place: int, due: float) -> None:
        clock.time += 1.0 if place == 0 else 0.1
        latencies.append(round(clock.now() - due, 9))

    fire([0.0, 0.2, 0.4, 5.0], send, clock)
    assert latencies == [1.0, 0.9, 0.8, 0.1]


def test_a_schedule_is_the_same_for_the_same_seed_and_no_other() -> None:
    one = poisson_schedule(200, 5, seed=1)
    assert one == poisson_schedule(200, 5, seed=1)
    assert one != poisson_schedule(200, 5, seed=2)


def test_a_schedule_has_the_rate_and_the_spread_of_independent_arrivals() -> None:
    times = np.array(poisson_schedule(500, 40, seed=3))
    gaps = np.diff(times)
    assert times[0] >= 0
    assert times[-1] < 40
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert gaps.min() >= 0
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_a_load_tells_queries_a_second_and_percentiles_in_milliseconds() -> None:
    load = Load((0.001, 0.002, 0.003), failed=1, wall_s=2.0, client_cpu_s=0.1, queries_per_call=64)
    assert load.qps == 96.0
    assert load.figures() == {"qps": 96.0, "p50_ms": 2.0, "p90_ms": 3.0, "p99_ms": 3.0}
