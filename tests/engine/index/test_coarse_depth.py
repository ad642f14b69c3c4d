from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.index.coarse_depth import DEPTHS_PER_K, DepthLadder


def shares(ladder: DepthLadder) -> list[float]:
    return [rung.unproven for rung in ladder.rungs]


def test_before_anything_is_seen_every_depth_is_expected_to_prove_nearly_all() -> None:
    ladder = DepthLadder()
    assert [rung.depth_per_k for rung in ladder.rungs] == list(DEPTHS_PER_K)
    assert set(shares(ladder)) == {0.05}


def test_what_is_not_proven_speaks_against_that_depth_and_smaller_ones_alone() -> None:
    ladder = DepthLadder()
    ladder.learn(8, proven=0, unproven=60)
    assert shares(ladder) == [61 / 80, 61 / 80, 0.05, 0.05]


def test_what_is_proven_speaks_for_that_depth_and_greater_ones_alone() -> None:
    ladder = DepthLadder()
    ladder.learn(8, proven=80, unproven=0)
    assert shares(ladder) == [0.05, 0.01, 0.01, 0.01]


def test_a_depth_between_two_speaks_for_those_above_and_against_those_below() -> None:
    ladder = DepthLadder()
    ladder.learn(5.0, proven=30, unproven=30)
    assert shares(ladder) == [31 / 50, 1 / 50, 1 / 50, 1 / 50]


def test_what_was_seen_long_ago_is_outweighed() -> None:
    ladder = DepthLadder()
    ladder.learn(128, proven=0, unproven=1000)
    for _ in range(100):
        ladder.learn(128, proven=64, unproven=0)
    assert shares(ladder)[-1] < 0.05


def test_forgetting_begins_anew() -> None:
    ladder = DepthLadder()
    ladder.learn(8, proven=3, unproven=60)
    ladder.forget()
    assert shares(ladder) == shares(DepthLadder())


@given(
    st.lists(
        st.tuples(st.floats(1, 200), st.integers(0, 2000), st.integers(0, 2000)),
        max_size=30,
    )
)
def test_no_depth_is_ever_expected_to_prove_all_or_nothing(seen: list[tuple[float, int, int]]) -> None:
    ladder = DepthLadder()
    for depth_per_k, proven, unproven in seen:
        ladder.learn(depth_per_k, proven=proven, unproven=unproven)
        assert all(0 < share < 1 for share in shares(ladder))
