from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backend import open_backend
from engine.backend.protocol import SEGMENT_ROWS, Vectors
from engine.pipeline.recall_monitor import (
    RecallCheck,
    RecallMonitor,
    RecallSample,
    RecallWindows,
    Sampler,
    band_of,
    is_surely_below,
)
from engine.types import Strategy

N, D, K = 3000, 8, 10


class Clock:
    """Moves by ``tick`` at every reading."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def vectors_of(rows: np.ndarray) -> Vectors:
    segment = np.zeros((SEGMENT_ROWS, D), np.float16)
    segment[: len(rows)] = rows
    return Vectors([segment], len(rows), D, "float16", "dot")


def sample_of(
    vectors: Vectors, query: np.ndarray, alive: np.ndarray, scores: np.ndarray, *, first_rows: np.ndarray | None = None
) -> RecallSample:
    return RecallSample(
        collection="jobs",
        strategy=Strategy.IVFPQ,
        selectivity=1.0,
        recall_target=0.95,
        k=K,
        wanted_rows=K if first_rows is None else 2 * K,
        vectors=vectors,
        query=query[None, :].astype(np.float32),
        mask=np.packbits(np.pad(alive, (0, -len(alive) % 64)), bitorder="little"),
        scores=np.sort(scores)[::-1].astype(np.float32),
        first_rows=first_rows,
    )


def check(sample: RecallSample) -> RecallCheck:
    checks: list[RecallCheck] = []
    monitor = RecallMonitor(
        open_backend("cpu", threads=1),
        share=1.0,
        cpu_share=1.0,
        report=lambda one, mean: checks.append(one),
        clock=Clock(1e-3),
    )
    monitor.keep(sample)
    for _ in range(1000):
        monitor.step()
    (only,) = checks
    return only


@given(seed=st.integers(0, 2**32), missed=st.integers(0, K), dead_share=st.sampled_from([0.0, 0.5, 0.99, 1.0]))
@settings(max_examples=30, deadline=None)
def test_a_check_counts_the_best_items_that_the_hits_lack(seed: int, missed: int, dead_share: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N, D)).astype(np.float16)
    query, alive = rng.normal(size=D).astype(np.float32), rng.random(N) >= dead_share
    ranked = np.sort(rows[alive].astype(np.float32) @ query)[::-1]
    hits = np.concatenate([ranked[missed:K], ranked[K : K + missed]])
    found = check(sample_of(vectors_of(rows), query, alive, hits))
    wanted = min(K, int(alive.sum()))
    assert (found.found, found.wanted) == (max(0, wanted - missed), wanted)


def test_hits_that_tie_with_the_last_best_item_are_right() -> None:
    rows, query = np.ones((N, D), np.float16), np.ones(D, np.float32)
    found = check(sample_of(vectors_of(rows), query, np.ones(N, bool), np.full(K, D)))
    assert found.recall == 1.0


def test_items_of_several_rows_count_once() -> None:
    rows = np.zeros((40, D), np.float16)
    rows[:, 0] = np.arange(40)
    first_rows = np.arange(40) // 2 * 2
    best_items = np.arange(39, 39 - 2 * K, -2)
    query = np.eye(1, D)[0]
    found = check(sample_of(vectors_of(rows), query, np.ones(40, bool), best_items, first_rows=first_rows))
    assert (found.found, found.wanted) == (K, K)


def test_checking_keeps_to_its_share_of_the_time() -> None:
    clock = Clock()

    class SlowBackend:
        def masked_scan(self, *args: object, **kwargs: object) -> object:
            clock.now += 0.1
            raise RuntimeError("slow and broken")

    monitor = RecallMonitor(SlowBackend(), share=1.0, cpu_share=0.1, report=lambda check, mean: None, clock=clock)  # type: ignore[arg-type]
    rows = vectors_of(np.zeros((5, D), np.float16))
    for _ in range(3):
        monitor.keep(sample_of(rows, np.ones(D), np.ones(5, bool), np.zeros(1)))
    with pytest.raises(RuntimeError):
        monitor.step()
    assert not monitor.may_step
    clock.now += 1.0
    assert monitor.may_step


def test_samples_beyond_what_may_wait_are_passed_over() -> None:
    monitor = RecallMonitor(open_backend("cpu", threads=1), share=1.0, cpu_share=0.0, report=lambda check, mean: None)
    rows = vectors_of(np.zeros((5, D), np.float16))
    for _ in range(40):
        monitor.keep(sample_of(rows, np.ones(D), np.ones(5, bool), np.zeros(1)))
    assert monitor.passed_over == 8


@given(share=st.sampled_from([0.001, 0.02, 0.5, 1.0]), sizes=st.lists(st.integers(0, 500), min_size=1, max_size=50))
@settings(deadline=None)
def test_the_sampler_takes_its_share_however_queries_are_batched(share: float, sizes: list[int]) -> None:
    batched, whole = Sampler(share), Sampler(share)
    starts = np.cumsum([0, *sizes])
    taken = [int(start) + place for start, size in zip(starts, sizes, strict=False) for place in batched.places(size)]
    assert taken == whole.places(sum(sizes))


def test_the_sampler_takes_about_as_many_as_its_share() -> None:
    assert abs(len(Sampler(0.01).places(1_000_000)) - 10_000) < 400
    assert Sampler(0.0).places(1_000_000) == []


@pytest.mark.parametrize(
    ("selectivity", "band"),
    [(1.0, "50-100%"), (0.5, "10-50%"), (0.02, "1-10%"), (0.001, "below 0.1%"), (0.0, "below 0.1%")],
)
def test_every_selectivity_has_a_band(selectivity: float, band: str) -> None:
    assert band_of(selectivity) == band


def test_low_recall_is_warned_of_once_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    windows = RecallWindows(clock=clock)
    low = RecallCheck("jobs", Strategy.IVFPQ, "50-100%", 0.95, 8, 10)
    with caplog.at_level(logging.WARNING):
        for _ in range(120):
            assert windows.add(low) == pytest.approx(0.8)
        assert len(caplog.records) == 1
        clock.now += 601
        windows.add(low)
    assert len(caplog.records) == 2
    assert "recall of ivfpq at 50-100% is 0.800" in caplog.messages[0]


def test_few_checks_or_recall_by_chance_below_its_target_warn_nobody() -> None:
    assert not is_surely_below(np.zeros(10), 0.95)
    assert not is_surely_below(np.array([0.9, 1.0] * 50) - 0.002, 0.95)
    assert is_surely_below(np.full(60, 0.9), 0.95)


def test_a_collection_is_below_its_target_until_recall_recovers_or_its_lists_are_tuned_again() -> None:
    windows = RecallWindows()
    for _ in range(60):
        windows.add(RecallCheck("jobs", Strategy.IVFPQ, "50-100%", 0.95, 8, 10))
    assert windows.is_below_target("jobs")
    assert not windows.is_below_target("feed")
    for _ in range(200):
        windows.add(RecallCheck("jobs", Strategy.IVFPQ, "50-100%", 0.95, 10, 10))
    assert not windows.is_below_target("jobs")
    for _ in range(200):
        windows.add(RecallCheck("jobs", Strategy.IVFPQ, "50-100%", 0.95, 8, 10))
    windows.forget("jobs")
    assert not windows.is_below_target("jobs")
