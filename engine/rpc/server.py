"""The life of a server: bind, load, warm up, serve, drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from engine.config import Settings, parse_address
from engine.errors import ConfigError
from engine.limits import Limits
from engine.models.bundle import open_encoder
from engine.pipeline.engine import Engine, OpenEncoder
from engine.pipeline.recall_monitor import RecallCheck
from engine.rpc.admin import AdminServicer
from engine.rpc.ingest import IngestServicer
from engine.rpc.methods import handlers
from engine.rpc.retrieval import RetrievalServicer
from engine.telemetry.metrics import Metrics
from engine.v1 import admin_pb2, ingest_pb2, retrieval_pb2

logger = logging.getLogger(__name__)

_SERVICES = (
    retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
    ingest_pb2.DESCRIPTOR.services_by_name["IngestService"],
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """A gRPC server over one data directory.

    Args:
        settings: see ``engine.config``.
        import_seconds: what loading the libraries took, told among the parts of the start.
        freezes_heap: whether what is loaded stays until the end, in a process that does nothing but serve.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        import_seconds: float = 0.0,
        open_encoder: OpenEncoder = open_encoder,
        freezes_heap: bool = False,
    ) -> None:
        self.settings = settings
        self._freezes_heap = freezes_heap
        limits = settings.limits
        self.metrics = Metrics()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
        self._stop_metrics: Callable[[], None] | None = None
        self._server = grpc.aio.server(options=_options(limits))
        self.port = self._bind(settings.listen)
        self.engine = Engine(
            settings,
            limits,
            health=self._collection_health,
            recall_checked=self._recall_checked,
            open_encoder=open_encoder,
        )
        self.engine.start_seconds["imports"] = import_seconds
        self._register()

    async def start(self) -> None:
        """Answer health checks at once and searches as soon as everything is loaded and warm."""
        await self._health.set("", NOT_SERVING)
        await self._server.start()
        if self.settings.metrics_listen:
            self._stop_metrics = self.metrics.serve(self.settings.metrics_listen)
        await self.engine.load()
        if self._freezes_heap:
            _freeze_heap()
        for service in _SERVICES:
            await self._health.set(service.full_name, SERVING)
        await self._health.set("", SERVING)
        parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in self.engine.start_seconds.items())
        logger.info("serving on port %d (%s)", self.port, parts)

    async def stop(self) -> None:
        """Refuse new calls, let those under way finish within ``drain_seconds``, then close the data directory."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.settings.drain_seconds)
        await self.engine.close()
        if self._stop_metrics is not None:
            await asyncio.to_thread(self._stop_metrics)

    def _bind(self, address: str) -> int:
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            why = _why_not_bound(address) or str(error)
            raise ConfigError(
                f"cannot listen on {address}: {why}; another address: --listen", listen=address
            ) from error
        return port

    def _register(self) -> None:
        servicers = (
            RetrievalServicer(self.engine, self.metrics),
            IngestServicer(self.engine, self.metrics),
            AdminServicer(self.engine),
        )
        for service, servicer in zip(_SERVICES, servicers, strict=True):
            self._server.add_generic_rpc_handlers((handlers(service, servicer, self.metrics),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [service.full_name for service in _SERVICES]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        lanes = self.engine.lanes
        self.metrics.gauge("ebr_encode_waiting_seconds", "Encoding that waits", lambda: lanes.encode.lane.waiting_cost)
        self.metrics.gauge("ebr_search_waiting_queries", "Queries that wait", lambda: lanes.search.waiting_cost)
        rank = lanes.rank
        self.metrics.gauge("ebr_rank_waiting_seconds", "Ranking that waits", lambda: rank.waiting_cost)
        self.metrics.gauge("ebr_rank_batches", "Batches ranked so far", lambda: rank.figures.batches)
        self.metrics.gauge("ebr_rank_batched_calls", "Calls ranked in these batches", lambda: rank.figures.entries)
        self.metrics.gauge(
            "ebr_rank_failed_batches",
            "Batches that failed, or were ended when nobody waited for them any more",
            lambda: rank.figures.failed_batches,
        )
        loss = self.engine.device_loss
        self.metrics.gauge("ebr_device_lost", "1 once the GPU has failed since the start", lambda: loss.is_lost)
        self.metrics.gauge_by_collection(
            "ebr_writes_held_back_seconds",
            "Seconds that requests of many items have waited for folding since the start",
            self.engine.upkeep.held_back,
        )
        self.metrics.gauge_by_collection(
            "ebr_upkeep_paused", "1 while upkeep of the collection begins nothing", self.engine.upkeep.paused
        )
        self.metrics.gauge_by_collection(
            "ebr_drift", "Share of late rows that are unexpectedly far from their lists", self.engine.drifts
        )
        self.metrics.gauge_by_collection(
            "ebr_imbalance", "How uneven lists are over what they were when trained", self.engine.imbalances
        )
        masks = self.engine.masks.counters
        self.metrics.gauge("ebr_mask_cache_hits", "Mask segments served from the cache so far", lambda: masks.hits)
        self.metrics.gauge("ebr_mask_cache_misses", "Mask segments evaluated so far", lambda: masks.misses)
        self.metrics.gauge("ebr_mask_cache_evictions", "Masks dropped for others so far", lambda: masks.evictions)
        self.metrics.gauge("ebr_mask_cache_bytes", "Masks kept between batches, in bytes", lambda: masks.bytes)
        coarse = self.engine.coarse_queries
        self.metrics.gauge("ebr_coarse_queries", "Queries answered by coarse scans so far", lambda: coarse()[0])
        self.metrics.gauge(
            "ebr_coarse_unproven_queries", "Of these, queries that a full scan had to answer", lambda: coarse()[1]
        )
        monitor = self.engine.recall_monitor
        self.metrics.gauge("ebr_recall_checked_queries", "Live queries checked so far", lambda: monitor.checked)
        self.metrics.gauge(
            "ebr_recall_passed_over_queries", "Queries drawn while too many waited", lambda: monitor.passed_over
        )
        self.metrics.gauge(
            "ebr_commit_waiting_items", "Items that wait to be committed", lambda: lanes.commit.waiting_cost
        )

    def _recall_checked(self, check: RecallCheck, mean: float) -> None:
        self.metrics.recall_checked(check.collection, check.strategy.value, check.band, check.found, check.wanted, mean)

    def _collection_health(self, name: str, serving: bool) -> None:
        state = SERVING if serving else NOT_SERVING
        task = asyncio.get_running_loop().create_task(self._health.set(name, state))
        task.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("a health status could not be set", exc_info=task.exception())


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", -1),
        # Two servers on one port would share its connections unnoticed.
        ("grpc.so_reuseport", 0),
    ]


def serve(settings: Settings, *, import_seconds: float = 0.0) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        ConfigError: the address, the data directory, the device or an encoder is unusable.
    """
    asyncio.run(_serve(settings, import_seconds))


async def _serve(settings: Settings, import_seconds: float) -> None:
    began = time.perf_counter()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = Server(settings, import_seconds=import_seconds, freezes_heap=True)
    starting = asyncio.create_task(server.start())
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            await starting
            logger.info("ready %.2f s after the imports", time.perf_counter() - began)
            await waiting
    finally:
        starting.cancel()
        waiting.cancel()
        logger.info("draining")
        await server.stop()


def _why_not_bound(address: str) -> str:
    """What the system says of listening there, in its words; gRPC tells that to its own log alone. Empty if nothing."""
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _freeze_heap() -> None:
    """Take what has been imported and loaded out of the garbage collector's sight: it stays until the end, and to look
    through it again takes the collector 100 to 150 ms, in which nothing else runs.
    """
    gc.collect()
    gc.freeze()
