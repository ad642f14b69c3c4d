"""Load from a process of its own: closed loops, and open loops whose latency counts from when a call was due.

Requests and replies stay bytes, so that what the client costs is gRPC's share and not protobuf's.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

import grpc
import numpy as np

from bench.harness import percentiles

P = ParamSpec("P")
T = TypeVar("T")
_CALL_SECONDS = 60.0
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Calls:
    """What to send, again and again in this order: serialised requests of ``queries_per_call`` queries each."""

    target: str
    method: str
    requests: tuple[bytes, ...]
    queries_per_call: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """What a load saw. ``latencies_s`` are of the calls that were answered; ``client_cpu_s`` is the load's own."""

    latencies_s: tuple[float, ...]
    failed: int
    wall_s: float
    client_cpu_s: float
    queries_per_call: int
    late_s: float = 0.0
    """How late the 99th percentile of an open loop's calls were sent; part of their latency."""
    due_s: tuple[float, ...] = ()
    """When each answered call of an open loop was due, on the clock of ``time.perf_counter``, which processes share."""

    @property
    def queries(self) -> int:
        return len(self.latencies_s) * self.queries_per_call

    @property
    def qps(self) -> float:
        return self.queries / self.wall_s

    def percentiles_ms(self) -> dict[str, float]:
        return {name: 1000 * value for name, value in percentiles(self.latencies_s).items()}

    def figures(self) -> dict[str, float]:
        return {"qps": self.qps, **{f"{name}_ms": value for name, value in self.percentiles_ms().items()}}


class Clock(Protocol):
    """Seconds from any start."""

    def now(self) -> float: ...

    def sleep_until(self, when: float) -> None: ...


class WallClock:
    """The clock of an open loop outside of tests."""

    def now(self) -> float:
        return time.perf_counter()

    def sleep_until(self, when: float) -> None:
        remaining = when - time.perf_counter()
        if remaining > 0:
            time.sleep(remaining)


def poisson_schedule(rate: float, seconds: float, *, seed: int) -> tuple[float, ...]:
    """Times from 0 on at which calls are due: independent arrivals, ``rate`` a second on average."""
    times = np.asarray(poisson_times(rate, int(2 * rate * seconds) + 16, seed=seed))
    return tuple(times[times < seconds].tolist())


def poisson_times(rate: float, n: int, *, seed: int) -> tuple[float, ...]:
    """The same for so many calls, however long they take."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=n)
    return tuple(np.cumsum(gaps).tolist())


def fire(schedule: Sequence[float], send: Callable[[int, float], None], clock: Clock) -> None:
    """``send(place, due)`` for each time of the schedule, never early; one that is late keeps the time it was due."""
    began = clock.now()
    for place, at in enumerate(schedule):
        clock.sleep_until(began + at)
        send(place, began + at)


def open_loop(calls: Calls, rate: float, seconds: float, seed: int) -> Load:
    """Calls at random times whatever becomes of those before; latency from the time each was due."""
    clock = WallClock()
    schedule = poisson_schedule(rate, seconds, seed=seed)
    latencies: list[float | None] = [None] * len(schedule)
    late: list[float] = []
    left = threading.Semaphore(0)
    with _channel(calls) as method:
        began, cpu = clock.now(), time.process_time()

        def send(place: int, due: float) -> None:
            late.append(clock.now() - due)

            def done(call: Any) -> None:
                if call.code() is grpc.StatusCode.OK:
                    latencies[place] = clock.now() - due
                left.release()

            request = calls.requests[place % len(calls.requests)]
            method.future(request, timeout=_CALL_SECONDS).add_done_callback(done)

        fire(schedule, send, clock)
        for _ in schedule:
            left.acquire()
        wall_s, cpu_s = clock.now() - began, time.process_time() - cpu
    answered = tuple(one for one in latencies if one is not None)
    due_s = tuple(began + at for at, one in zip(schedule, latencies, strict=True) if one is not None)
    late_s = percentiles(late, (99,))["p99"]
    return Load(answered, len(schedule) - len(answered), wall_s, cpu_s, calls.queries_per_call, late_s, due_s)


def one_client(calls: Calls, seconds: float) -> Load:
    """One call after another, each waited for."""
    latencies: list[float] = []
    failed = 0
    with _channel(calls) as method:
        method(calls.requests[0], timeout=_CALL_SECONDS)
        began, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds or not latencies:
            sent = time.perf_counter()
            try:
                method(calls.requests[len(latencies) % len(calls.requests)], timeout=_CALL_SECONDS)
            except grpc.RpcError:
                failed += 1
                if failed > 100:
                    raise
            else:
                latencies.append(time.perf_counter() - sent)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return Load(tuple(latencies), failed, wall_s, cpu_s, calls.queries_per_call)


def many_clients(calls: Calls, clients: int, seconds: float) -> Load:
    """So many loops like ``one_client``'s at once, over one connection."""
    return asyncio.run(_many_clients(calls, clients, seconds))


async def _many_clients(calls: Calls, clients: int, seconds: float) -> Load:
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(calls.target, options=_OPTIONS) as channel:
        method = channel.unary_unary(calls.method, None, None)
        await method(calls.requests[0], timeout=_CALL_SECONDS)
        began, cpu = time.perf_counter(), time.process_time()

        async def loop(number: int) -> int:
            place, failed = number, 0
            while time.perf_counter() - began < seconds:
                sent = time.perf_counter()
                try:
                    await method(calls.requests[place % len(calls.requests)], timeout=_CALL_SECONDS)
                except grpc.aio.AioRpcError:
                    failed += 1
                else:
                    latencies.append(time.perf_counter() - sent)
                place += clients
            return failed

        failures = await asyncio.gather(*(loop(number) for number in range(clients)))
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return Load(tuple(latencies), sum(failures), wall_s, cpu_s, calls.queries_per_call)


def reply_bytes(calls: Calls) -> int:
    """The size of the reply to the first request."""
    with _channel(calls) as method:
        return len(method(calls.requests[0], timeout=_CALL_SECONDS))


@contextlib.contextmanager
def _channel(calls: Calls) -> Iterator[Any]:
    with grpc.insecure_channel(calls.target, options=_OPTIONS) as channel:
        yield channel.unary_unary(calls.method, None, None)


class LoadProcess:
    """A process that runs loads, one at a time."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, load: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """Any other load, without waiting for it."""
        return self._pool.submit(load, *arguments, **named)

    def one_client(self, calls: Calls, *, seconds: float) -> Load:
        return self._pool.submit(one_client, calls, seconds).result()

    def many_clients(self, calls: Calls, clients: int, *, seconds: float) -> Load:
        return self._pool.submit(many_clients, calls, clients, seconds).result()

    def open_loop(self, calls: Calls, rate: float, *, seconds: float, seed: int) -> Load:
        return self._pool.submit(open_loop, calls, rate, seconds, seed).result()

    def start_many_clients(self, calls: Calls, clients: int, *, seconds: float) -> Future[Load]:
        """The same as ``many_clients`` without waiting, as a background for another load."""
        return self._pool.submit(many_clients, calls, clients, seconds)
