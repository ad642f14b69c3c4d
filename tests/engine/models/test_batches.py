from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.models.batches import PADDED_TOKENS, pad, plan_batches

LENGTHS = st.lists(st.integers(1, 600), max_size=80)


@given(lengths=LENGTHS, call_tokens=st.floats(0, 500))
def test_every_window_is_in_exactly_one_batch(lengths: list[int], call_tokens: float) -> None:
    batches = plan_batches(lengths, call_tokens=call_tokens)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))


@given(lengths=LENGTHS | st.lists(st.integers(100, 110), min_size=30, max_size=80), call_tokens=st.floats(0, 5000))
def test_no_batch_of_several_is_over_its_budget(lengths: list[int], call_tokens: float) -> None:
    for batch in plan_batches(lengths, call_tokens=call_tokens):
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= PADDED_TOKENS


@given(lengths=LENGTHS)
def test_where_calls_cost_nothing_nothing_is_padded(lengths: list[int]) -> None:
    for batch in plan_batches(lengths, call_tokens=0):
        assert len({lengths[place] for place in batch}) == 1


def test_padding_is_taken_while_it_costs_less_than_a_call() -> None:
    assert plan_batches([10, 12, 40], call_tokens=5) == [[0, 1], [2]]
    assert plan_batches([40, 10, 12], call_tokens=60) == [[1, 2, 0]]


def test_shorter_windows_are_padded_with_zeros() -> None:
    ids, lengths = pad([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert lengths.tolist() == [3, 1]
