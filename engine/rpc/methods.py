"""From a service's descriptor to its gRPC handlers: parse, call the servicer's method, turn errors into statuses.

One wrapper for all methods, so that no servicer knows of status codes, and undecodable bytes get a clear answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from engine.errors import EngineError, Undecodable, Unimplemented
from engine.rpc.status import grpc_code, status_of, trailers_of
from engine.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """What a servicer's method learns of its call. ``deadline`` is on the clock of ``time.monotonic``."""

    deadline: float | None


@dataclass(frozen=True, slots=True)
class _Unparsed:
    """Bytes that are no message of the expected type; passed on so that our own code answers for them."""

    error: Undecodable


def handlers(service: ServiceDescriptor, servicer: object, metrics: Metrics) -> Any:
    """Handlers for every method of the service; those the servicer lacks answer UNIMPLEMENTED."""
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: _handler(method, servicer, metrics) for method in service.methods}
    )


def _handler(method: MethodDescriptor, servicer: object, metrics: Metrics) -> Any:
    implementation = getattr(servicer, _snake(method.name), None) or _unimplemented(method)
    parse = _parser(GetMessageClass(method.input_type))
    if method.client_streaming:
        behaviour = _streaming(method.full_name, implementation, metrics)
        return grpc.stream_stream_rpc_method_handler(behaviour, parse, _serialize)
    behaviour = _unary(method.full_name, implementation, metrics)
    return grpc.unary_unary_rpc_method_handler(behaviour, parse, _serialize)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _parser(cls: type[Message]) -> Callable[[bytes], Message | _Unparsed]:
    def parse(content: bytes) -> Message | _Unparsed:
        try:
            return cls.FromString(content)
        except DecodeError as error:
            return _Unparsed(Undecodable("request", f"{len(content)} bytes are no {cls.DESCRIPTOR.name}: {error}"))

    return parse


def _unimplemented(method: MethodDescriptor) -> Callable[..., Any]:
    def refuse(*_: object) -> Any:
        raise Unimplemented(f"{method.full_name} is not implemented yet")

    return refuse


def _unary(name: str, implementation: Callable[..., Any], metrics: Metrics) -> Callable[..., Any]:
    async def behaviour(request: Message | _Unparsed, context: grpc.aio.ServicerContext) -> Message:  # type: ignore[type-arg]
        with metrics.call(name) as measured:
            try:
                if isinstance(request, _Unparsed):
                    raise request.error
                reply: Message = await implementation(request, _call(context))
                return reply
            except Exception as error:
                engine_error = _as_engine_error(error, name)
                measured.code = engine_error.code
            await _abort(context, engine_error)
            raise AssertionError("abort does not return")

    return behaviour


def _streaming(name: str, implementation: Callable[..., Any], metrics: Metrics) -> Callable[..., Any]:
    async def behaviour(
        requests: AsyncIterator[Message | _Unparsed],
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> AsyncIterator[Message]:
        with metrics.call(name) as measured:
            try:
                async for reply in implementation(_parsed(requests), _call(context)):
                    yield reply
                return
            except Exception as error:
                engine_error = _as_engine_error(error, name)
                measured.code = engine_error.code
            await _abort(context, engine_error)

    return behaviour


async def _parsed(requests: AsyncIterator[Message | _Unparsed]) -> AsyncIterator[Message]:
    async for request in requests:
        if isinstance(request, _Unparsed):
            raise request.error
        yield request


def _call(context: grpc.aio.ServicerContext) -> Call:  # type: ignore[type-arg]
    remaining = context.time_remaining()
    return Call(None if remaining is None else time.monotonic() + remaining)


def _as_engine_error(error: Exception, name: str) -> EngineError:
    if isinstance(error, EngineError):
        return error
    logger.exception("%s failed", name, exc_info=error)
    return EngineError("an internal error; the server's log has the details")


async def _abort(context: grpc.aio.ServicerContext, error: EngineError) -> None:  # type: ignore[type-arg]
    """Raises what ends the call; CancelledError where nobody is there any more to be told."""
    status = status_of(error)
    try:
        await context.abort(grpc_code(error), status.message, trailers_of(status))
    except grpc.aio.InternalError as gone:
        raise asyncio.CancelledError from gone


async def in_order(tasks: AsyncIterator[asyncio.Task[Any]], *, ahead: int) -> AsyncIterator[Any]:
    """Results of tasks in their order, at most ``ahead`` of them under way; what is left at the end is cancelled."""
    queue: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(ahead)

    async def feed() -> None:
        try:
            async for task in tasks:
                await queue.put(task)
        finally:
            await queue.put(None)

    feeder = asyncio.create_task(feed())
    try:
        while (task := await queue.get()) is not None:
            yield await task
        await feeder
    finally:
        feeder.cancel()
        while not queue.empty():
            if (task := queue.get_nowait()) is not None:
                task.cancel()
                # Nobody is told any more.
                task.add_done_callback(lambda left: left.cancelled() or left.exception())
