"""Vector databases that run in process, milvus-lite and lancedb: a filter is an expression."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import progress
from bench.peers.base import Built, Knobs, Rows, list_count, padded, probes_up_to
from bench.predicates import Predicate
from engine.types import Float32Array, Int64Array

_PORTION = 20_000


def _built_once(folder: Path, make: Callable[[Path], None]) -> Built:
    """A database folder made now, or found as it was made before."""
    seconds = folder.with_suffix(".seconds")
    if not seconds.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        began = time.perf_counter()
        make(folder)
        seconds.write_text(str(time.perf_counter() - began), "ascii")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Built(float(seconds.read_text("ascii")), size, "IVF_FLAT")


class _Database:
    has_ready = False
    largest_rate = 1.0
    knob_names = ("nprobe",)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._nlist = list_count(len(rows.items))

    def ladders(self, k: int) -> list[list[Knobs]]:
        return [[(nprobe,) for nprobe in probes_up_to(self._nlist)]]

    def _columns(self, first: int, end: int) -> list[dict[str, Any]]:
        """Attributes of rows as both libraries take them, lists as lists."""
        columns = {name: one.as_values() for name, one in self._rows.attributes.of_rows(first, end).items()}
        return [
            {name: list(value) if isinstance(value, tuple) else value for name, value in zip(columns, row, strict=True)}
            for row in zip(*columns.values(), strict=True)
        ]


class MilvusLite(_Database):
    """Its engine is called directly, without the gRPC server that pymilvus would start around it."""

    def build(self) -> Built:
        from importlib.metadata import version

        from milvus_lite import MilvusLite as Database

        folder = self._rows.folder / f"milvus-lite-{version('milvus-lite')}"
        built = _built_once(folder, self._make)
        self._database = Database(str(folder))
        self._collection = self._database.get_collection("rows")
        self._collection.load()
        return Built(built.seconds, built.bytes, f"IVF_FLAT nlist={self._nlist} a segment")

    def ready(self, predicate: Predicate) -> str | None:
        conditions = [f"({one.attribute} >= {one.low} and {one.attribute} < {one.end})" for one in predicate.ranges]
        for wanted in predicate.keywords:
            values = "[" + ", ".join(f"'{_escaped(value)}'" for value in wanted.values) + "]"
            is_list = self._rows.attributes.keywords[wanted.attribute].is_list
            condition = (
                f"array_contains_any({wanted.attribute}, {values})" if is_list else f"{wanted.attribute} in {values}"
            )
            conditions.append(condition)
        return " and ".join(conditions) or None

    def search(self, queries: Float32Array, filters: Sequence[str | None], *, k: int, knobs: Knobs) -> Int64Array:
        if filters[0] is None:
            return padded(self._rows_of(queries, None, k, knobs), n=len(queries), k=k)
        each = zip(queries, filters, strict=True)
        found = [self._rows_of(query[None, :], expression, k, knobs)[0] for query, expression in each]
        return padded(found, n=len(queries), k=k)

    def _rows_of(self, queries: Float32Array, expression: str | None, k: int, knobs: Knobs) -> list[list[int]]:
        results = self._collection.search(
            queries.tolist(), top_k=k, expr=expression, output_fields=[], search_params={"nprobe": knobs[0]}
        )
        return [[int(hit["id"]) for hit in hits] for hits in results]

    def _make(self, folder: Path) -> None:
        from milvus_lite import CollectionSchema, DataType, FieldSchema
        from milvus_lite import MilvusLite as Database

        attributes = self._rows.attributes
        fields = [
            FieldSchema("row", DataType.INT64, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=self._rows.items.shape[1]),
            *(FieldSchema(name, DataType.INT64) for name in attributes.ints),
        ]
        for name, one in attributes.keywords.items():
            text: dict[str, Any] = {"max_length": 1024}
            if one.is_list:
                text |= {"element_type": DataType.VARCHAR, "max_capacity": 4096}
            fields.append(FieldSchema(name, DataType.ARRAY if one.is_list else DataType.VARCHAR, **text))
        with Database(str(folder)) as database:
            collection = database.create_collection("rows", CollectionSchema(fields))
            for first in range(0, len(self._rows.items), _PORTION):
                collection.insert(self._records(first))
                progress.print(f"  [dim]milvus-lite: {first + _PORTION:,} rows[/dim]")
            collection.flush()
            kind = "L2" if self._rows.metric == "l2" else "IP"
            collection.create_index(
                "vector", {"index_type": "IVF_FLAT", "metric_type": kind, "params": {"nlist": self._nlist}}
            )
            collection.load()

    def _records(self, first: int) -> list[dict[str, Any]]:
        end = min(first + _PORTION, len(self._rows.items))
        vectors = self._rows.items[first:end].tolist()
        return [
            {"row": row, "vector": vector, **columns}
            for row, vector, columns in zip(range(first, end), vectors, self._columns(first, end), strict=True)
        ]


class LanceDb(_Database):
    """A table with a vector index and an index of each attribute; filters come before the search."""

    def build(self) -> Built:
        from importlib.metadata import version

        import lancedb

        folder = self._rows.folder / f"lancedb-{version('lancedb')}"
        built = _built_once(folder, self._make)
        self._table = lancedb.connect(str(folder)).open_table("rows")
        return Built(built.seconds, built.bytes, f"IVF_FLAT num_partitions={self._nlist}")

    def ready(self, predicate: Predicate) -> str | None:
        conditions = [f"({one.attribute} >= {one.low} AND {one.attribute} < {one.end})" for one in predicate.ranges]
        for wanted in predicate.keywords:
            values = ", ".join("'" + value.replace("'", "''") + "'" for value in wanted.values)
            is_list = self._rows.attributes.keywords[wanted.attribute].is_list
            condition = (
                f"array_has_any({wanted.attribute}, [{values}])" if is_list else f"{wanted.attribute} IN ({values})"
            )
            conditions.append(condition)
        return " AND ".join(conditions) or None

    def search(self, queries: Float32Array, filters: Sequence[str | None], *, k: int, knobs: Knobs) -> Int64Array:
        found = [self._one(query, own, k, knobs) for query, own in zip(queries, filters, strict=True)]
        return padded(found, n=len(queries), k=k)

    def _one(self, query: Float32Array, expression: str | None, k: int, knobs: Knobs) -> Int64Array:
        asked: Any = self._table.search(query, vector_column_name="vector")
        asked = asked.nprobes(knobs[0]).limit(k).select(["row", "_distance"])
        asked = asked.distance_type("l2" if self._rows.metric == "l2" else "dot")
        if expression is not None:
            asked = asked.where(expression, prefilter=True)
        rows: Int64Array = asked.to_arrow()["row"].to_numpy().astype(np.int64)
        return rows

    def _make(self, folder: Path) -> None:
        import lancedb
        from lancedb.index import Bitmap, BTree, IvfFlat, LabelList

        first, *others = range(0, len(self._rows.items), _PORTION)
        table = lancedb.connect(str(folder)).create_table("rows", self._arrow(first))
        for start in others:
            table.add(self._arrow(start))
        table.optimize()
        lists = IvfFlat(distance_type="l2" if self._rows.metric == "l2" else "dot", num_partitions=self._nlist)
        table.create_index("vector", config=lists)
        for name in self._rows.attributes.ints:
            table.create_index(name, config=BTree())
        for name, one in self._rows.attributes.keywords.items():
            table.create_index(name, config=LabelList() if one.is_list else Bitmap())
        table.optimize()

    def _arrow(self, first: int) -> Any:
        import pyarrow as pa

        end = min(first + _PORTION, len(self._rows.items))
        d = self._rows.items.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(self._rows.items[first:end])), d)
        columns = pa.Table.from_pylist(self._columns(first, end))
        return columns.append_column("vector", vectors).append_column("row", pa.array(range(first, end), pa.int64()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
