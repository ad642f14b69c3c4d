"""Upserts by UpsertStream in an open loop, from a process of its own: when each was due, acknowledged, and found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from bench.harness import percentiles
from bench.live_bed import COLLECTION, K
from bench.load import WallClock, poisson_schedule, poisson_times
from engine import convert
from engine.client import RetrievalClient
from engine.types import Float32Array, Int64Array, Item, SearchParams, Visibility
from engine.v1 import ingest_pb2

UPSERT_STREAM = "/engine.v1.IngestService/UpsertStream"
_WIRE = {
    Visibility.COMMITTED: ingest_pb2.VISIBILITY_COMMITTED,
    Visibility.SEARCHABLE: ingest_pb2.VISIBILITY_SEARCHABLE,
}


@dataclass(frozen=True, slots=True)
class Writes:
    """Serialised requests of ``batch`` items, sent again and again in this order, and the first item of each."""

    target: str
    requests: tuple[bytes, ...]
    batch: int
    first_ids: Int64Array
    first_vectors: Float32Array


@dataclass(frozen=True, slots=True)
class Written:
    """What a stream of writes saw. Latencies count from when a request was due."""

    ack_s: tuple[float, ...]
    accepted: int
    wall_s: float
    client_cpu_s: float
    late_s: float
    found_s: tuple[float, ...] = ()
    """Until a search with ``min_sequence`` had answered; of the requests that were searched for."""
    found_share: float = 1.0
    """Of those, how often the item was among its hits."""

    def figures(self) -> dict[str, object]:
        return {
            "upserts_per_s": self.accepted / self.wall_s,
            "late_p99_ms": 1000 * self.late_s,
            "client_cpu_share_of_a_core": self.client_cpu_s / self.wall_s,
        }


def writes_of(
    target: str, ids: Int64Array, vectors: Float32Array, *, batch: int, visibility: Visibility = Visibility.COMMITTED
) -> Writes:
    """Requests that replace the items; a remainder that fills no batch is left out."""
    firsts = range(0, len(ids) - batch + 1, batch)
    requests = tuple(
        ingest_pb2.UpsertRequest(
            collection=COLLECTION,
            items=[convert.item_to(Item(int(ids[at]), vector=vectors[at])) for at in range(first, first + batch)],
            visibility=_WIRE[visibility],
        ).SerializeToString()
        for first in firsts
    )
    return Writes(target, requests, batch, ids[firsts.start : firsts.stop : batch], vectors[: firsts.stop : batch])


def write(writes: Writes, per_s: float, seconds: float, seed: int) -> Written:
    """So many items a second, on average, at random times, whatever becomes of those before."""
    return _Stream(writes, _schedule(writes, per_s, seconds, seed)).run(None)


def write_once(writes: Writes, per_s: float, seed: int) -> Written:
    """As ``write``, each request once."""
    return _Stream(writes, poisson_times(per_s / writes.batch, len(writes.requests), seed=seed)).run(None)


def write_and_find(writes: Writes, per_s: float, seconds: float, seed: int) -> Written:
    """As ``write``; once a request is acknowledged and no search is under way, its first item is searched for."""
    with RetrievalClient(writes.target) as client:
        finder = _Finder(client, writes)
        written = _Stream(writes, _schedule(writes, per_s, seconds, seed)).run(finder)
        return finder.joined(written)


def _schedule(writes: Writes, per_s: float, seconds: float, seed: int) -> tuple[float, ...]:
    return poisson_schedule(per_s / writes.batch, seconds, seed=seed)


class _Stream:
    def __init__(self, writes: Writes, schedule: Sequence[float]) -> None:
        self._writes = writes
        self._schedule = schedule
        self._clock = WallClock()
        self._began = 0.0
        self._late: list[float] = []

    def run(self, finder: _Finder | None) -> Written:
        acks: list[float] = []
        replies: list[bytes] = []
        with grpc.insecure_channel(self._writes.target) as channel:
            grpc.channel_ready_future(channel).result(10)
            stream = channel.stream_stream(UPSERT_STREAM, None, None)
            self._began, cpu = self._clock.now(), time.process_time()
            for place, reply in enumerate(stream(self._requests())):
                due = self._began + self._schedule[place]
                acks.append(self._clock.now() - due)
                replies.append(reply)
                if finder is not None:
                    finder.offer(place, due, reply)
            wall_s, cpu_s = self._clock.now() - self._began, time.process_time() - cpu
        return Written(tuple(acks), _accepted(replies), wall_s, cpu_s, percentiles(self._late, (99,))["p99"])

    def _requests(self) -> Iterator[bytes]:
        """Never early; one that is late keeps the time it was due."""
        requests = self._writes.requests
        for place, at in enumerate(self._schedule):
            self._clock.sleep_until(self._began + at)
            self._late.append(self._clock.now() - self._began - at)
            yield requests[place % len(requests)]


def _accepted(replies: list[bytes]) -> int:
    """
    Raises:
        RuntimeError: an item was refused.
    """
    told = [ingest_pb2.UpsertResponse.FromString(reply) for reply in replies]
    if refused := [reply.errors[0] for reply in told if reply.errors]:
        raise RuntimeError(f"an item was refused: {refused[0]}")
    return sum(reply.accepted for reply in told)


@dataclass(slots=True)
class _Finder:
    """One search at a time, in a thread, for what was just acknowledged."""

    client: RetrievalClient
    writes: Writes
    found_s: list[float] = field(default_factory=list)
    n_hits: int = 0
    failure: Exception | None = None
    _thread: threading.Thread | None = None

    def offer(self, place: int, due: float, reply: bytes) -> None:
        """Searched for where no search is under way, else not."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._find, args=(place, due, reply))
            self._thread.start()

    def joined(self, written: Written) -> Written:
        if self._thread is not None:
            self._thread.join()
        if self.failure is not None:
            raise self.failure
        share = self.n_hits / max(1, len(self.found_s))
        return Written(
            written.ack_s,
            written.accepted,
            written.wall_s,
            written.client_cpu_s,
            written.late_s,
            tuple(self.found_s),
            share,
        )

    def _find(self, place: int, due: float, reply: bytes) -> None:
        at = place % len(self.writes.requests)
        sequence = ingest_pb2.UpsertResponse.FromString(reply).sequence
        try:
            result = self.client.search(
                COLLECTION,
                self.writes.first_vectors[at],
                params=SearchParams(k=K),
                attributes=(),
                min_sequence=sequence,
            )
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            self.failure = error
            return
        self.found_s.append(time.perf_counter() - due)
        self.n_hits += int(self.writes.first_ids[at]) in {hit.id for hit in result.hits}
