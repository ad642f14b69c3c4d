from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.index.rows import Rows
from engine.types import Times, Timestamp

some_time = st.one_of(st.none(), st.integers(0, 12).map(Timestamp))
some_times = st.builds(Times, some_time, some_time)


@dataclass
class Known:
    first_row: int
    n_rows: int
    times: Times

    def is_seen(self, now: int) -> bool:
        begins, ends = self.times.visible_from, self.times.expires_at
        return (begins is None or begins.micros <= now) and (ends is None or now < ends.micros)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 3), some_times),
            st.tuples(st.just("change"), st.integers(0, 9), some_times),
            st.tuples(st.just("kill"), st.integers(0, 9), some_times),
            st.tuples(st.just("tick"), st.integers(0, 4), some_times),
        ),
        max_size=30,
    )
)
def test_what_is_alive_is_what_is_to_be_seen_at_every_tick(steps: list[tuple[str, int, Times]]) -> None:
    rows, known, now = Rows("uint64"), {}, 0
    for number, (what, size, times) in enumerate(steps):
        if what == "add":
            item = known[number] = Known(rows.n_rows, size, times)
            rows.add(number, item.first_row, size, born=number)
            rows.put_times(item.first_row, size, times)
        elif what == "tick":
            now += size
        elif known:
            chosen = sorted(known)[size % len(known)]
            if what == "kill":
                del known[chosen]
                rows.kill(chosen, died=number)
            else:
                known[chosen].times = times
                rows.put_times(known[chosen].first_row, known[chosen].n_rows, times)
        rows.tick(now)
        seen = [
            r for one in known.values() if one.is_seen(now) for r in range(one.first_row, one.first_row + one.n_rows)
        ]
        alive = np.flatnonzero(np.unpackbits(rows.alive, bitorder="little"))
        assert alive.tolist() == sorted(seen)
        assert rows.n_alive == len(seen)
        living = [r for one in known.values() for r in range(one.first_row, one.first_row + one.n_rows)]
        assert np.flatnonzero(rows.living(0, rows.n_rows)).tolist() == sorted(living)
        assert rows.n_items == len(known)


def test_items_that_are_always_seen_are_not_kept() -> None:
    rows = Rows("uint64")
    rows.add(1, 0, 1, born=1)
    rows.put_times(0, 1, Times())
    assert len(rows.schedule) == 0
    rows.put_times(0, 1, Times(expires_at=Timestamp(5)))
    rows.put_times(0, 1, Times())
    rows.tick(7)
    assert len(rows.schedule) == 0
    assert rows.n_alive == 1
