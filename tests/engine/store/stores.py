"""Schemas, versions and items for the store's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine.dtypes import to_float32, to_stored
from engine.store import Change, CollectionStore, StoreLimits, UpsertOp, WriteOutcome, WriteRequest
from engine.types import (
    AttributeSpec,
    AttributeType,
    AttributeValue,
    Float32Array,
    IdType,
    Item,
    ItemId,
    Schema,
    TextField,
    VectorDtype,
    VersionInfo,
)

DIMENSION = 4
ATTRIBUTES = (
    AttributeSpec("color", AttributeType.KEYWORD),
    AttributeSpec("tags", AttributeType.KEYWORD_LIST),
    AttributeSpec("sold", AttributeType.BOOL),
    AttributeSpec("year", AttributeType.INT),
    AttributeSpec("price", AttributeType.FLOAT),
    AttributeSpec("at", AttributeType.TIMESTAMP),
    AttributeSpec("place", AttributeType.GEO_POINT),
    AttributeSpec("note", AttributeType.KEYWORD, filterable=False),
    AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True),
)


def schema(*, id_type: IdType = "string", dtype: VectorDtype = "float16") -> Schema:
    return Schema(
        name="books",
        id_type=id_type,
        dtype=dtype,
        dimension=DIMENSION,
        text_fields=(TextField("title"), TextField("body", order=1, weight=0.5)),
        chunk=3,
        attributes=ATTRIBUTES,
    )


def version(*, dtype: VectorDtype = "float16") -> VersionInfo:
    return VersionInfo("v1", "", DIMENSION, "cosine", dtype, created_micros=1)


def make_store(
    folder: Path, *, id_type: IdType = "string", dtype: VectorDtype = "float16", limits: StoreLimits | None = None
) -> CollectionStore:
    return CollectionStore.create(
        folder, schema(id_type=id_type, dtype=dtype), version(dtype=dtype), limits=limits or StoreLimits()
    )


def text_hash(title: str) -> bytes:
    return hashlib.sha256(title.encode()).digest()


def upsert(
    item_id: ItemId,
    title: str = "a title",
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    vectors: Float32Array | None = None,
) -> UpsertOp:
    return UpsertOp(Item(item_id, {"title": title}, attributes or {}), text_hash(title), vectors)


def vectors_of(seed: int, *, n_rows: int = 1) -> Float32Array:
    return np.random.default_rng(seed).standard_normal((n_rows, DIMENSION), dtype=np.float32)


def as_stored(vectors: Float32Array, dtype: VectorDtype = "float16") -> Float32Array:
    """What is read back of vectors that were written."""
    return to_float32(to_stored(vectors, dtype), dtype)


def commit_one(store: CollectionStore, *ops: UpsertOp, durable: bool = False) -> WriteOutcome:
    (outcome,) = store.commit([WriteRequest(ops, durable=durable)])
    return outcome


def only_change(outcome: WriteOutcome) -> Change:
    (change,) = outcome.changes
    assert isinstance(change, Change)
    return change
