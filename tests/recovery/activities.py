"""What a server is doing when it is killed: a line of ``ACTIVITIES`` each. Writes follow from (seed, number) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engine.item_columns import ItemColumns, value_column
from engine.pipeline.collection import Collection
from engine.types import AttributeSpec, AttributeType, AttributeValue, Float32Array, Item, Schema, Visibility

D = 8
TASKS = 3
"""Writers at the same time, each with ids of its own, so that commits are formed of several."""
_IDS = 2400
_FIRST = 1500
_CENTRES = np.random.default_rng(3).integers(-30, 31, (24, D))

Value: TypeAlias = "tuple[dict[str, AttributeValue], bytes] | None"
"""Attributes and the vector's bits; None where the item is not there."""

SCHEMA = Schema(
    name="items",
    id_type="uint64",
    metric="l2",
    dimension=D,
    attributes=(
        AttributeSpec("number", AttributeType.INT),
        AttributeSpec("colour", AttributeType.KEYWORD),
        AttributeSpec("note", AttributeType.KEYWORD, filterable=False),
    ),
)
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class Write:
    """What one call writes: upserts or, where a value is None, deletes; never both.

    ``is_columnar``: as columns, where they are upserts.
    """

    number: int
    effect: dict[int, Value]
    visibility: Visibility
    is_columnar: bool = False

    async def send(self, collection: Collection) -> int:
        """The acknowledged sequence number."""
        name = f"write-{self.number}"
        items = [as_item(one, value) for one, value in self.effect.items() if value is not None]
        if items and self.is_columnar:
            prepared = await collection.prepare_columns(as_columns(items))
            done = await collection.upsert_columns(prepared, visibility=self.visibility, request_id=name)
            assert not done.refusals
            return done.sequence
        if items:
            ready = await collection.prepare_items(items)
            done = await collection.upsert(ready, visibility=self.visibility, request_id=name)
            assert not done.refusals
            return done.sequence
        return (await collection.delete([*self.effect], visibility=self.visibility, request_id=name)).sequence


@dataclass(frozen=True, slots=True)
class Activity:
    """``deletes``: share of calls that delete; ``among``: ids they choose from; ``most``: of them in a call.

    ``trains``, ``compacts``, ``snapshots``: again and again beside the writes; each snapshot becomes a second
    collection, which is deleted again. ``images``: of rows, after a few hundred changes.
    """

    deletes: float
    among: int
    folds: bool = False
    trains: bool = False
    compacts: bool = False
    snapshots: bool = False
    images: bool = False
    columns: bool = False
    most: int = 11
    seconds: float = 0.4


ACTIVITIES: dict[str, Activity] = {
    "upserts": Activity(deletes=0.0, among=_IDS),
    "updates": Activity(deletes=0.05, among=60),
    "deletes": Activity(deletes=0.6, among=_IDS),
    "folding": Activity(deletes=0.1, among=_IDS, folds=True),
    "training": Activity(deletes=0.1, among=_IDS, trains=True, seconds=4.0),
    "compaction": Activity(deletes=0.1, among=_IDS, compacts=True, seconds=3.0),
    "snapshots": Activity(deletes=0.1, among=_IDS, snapshots=True, seconds=1.0),
    "columns": Activity(deletes=0.1, among=20 * _IDS, columns=True, most=200, compacts=True, seconds=1.5),
    "images": Activity(deletes=0.1, among=_IDS, images=True, seconds=1.0),
}


def write_of(activity: Activity, seed: int, number: int) -> Write:
    """The ``number``-th write; those of one task have ids that no other task's have."""
    rng = np.random.default_rng([seed, number])
    ids = (
        np.unique(rng.integers(0, activity.among // TASKS, rng.integers(1, activity.most + 1))) * TASKS + number % TASKS
    )
    deletes = rng.random() < activity.deletes
    visibility = Visibility(int(rng.integers(1, 4)))
    return Write(
        number, {int(one): None if deletes else _value(rng, number) for one in ids}, visibility, activity.columns
    )


def first_writes() -> list[Write]:
    """What every chain begins with: enough rows for lists."""
    rng = np.random.default_rng(5)
    return [Write(-1, {one: _value(rng, -1) for one in range(_FIRST)}, Visibility.SEARCHABLE)]


def as_item(item_id: int, value: tuple[dict[str, AttributeValue], bytes]) -> Item:
    attributes, bits = value
    return Item(item_id, {}, attributes, np.frombuffer(bits, np.float32))


def as_columns(items: Sequence[Item]) -> ItemColumns:
    names = {name for item in items for name in item.attributes}
    attributes = {name: value_column([item.attributes.get(name) for item in items], name) for name in names}
    vectors = np.stack([item.vector for item in items])
    return ItemColumns(np.array([item.id for item in items], np.uint64), vectors, attributes)


def queries(count: int = 100) -> Float32Array:
    rng = np.random.default_rng(11)
    return np.stack([_vector(rng) for _ in range(count)])


def _vector(rng: np.random.Generator) -> Float32Array:
    """Small whole numbers in clusters: scores are exact, and ties are real."""
    drawn: Float32Array = (_CENTRES[rng.integers(len(_CENTRES))] + rng.integers(-6, 7, D)).astype(np.float32)
    return drawn


def _value(rng: np.random.Generator, number: int) -> tuple[dict[str, AttributeValue], bytes]:
    attributes: dict[str, AttributeValue] = {"number": number, "colour": COLOURS[int(rng.integers(3))]}
    if rng.random() < 0.5:
        attributes["note"] = "n" * int(rng.integers(1, 2000))
    return attributes, _vector(rng).tobytes()
