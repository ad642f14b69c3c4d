"""How an item's text fields become the texts its encoder reads, and the hash that tells whether they changed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.types import Float32Array, Item, Schema, TextField

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_VECTOR = b"vector\0"
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """What the encoder reads for one embedding: several texts make their weighted mean. ``name``: empty without."""

    name: str
    texts: list[str]
    weights: Float32Array
    """float32 [texts]: beside the largest of them, which is 1."""


def readings_of(item: Item, schema: Schema) -> list[Reading]:
    """What is to be encoded of an item: for each embedding that the caller does not bring, where it has any text."""
    fields = sorted(schema.text_fields, key=lambda one: one.order)
    if not schema.embeddings:
        readings = [] if item.vector is not None else [_reading("", fields, item, schema)]
    else:
        readings = [
            _reading(one.name, [field for field in fields if field.name in one.text_fields], item, schema)
            for one in schema.embeddings
            if one.name not in item.named_vectors
        ]
    return [one for one in readings if one.texts]


def _reading(name: str, fields: Sequence[TextField], item: Item, schema: Schema) -> Reading:
    """The texts in the fields' order: one when fields are joined, one for each non-empty field else."""
    present = [(text, one.weight) for one in fields if (text := item.text.get(one.name, "").strip())]
    texts = [text for text, _ in present]
    if schema.text_mode == "joined":
        return Reading(name, ["\n".join(texts)] if texts else [], np.ones(min(1, len(texts)), np.float32))
    weights = np.array([weight for _, weight in present], np.float64)
    # Relative ones always fit: a float32 would make infinity of 1e300 and zero of 1e-300, and both NaN of the mean.
    return Reading(name, texts, (weights / weights.max()).astype(np.float32) if texts else weights.astype(np.float32))


def text_hash(item: Item, schema: Schema) -> bytes:
    """Equal for equal embeddings and terms: over the texts and their weights, or over the vectors where the caller
    brings them; and over each text that is searched by terms, for the same words may move from one field to another.
    """
    digest = hashlib.sha256()
    if item.vector is not None:
        digest.update(_VECTOR + np.ascontiguousarray(item.vector, np.float32).tobytes())
    for name in sorted(item.named_vectors):
        _add_texts(digest, [name])
        digest.update(_VECTOR + np.ascontiguousarray(item.named_vectors[name], np.float32).tobytes())
    for one in readings_of(item, schema):
        _add_texts(digest, [one.name] if one.name else [])
        digest.update(one.weights.tobytes())
        _add_texts(digest, one.texts)
    _add_texts(digest, [item.text.get(one.name, "") for one in schema.analysed_fields])
    return digest.digest()


def _add_texts(digest: Hash, texts: Iterable[str]) -> None:
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)


def vector_hashes(vectors: Float32Array, schema: Schema) -> list[bytes]:
    """What ``text_hash`` gives for items with these vectors, float32 [n, d], one each, and no text."""
    no_texts = bytes(_LENGTH_BYTES * len(schema.analysed_fields))
    sha256 = hashlib.sha256
    return [sha256(_VECTOR + one.tobytes() + no_texts).digest() for one in np.ascontiguousarray(vectors, np.float32)]


def normalised(vectors: Float32Array) -> Float32Array:
    """float32 [n, d], each row of length 1; rows of zeros stay zeros."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
