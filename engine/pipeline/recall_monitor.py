"""Recall of live queries: a sample of them is answered again exactly, in the background, and compared.

A sample keeps the mask its query was answered under. Rows are append-only, so the exact answer of that moment can be
found later, a slice of rows at a time, however many writes come between.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, TopK, Vectors
from engine.types import Float32Array, Int64Array, Strategy, Uint8Array
from kernels.fusion import Fusion

logger = logging.getLogger(__name__)

INEXACT = (Strategy.IVFPQ, Strategy.FILTERED_IVFPQ)
"""The ways whose recall can be below 1; the others are not sampled."""

SLICE_SECONDS = 0.002
_FIRST_SLICE_ROWS = 1024
_WAITING = 32
"""Samples that may wait; further ones are passed over, for each keeps a mask."""
_BURST_SECONDS = 0.05
_ROUNDING = 1e-6
"""Relative: the same score may be summed in another order."""

_WINDOW = 200
_LEAST_TO_WARN = 50
_SURE = 2.0
"""Standard errors by which the recall of a window must be below its target before anyone is woken."""
_QUIET_SECONDS = 600.0

_BANDS = ((0.5, "50-100%"), (0.1, "10-50%"), (0.01, "1-10%"), (0.001, "0.1-1%"), (0.0, "below 0.1%"))


def band_of(selectivity: float) -> str:
    """The name of the band that a share of passing rows falls in."""
    return next(name for above, name in _BANDS if selectivity > above or above == 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class RecallSample:
    """An answered query: float32 ``query`` [1, d], the packed ``mask`` it was answered under, the scores of its hits.

    ``first_rows`` int64 [n_rows] is given where items have several rows: the first row of the item of each.
    ``wanted_rows`` are the rows among which the k best items surely are; ``fusion``: what its scores were fused with.
    """

    collection: str
    strategy: Strategy
    selectivity: float
    recall_target: float
    k: int
    wanted_rows: int
    vectors: Vectors
    query: Float32Array
    mask: Uint8Array
    scores: Float32Array
    first_rows: Int64Array | None = None
    fusion: Fusion | None = None


@dataclass(frozen=True, slots=True)
class RecallCheck:
    """How many of the ``wanted`` best items a query's hits had."""

    collection: str
    strategy: Strategy
    band: str
    recall_target: float
    found: int
    wanted: int

    @property
    def recall(self) -> float:
        return self.found / self.wanted if self.wanted else 1.0


class Sampler:
    """Takes each query with the same probability, without a draw for each: the gaps between those taken are drawn."""

    def __init__(self, share: float, seed: int = 0) -> None:
        self._share = share
        self._rng = np.random.default_rng(seed)
        self._gap = self._next_gap()

    def places(self, n: int) -> list[int]:
        """Which of the next ``n`` queries are taken, ascending."""
        taken = []
        while self._gap < n:
            taken.append(self._gap)
            self._gap += 1 + self._next_gap()
        self._gap -= n
        return taken

    def _next_gap(self) -> int:
        return int(self._rng.geometric(self._share)) - 1 if self._share > 0 else 2**62


@dataclass(slots=True, eq=False)
class _Check:
    """A sample whose exact answer is known for rows below ``next_row``."""

    sample: RecallSample
    next_row: int = 0
    rows: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: Float32Array = field(default_factory=lambda: np.zeros(0, np.float32))

    def add(self, top: TopK) -> None:
        """Keep the best of what was known and a slice's top k."""
        valid = top.rows[0] >= 0
        rows = np.concatenate([self.rows, top.rows[0][valid]])
        scores = np.concatenate([self.scores, top.scores[0][valid]])
        order = np.lexsort((rows, -scores))[: self.sample.wanted_rows]
        self.rows, self.scores = rows[order], scores[order]

    def result(self) -> RecallCheck:
        sample = self.sample
        best = self.scores
        if sample.first_rows is not None:
            _, places = np.unique(sample.first_rows[self.rows], return_index=True)
            best = best[np.sort(places)]
        wanted = min(sample.k, len(best))
        found = 0
        if wanted:
            worst = float(best[wanted - 1])
            least = worst - abs(worst) * _ROUNDING
            found = min(wanted, int((sample.scores >= least).sum()))
        return RecallCheck(
            sample.collection,
            sample.strategy,
            band_of(sample.selectivity),
            sample.recall_target,
            found,
            wanted,
        )


