"""Searches beside upserts: windows in turn, quiet and busy, at half of the quiet capacity; recall at that moment."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

from bench.harness import SEED
from bench.live_bed import BATCH, Bed
from bench.live_searches import CLIENTS, Recall, Searches, Window, brute_force_recall, told_load
from bench.live_writes import Writes, Written, write, writes_of
from bench.load import LoadProcess

RATES = {1000: 10, 5000: 50}
"""Upserts a second, and the items of each request."""
_DISTINCT = 20_000
_RATIO = 2.0
_AHEAD_S = 0.3
_CHECKS_S = 1.5


def measure(bed: Bed) -> None:
    report = bed.report
    report.figure("driver", f"searches: one process, {BATCH} queries a call; upserts: another, one UpsertStream")
    with bed.folder() as folder, bed.served(folder) as running, LoadProcess() as load, LoadProcess() as writer:
        searches = Searches(bed, running, load)
        report.figure("recall@10_of_float32", brute_force_recall(running.client, bed.made, len(bed.made.items)))
        report.figure(f"capacity.closed_{CLIENTS}_clients", told_load(searches.measure_capacity()))
        ids, vectors = bed.made.fresh(min(_DISTINCT, len(bed.made.items)))
        for per_s, batch in RATES.items():
            writes = writes_of(running.client.target, ids, vectors, batch=batch)
            pairs = _Pairs(bed, searches, writer, writes, per_s)
            for number in range(bed.pace.pairs):
                pairs.add(number)
            pairs.tell()


@dataclass(slots=True)
class _Pairs:
    """Windows of one rate of upserts, each after a quiet one."""

    bed: Bed
    searches: Searches
    writer: LoadProcess
    writes: Writes
    per_s: int
    quiet: list[Window] = field(default_factory=list)
    busy: list[Window] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    recall: Recall = field(default_factory=Recall)

    def add(self, number: int) -> None:
        """Checks of recall come after the window that is timed, while upserts still go on."""
        self.quiet.append(self.searches.window())
        seconds = self.bed.pace.seconds + _AHEAD_S + min(_CHECKS_S, self.bed.pace.seconds)
        going = self.writer.start(write, self.writes, self.per_s, seconds, SEED + number)
        time.sleep(_AHEAD_S)
        self.busy.append(self.searches.window())
        self.searches.sampler.check(self.recall)
        while not going.done():
            self.searches.sampler.check(self.recall)
        self.written.append(going.result())

    def tell(self) -> None:
        report, name = self.bed.report, f"at_{self.per_s}_upserts"
        pairs = list(zip(self.quiet, self.busy, strict=True))
        ratios = [busy.p99_ms / quiet.p99_ms for quiet, busy in pairs]
        report.figure(f"{name}.quiet", [one.figures() for one in self.quiet])
        report.figure(f"{name}.busy", [one.figures() for one in self.busy])
        report.figure(f"{name}.upserts", [one.figures() for one in self.written])
        report.figure(f"{name}.p99_over_quiet", {"median": statistics.median(ratios), "pairs": ratios})
        report.figure(f"{name}.recall", self.recall.figures())
        if self.per_s == min(RATES):
            report.at_most(f"{name}.p99_over_quiet", statistics.median(ratios), _RATIO)
        report.at_least(f"{name}.recall@10", self.recall.mean, self.recall.bound)
