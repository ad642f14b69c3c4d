"""Host memory that a device copies from by itself, used in turn. Knows no GPU library.

Copies run on after they are started, so that what they read must stay as it is. A slot takes arrays one behind another
until it is full; before it is written to again, the device is waited for up to the last copy that was started from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

_ALIGNMENT = 256

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Moment(Protocol):
    """A place in a stream, as CUDA's events are."""

    def mark(self) -> None:
        """Be the place behind all that was started so far."""
        ...

    def wait(self) -> None:
        """Until the device has come there; at once where nothing was marked."""
        ...


class StagingRing:
    """Slots uint8, all of one length, each with its moment. What ``stage`` returns is for one copy, started at once."""

    def __init__(self, slots: Sequence[Bytes], moments: Sequence[Moment]) -> None:
        assert len(slots) == len(moments) > 1
        self._slots = slots
        self._moments = moments
        self._slot = 0
        self._used = 0

    def stage(self, values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]] | None:
        """A copy of ``values``, C-contiguous, to be copied from; None where they are larger than a slot."""
        size = len(self._slots[0])
        if values.nbytes > size:
            return None
        if self._used + values.nbytes > size:
            self._turn()
        room = self._slots[self._slot][self._used : self._used + values.nbytes]
        self._used = min(size, self._used + -(-values.nbytes // _ALIGNMENT) * _ALIGNMENT)
        staged = room.view(values.dtype).reshape(values.shape)
        staged[...] = values
        return staged

    def _turn(self) -> None:
        """To the next slot, once nothing reads it any more."""
        self._moments[self._slot].mark()
        self._slot = (self._slot + 1) % len(self._slots)
        self._moments[self._slot].wait()
        self._used = 0


def laid_out(sizes: Sequence[int], room: int) -> list[int] | None:
    """Where arrays of so many bytes begin, one behind the other; None where they do not fit together."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return starts if end <= room else None
