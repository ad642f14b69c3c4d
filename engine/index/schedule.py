"""Which items are to be seen from when and until when. Pure bookkeeping: knows neither a clock nor rows' bits."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from engine.types import Times


class Schedule:
    """The items, by their first row, that are not seen at all times."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[int, Times]] = {}
        self._due: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, first_row: int) -> bool:
        return first_row in self._items

    def get(self, first_row: int) -> tuple[int, Times] | None:
        """Number of rows and times; None for one that is seen at all times, or not there."""
        return self._items.get(first_row)

    def put(self, first_row: int, n_rows: int, times: Times) -> None:
        """From the next ``due`` on the item has these times, whichever it had."""
        if times.are_always and first_row not in self._items:
            return
        self._items[first_row] = (n_rows, times)
        heapq.heappush(self._due, (-1, first_row))

    def drop(self, first_row: int) -> None:
        """The item is gone; harmless where it has no times."""
        self._items.pop(first_row, None)

    def due(self, now: int) -> Iterator[tuple[int, int, bool]]:
        """(first row, rows, whether they are to be seen) of the items for which that may have changed by ``now``."""
        while self._due and self._due[0][0] <= now:
            _, first_row = heapq.heappop(self._due)
            found = self._items.get(first_row)
            if found is None:
                continue
            n_rows, times = found
            later = _next_change(times, now)
            if later is not None:
                heapq.heappush(self._due, (later, first_row))
            elif times.are_always:
                del self._items[first_row]
            yield first_row, n_rows, _is_seen(times, now)


def _is_seen(times: Times, now: int) -> bool:
    begins, ends = times.visible_from, times.expires_at
    return (begins is None or begins.micros <= now) and (ends is None or now < ends.micros)


def _next_change(times: Times, now: int) -> int | None:
    """When what is seen changes next; None where it stays as it is."""
    bounds = [one.micros for one in (times.visible_from, times.expires_at) if one is not None and one.micros > now]
    return min(bounds, default=None)
