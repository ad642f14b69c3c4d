"""How long a tower takes for windows of given lengths, by a short measurement when it is loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.types import Float32Array, Int64Array

_BUDGET_S = 0.1
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Profile:
    """A call takes ``call_s`` and, for each token of a window of T, ``token_s * (1 + attention_share * T)``."""

    call_s: float
    token_s: float
    attention_share: float

    def seconds(self, lengths: Sequence[int]) -> float:
        """What the windows add to a batch; without ``call_s``, which all of the batch share."""
        return sum(self.token_s * _weight(length, self.attention_share) for length in lengths)


def measure(
    run: Callable[[Int64Array, Int64Array], Float32Array], *, max_tokens: int, attention_share: float
) -> Profile:
    """Time a short window and a batch that takes about a tenth of a second, or less; the quickest of three each."""
    length = min(8, max_tokens)
    short_s = _quickest(run, 1, length)
    n = int(np.clip(_BUDGET_S / short_s, 2, 16))
    long_s = _quickest(run, n, length)
    weight = _weight(length, attention_share)
    token_s = max(long_s - short_s, short_s * 0.01) / ((n - 1) * weight)
    return Profile(max(0.0, short_s - token_s * weight), token_s, attention_share)


def _weight(length: int, attention_share: float) -> float:
    return length * (1 + attention_share * length)


def _quickest(run: Callable[[Int64Array, Int64Array], Float32Array], n: int, length: int) -> float:
    """After a first call that is not counted."""
    ids, lengths = np.zeros((n, length), np.int64), np.full(n, length, np.int64)
    taken = []
    for _ in range(1 + _ROUNDS):
        began = time.perf_counter()
        run(ids, lengths)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])
