"""A channel to a server: calls, streams, the errors of both, and whether the server serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine.client.results import status_error
from engine.errors import DeadlineExceeded, EngineError, Unavailable, from_wire
from engine.v1 import admin_pb2_grpc, ingest_pb2_grpc, retrieval_pb2_grpc

_DETAILS = "grpc-status-details-bin"
_FIRST_RETRY_SECONDS = 0.02
_LONGEST_RETRY_SECONDS = 0.5


class Connection:
    """What the calls of all services share.

    Args:
        target: host:port.
        timeout_s: the deadline of a call that names none.
        max_message_bytes: of a reply; the server publishes its own limit for requests.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        timeout_s: float = 30.0,
        max_message_bytes: int = 256 << 20,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # A server that is just starting should be found within a moment of its port opening.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._retrieval = retrieval_pb2_grpc.RetrievalServiceStub(self._channel)
        self._ingest = ingest_pb2_grpc.IngestServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def is_serving(self, collection: str = "") -> bool:
        """Whether the server, or one collection of it, serves now; False where nothing answers or is known."""
        try:
            request = health_pb2.HealthCheckRequest(service=collection)
            reply = self._health.Check(request, timeout=min(self.timeout_s, 5.0))
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_until_serving(self, collection: str = "", *, timeout_s: float = 60.0) -> None:
        """Ask again and again, ever more slowly, until the server or the collection serves.

        Raises:
            DeadlineExceeded: it did not within ``timeout_s``.
        """
        end = time.monotonic() + timeout_s
        pause = _FIRST_RETRY_SECONDS
        while not self.is_serving(collection):
            if time.monotonic() + pause > end:
                what = f"collection {collection!r}" if collection else "the server"
                raise DeadlineExceeded(f"{what} at {self.target} was not serving within {timeout_s:g} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)

    def _call(self, method: Callable[..., Any], request: object, timeout_s: float | None) -> Any:
        try:
            return method(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
        except grpc.RpcError as error:
            raise self._engine_error(error) from None

    def _stream(self, method: Callable[..., Any], requests: Iterator[Any], timeout_s: float | None) -> Iterator[Any]:
        call = method(requests, timeout=timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._engine_error(error) from None
        finally:
            call.cancel()

    def _engine_error(self, error: Any) -> EngineError:
        """The engine's error for a failed call; one that never reached a server says where none answered."""
        for key, value in error.trailing_metadata() or ():
            if key == _DETAILS:
                told = status_error(status_pb2.Status.FromString(value))
                if told is not None:
                    return told
        code, details = error.code().name, error.details() or ""
        if code == "UNAVAILABLE" and "connect" in details.lower():
            return Unavailable(f"no server answers at {self.target}: start one with `ebr serve`", target=self.target)
        if code == "UNAVAILABLE" and "resol" in details.lower():
            return Unavailable(f"no host is found at {self.target}: HOST:PORT is wanted", target=self.target)
        return from_wire(code, "", details, {})
