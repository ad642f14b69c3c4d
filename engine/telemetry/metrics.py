"""Prometheus metrics of the server. Knows nothing of what it counts."""

from __future__ import annotations

import time
from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from engine.errors import ConfigError
from engine.types import StageTimes

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STAGES = ("queue", "encode", "filter", "search", "fuse", "rank")


@dataclass(slots=True)
class MeasuredCall:
    """A call under way; ``code`` is what it will be counted as."""

    code: str = "OK"


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("ebr_calls", "gRPC calls by method and code", ["method", "code"], registry=self.registry)
        self._call_seconds = Histogram(
            "ebr_call_seconds", "Wall time of gRPC calls", ["method"], buckets=_SECONDS, registry=self.registry
        )
        self._queries = Counter("ebr_queries", "Queries by collection", ["collection"], registry=self.registry)
        self._stage_seconds = Histogram(
            "ebr_stage_seconds", "Wall time by stage", ["stage"], buckets=_SECONDS, registry=self.registry
        )
        # Looked up once: finding a label's child costs more than counting.
        self._of_stage = {stage: self._stage_seconds.labels(stage) for stage in _STAGES}
        self._of_call = lru_cache(maxsize=1024)(
            lambda method, code: (self._calls.labels(method, code), self._call_seconds.labels(method))
        )
        like = ["collection", "strategy", "selectivity"]
        self._recall_found = Counter(
            "ebr_recall_found", "True best items that checked live queries returned", like, registry=self.registry
        )
        self._recall_wanted = Counter(
            "ebr_recall_wanted", "True best items that checked live queries asked for", like, registry=self.registry
        )
        self._recall = Gauge("ebr_recall", "Recall over the last checked live queries", like, registry=self.registry)
        self._truncated = Counter(
            "ebr_truncated_items",
            "Items whose text was longer than the encoder reads",
            ["collection"],
            registry=self.registry,
        )

        self._rank_fallbacks = Counter(
            "ebr_rank_fallbacks",
            "Queries whose hits stayed in the fused order although the collection has a pipeline",
            ["collection", "reason"],
            registry=self.registry,
        )

    @contextmanager
    def call(self, method: str) -> Iterator[MeasuredCall]:
        """Count a call and its time, as CANCELLED where it is left by anything but an end of its own."""
        began = time.perf_counter()
        measured = MeasuredCall()
        ended = False
        try:
            yield measured
            ended = True
        finally:
            code = measured.code if ended or measured.code != "OK" else "CANCELLED"
            calls, seconds = self._of_call(method, code)
            calls.inc()
            seconds.observe(time.perf_counter() - began)

    def queries(self, collection: str, count: int, times: StageTimes) -> None:
        """Queries answered together, and the time of each stage."""
        self._queries.labels(collection).inc(count)
        for stage, histogram in self._of_stage.items():
            histogram.observe(getattr(times, stage))

    def rank_fallbacks(self, collection: str, reasons: Iterable[str | None]) -> None:
        """Of queries answered together; None: ranked."""
        for reason, count in Counted(one for one in reasons if one is not None).items():
            self._rank_fallbacks.labels(collection, reason).inc(count)

    def recall_checked(self, collection: str, strategy: str, band: str, found: int, wanted: int, mean: float) -> None:
        """A live query that was answered again exactly; ``mean``: recall over the last ones like it."""
        self._recall_found.labels(collection, strategy, band).inc(found)
        self._recall_wanted.labels(collection, strategy, band).inc(wanted)
        self._recall.labels(collection, strategy, band).set(mean)

    def truncated_items(self, collection: str, count: int) -> None:
        self._truncated.labels(collection).inc(count)

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """A value read whenever the metrics are."""
        Gauge(name, documentation, registry=self.registry).set_function(read)

    def gauge_by_collection(self, name: str, documentation: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Values by collection, read whenever the metrics are; a collection that is gone has none."""
        self.registry.register(_ByCollection(name, documentation, read))

    def serve(self, address: str) -> Callable[[], None]:
        """Answer HTTP scrapes at ``host:port``; returns how to stop.

        Raises:
            ConfigError: the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        try:
            server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=self.registry)
        except OSError as error:
            raise ConfigError(f"cannot serve metrics on {address}: {error}", metrics_listen=address) from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


class _ByCollection(Collector):
    def __init__(self, name: str, documentation: str, read: Callable[[], Mapping[str, float]]) -> None:
        self._name = name
        self._documentation = documentation
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(self._name, self._documentation, labels=["collection"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        (family,) = self.describe()
        for collection, value in self._read().items():
            family.add_metric([collection], value)
        yield family
