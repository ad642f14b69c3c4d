"""The wrapper around every method of a service."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest

from engine.errors import CollectionNotFound
from engine.rpc.methods import handlers
from engine.telemetry.metrics import Metrics
from engine.v1 import ingest_pb2


class _GoneCaller:
    """The context of a call whose caller has left by the time its status is to be sent."""

    def time_remaining(self) -> float | None:
        return None

    async def abort(self, *_: object) -> None:
        raise grpc.aio.InternalError("execute_batch failed")


class _Refusing:
    async def count(self, *_: object) -> None:
        raise CollectionNotFound("nothing")


def test_an_error_for_a_caller_that_has_left_ends_the_call_as_cancelled() -> None:
    """As anything else it would leave a traceback in the log for every call that ran out of time."""
    service = ingest_pb2.DESCRIPTOR.services_by_name["IngestService"]
    handler = handlers(service, _Refusing(), Metrics())._method_handlers["/engine.v1.IngestService/Count"]

    async def call() -> None:
        await handler.unary_unary(ingest_pb2.CountRequest(), _GoneCaller())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call())