class RecallMonitor:
    """Samples answered queries and checks them in slices of about ``SLICE_SECONDS``. In the search lane's thread.

    Args:
        share: of the queries that are checked.
        cpu_share: of the lane's time that checking may take on average.
        report: told every check, and the mean recall of the last ones like it.
        logs_queries: whether searches are to put queries into their version's log.
        clock: seconds from any start.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        share: float,
        cpu_share: float,
        report: Callable[[RecallCheck, float], None],
        logs_queries: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.logs_queries = logs_queries
        self.windows = RecallWindows()
        self.passed_over = 0
        self.checked = 0
        self._backend = backend
        self._sampler = Sampler(share)
        self._cpu_share = cpu_share
        self._report = report
        self._clock = clock
        self._began = clock()
        self._spent = 0.0
        self._waiting: deque[_Check] = deque()
        self._slice_rows = _FIRST_SLICE_ROWS

    def places(self, n: int) -> list[int]:
        """Which of the next ``n`` inexactly answered queries to ``keep``."""
        return self._sampler.places(n)

    def keep(self, sample: RecallSample) -> None:
        """Check the sample when there is time; it is passed over where too many wait."""
        if len(self._waiting) < _WAITING:
            self._waiting.append(_Check(sample))
        else:
            self.passed_over += 1

    @property
    def may_step(self) -> bool:
        """Whether something waits and the share of time allows a slice. From any thread."""
        allowed = self._cpu_share * (self._clock() - self._began) + _BURST_SECONDS
        return bool(self._waiting) and self._spent < allowed

    def step(self) -> None:
        """One slice, where the share of time allows it."""
        if not self.may_step:
            return
        began = self._clock()
        try:
            self._advance(self._waiting[0])
        finally:
            self._spent += self._clock() - began

    def _advance(self, check: _Check) -> None:
        sample = check.sample
        first = check.next_row
        end = min(first + self._slice_rows, sample.vectors.n_rows)
        began = self._clock()
        try:
            check.add(
                self._backend.masked_scan(
                    sample.vectors,
                    sample.query,
                    [sample.mask],
                    k=sample.wanted_rows,
                    first_row=first,
                    end_row=end,
                    fusion=sample.fusion,
                )
            )
        except Exception:
            self._waiting.popleft()
            raise
        seconds = max(self._clock() - began, 1e-6)
        self._slice_rows = max(64, min(4 * self._slice_rows, int((end - first) * SLICE_SECONDS / seconds)))
        check.next_row = end
        if end >= sample.vectors.n_rows:
            self._waiting.popleft()
            self.checked += 1
            result = check.result()
            self._report(result, self.windows.add(result))


class RecallWindows:
    """The last checks by collection, strategy and band, and when to warn of them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, Strategy, str], deque[RecallCheck]] = {}
        self._quiet_until: dict[tuple[str, Strategy, str], float] = {}
        self._below: set[tuple[str, Strategy, str]] = set()

    def is_below_target(self, collection: str) -> bool:
        """Whether some strategy and band of the collection is surely below its target now. From any thread."""
        return any(key[0] == collection for key in tuple(self._below))

    def forget(self, collection: str) -> None:
        """Begin anew: its lists have been tuned again."""
        for key in [key for key in self._windows if key[0] == collection]:
            del self._windows[key]
            self._below.discard(key)

    def add(self, check: RecallCheck) -> float:
        """The mean recall of the window that the check falls in; a warning where it is surely below its target."""
        key = (check.collection, check.strategy, check.band)
        window = self._windows.setdefault(key, deque(maxlen=_WINDOW))
        window.append(check)
        recalls = np.array([one.recall for one in window])
        recall = float(recalls.mean())
        target = float(np.mean([one.recall_target for one in window]))
        is_below = is_surely_below(recalls, target)
        (self._below.add if is_below else self._below.discard)(key)
        if is_below and self._clock() >= self._quiet_until.get(key, -math.inf):
            self._quiet_until[key] = self._clock() + _QUIET_SECONDS
            logger.warning(
                "collection %s: recall of %s at %s is %.3f over %d checked queries, the target is %.3f",
                *(check.collection, check.strategy.value, check.band, recall, len(window), target),
            )
        return recall


def is_surely_below(recalls: npt.NDArray[np.float64], target: float) -> bool:
    """Whether the mean is below the target by more than chance makes it."""
    if len(recalls) < _LEAST_TO_WARN:
        return False
    error = float(recalls.std()) / math.sqrt(len(recalls))
    return float(recalls.mean()) + _SURE * error < target
