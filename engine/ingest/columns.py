"""Items as columns on their way to the store: validated, normalised and hashed, all at once. Pure; for any thread."""

from __future__ import annotations

from dataclasses import dataclass

from engine.column_checks import validate_columns
from engine.ingest.replies import Refusal
from engine.ingest.texts import normalised, vector_hashes
from engine.item_columns import ItemColumns
from engine.limits import Limits
from engine.store import UpsertColumns
from engine.types import Schema


@dataclass(frozen=True, slots=True)
class PreparedColumns:
    """What is to be written of a request, and what is not."""

    columns: UpsertColumns
    refusals: tuple[Refusal, ...]


def prepare_columns(given: ItemColumns, schema: Schema, dimension: int, limits: Limits) -> PreparedColumns:
    """
    Raises:
        InvalidArgument: what is wrong with all of them.
    """
    items, wrong = validate_columns(given, schema, dimension, limits)
    vectors = normalised(items.vectors) if schema.metric == "cosine" else items.vectors
    refusals = tuple(Refusal(place, given.id(place), error) for place, error in wrong)
    return PreparedColumns(UpsertColumns(items, vector_hashes(items.vectors, schema), vectors), refusals)
