"""Searches while the server folds, takes a snapshot, trains anew and compacts: p99 over the quiet around it; recall.

The collection begins with half of the rows, tuned with live queries, and trains anew by itself when it has twice as
many. What a writer that is as fast as it can be costs is told beside these, without a target: on few cores it takes
what there is, as does its own process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.live_bed import BATCH, COLLECTION, Bed
from bench.live_searches import CLIENTS, Going, Searches, p99_ms, told_load
from bench.load import LoadProcess
from bench.serving import Running, load_batches, wait_until_settled
from engine.client import OperationStatus
from engine.types import Item

_RATIO = 2.0
_SETTLE_S = 1800.0
_ASK_EVERY_S = 0.05
_PORTION = 5000
_DELETED_AT_ONCE = 10_000
_TRAINS_AFTER = 1000
"""Rows that are kept back, the last of which has the server train anew."""


def measure(bed: Bed) -> None:
    half = len(bed.made.items) // 2
    bed.report.figure("driver", f"one process, {BATCH} queries a call; checks of recall each second, quiet or not")
    with bed.folder(n_rows=half) as folder, bed.served(folder, train_at=half) as running, LoadProcess() as load:
        searches = Searches(bed, running, load)
        bed.report.figure(f"capacity.closed_{CLIENTS}_clients", told_load(searches.measure_capacity()))
        _Upkeep(bed, running, searches, half).measure()


@dataclass(slots=True)
class _Upkeep:
    """One operation after another on one collection, each beside searches and between two quiet windows."""

    bed: Bed
    running: Running
    searches: Searches
    rows: int
    """How many there are by now."""

    def measure(self) -> None:
        most = len(self.bed.made.items) // 2 * 2
        kept_back = min(_TRAINS_AFTER, self.rows // 10)
        added = self.rows // 10
        self._settle()
        self._bulk(added)
        self._settle()
        self._fold(added)
        self._settle()
        self._operation("snapshot", lambda: self.running.client.create_snapshot(COLLECTION))
        self._add(most - kept_back - self.rows)
        self._settle()
        self._train(most - self.rows)
        self._settle()
        for first in range(0, self.rows // 5, _DELETED_AT_ONCE):
            ids = range(first, min(first + _DELETED_AT_ONCE, self.rows // 5))
            self.running.client.delete(COLLECTION, ids)
        self._settle()
        self._operation("compaction", lambda: self.running.client.compact_collection(COLLECTION))

    def _bulk(self, n_rows: int) -> None:
        """New rows as fast as this process can send them, and until they are in lists."""

        def act(going: Going) -> float:
            began = time.perf_counter()
            self._add(n_rows)
            self.bed.report.figure("bulk.rows_per_s", n_rows / (time.perf_counter() - began))
            self._until_folded(going)
            return time.perf_counter() - began

        self._watched("bulk", act, has_target=False)

    def _fold(self, n_rows: int) -> None:
        """New rows that waited, from when upkeep is resumed until they are in lists."""

        def leave_waiting() -> None:
            self.running.client.pause_upkeep(COLLECTION)
            self._add(n_rows)

        def act(going: Going) -> float:
            began = time.perf_counter()
            self.running.client.resume_upkeep(COLLECTION)
            self._until_folded(going)
            self.bed.report.figure("folding.rows", {"folded": n_rows, "in_all": self.rows})
            return time.perf_counter() - began

        self._watched("folding", act, first=leave_waiting)

    def _until_folded(self, going: Going) -> None:
        while self._rows_in_lists() < self.rows:
            self._beside(going)

    def _train(self, n_rows: int) -> None:
        """Training that growth has set off, until the lists are in use."""
        known = {one.name for one in self.running.client.list_operations()}

        def act(going: Going) -> float:
            self._add(n_rows)
            return self._until_done(self._new_operation("train", known), going)

        self._watched("training", act)

    def _operation(self, name: str, start: Callable[[], OperationStatus]) -> None:
        self._watched(name, lambda going: self._until_done(start(), going))

    def _watched(
        self,
        name: str,
        act: Callable[[Going], float],
        *,
        first: Callable[[], None] = lambda: None,
        has_target: bool = True,
    ) -> None:
        """Quiet, then ``first`` without searches, then beside ``act``, which gives the seconds that the operation took,
        and quiet again.
        """
        quiet, second = self.searches.quiet(), self.bed.watch.second
        first()
        cpu_s, began = self.running.cpu_s(), time.perf_counter()
        with self.searches.going_on() as going:
            time.sleep(0.2)
            start = time.perf_counter()
            took = act(going)
            end = time.perf_counter()
            self.searches.sampler.check(going.recall)
        server_cpu = (self.running.cpu_s() - cpu_s) / (time.perf_counter() - began)
        quiet += self.searches.quiet()
        self._tell(name, p99_ms(quiet), going, going.between(start, end), took, has_target=has_target)
        self.bed.report.figure(f"{name}.watch", {"server_cpu_cores": server_cpu, "second": second})

    def _tell(
        self, name: str, quiet_ms: float, going: Going, latencies_s: list[float], took: float, *, has_target: bool
    ) -> None:
        report = self.bed.report
        report.figure(f"{name}.seconds", took)
        busy_ms = p99_ms(latencies_s) if latencies_s else 0.0
        report.figure(
            f"{name}.p99_ms",
            {"quiet": quiet_ms, "beside": busy_ms, "calls_beside": len(latencies_s), "failed": going.failed},
        )
        report.figure(f"{name}.recall", going.recall.figures())
        if has_target:
            report.at_most(f"{name}.p99_over_quiet", busy_ms / quiet_ms, _RATIO)
        else:
            report.figure(f"{name}.p99_over_quiet", busy_ms / quiet_ms)
        report.at_least(f"{name}.recall@10", going.recall.mean, going.recall.bound)

    def _until_done(self, operation: OperationStatus, going: Going) -> float:
        """Seconds by the server's own account, as it is asked only from time to time."""
        while not operation.is_done:
            self._beside(going)
            operation = self.running.client.operation(operation.name)
        if operation.error is not None:
            raise operation.error
        told = operation.message
        return (told.ended_at.ToNanoseconds() - told.began_at.ToNanoseconds()) / 1e9

    def _beside(self, going: Going) -> None:
        """A check of recall where one is due, and a moment's rest."""
        if len(going.recall.values) < BATCH * (1 + len(going.loads)):
            self.searches.sampler.check(going.recall)
        time.sleep(_ASK_EVERY_S)

    def _new_operation(self, kind: str, known: set[str]) -> OperationStatus:
        end = time.monotonic() + _SETTLE_S
        while time.monotonic() < end:
            for one in self.running.client.list_operations():
                if one.kind == kind and one.name not in known:
                    return one
            time.sleep(_ASK_EVERY_S)
        raise RuntimeError(f"no operation of kind {kind!r} has begun in {_SETTLE_S:g} s")

    def _add(self, n_rows: int) -> None:
        """The next rows, searchable when this returns."""
        vectors, end = self.bed.made.items, self.rows + n_rows
        firsts = range(self.rows, end, _PORTION)
        batches = ([Item(row, vector=vectors[row]) for row in range(at, min(at + _PORTION, end))] for at in firsts)
        load_batches(self.running.client, COLLECTION, batches)
        self.rows = end

    def _settle(self) -> None:
        quiet_s = min(2.0, 2 * self.bed.pace.seconds)
        wait_until_settled(self.running.client, COLLECTION, trained=True, seconds=_SETTLE_S, quiet_seconds=quiet_s)

    def _rows_in_lists(self) -> int:
        version = self.running.client.get_collection(COLLECTION).message.versions[0]
        return int(version.ivfpq.rows)
