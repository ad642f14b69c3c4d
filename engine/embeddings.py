"""The named embeddings of a schema: where each lies in a stored row, and how much each counts. Pure.

For a weighted sum an item's row is its embeddings one after the other, zeros for one that it lacks. A query is made
alike, each part times its weight, so that one dot product is the sum. For a maximum each embedding is a row, whose last
value marks which it is; queries have zero there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.dtypes import LARGEST
from engine.errors import InvalidArgument, LimitExceeded
from engine.limits import Limits
from engine.types import EmbeddingSpec, Float32Array, Schema, StoredItem

Weights: TypeAlias = npt.NDArray[np.float64]
Int8Array: TypeAlias = npt.NDArray[np.int8]

_MARK = 1 / 4096
"""Times the place of an embedding, from 1 on: what every stored dtype holds exactly, and small beside the values of an
embedding, so that codes of a row go on being as fine.
"""


def check_embeddings(schema: Schema, limits: Limits, encoder_dimension: int | None) -> None:
    """What is wrong with the embeddings of a schema, their names aside; ``encoder_dimension`` where that is known.

    Raises:
        InvalidArgument: with the path of the field; LimitExceeded beyond a published limit.
    """
    if not schema.embeddings:
        if schema.combine == "maximum":
            raise InvalidArgument("schema.combine", "is maximum, and no embedding has a name")
        return
    if schema.metric == "l2":
        raise InvalidArgument("schema.metric", "is l2, by which named embeddings are not compared; cosine and dot are")
    if schema.chunk > 1:
        raise InvalidArgument("schema.chunk", "is more than 1: an item with named embeddings has one of each")
    if schema.encoder is None and schema.dimension is not None:
        raise InvalidArgument("schema.dimension", "is given beside named embeddings, which have their own")
    if len(schema.embeddings) > limits.chunk:
        raise LimitExceeded(
            "schema.embeddings", value=len(schema.embeddings), limit=limits.chunk, unit="embeddings an item"
        )
    for place, one in enumerate(schema.embeddings):
        _check_embedding(one, schema, encoder_dimension, f"schema.embeddings[{place}]")
    if not any(one.weight for one in schema.embeddings):
        raise InvalidArgument("schema.embeddings", "all weigh 0: one has to count")
    dimensions = [one.dimension or encoder_dimension or 0 for one in schema.embeddings]
    if schema.takes_maximum and len({*filter(None, dimensions)}) > 1:
        raise InvalidArgument("schema.embeddings", "have several dimensions: a maximum is of embeddings that have one")
    total = max(dimensions) + 1 if schema.takes_maximum else sum(dimensions)
    if total > limits.dimension:
        raise LimitExceeded("schema.embeddings", value=total, limit=limits.dimension, unit="dimensions of a row")


def _check_embedding(one: EmbeddingSpec, schema: Schema, encoder_dimension: int | None, field: str) -> None:
    known = [own.name for own in schema.text_fields]
    for name in one.text_fields:
        if name not in known:
            raise InvalidArgument(f"{field}.text_fields", f"the schema has no text field {name!r}")
    if len(set(one.text_fields)) < len(one.text_fields):
        raise InvalidArgument(f"{field}.text_fields", "names a text field twice")
    if one.text_fields and schema.encoder is None:
        raise InvalidArgument(f"{field}.text_fields", "are for an encoder to read, which the schema lacks")
    if not (math.isfinite(one.weight) and 0 <= one.weight <= LARGEST["float32"]):
        raise InvalidArgument(f"{field}.weight", f"{one.weight} is not a float32 from 0 on")
    if schema.takes_maximum and one.weight not in (0, 1):
        raise InvalidArgument(f"{field}.weight", f"{one.weight} is neither 0 nor 1: a maximum is taken or left out")
    if one.dimension is None:
        if schema.encoder is None:
            raise InvalidArgument(f"{field}.dimension", "is required without an encoder")
    elif one.dimension < 1:
        raise InvalidArgument(f"{field}.dimension", f"{one.dimension} is not at least 1")
    elif one.text_fields and encoder_dimension not in (None, one.dimension):
        told = f"{one.dimension} is not the encoder's, which is {encoder_dimension}"
        raise InvalidArgument(f"{field}.dimension", told)


def with_dimensions(schema: Schema, encoder_dimension: int | None) -> Schema:
    """The schema with the dimension of each embedding, which is the encoder's where none is given."""
    return replace(
        schema,
        embeddings=tuple(replace(one, dimension=one.dimension or encoder_dimension) for one in schema.embeddings),
    )


def row_dimension(schema: Schema) -> int:
    """Of a stored row."""
    if schema.takes_maximum:
        return dimension_of(schema.embeddings[0]) + 1
    return sum(dimension_of(one) for one in schema.embeddings)


