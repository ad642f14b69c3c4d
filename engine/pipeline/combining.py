"""Queries of several named embeddings as one vector each, as ``engine.embeddings`` has it: parts times their weights.

In the search lane's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.backend.protocol import Backend
from engine.embeddings import Weights, factors, parts, presence, row_dimension
from engine.types import Float32Array, Schema


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """Vectors float32 [B, d] as rows are stored, and what their parts were multiplied by, float32 [B, embeddings].

    ``unsound``: by the places of queries that no search can answer, the embedding whose vector is to blame.
    """

    vectors: Float32Array
    factors: Float32Array
    unsound: Mapping[int, str]


def combine(backend: Backend, named: Mapping[str, Float32Array], weights: Weights, schema: Schema) -> Combined:
    """Of vectors float32 [B, d of each] by name, and how much each counts, float64 [B, embeddings]; for a maximum all
    names have the same.
    """
    places = parts(schema)
    own = factors(weights, schema)
    vectors = np.zeros((len(own), row_dimension(schema)), np.float32)
    unsound: dict[int, str] = {}
    for column, (name, part) in enumerate(places.items()):
        counts = own[:, column] > 0
        if name not in named or not counts.any():
            continue
        unit, is_sound = backend.unit_queries(named[name], metric=schema.metric)
        with np.errstate(over="ignore"):  # an infinite one is no sound query
            vectors[:, part] = unit if schema.takes_maximum else own[:, column, None] * unit
        unsound |= dict.fromkeys(np.flatnonzero(counts & ~is_sound).tolist(), name)
    return Combined(vectors, own, unsound)


def combine_rows(backend: Backend, rows: Float32Array, weights: Weights, schema: Schema) -> Combined:
    """Of rows float32 [B, d] like stored ones, whose missing embeddings do not count; one without any is of zeros."""
    named = {name: rows[:, part] for name, part in parts(schema).items()}
    return combine(backend, named, weights * presence(rows, schema), schema)
