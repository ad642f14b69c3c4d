"""Staging memory under a stream that is as late as it may be: it copies only what is waited for."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels._cuda_staging import StagingRing, laid_out

SLOT = 1024


class LateStream:
    """Runs what was started only when it is waited for, and no more of it than that."""

    def __init__(self) -> None:
        self.started: deque[Any] = deque()
        self.waits = 0

    def copy(self, source: np.ndarray, taken: list[np.ndarray]) -> None:
        self.started.append((source, taken))

    def run(self, until: object = None) -> None:
        while self.started:
            one = self.started.popleft()
            if isinstance(one, tuple):
                one[1].append(one[0].copy())
            elif one is until:
                return


class LateMoment:
    def __init__(self, stream: LateStream) -> None:
        self._stream = stream
        self._place: object | None = None

    def mark(self) -> None:
        self._place = object()
        self._stream.started.append(self._place)

    def wait(self) -> None:
        if self._place in self._stream.started:
            self._stream.waits += 1
            self._stream.run(self._place)


def ring_of(stream: LateStream, n_slots: int) -> StagingRing:
    slots = [np.zeros(SLOT, np.uint8) for _ in range(n_slots)]
    return StagingRing(slots, [LateMoment(stream) for _ in slots])


@given(
    sizes=st.lists(st.integers(1, SLOT // 4 + 3), max_size=40),
    n_slots=st.integers(2, 4),
    synced=st.sets(st.integers(0, 39)),
)
def test_what_is_copied_is_what_was_staged_however_late_the_device_is(
    sizes: list[int], n_slots: int, synced: set[int]
) -> None:
    stream = LateStream()
    ring = ring_of(stream, n_slots)
    expected: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    for number, size in enumerate(sizes):
        values = np.full(size, number, np.float32)
        staged = ring.stage(values)
        assert (staged is None) == (values.nbytes > SLOT)
        if staged is not None:
            assert staged.ctypes.data % 4 == 0
            stream.copy(staged, taken)
            expected.append(values)
        if number in synced:
            stream.run()
    stream.run()
    assert len(taken) == len(expected)
    for one, other in zip(taken, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_device_is_waited_for_only_where_all_slots_are_full() -> None:
    stream = LateStream()
    ring = ring_of(stream, 3)
    for _ in range(3 * SLOT // 256):
        stream.copy(ring.stage(np.zeros(256, np.uint8)), [])  # type: ignore[arg-type]
    assert stream.waits == 0
    ring.stage(np.zeros(1, np.uint8))
    assert stream.waits == 1


def test_arrays_keep_their_shape_and_dtype() -> None:
    values = np.arange(12, dtype=np.float16).reshape(3, 4)
    staged = ring_of(LateStream(), 2).stage(values)
    assert staged is not None
    assert staged.dtype == np.float16
    np.testing.assert_array_equal(staged, values)


@given(sizes=st.lists(st.integers(0, 700), max_size=8))
def test_arrays_laid_out_do_not_overlap_and_fit(sizes: list[int]) -> None:
    starts = laid_out(sizes, 2048)
    if starts is None:
        assert sum(sizes) + 256 * len(sizes) > 2048
        return
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert all(end <= 2048 for end in ends)
    assert all(start % 256 == 0 for start in starts)
