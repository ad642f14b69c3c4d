"""Queries made of examples."""

from __future__ import annotations

from engine.convert.ids import item_ids_from, item_ids_to
from engine.convert.tensors import array_to_tensor, tensor_to_array
from engine.types import Examples
from engine.v1 import retrieval_pb2


def examples_from(message: retrieval_pb2.Examples, field: str) -> Examples:
    tensors = {
        name: tensor_to_array(getattr(message, name), f"{field}.{name}") if message.HasField(name) else None
        for name in ("like_vectors", "unlike_vectors")
    }
    return Examples(
        item_ids_from(message.like, f"{field}.like"), item_ids_from(message.unlike, f"{field}.unlike"), **tensors
    )


def examples_to(examples: Examples) -> retrieval_pb2.Examples:
    message = retrieval_pb2.Examples(like=item_ids_to(examples.like), unlike=item_ids_to(examples.unlike))
    if examples.like_vectors is not None:
        message.like_vectors.CopyFrom(array_to_tensor(examples.like_vectors))
    if examples.unlike_vectors is not None:
        message.unlike_vectors.CopyFrom(array_to_tensor(examples.unlike_vectors))
    return message
