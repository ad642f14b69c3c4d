"""How fast rows go in: `ebr load` from files, row by row and as columns, both streams of the API, and what others take.

Ours are durable and searchable when the time ends. A faiss IndexFlat only copies; databases write, but train nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import Report
from bench.live_bed import COLLECTION, DIMENSION, NEVER, Bed
from bench.load import LoadProcess
from bench.machine import ROOT
from bench.peers.process import NAMES, missing
from bench.serving import Running, data_folder, load_batches, vector_schema
from engine.cli.load import wait_until_searchable
from engine.item_columns import ItemColumns
from engine.types import AttributeSpec, AttributeType, Float32Array, Item, Schema

_BATCH = 1000
_COLUMNS_BATCH = 8192
_ATTRIBUTES = (AttributeSpec("colour", AttributeType.KEYWORD), AttributeSpec("place", AttributeType.INT))
_COLOURS = ("amber", "black", "coral", "green")
_PORTION = 20_000
_MOST_ROWS = {"lancedb": 200_000, "milvus_lite": 200_000}
"""Of databases, whose rates hardly change with more."""


def measure(bed: Bed) -> None:
    report, rows = bed.report, bed.made.items
    report.figure("rows", len(rows))
    report.figure("driver", "`ebr load` in a process of its own; the streams from this one, items made on the way")
    with data_folder() as files:
        np.save(files / "rows.npy", rows)
        table = _table(rows)
        _write_parquet(files / "columns.parquet", table)
        _write_parquet(files / "rows.parquet", _with_times(table))
        with data_folder() as folder, bed.served(folder, train_at=NEVER) as running:
            bed.watch.forget()
            _tell(report, "stream.vectors_per_s", len(rows), running, lambda: _stream(running, rows))
            _tell(report, "columns.vectors_per_s", len(rows), running, lambda: _columns(running, rows))
            _create(running, "npy", ())
            npy = files / "rows.npy"
            _tell(report, "ebr_load_columns.vectors_per_s", len(rows), running, lambda: _ebr_load(running, npy, "npy"))
            for name, file, collection in (
                ("ebr_load_columns.items_per_s", "columns.parquet", "columns"),
                ("ebr_load.items_per_s", "rows.parquet", COLLECTION),
            ):
                _create(running, collection, _ATTRIBUTES)
                load = partial(_ebr_load, running, files / file, collection, "--vector", "vector")
                _tell(report, name, len(rows), running, load)
        _peers(report, files, len(rows))


def _tell(report: Report, name: str, n_rows: int, running: Running, load: Callable[[], None]) -> None:
    cpu_s, began = running.cpu_s(), time.perf_counter()
    load()
    wall_s = time.perf_counter() - began
    report.figure(name, n_rows / wall_s)
    report.figure(f"{name}.server_cpu_cores", (running.cpu_s() - cpu_s) / wall_s)


def _stream(running: Running, rows: Float32Array) -> None:
    running.client.create_collection(vector_schema("stream", dimension=DIMENSION, metric="dot"))
    batches = (
        [Item(row, vector=rows[row]) for row in range(first, min(first + _BATCH, len(rows)))]
        for first in range(0, len(rows), _BATCH)
    )
    load_batches(running.client, "stream", batches)


def _columns(running: Running, rows: Float32Array) -> None:
    _create(running, "columns_alone", ())
    ids = np.arange(len(rows), dtype=np.uint64)
    batches = (
        ItemColumns(ids[first : first + _COLUMNS_BATCH], rows[first : first + _COLUMNS_BATCH])
        for first in range(0, len(rows), _COLUMNS_BATCH)
    )
    last = deque(running.client.upsert_columns("columns_alone", batches), maxlen=1)[0]
    wait_until_searchable(running.client, "columns_alone", last.sequence)


def _create(running: Running, collection: str, attributes: tuple[AttributeSpec, ...]) -> None:
    schema = Schema(collection, id_type="uint64", metric="dot", dimension=DIMENSION, attributes=attributes)
    running.client.create_collection(schema)


def _table(rows: Float32Array) -> Any:
    """Ids, two attributes and vectors."""
    import pyarrow as pa

    numbers = np.arange(len(rows))
    return pa.table(
        {
            "id": numbers,
            "colour": np.array(_COLOURS)[numbers % len(_COLOURS)],
            "place": numbers,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1]),
        }
    )


def _with_times(table: Any) -> Any:
    """With times, be they null, a file is read row by row."""
    import pyarrow as pa

    return table.append_column("_expires_at", pa.nulls(len(table)))


def _write_parquet(path: Path, table: Any) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path)


def _ebr_load(running: Running, file: Path, collection: str, *options: str) -> None:
    """Its start and the reading of the file are part of it."""
    command = [sys.executable, "-m", "engine.cli", "load", str(file), "--collection", collection, *options]
    command += ["--restart", "--target", running.client.target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ebr load ended with status {done.returncode}: {done.stderr[-2000:]}")


# Peers, each in a process of its own


def _peers(report: Report, files: Path, n_rows: int) -> None:
    for name, load in PEERS.items():
        if name in NAMES and (why := missing(name)):
            report.figure(f"without.{name}", why)
        else:
            _peer(report, files, name, min(n_rows, _MOST_ROWS.get(name, n_rows)), load)


def _peer(report: Report, files: Path, name: str, n_rows: int, load: Callable[[Path, int], float]) -> None:
    with LoadProcess() as alone:
        seconds = alone.start(load, files, n_rows).result()
    report.figure(f"{name}.vectors_per_s", n_rows / seconds)
    report.figure(f"{name}.rows", n_rows)


def _faiss_flat(files: Path, n_rows: int) -> float:
    import faiss

    rows = np.load(files / "rows.npy")[:n_rows]
    index = faiss.IndexFlatIP(rows.shape[1])
    began = time.perf_counter()
    for first in range(0, n_rows, _BATCH):
        index.add(rows[first : first + _BATCH])
    return time.perf_counter() - began


def _lancedb(files: Path, n_rows: int) -> float:
    import lancedb
    import pyarrow as pa

    rows = np.load(files / "rows.npy")[:n_rows]

    def portion(first: int) -> Any:
        part = rows[first : first + _PORTION]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
        return pa.table({"row": np.arange(first, first + len(part)), "vector": vectors})

    began = time.perf_counter()
    table = lancedb.connect(str(files / "lancedb")).create_table("rows", portion(0))
    for first in range(_PORTION, n_rows, _PORTION):
        table.add(portion(first))
    return time.perf_counter() - began


def _milvus_lite(files: Path, n_rows: int) -> float:
    from milvus_lite import CollectionSchema, DataType, FieldSchema, MilvusLite

    rows = np.load(files / "rows.npy")[:n_rows]
    fields = [
        FieldSchema("row", DataType.INT64, is_primary=True),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=rows.shape[1]),
    ]
    began = time.perf_counter()
    with MilvusLite(str(files / "milvus-lite")) as database:
        collection = database.create_collection("rows", CollectionSchema(fields))
        for first in range(0, n_rows, _PORTION):
            part = enumerate(rows[first : first + _PORTION].tolist(), first)
            collection.insert([{"row": row, "vector": vector} for row, vector in part])
        collection.flush()
        return time.perf_counter() - began


PEERS: dict[str, Callable[[Path, int], float]] = {
    "faiss_flat": _faiss_flat,
    "lancedb": _lancedb,
    "milvus_lite": _milvus_lite,
}
"""Each loads the first rows of rows.npy in the folder and gives the seconds it took."""
