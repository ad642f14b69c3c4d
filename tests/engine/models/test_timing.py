from __future__ import annotations

import numpy as np
import pytest

from engine.models import timing
from engine.types import Float32Array, Int64Array


def test_the_profile_finds_what_a_call_and_a_token_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(call_s=0.004, token_s=0.001)
    monkeypatch.setattr(timing, "time", clock)
    profile = timing.measure(clock.run, max_tokens=256, attention_share=0.0)
    assert profile.call_s == pytest.approx(0.004)
    assert profile.token_s == pytest.approx(0.001)
    assert profile.seconds([10, 20]) == pytest.approx(0.03)


def test_a_slow_tower_is_not_measured_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(call_s=0.0, token_s=0.1)
    monkeypatch.setattr(timing, "time", clock)
    timing.measure(clock.run, max_tokens=256, attention_share=0.0)
    assert clock.tokens == 4 * 8 + 4 * 2 * 8


def test_tokens_of_longer_windows_cost_more() -> None:
    profile = timing.Profile(call_s=0.0, token_s=1.0, attention_share=0.01)
    assert profile.seconds([100]) == pytest.approx(200)
    assert profile.seconds([50, 50]) == pytest.approx(150)


class _Clock:
    """A tower whose time passes only while it runs."""

    def __init__(self, *, call_s: float, token_s: float) -> None:
        self._now, self._call_s, self._token_s = 0.0, call_s, token_s
        self.tokens = 0

    def perf_counter(self) -> float:
        return self._now

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        self.tokens += ids.size
        self._now += self._call_s + self._token_s * ids.size
        return np.zeros((len(ids), 1), np.float32)
