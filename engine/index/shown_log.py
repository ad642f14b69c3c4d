"""Which rows were shown and hidden of late, kept while someone may ask for an earlier moment. Search lane only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.types import Int64Array


class ShownLog:
    """``n``: how often rows were shown or hidden so far, which is a position that ``since`` takes.

    Leases are microseconds since 1970; while none is in force nothing is kept.
    """

    def __init__(self) -> None:
        self.n = 0
        self._start = 0
        self._until = 0
        self._closes_at: int | None = None
        self._first: list[int] = []
        self._counts: list[int] = []
        self._shown: list[bool] = []

    @property
    def is_kept(self) -> bool:
        return self._until > 0

    def lease(self, now: int, until: int) -> int:
        """Keep what happens from ``now`` on; the moment until which it is kept, that asked for at the latest."""
        self.forget_ended(now)
        if not self.is_kept:
            self._start = self.n
        until = until if self._closes_at is None else min(until, self._closes_at)
        self._until = max(self._until, until)
        return until

    def close(self, now: int) -> int:
        """Have leases given from now on end when those given so far do: at the moment returned."""
        self._closes_at = max(self._until, now)
        return self._closes_at

    def reopen(self) -> None:
        """Give leases as long as they are asked for again."""
        self._closes_at = None

    def forget_ended(self, now: int) -> None:
        """Keep nothing once every lease has ended."""
        if self.is_kept and now >= self._until:
            self._until = 0
            self._first, self._counts, self._shown = [], [], []

    def add(self, first_row: int, n_rows: int, *, is_shown: bool) -> None:
        """An item's rows were shown, or hidden."""
        self.n += 1
        if self.is_kept:
            self._first.append(first_row)
            self._counts.append(n_rows)
            self._shown.append(is_shown)

    def holds(self, position: int) -> bool:
        """Whether all that happened since is there."""
        return self.is_kept and position >= self._start

    def spans(self) -> tuple[Int64Array, Int64Array]:
        """First rows and numbers of rows of all items shown or hidden since the oldest moment that is kept; of an item
        more than once where it was both.
        """
        return np.array(self._first, np.int64), np.array(self._counts, np.int64)

    def since(self, position: int) -> tuple[Int64Array, Int64Array, npt.NDArray[np.bool_]]:
        """The items that were shown or hidden since, by first row, with their numbers of rows and whether they were
        seen before.
        """
        begin = position - self._start
        first = np.array(self._first[begin:], np.int64)
        items, places = np.unique(first, return_index=True)
        counts = np.array(self._counts[begin:], np.int64)[places]
        return items, counts, ~np.array(self._shown[begin:], np.bool_)[places]
