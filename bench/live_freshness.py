"""How soon an upsert is searchable: from when it was due to be sent, at 1,000 upserts a second, vectors given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.harness import SEED, percentiles
from bench.live_bed import Bed
from bench.live_writes import Writes, Written, write, write_and_find, writes_of
from bench.load import LoadProcess
from engine.types import Visibility

UPSERTS_PER_S = 1000
_DISTINCT = 20_000
_WARM_SECONDS = 1.0


def measure(bed: Bed) -> None:
    """Two ways: the acknowledgement says so, or a search that waits for the write's sequence number has answered."""
    report = bed.report
    report.figure("upserts_per_s", UPSERTS_PER_S)
    report.figure("driver", "one process: serialised requests by one UpsertStream; searches one at a time in a thread")
    with bed.folder() as folder, bed.served(folder) as running, LoadProcess() as load:
        ids, vectors = bed.made.fresh(min(_DISTINCT, len(bed.made.items)))

        def writes(batch: int, visibility: Visibility) -> Writes:
            return writes_of(running.client.target, ids, vectors, batch=batch, visibility=visibility)

        def run(action: Callable[[Writes, float, float, int], Written], sent: Writes) -> Written:
            load.start(action, sent, UPSERTS_PER_S, min(_WARM_SECONDS, bed.pace.seconds), SEED).result()
            return load.start(action, sent, UPSERTS_PER_S, 2 * bed.pace.seconds, SEED + 1).result()

        for batch in (10, 1):
            acked = run(write, writes(batch, Visibility.SEARCHABLE))
            _tell(bed, f"batches_of_{batch}.searchable_ack", acked, acked.ack_s)
            found = run(write_and_find, writes(batch, Visibility.COMMITTED))
            _tell(bed, f"batches_of_{batch}.committed_then_search", found, found.found_s)
            report.figure(f"batches_of_{batch}.committed_ack_ms", _ms(found.ack_s))
            report.at_least(f"batches_of_{batch}.found", found.found_share, 0.99)


def _tell(bed: Bed, name: str, written: Written, latencies_s: Sequence[float]) -> None:
    took = _ms(latencies_s)
    bed.report.figure(name, {**took, "samples": len(latencies_s), **written.figures()})
    bed.report.at_most(f"{name}.p50_ms", took["p50"], 20)
    bed.report.at_most(f"{name}.p99_ms", took["p99"], 100)


def _ms(latencies_s: Sequence[float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in percentiles(latencies_s, (50, 99)).items()}
