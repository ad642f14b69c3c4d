"""How an item's text fields become the texts its encoder reads, and the hash that tells whether they changed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from engine.types import Float32Array, Item, Schema

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_VECTOR = b"vector\0"
_LENGTH_BYTES = 8


def texts_of(item: Item, schema: Schema) -> list[str]:
    """The texts to encode, in the fields' order: one when fields are joined, one for each non-empty field else."""
    ordered = sorted(schema.text_fields, key=lambda one: one.order)
    present = [text for one in ordered if (text := item.text.get(one.name, "").strip())]
    if schema.text_mode == "joined" and present:
        return ["\n".join(present)]
    return present


def weights_of(item: Item, schema: Schema) -> Float32Array:
    """float32 [texts]: the weight of each text of ``texts_of`` beside the largest of them, which is 1."""
    if schema.text_mode == "joined":
        return np.ones(1, np.float32)
    ordered = sorted(schema.text_fields, key=lambda one: one.order)
    weights = np.array([one.weight for one in ordered if item.text.get(one.name, "").strip()], np.float64)
    # Relative ones always fit: a float32 would make infinity of 1e300 and zero of 1e-300, and both NaN of the mean.
    return (weights / weights.max()).astype(np.float32) if len(weights) else weights.astype(np.float32)


def text_hash(item: Item, schema: Schema) -> bytes:
    """Equal for equal embeddings and terms: over the texts and their weights, or over the vector where the caller
    brings it; and over each text that is searched by terms, for the same words may move from one field to another.
    """
    digest = hashlib.sha256()
    if item.vector is not None:
        digest.update(_VECTOR + np.ascontiguousarray(item.vector, np.float32).tobytes())
    else:
        digest.update(weights_of(item, schema).tobytes())
        _add_texts(digest, texts_of(item, schema))
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
