"""What a ranker reads of the candidates of a call, put together column by column. Knows no model and no lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.index.column_types import KeywordColumn
from engine.index.hashed import Buckets, Vocabulary
from engine.index.version_index import VersionIndex
from engine.ranking import KeywordInput, LegInput, NumberInput, QueryInput, RankInput, width_of
from engine.scorings import FUSED
from engine.types import Float32Array, Int64Array, LegColumn

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class ItemInputs:
    """The inputs that are read of items, in their order; called in the search lane's thread, for its hits."""

    inputs: tuple[NumberInput | KeywordInput, ...]

    @classmethod
    def of(cls, inputs: Sequence[RankInput]) -> ItemInputs:
        return cls(tuple(one for one in inputs if isinstance(one, NumberInput | KeywordInput)))

    def __call__(self, index: VersionIndex, rows: Int64Array) -> Float32Array:
        """float32 [n, width of all] of rows [n]."""
        parts = [_column(index, one, rows) for one in self.inputs]
        return np.concatenate([np.zeros((len(rows), 0), np.float32), *parts], axis=1)


def _column(index: VersionIndex, one: NumberInput | KeywordInput, rows: Int64Array) -> Float32Array:
    if isinstance(one, NumberInput):
        values, present = index.columns.numbers_at(one.attribute, rows)
        return np.clip(np.where(present, values, one.missing), -_LARGEST, _LARGEST).astype(np.float32)[:, None]
    column = index.columns.column(one.attribute)
    assert isinstance(column, KeywordColumn)
    return column.places(Vocabulary(one.vocabulary) if one.vocabulary else Buckets(one.buckets)).of(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates of B queries, query after query, in the fused order: n in all.

    ``counts`` int64 [B]; ``fused`` float32 [n]; ``legs``: by name, of the candidates, and ``has_leg``: which of the
    queries have it, bool [B]; ``items`` float32 [n, width of the item inputs]; ``queries`` float32 [B, width of the
    query inputs].
    """

    counts: Int64Array
    fused: Float32Array
    legs: Mapping[str, LegColumn]
    has_leg: Mapping[str, npt.NDArray[np.bool_]]
    items: Float32Array
    queries: Float32Array

    def columns(self, inputs: Sequence[RankInput]) -> Float32Array:
        """float32 [n, F], the inputs in their order."""
        columns = np.empty((len(self.fused), sum(map(width_of, inputs))), np.float32)
        place = item = query = 0
        for one in inputs:
            width = width_of(one)
            part = columns[:, place : place + width]
            if isinstance(one, LegInput):
                part[:, 0] = self._leg(one)
            elif isinstance(one, QueryInput):
                part[:] = np.repeat(self.queries[:, query : query + width], self.counts, axis=0)
                query += width
            else:
                part[:] = self.items[:, item : item + width]
                item += width
            place += width
        return columns

    def _leg(self, one: LegInput) -> Float32Array:
        missing = np.float32(one.missing)
        if one.leg == FUSED:
            return self.fused
        leg = self.legs.get(one.leg)
        if leg is None:
            return np.full(len(self.fused), missing)
        values = leg.raw if one.form == "raw" else leg.normalised
        there = np.repeat(self.has_leg[one.leg], self.counts) & ~np.isnan(values)
        return np.where(there, values, missing)
