"""A server in its own process, on loopback, over a data directory that goes when the bench ends; and what loads it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.cache import cache_folder
from bench.harness import progress
from bench.machine import ROOT
from bench.predicates import Attributes
from engine.client import CollectionInfo, RetrievalClient, UpsertResult
from engine.item_columns import ItemColumns
from engine.types import Float32Array, Item, Metric, Schema

SERVE = ("-m", "engine.cli", "serve")
_STOP_SECONDS = 40.0
_BATCH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Running:
    """A server in its own process and a client to it."""

    client: RetrievalClient
    pid: int

    def cpu_s(self) -> float:
        """CPU time the server has used so far, all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A folder for a server's data, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ebr-bench-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def served(
    data_dir: Path,
    *,
    settings: Mapping[str, object] | None = None,
    program: Sequence[str] = SERVE,
    start_seconds: float = 300.0,
) -> Iterator[Running]:
    """A server that serves, and a client to it; always stopped, and its log shown where it fails.

    Args:
        settings: by their names in ``engine.config``; those of the environment do not count.
        program: what to run in place of ``ebr serve``.
    """
    share_kernels(data_dir)
    target = f"127.0.0.1:{free_port()}"
    # Queries that are measured with must tune nothing.
    told = {"log_level": "warning", "log_queries": False, **(settings or {}), "listen": target, "data_dir": data_dir}
    environment = _bare_environment() | {f"EBR_{name.upper()}": str(value) for name, value in told.items()}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        child = subprocess.Popen([sys.executable, *program], env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            with RetrievalClient(target, timeout_s=300) as client:
                _wait_for(child, client, start_seconds)
                yield Running(client, child.pid)
        except BaseException:
            log.seek(0)
            progress.print(f"[red]the server's log[/red]\n{log.read()[-4000:]}", markup=False)
            raise
        finally:
            stop(child)


def share_kernels(data_dir: Path) -> None:
    """Point a data directory at the compiled kernels of earlier runs: compiling them is no part of any figure."""
    shared = cache_folder() / "kernel-cache"
    shared.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    own = data_dir / "kernel-cache"
    if not own.exists():
        own.symlink_to(shared.absolute(), target_is_directory=True)


def _bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("EBR_")}


def _wait_for(child: subprocess.Popen[bytes], client: RetrievalClient, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not client.is_serving():
        if child.poll() is not None:
            raise RuntimeError(f"the server ended at its start with status {child.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"the server was not serving within {seconds:g} s")
        time.sleep(0.05)


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then make it."""
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


# Loading


def vector_schema(name: str, *, dimension: int, metric: Metric) -> Schema:
    """A collection whose callers bring the vectors; ids are row numbers."""
    return Schema(name, id_type="uint64", metric=metric, dimension=dimension)


def load_vectors(
    client: RetrievalClient, schema: Schema, vectors: Float32Array, *, attributes: Attributes | None = None
) -> CollectionInfo:
    """A new collection of the vectors, row r as item r with its attributes, searchable when this returns."""
    client.create_collection(schema)
    portion = max(1, min(10_000, _BATCH_BYTES // vectors[0].nbytes))
    ends = ((first, min(first + portion, len(vectors))) for first in range(0, len(vectors), portion))
    batches = (_columns_of(vectors, attributes, *one) for one in ends)
    return _searchable(client, schema.name, client.upsert_columns(schema.name, batches))


def _columns_of(vectors: Float32Array, attributes: Attributes | None, first: int, end: int) -> ItemColumns:
    own = {} if attributes is None else attributes.of_rows(first, end)
    return ItemColumns(np.arange(first, end, dtype=np.uint64), np.asarray(vectors[first:end], np.float32), own)


def load_items(client: RetrievalClient, schema: Schema, items: Sequence[Item]) -> CollectionInfo:
    """A new collection of the items, searchable when this returns."""
    client.create_collection(schema)
    return load_batches(client, schema.name, (items[first : first + 1000] for first in range(0, len(items), 1000)))


def load_batches(client: RetrievalClient, collection: str, batches: Iterable[Sequence[Item]]) -> CollectionInfo:
    return _searchable(client, collection, client.upsert_stream(collection, batches, bulk=True))


def _searchable(client: RetrievalClient, collection: str, results: Iterable[UpsertResult]) -> CollectionInfo:
    sequence = 0
    for result in results:
        if result.errors:
            raise RuntimeError(f"item {result.errors[0].id!r} was refused: {result.errors[0].error}")
        sequence = max(sequence, result.sequence)
    return wait_for(client, collection, lambda info: info.searchable_sequence >= sequence, seconds=120)


def wait_until_settled(
    client: RetrievalClient, collection: str, *, trained: bool, seconds: float, quiet_seconds: float = 2.0
) -> CollectionInfo:
    """Wait until the index's upkeep has changed nothing for so long, and has trained it where that is wanted."""
    since, rows = time.monotonic(), -1

    def is_settled(info: CollectionInfo) -> bool:
        nonlocal since, rows
        version = info.message.versions[0]
        if version.upkeep or version.ivfpq.rows != rows or (trained and not rows):
            since, rows = time.monotonic(), version.ivfpq.rows
        return time.monotonic() - since > quiet_seconds

    return wait_for(client, collection, is_settled, seconds=seconds)


def wait_for(
    client: RetrievalClient, collection: str, check: Callable[[CollectionInfo], bool], *, seconds: float
) -> CollectionInfo:
    """Ask for the collection until it is as wanted."""
    end = time.monotonic() + seconds
    while not check(info := client.get_collection(collection)):
        if time.monotonic() > end:
            raise RuntimeError(f"collection {collection!r} is not as wanted after {seconds:g} s: {info.message}")
        time.sleep(0.05)
    return info


def with_vectors(items: Sequence[Item], vectors: Float32Array) -> list[Item]:
    """The items with their vectors, which spares the server's encoder."""
    return [
        Item(item.id, item.text, item.attributes, np.asarray(vector))
        for item, vector in zip(items, vectors, strict=True)
    ]
