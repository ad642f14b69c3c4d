"""Ids of items: one, or many of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidArgument
from engine.types import ItemId
from engine.v1 import common_pb2


def item_id_from(message: common_pb2.ItemId, field: str) -> ItemId:
    kind = message.WhichOneof("kind")
    if kind == "number":
        return int(message.number)
    if kind == "text":
        return str(message.text)
    raise InvalidArgument(field, "is empty: set number or text")


def item_id_to(item_id: ItemId) -> common_pb2.ItemId:
    if isinstance(item_id, int):
        return common_pb2.ItemId(number=item_id)
    return common_pb2.ItemId(text=item_id)


def item_ids_from(message: common_pb2.ItemIds, field: str) -> tuple[ItemId, ...]:
    numbers = uint64_ids_from(message, field)
    if numbers.size and message.texts:
        raise InvalidArgument(field, "has numbers and texts: one collection's ids are of one kind")
    return tuple(numbers.tolist()) if numbers.size else tuple(message.texts)


def uint64_ids_from(message: common_pb2.ItemIds, field: str) -> npt.NDArray[np.uint64]:
    """The packed ids uint64 [n] as they came, without Python objects."""
    if len(message.numbers) % 8:
        raise InvalidArgument(f"{field}.numbers", f"{len(message.numbers)} bytes are no whole number of 8-byte ids")
    return np.frombuffer(message.numbers, np.dtype("<u8")).astype(np.uint64, copy=False)


def item_ids_to(ids: npt.NDArray[Any] | Sequence[ItemId]) -> common_pb2.ItemIds:
    """Ids of one kind: a uint64 array, or a sequence of ints or of strings."""
    if isinstance(ids, np.ndarray) and ids.dtype == np.uint64:
        return common_pb2.ItemIds(numbers=np.ascontiguousarray(ids, np.dtype("<u8")).tobytes())
    if len(ids) and isinstance(ids[0], int):
        return common_pb2.ItemIds(numbers=np.array(ids, np.dtype("<u8")).tobytes())
    return common_pb2.ItemIds(texts=[str(one) for one in ids])
