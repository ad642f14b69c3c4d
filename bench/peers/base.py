"""What every peer can do: build or reopen an index, make filters ready, search a batch with one for each query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from bench.predicates import Attributes, Predicate
from engine.types import Float32Array, Int64Array, Metric

T = TypeVar("T")

Knobs: TypeAlias = tuple[int, ...]
"""The parameters of a search, in the order of ``Peer.knob_names``."""

_PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


@dataclass(frozen=True, slots=True)
class Rows:
    """What is indexed, and where a peer may keep its files: ``folder`` is its own and outlives the run."""

    items: Float32Array
    attributes: Attributes
    metric: Metric
    folder: Path
    threads: int


@dataclass(frozen=True, slots=True)
class Built:
    """``bytes`` of everything that a search needs, the vectors included."""

    seconds: float
    bytes: int
    spec: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """The fastest knobs that reached the recall on the tuning queries, or those of best recall; with both."""

    knobs: Knobs
    recall: float


class Peer(Protocol):
    """In its own process, single-threaded from outside; what it does with ``Rows.threads`` is its own business.

    ``has_ready``: a filter has a ready form, a mask or a list of rows, and is not only an expression that the library
    evaluates inside its search. ``largest_rate``: the highest pass rate it makes sense at.
    """

    knob_names: Sequence[str]
    has_ready: bool
    largest_rate: float

    def build(self) -> Built:
        """Make the index, or reopen the one made before."""
        ...

    def ladders(self, k: int) -> Sequence[Sequence[Knobs]]:
        """Knobs worth trying: along each ladder both recall and cost rise."""
        ...

    def ready(self, predicate: Predicate) -> Any:
        """The filter's form that a search takes, from the columns as the peer keeps them."""
        ...

    def search(self, queries: Float32Array, filters: Sequence[Any], *, k: int, knobs: Knobs) -> Int64Array:
        """Rows int64 [B, k], best first, padded with -1."""
        ...


def probes_up_to(nlist: int) -> list[int]:
    return [nprobe for nprobe in _PROBES if nprobe <= nlist]


def list_count(n_rows: int) -> int:
    """The power of two nearest to four times the root of the rows: 4096 for a million."""
    return int(1 << round(np.log2(4 * np.sqrt(n_rows))))


def padded(rows: Iterable[Sequence[int] | Int64Array], *, n: int, k: int) -> Int64Array:
    """int64 [n, k], filled up with -1."""
    found = np.full((n, k), -1, np.int64)
    for place, one in enumerate(rows):
        found[place, : min(k, len(one))] = one[:k]
    return found


class Threads:
    """Queries of a batch over a fixed number of threads, for libraries that take one filter a call."""

    def __init__(self, n: int, *, initializer: Callable[[], None] = lambda: None) -> None:
        self._pool = ThreadPoolExecutor(n, initializer=initializer)

    def each(self, call: Callable[[int], T], n: int) -> list[T]:
        return [call(0)] if n == 1 else list(self._pool.map(call, range(n)))