def dimension_of(spec: EmbeddingSpec) -> int:
    assert spec.dimension is not None, "the schema of a collection has all dimensions"
    return spec.dimension


def parts(schema: Schema) -> dict[str, slice]:
    """Where each embedding lies in a row, in the schema's order; where each is a row, that is all but the mark."""
    if schema.takes_maximum:
        return {one.name: slice(dimension_of(one)) for one in schema.embeddings}
    ends = [0, *accumulate(dimension_of(one) for one in schema.embeddings)]
    return {one.name: slice(*ends[at : at + 2]) for at, one in enumerate(schema.embeddings)}


def joined(vectors: Mapping[str, Float32Array], schema: Schema) -> Float32Array:
    """Rows float32 [rows, d] of an item's embeddings float32 [d of each]."""
    own = [(place, name, part) for place, (name, part) in enumerate(parts(schema).items()) if name in vectors]
    rows = np.zeros((len(own) if schema.takes_maximum else 1, row_dimension(schema)), np.float32)
    for row, (place, name, part) in enumerate(own):
        rows[row if schema.takes_maximum else 0, part] = vectors[name]
        if schema.takes_maximum:
            rows[row, -1] = (place + 1) * _MARK
    return rows


def split(rows: Float32Array, schema: Schema) -> dict[str, Float32Array]:
    """The embeddings that an item has in its rows float32 [rows, d]."""
    if schema.takes_maximum:
        return {schema.embeddings[place].name: row[:-1] for row, place in zip(rows, marked(rows[:, -1]), strict=True)}
    return {name: rows[0, part] for name, part in parts(schema).items() if rows[0, part].any()}


def marked(marks: Float32Array) -> Int8Array:
    """The places of embeddings by the last values of their rows, -1 for a row never written: int8 [n]."""
    places: Int8Array = (np.rint(marks / _MARK) - 1).astype(np.int8)
    return places


def presence(rows: Float32Array, schema: Schema) -> npt.NDArray[np.bool_]:
    """Which embeddings rows float32 [n, d] have: bool [n, embeddings]."""
    return np.stack([rows[:, part].any(axis=1) for part in parts(schema).values()], axis=1)


def by_name(item: StoredItem, schema: Schema) -> StoredItem:
    """The item with its embeddings by name in place of the row that they make, where they have names."""
    if not schema.embeddings or item.vectors is None:
        return item
    return replace(item, vectors=None, named_vectors=split(item.vectors, schema))


def find_embedding(name: str, schema: Schema, field: str) -> EmbeddingSpec:
    """
    Raises:
        InvalidArgument: there is none of that name.
    """
    for one in schema.embeddings:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in schema.embeddings)
    raise InvalidArgument(field, f"there is no such embedding; the collection has {known}" if known else _NONE)


_NONE = "the collection has no named embeddings"


def query_weights(given: Mapping[str, float], schema: Schema, offered: Collection[str], field: str) -> Weights:
    """How much each embedding counts for a query: as given, else as the schema says, and 0 for those that the query
    does not offer: float64 [embeddings].

    Raises:
        InvalidArgument: a weight that is none, or of an embedding that the query does not offer, or none that counts.
    """
    for name, weight in given.items():
        path = f"{field}.embedding_weights[{name}]"
        find_embedding(name, schema, path)
        if not (math.isfinite(weight) and 0 <= weight <= LARGEST["float32"]):
            raise InvalidArgument(path, f"{weight} is not a float32 from 0 on", value=weight)
        if schema.takes_maximum and weight not in (0, 1):
            raise InvalidArgument(path, f"{weight} is neither 0 nor 1: a maximum is taken or left out", value=weight)
        if weight > 0 and name not in offered:
            raise InvalidArgument(path, "the query has neither text nor vector for this embedding", value=weight)
    weights = np.array([given.get(one.name, one.weight) if one.name in offered else 0.0 for one in schema.embeddings])
    if not weights.any():
        raise InvalidArgument(f"{field}.embedding_weights", "no embedding counts: all that the query has weigh 0")
    return weights


def factors(weights: Weights, schema: Schema) -> Float32Array:
    """What parts of queries are multiplied by for weights [B, embeddings]: for cosine their shares of the sum, so that
    a full match scores 1; rows of zeros stay so. Of a maximum 1 or 0.
    """
    if schema.metric == "cosine" and not schema.takes_maximum:
        largest = weights.max(axis=1, keepdims=True)
        relative = weights / np.where(largest > 0, largest, 1)
        total = relative.sum(axis=1, keepdims=True)
        weights = relative / np.where(total > 0, total, 1)
    return weights.astype(np.float32)
