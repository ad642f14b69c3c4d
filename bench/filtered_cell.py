"""One cell of the filtered bench: every engine at one kind of filter, pass rate and k, each at its fastest setting that
reaches the recall on queries that are not measured with, then all of them in turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from bench import inprocess
from bench.filtered_data import SHUFFLED, UNFILTERED, Cell, FilteredSet
from bench.harness import Samples, interleaved, progress
from bench.inprocess import EngineProcess
from bench.metrics import recall_of_survivors
from bench.peers import Knobs, PeerProcess, Tuned
from bench.peers.process import Asked

RECALL = 0.95
OURS = "engine"
FAISS = ("faiss_ivf_flat", "faiss_ivf_pq", "faiss_ivf_pqfs")
SLOW = ("hnswlib", "usearch", "milvus_lite", "lancedb")
"""One query a call, or a Python function a row: measured with fewer queries and once, or a run would take a day."""

_MARGIN = 0.005
"""By which the recall on the tuning queries must lie above the one wanted, about a standard error of the others."""
_TARGETS = (0.4, 0.6, 0.7, 0.75, 0.8, 0.84, 0.87, 0.9, 0.93, 0.95, 0.97, 0.99)
_RAISES = 3
_SLOW_QUERIES = 32
_BATCH = 64
_TABLE_WIDTH = 140


@dataclass(frozen=True, slots=True)
class Pace:
    """Rounds of measuring and the seconds of each measurement."""

    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Engines:
    """All that are measured over one set."""

    engine: EngineProcess
    peers: Mapping[str, PeerProcess]
    ready: frozenset[str]
    """The peers whose filters have a ready form."""


@dataclass(slots=True)
class Measured:
    """One engine in one cell: queries a second from ready filters and from predicates, in batches and alone."""

    recall: float
    setting: str
    reached: bool
    ready: Samples | None = None
    whole: Samples | None = None
    ready_alone: Samples | None = None

    def figures(self) -> dict[str, object]:
        told: dict[str, object] = {"recall": self.recall, "setting": self.setting, "reached": self.reached}
        for name in ("ready", "whole", "ready_alone"):
            samples: Samples | None = getattr(self, name)
            if samples is not None:
                told[f"{name}_qps"] = samples
        return told


@dataclass(slots=True)
class CellResult:
    """``default_recall`` is the engine's without any setting; ``fixed_recall`` faiss's at its nprobe for no filter."""

    cell: Cell
    k: int
    survivors: int
    default_recall: float
    fixed_recall: float | None
    engines: dict[str, Measured] = field(default_factory=dict)

    @property
    def counts_for_speed(self) -> bool:
        """Fewer than ten survivors a hit are a matter of recall only."""
        return self.survivors >= 10 * self.k

    def figures(self) -> dict[str, object]:
        return {
            "survivors": self.survivors,
            "counts_for_speed": self.counts_for_speed,
            "default_recall": self.default_recall,
            "fixed_nprobe_recall": self.fixed_recall,
            "engines": {name: one.figures() for name, one in self.engines.items()},
        }


class CellBench:
    """The cells of one set over the same engines. ``fixed``: by k, faiss's knobs for the unfiltered target."""

    def __init__(self, made: FilteredSet, engines: Engines, pace: Pace) -> None:
        self._made = made
        self._engines = engines
        self._pace = pace
        self.fixed: dict[int, Knobs] = {}

    def measure(self, cell: Cell, k: int) -> CellResult:
        wanted, ours, recall_target = self._tuned_engine(cell, k)
        result = self._recalls(cell, k)
        result.engines[OURS] = ours
        peers = {name: peer for name, peer in self._engines.peers.items() if peer.is_for(cell.rate)}
        knobs = {name: self._tune(name, cell, k, wanted, result) for name, peer in peers.items()}
        self._rates(result, recall_target, knobs)
        return result

    # Recall

    def _tuned_engine(self, cell: Cell, k: int) -> tuple[float, Measured, float | None]:
        """The recall that peers have to reach, and the engine with the least recall target that does.

        Where most rows pass engines are compared at equal recall: what ours reaches is what peers have to. A setting
        that passes on the tuning queries and misses the recall on the others is raised, ours and theirs.
        """
        truth = self._made.truth(cell)[:, :k]
        recall, target = 0.0, None
        for target in _TARGETS:
            found = self._engines.engine.answers_each(self._made.name, self._asked(cell, k, 0, target))
            recall = recall_of_survivors(found.rows, truth[0::2])
            if recall < RECALL + _MARGIN:
                continue
            reported = self._engines.engine.answers_each(self._made.name, self._asked(cell, k, 1, target))
            if recall_of_survivors(reported.rows, truth[1::2]) >= RECALL:
                break
        reported = self._engines.engine.answers_each(self._made.name, self._asked(cell, k, 1, target))
        strategies = Counter(f"{one.strategy.value} nprobe {one.nprobe}" for one in reported.explanations)
        setting = f"target {target:g}: {strategies.most_common(1)[0][0]}"
        ours = Measured(recall_of_survivors(reported.rows, truth[1::2]), setting, recall >= RECALL + _MARGIN)
        return max(RECALL + _MARGIN, recall if cell.rate >= 0.5 else 0.0), ours, target

    def _recalls(self, cell: Cell, k: int) -> CellResult:
        truth = self._made.truth(cell)[1::2, :k]
        found = self._engines.engine.answers_each(self._made.name, self._asked(cell, k, 1, None))
        result = CellResult(
            cell, k, self._made.survivors_expected(cell), recall_of_survivors(found.rows, truth), fixed_recall=None
        )
        flat = self._engines.peers.get(FAISS[0])
        if flat is not None:
            if k not in self.fixed:
                self.fixed[k] = flat.tune(self._peer_asked(UNFILTERED, 0), k=k, wanted=RECALL).knobs
            result.fixed_recall = flat.recall(self._peer_asked(cell, 1), k=k, knobs=self.fixed[k])
        return result

    def _tune(self, name: str, cell: Cell, k: int, wanted: float, result: CellResult) -> Knobs:
        peer = self._engines.peers[name]
        tuning, reported = self._peer_asked(cell, 0), self._peer_asked(cell, 1)
        if name in SLOW:
            tuning, reported = tuning.first(_SLOW_QUERIES), reported.first(_SLOW_QUERIES)
        tuned: Tuned = peer.tune(tuning, k=k, wanted=wanted)
        recall = peer.recall(reported, k=k, knobs=tuned.knobs)
        for raised in range(1, _RAISES + 1):
            if recall >= RECALL or tuned.recall < wanted:
                break
            tuned = peer.tune(tuning, k=k, wanted=wanted + raised * _MARGIN)
            recall = peer.recall(reported, k=k, knobs=tuned.knobs)
        setting = " ".join(map(str, tuned.knobs)) or "exact"
        result.engines[name] = Measured(recall, setting, tuned.recall >= wanted)
        return tuned.knobs

    def _asked(self, cell: Cell, k: int, half: int, recall_target: float | None) -> inprocess.Asked:
        predicates = self._made.predicates[cell][half::2]
        return inprocess.Asked(self._made.queries[half::2], predicates, k, recall_target, SHUFFLED)

    def _peer_asked(self, cell: Cell, half: int) -> Asked:
        made = self._made
        key = f"{made.name}-{cell.name}-{half}"
        return Asked(key, made.queries[half::2], made.predicates[cell][half::2], made.truth(cell)[half::2])

    # Rates

    def _rates(self, result: CellResult, recall_target: float | None, knobs: Mapping[str, Knobs]) -> None:
        ours = self._asked(result.cell, result.k, 1, recall_target)
        fast = {**self._own_calls(ours, result.cell), **self._peer_calls(result, knobs, slow=False)}
        taken = interleaved(fast, rounds=self._pace.rounds)
        slow = self._peer_calls(result, knobs, slow=True)
        taken |= interleaved(slow, rounds=1, warm_up_rounds=0)
        for name, samples in taken.items():
            engine, _, column = name.partition(":")
            setattr(result.engines[engine], column, samples)

    def _own_calls(self, asked: inprocess.Asked, cell: Cell) -> dict[str, Callable[[], float]]:
        engine, name, seconds = self._engines.engine, self._made.name, self._pace.seconds
        calls: dict[str, Callable[[], float]] = {
            f"{OURS}:ready": lambda: engine.search_each(name, asked, batch=_BATCH, seconds=seconds).rate,
            f"{OURS}:ready_alone": lambda: engine.search_each(name, asked, batch=1, seconds=seconds).rate,
        }
        if cell != UNFILTERED:
            calls[f"{OURS}:whole"] = lambda: engine.search_anew(name, asked, batch=_BATCH, seconds=seconds).rate
        return calls

    def _peer_calls(
        self, result: CellResult, knobs: Mapping[str, Knobs], *, slow: bool
    ) -> dict[str, Callable[[], float]]:
        asked = self._peer_asked(result.cell, 1)
        calls: dict[str, Callable[[], float]] = {}
        for name, own in knobs.items():
            if (name in SLOW) != slow:
                continue
            few = asked.first(_SLOW_QUERIES) if slow else asked
            for column, batch, whole in self._columns(name, result.cell, slow):
                calls[f"{name}:{column}"] = self._peer_call(name, few, result.k, own, batch, whole)
        return calls

    def _columns(self, name: str, cell: Cell, slow: bool) -> Sequence[tuple[str, int, bool]]:
        """Which figures a peer has: (column, batch, whole)."""
        batch = _SLOW_QUERIES if slow else _BATCH
        is_ready = name in self._engines.ready or cell == UNFILTERED
        columns = [("ready", batch, False)] if is_ready else []
        if cell != UNFILTERED:
            columns.append(("whole", batch, True))
        return columns if slow else [*columns, ("ready_alone", 1, False)]

    def _peer_call(self, name: str, asked: Asked, k: int, knobs: Knobs, batch: int, whole: bool) -> Callable[[], float]:
        peer, seconds = self._engines.peers[name], self._pace.seconds
        return lambda: peer.rate(asked, k=k, knobs=knobs, batch=batch, seconds=seconds, whole=whole)


def print_cell(name: str, result: CellResult) -> None:
    """A table on stderr."""
    title = f"{name}, {result.cell.name}, k = {result.k}: {result.survivors:,} of the rows pass"
    table = Table(
        "", "recall", "setting", "ready QPS", "whole QPS", "ready QPS alone", title=title, title_justify="left"
    )
    for engine, one in result.engines.items():
        rates = [f"{s.median:,.0f}" if (s := rate) else "" for rate in (one.ready, one.whole, one.ready_alone)]
        table.add_row(engine, f"{one.recall:.3f}{'' if one.reached else ' !'}", one.setting, *rates)
    Console(stderr=True, highlight=False, width=_TABLE_WIDTH).print(table)
    fixed = "" if result.fixed_recall is None else f"; faiss at its unfiltered nprobe {result.fixed_recall:.3f}"
    progress.print(f"  recall by default {result.default_recall:.3f}{fixed}")
