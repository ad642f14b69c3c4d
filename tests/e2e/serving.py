"""A real server on a loopback port, in a thread of the test process, so that a test can reach into its lanes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from engine.client import RetrievalClient
from engine.config import Settings
from engine.rpc.server import Server
from engine.types import AttributeSpec, AttributeType, Schema, TextField
from tests.fakes import WordEncoder

T = TypeVar("T")


class Serving:
    """A running server, its encoder, and a client of it."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, encoder: WordEncoder) -> None:
        self.server = server
        self.encoder = encoder
        self.loop = loop
        self.target = f"127.0.0.1:{server.port}"

    def on_loop(self, make: Callable[[], Any]) -> Any:
        """Run a coroutine (made by ``make``) on the server's own event loop."""
        return asyncio.run_coroutine_threadsafe(make(), self.loop).result(30)


@contextmanager
def serving(data_dir: Path, *, encoder_version: str = "words-1", **settings: Any) -> Iterator[Serving]:
    """Serve ``data_dir`` with the word encoder until the block ends, then drain."""
    encoder = WordEncoder()
    encoder.version = encoder_version
    started: list[Serving] = []
    failed: list[BaseException] = []
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        chosen = Settings(data_dir=data_dir, listen="127.0.0.1:0", drain_seconds=2.0, **settings)
        server = Server(chosen, open_encoder=lambda *_, **__: encoder)
        started.append(Serving(server, asyncio.get_running_loop(), encoder))
        await server.start()
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.stop()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="server")
    thread.start()
    ready.wait(240)  # the first server on a machine compiles
    try:
        if failed:
            raise failed[0]
        yield started[0]
    finally:
        stop.set()
        encoder.gate.set()
        thread.join(60)
    if failed:
        raise failed[0]


@contextmanager
def a_client(server: Serving) -> Iterator[RetrievalClient]:
    with RetrievalClient(server.target, timeout_s=20.0) as client:
        yield client


def text_schema(name: str = "things", **changes: Any) -> Schema:
    """A collection with an encoder and an attribute of every type."""
    schema = Schema(
        name=name,
        encoder="words",
        text_fields=(TextField("title"), TextField("body", order=1)),
        attributes=(
            AttributeSpec("colour", AttributeType.KEYWORD),
            AttributeSpec("tags", AttributeType.KEYWORD_LIST),
            AttributeSpec("remote", AttributeType.BOOL),
            AttributeSpec("price", AttributeType.INT),
            AttributeSpec("weight", AttributeType.FLOAT),
            AttributeSpec("posted", AttributeType.TIMESTAMP),
            AttributeSpec("place", AttributeType.GEO_POINT),
            AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True),
            AttributeSpec("secret", AttributeType.KEYWORD, stored=False),
        ),
    )
    return replace(schema, **changes)


def vector_schema(name: str = "points", dimension: int = 4, **changes: Any) -> Schema:
    """A collection whose vectors come from its callers."""
    schema = Schema(
        name=name,
        id_type="uint64",
        metric="l2",
        dimension=dimension,
        attributes=(AttributeSpec("group", AttributeType.KEYWORD), AttributeSpec("rank", AttributeType.INT)),
    )
    return replace(schema, **changes)


def wait_for(holds: Callable[[], bool], *, seconds: float = 10) -> None:
    """Ask until something that another thread or process does has happened."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
