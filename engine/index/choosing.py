"""Choosing how many lists and how long a code: a race of few candidates, by time at the recall target.

Candidates run on a pilot, a random part of the live rows small enough to index quickly. Knows nothing of files or jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import SEGMENT_ROWS, Backend, IvfPqIndex, Vectors
from engine.dtypes import to_stored
from engine.index.costs import Costs
from engine.index.ivfpq import climb, list_counts
from engine.index.measuring import Subject, fastest
from engine.index.queries import Queries, stand_ins
from engine.index.taking import take
from engine.types import Int64Array

PILOT_BYTES = 256 << 20
PILOT_ROWS = 8 * SEGMENT_ROWS
"""Enough that scanning lists, and not what every query costs, is most of a query's time: with half as many the number
of lists came down to chance (docs/log.md)."""

_AS_FAST = 1.15
"""What is slower by less is as fast: two races over other rows differ by as much (docs/log.md). Of codes as fast the
middling one is taken. A pilot that is a part of the rows shows too little of what long lists cost: of numbers of lists
as fast the greatest is taken."""

_FILTERED = 0.1
"""The share of rows that passes where a race is run under a filter."""

_USUAL_SHAPES = 6
"""How many shapes a race seldom exceeds: for progress alone."""

MakeIndex = Callable[[int, int], IvfPqIndex]
"""(nlist, code_bytes) to an index that is trained and empty."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What distinguishes one IVF-PQ index from another."""

    nlist: int
    code_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """Some live rows as a small collection of their own; ``rows`` are theirs in the large one, ascending."""

    vectors: Vectors
    rows: Int64Array
    asked: Queries


def draw_pilot(vectors: Vectors, live_rows: Int64Array, query_rows: Int64Array, rng: np.random.Generator) -> Pilot:
    """At most ``PILOT_ROWS`` live rows, the queries among them."""
    size = min(PILOT_ROWS, PILOT_BYTES // (vectors.dimension * 4), len(live_rows))
    others = np.setdiff1d(live_rows, query_rows, assume_unique=True)
    drawn = rng.choice(others, max(0, size - len(query_rows)), replace=False)
    rows = np.sort(np.concatenate([query_rows, drawn]))
    stored = to_stored(take(vectors, rows), vectors.dtype)
    segments = [stored[first : first + SEGMENT_ROWS] for first in range(0, len(rows), SEGMENT_ROWS)]
    pilot = Vectors(segments, len(rows), vectors.dimension, vectors.dtype, vectors.metric)
    asked = stand_ins(pilot, np.searchsorted(rows, query_rows), among=np.arange(len(rows)), rng=rng)
    return Pilot(pilot, rows, asked)


class Race:
    """Measures shapes on a pilot, each once; ``found`` maps those measured to seconds (inf: target not reached)."""

    def __init__(
        self,
        backend: Backend,
        pilot: Pilot,
        costs: Costs,
        make: MakeIndex,
        *,
        recall_target: float,
        report: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        self.found: dict[Shape, float] = {}
        self._backend = backend
        self._pilot = pilot
        self._costs = costs
        self._make = make
        self._recall_target = recall_target
        self._report = report

    def seconds(self, shape: Shape) -> float:
        """Processor seconds of a query in a batch of 64 at the recall target: without a filter and with one, added up.

        Queries made of rows are found within few lists where nothing is filtered, whatever the shape; under a filter
        they scan enough to tell shapes apart.
        """
        if shape not in self.found:
            self.found[shape] = self._measure(shape)
            self._report(min(1.0, len(self.found) / _USUAL_SHAPES))
        return self.found[shape]

    def _measure(self, shape: Shape) -> float:
        vectors = self._pilot.vectors
        index = self._make(shape.nlist, shape.code_bytes)
        index.add(take(vectors, np.arange(vectors.n_rows)))
        alive: npt.NDArray[np.bool_] = np.ones(vectors.n_rows, np.bool_)
        subject = Subject(self._backend, vectors, index, alive, self._pilot.asked)
        every, some = (
            fastest(subject, self._costs, recall_target=self._recall_target, selectivity=selectivity)
            for selectivity in (1.0, _FILTERED)
        )
        if every is None:
            return float("inf")
        return every.seconds_b64 + (some.seconds_b64 if some else self._exact_seconds())

    def _exact_seconds(self) -> float:
        """Of the processor, for a query under the filter."""
        n_rows, d = self._pilot.vectors.n_rows, self._pilot.vectors.dimension
        survivors = round(_FILTERED * n_rows)
        alone = min(self._costs.scan_seconds(n_rows, survivors, d), self._costs.gather_seconds(n_rows, survivors, d))
        return alone * self._backend.threads


def choose(
    race: Race,
    pilot_rows: int,
    sizes: tuple[int, ...],
    *,
    nlist: int | None = None,
    code_bytes: int | None = None,
    is_part: bool = False,
) -> Shape:
    """The fastest shape for the pilot: first the code at a middling number of lists, then the lists for that code.

    ``nlist`` or ``code_bytes``, where given, are taken as they are. ``is_part``: there are more rows than the pilot's.
    """
    counts = list_counts(pilot_rows) if nlist is None else (nlist,)
    sizes = sizes if code_bytes is None else (code_bytes,)
    middling, code = counts[len(counts) // 2], sizes[len(sizes) // 2]
    if len(sizes) > 1:
        fastest_code = climb(sizes, code, lambda size: race.seconds(Shape(middling, size)))
        if race.seconds(Shape(middling, code)) > _AS_FAST * race.seconds(Shape(middling, fastest_code)):
            code = fastest_code
    if len(counts) == 1:
        return Shape(counts[0], code)
    fastest_count = climb(counts, middling, lambda count: race.seconds(Shape(count, code)))
    bound = _AS_FAST * race.seconds(Shape(fastest_count, code))
    more = [count for count in counts if count >= fastest_count and is_part]
    as_fast = takewhile(lambda count: race.seconds(Shape(count, code)) <= bound, more)
    return Shape(max(as_fast, default=fastest_count), code)


def scaled(nlist: int, pilot_rows: int, live_rows: int) -> int:
    """As many lists for each root of all the rows as the pilot has for its own."""
    small, large = list_counts(pilot_rows), list_counts(live_rows)
    return large[min(small.index(nlist), len(large) - 1)]
