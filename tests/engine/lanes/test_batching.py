"""plan_batch: nothing lost, nothing twice, order kept, the dead dropped before they cost anything."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from engine.lanes.batching import BatchLimits, Dropped, plan_batch

NOW = 100.0


@dataclass(eq=False)
class Waiting:
    name: int
    group: int = 0
    cost: float = 1.0
    priority: int = 0
    deadline: float | None = None
    leave_queue_by: float | None = None
    is_cancelled: bool = False


entries = st.lists(
    st.builds(
        Waiting,
        name=st.integers(),
        group=st.integers(0, 2),
        cost=st.sampled_from([0.5, 1.0, 3.0, 50.0]),
        priority=st.integers(0, 2),
        deadline=st.sampled_from([None, NOW - 1, NOW, NOW + 1]),
        leave_queue_by=st.sampled_from([None, None, NOW - 1, NOW + 1]),
        is_cancelled=st.sampled_from([False, False, False, True]),
    ),
    max_size=30,
)
limits = st.builds(BatchLimits, entries=st.integers(1, 8), cost=st.sampled_from([1.0, 4.0, 10.0]))


def is_dead(entry: Waiting) -> bool:
    times = [time for time in (entry.deadline, entry.leave_queue_by) if time is not None]
    return entry.is_cancelled or any(time <= NOW for time in times)


@given(entries, limits)
def test_every_entry_is_in_exactly_one_part(pending: list[Waiting], limit: BatchLimits) -> None:
    plan = plan_batch(pending, limit, NOW)
    parts = [*plan.batch, *(entry for entry, _ in plan.dropped), *plan.rest]
    assert sorted(map(id, parts)) == sorted(map(id, pending))


@given(entries, limits)
def test_exactly_the_dead_are_dropped(pending: list[Waiting], limit: BatchLimits) -> None:
    plan = plan_batch(pending, limit, NOW)
    assert [entry for entry, _ in plan.dropped] == [entry for entry in pending if is_dead(entry)]


@given(entries, limits)
def test_a_batch_forms_whenever_anything_lives(pending: list[Waiting], limit: BatchLimits) -> None:
    assert bool(plan_batch(pending, limit, NOW).batch) == any(not is_dead(entry) for entry in pending)


@given(entries, limits)
def test_a_batch_keeps_its_limits_unless_one_entry_alone_breaks_them(
    pending: list[Waiting], limit: BatchLimits
) -> None:
    batch = plan_batch(pending, limit, NOW).batch
    assert len(batch) <= limit.entries
    assert len(batch) <= 1 or sum(entry.cost for entry in batch) <= limit.cost


@given(entries, limits)
def test_a_batch_is_of_one_group_and_led_by_the_oldest_of_the_most_urgent(
    pending: list[Waiting], limit: BatchLimits
) -> None:
    live = [entry for entry in pending if not is_dead(entry)]
    batch = plan_batch(pending, limit, NOW).batch
    if live:
        leader = min(live, key=lambda entry: entry.priority)
        assert leader in batch
        assert {entry.group for entry in batch} == {leader.group}


@given(entries, limits)
def test_nothing_overtakes_within_a_group_and_priority(pending: list[Waiting], limit: BatchLimits) -> None:
    plan = plan_batch(pending, limit, NOW)
    place = {id(entry): i for i, entry in enumerate(pending)}
    for taken in plan.batch:
        for left in plan.rest:
            if (taken.group, taken.priority) == (left.group, left.priority):
                assert place[id(taken)] < place[id(left)]


@given(entries, limits)
def test_order_of_arrival_is_kept_in_every_part(pending: list[Waiting], limit: BatchLimits) -> None:
    plan = plan_batch(pending, limit, NOW)
    place = {id(entry): i for i, entry in enumerate(pending)}
    for part in (plan.batch, plan.rest):
        places = [place[id(entry)] for entry in part]
        assert places == sorted(places)


def test_an_entry_says_why_it_was_dropped() -> None:
    cancelled = Waiting(1, is_cancelled=True, deadline=NOW - 1)
    expired = Waiting(2, deadline=NOW, leave_queue_by=NOW - 1)
    late = Waiting(3, leave_queue_by=NOW)
    plan = plan_batch([cancelled, expired, late], BatchLimits(8, 8), NOW)
    assert [why for _, why in plan.dropped] == [Dropped.CANCELLED, Dropped.EXPIRED, Dropped.WAITED_TOO_LONG]
