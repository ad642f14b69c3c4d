"""Queries made of examples: what is wrong with one, and the vector it is searched by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend
from engine.dtypes import MOST_LENGTH
from engine.embeddings import Weights, marked
from engine.errors import InvalidArgument, ItemNotFound, LimitExceeded
from engine.index.version_index import VersionIndex
from engine.items import lengths, too_long, validate_id
from engine.limits import Limits
from engine.pipeline.calls import check_dimension
from engine.types import Examples, Float32Array, ItemId, Metric, Schema, VersionInfo

Float64Array = npt.NDArray[np.float64]


def check_examples(examples: Examples, schema: Schema, version: VersionInfo, limits: Limits, field: str) -> None:
    """
    Raises:
        InvalidArgument: no example of what is wanted, or one that cannot be of this collection.
    """
    n_like = len(examples.like) + (0 if examples.like_vectors is None else len(examples.like_vectors))
    if n_like == 0:
        raise InvalidArgument(f"{field}.like", "is empty: give an item or a vector that is like what is wanted")
    n = len(examples.ids) + sum(map(len, examples.vectors))
    if n > limits.examples:
        raise LimitExceeded(field, value=n, limit=limits.examples, unit="examples")
    for kind in ("like", "unlike"):
        for place, one in enumerate(getattr(examples, kind)):
            validate_id(one, schema, f"{field}.{kind}[{place}]")
        vectors = getattr(examples, f"{kind}_vectors")
        if vectors is not None and schema.embeddings:
            raise InvalidArgument(f"{field}.{kind}_vectors", "have no names; where embeddings have, examples are items")
        if vectors is not None:
            _check_vectors(vectors, version, f"{field}.{kind}_vectors")


def vector_of_examples(
    backend: Backend, index: VersionIndex, examples: Examples, field: str, weights: Weights | None = None
) -> Float32Array:
    """float32 [d], of length 1 with cosine; of named embeddings like a stored row.

    Raises:
        ItemNotFound: one of the items does not live.
        InvalidArgument: the vector is zero, which has no cosine, or too long.
    """
    vector = _mean(backend, index, examples.like, examples.like_vectors, field, weights)
    if examples.unlike or (examples.unlike_vectors is not None and len(examples.unlike_vectors)):
        vector += vector - _mean(backend, index, examples.unlike, examples.unlike_vectors, field, weights)
    return _unit(backend, vector.astype(np.float32), index.version.metric, field)


def _unit(backend: Backend, vector: Float32Array, metric: Metric, field: str) -> Float32Array:
    """A vector [d] as a query.

    Raises:
        InvalidArgument: it is zero, which has no cosine, or too long.
    """
    unit, is_sound = backend.unit_queries(vector[None], metric=metric)
    if not is_sound[0]:
        if metric != "cosine":
            raise too_long(float(lengths(vector)), field)
        raise InvalidArgument(field, "make a vector of zero, which has no cosine")
    found: Float32Array = unit[0]
    return found


def vector_of_item(
    backend: Backend, index: VersionIndex, item_id: ItemId, field: str, weights: Weights | None = None
) -> Float32Array:
    """float32 [d], of length 1 with cosine; of named embeddings like a stored row.

    Raises:
        ItemNotFound: the item does not live.
        InvalidArgument: its vector is zero, which has no cosine, or too long, as an earlier release may have taken it.
    """
    if index.schema.takes_maximum:
        return _vector_of_chosen(backend, index, item_id, field, weights)
    vector = index.vector_of(item_id)
    if vector is None:
        raise ItemNotFound(item_id)
    # The mean of several unit vectors is shorter than one, and a score by it would be no cosine.
    return _unit(backend, vector, index.version.metric, field)


def _vector_of_chosen(
    backend: Backend, index: VersionIndex, item_id: ItemId, field: str, weights: Weights | None
) -> Float32Array:
    """The mean of the item's embeddings that count, without a mark; zeros where it has none of them."""
    span = index.rows.rows_of_item(item_id)
    if span is None:
        raise ItemNotFound(item_id)
    rows = index.read(span[0], span[0] + span[1])
    if weights is not None:
        rows = rows[weights[marked(rows[:, -1])] > 0]
    vector = np.zeros(index.version.dimension, np.float32)
    if len(rows):
        vector[:-1] = _unit(backend, rows[:, :-1].mean(axis=0), index.schema.metric, field)
    return vector


def _mean(
    backend: Backend,
    index: VersionIndex,
    ids: tuple[ItemId, ...],
    vectors: Float32Array | None,
    field: str,
    weights: Weights | None,
) -> Float64Array:
    """Of items and vectors, at least one: float64 [d]."""
    of_items = [vector_of_item(backend, index, one, field, weights) for one in ids]
    if vectors is not None:
        of_items.extend(backend.unit_queries(vectors, metric=index.version.metric)[0])
    mean: Float64Array = np.mean(np.array(of_items, np.float64), axis=0)
    return mean


def _check_vectors(vectors: Float32Array, version: VersionInfo, field: str) -> None:
    check_dimension(vectors, version, field)
    is_finite = np.isfinite(vectors).all(axis=1)
    if not is_finite.all():
        raise InvalidArgument(f"{field}[{int(np.argmin(is_finite))}]", "has a value that is NaN or infinite")
    if version.metric == "cosine":
        if not vectors.any(axis=1).all():
            raise InvalidArgument(f"{field}[{int(np.argmin(vectors.any(axis=1)))}]", "is zero, which has no cosine")
    elif (found := lengths(vectors)).max(initial=0) > MOST_LENGTH:
        longest = int(np.argmax(found))
        raise too_long(found[longest], f"{field}[{longest}]")
