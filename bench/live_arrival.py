"""Rows in the order they really came: job postings by when they were published. Lists are trained on the older half,
the newer half arrives beside searches at half of the quiet capacity.

What is new differs from what was there as it did in the world: a test of lists that were trained before, not of noise.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import datasets
from bench.harness import SEED, Options, percentiles
from bench.live_bed import BATCH, COLLECTION, N_QUERIES, Bed, K, Made
from bench.live_searches import CLIENTS, Recall, Searches, p99_ms
from bench.live_writes import Written, write_once, writes_of
from bench.load import LoadProcess
from bench.serving import Running, data_folder, wait_until_settled
from engine.types import SearchParams, Visibility

UPSERTS_PER_S = 1000
_WRITE_BATCH = 10
_AWAITED = {"acknowledged": Visibility.COMMITTED, "searchable": Visibility.SEARCHABLE}
"""What a reply to an upsert waits for."""
_CHECK_EVERY_S = 0.25
"""All has arrived after some seconds: enough checks for a sample."""
_CHECKS = 12
"""Before anything arrives, and once all is done: what of a recall is not the arrival's."""
_SETTLE_S = 900.0
_RATIO = 2.0


def postings(options: Options, n_rows: int) -> Made:
    """The newest so many, the oldest first, one embedding each; queries are titles of O*NET.

    Raises:
        FileNotFoundError: the data sets are not there.
    """
    lines = list(datasets.read_jsonl(options.data / "jobs" / "corpus.jsonl.gz"))
    titles = datasets.onet_titles(options.data, N_QUERIES)
    encoder = datasets.minilm(threads=len(os.sched_getaffinity(0)))
    texts = [datasets.joined_text(line["title"], line["text"]) for line in lines]
    items = datasets.embeddings("jobs", encoder, texts, role="item")
    queries = datasets.embeddings("onet-alternate", encoder, titles, role="query")
    published = np.array([datasets.timestamp_micros(line["published_at"]) for line in lines])
    order = np.argsort(published, kind="stable")[-n_rows:]
    return Made("job postings by published_at, titles of O*NET", items[order], queries)


@dataclass(slots=True)
class _Arrivals:
    """Of all that one kind of reply was waited for."""

    written: list[Written] = field(default_factory=list)
    quiet_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    failed: int = 0

    def figures(self) -> dict[str, object]:
        latencies = [one for written in self.written for one in written.ack_s]
        return {
            **{name: 1000 * value for name, value in percentiles(latencies, (50, 99)).items()},
            "samples": len(latencies),
            "upserts": [written.figures() for written in self.written],
        }


def measure(bed: Bed) -> None:
    """A pair is one arrival for each kind of reply, all from the same start."""
    # More than half: the lists do not come to twice their rows, at which they are trained anew whatever came.
    older = len(bed.made.items) // 2 + 1
    bed.report.figure("upserts_per_s", UPSERTS_PER_S)
    bed.report.figure("driver", f"searches: one process, {BATCH} queries a call; upserts: another, one UpsertStream")
    kinds = {name: _Arrivals() for name in _AWAITED}
    recalls: list[Recall] = []
    with bed.folder(n_rows=older) as folder, LoadProcess() as load, LoadProcess() as writer:
        for number in range(bed.pace.pairs):
            for name, arrivals in kinds.items():
                with _copied(folder) as own, bed.served(own, train_at=older) as running:
                    arrival = _Arrival(bed, running, load, writer, older)
                    recalls.append(arrival.measure(_AWAITED[name], arrivals, SEED + number))
                    bed.report.figure(f"{name}.{number}", arrival.told)
    _tell(bed, kinds, recalls)


def _tell(bed: Bed, kinds: dict[str, _Arrivals], recalls: list[Recall]) -> None:
    report = bed.report
    ratios = []
    for name, arrivals in kinds.items():
        report.figure(f"{name}_ms", arrivals.figures())
        pairs = list(zip(arrivals.quiet_ms, arrivals.beside_ms, strict=True))
        report.figure(f"{name}.searches_p99_ms", {"quiet and beside": pairs, "failed": arrivals.failed})
        ratios += [beside / quiet for quiet, beside in pairs]
    report.at_most("p99_over_quiet", statistics.median(ratios), _RATIO)
    worst = min(recalls, key=lambda one: one.mean - one.bound)
    report.at_least(f"recall@{K}.worst_arrival", worst.mean, worst.bound)


@dataclass(slots=True)
class _Arrival:
    """The newer rows come to a server that has ``older`` rows and lists of them."""

    bed: Bed
    running: Running
    load: LoadProcess
    writer: LoadProcess
    older: int
    told: dict[str, object] = field(default_factory=dict)

    def measure(self, awaited: Visibility, arrivals: _Arrivals, seed: int) -> Recall:
        """What searches and upserts took is added to ``arrivals``; the recall is of while upserts arrived."""
        searches = Searches(self.bed, self.running, self.load)
        self.told[f"capacity_qps_{CLIENTS}_clients"] = searches.measure_capacity().qps
        self.told["before"] = self._quality(searches)
        arrivals.quiet_ms.append(p99_ms(searches.quiet(check_every_s=_CHECK_EVERY_S)))
        ids = np.arange(self.older, len(self.bed.made.items))
        newer = self.bed.made.items[self.older :]
        writes = writes_of(self.running.client.target, ids, newer, batch=_WRITE_BATCH, visibility=awaited)
        with searches.going_on() as going:
            began = time.perf_counter()
            arriving = self.writer.start(write_once, writes, UPSERTS_PER_S, seed)
            searches.sampler.check(going.recall)
            while not arriving.done():
                time.sleep(_CHECK_EVERY_S)
                searches.sampler.check(going.recall)
            ended = time.perf_counter()
            arrivals.written.append(arriving.result())
        arrivals.beside_ms.append(p99_ms(going.between(began, ended)))
        arrivals.failed += going.failed
        self.told["recall"] = going.recall.figures()
        self._tell_upkeep()
        self.told["after"] = self._quality(searches)
        return going.recall

    def _tell_upkeep(self) -> None:
        """Whether lists were trained anew, once nothing is left to be done."""
        client = self.running.client
        self.told["drift_on_arrival"] = client.get_collection(COLLECTION).message.versions[0].ivfpq.drift
        quiet_s = min(2.0, 2 * self.bed.pace.seconds)
        info = wait_until_settled(client, COLLECTION, trained=True, seconds=_SETTLE_S, quiet_seconds=quiet_s)
        lists = info.message.versions[0].ivfpq
        self.told["trained_anew"] = sum(one.kind == "train" for one in client.list_operations())
        self.told["settled"] = {"drift": lists.drift, "nlist": lists.nlist, "rows_in_lists": lists.rows}
        self.told["items"] = info.items

    def _quality(self, searches: Searches) -> dict[str, object]:
        """While nothing else goes on."""
        recall, asked = Recall(), self.bed.made.queries[:256]
        for _ in range(_CHECKS):
            searches.sampler.check(recall)
        found = self.running.client.search_batch(COLLECTION, asked, params=SearchParams(k=K), explain=True)
        return {**recall.figures(), "strategies": Counter(one.strategy.value for one in found.explanations)}


@contextmanager
def _copied(folder: Path) -> Iterator[Path]:
    with data_folder() as own:
        shutil.copytree(folder, own / "server", symlinks=True)
        yield own / "server"
