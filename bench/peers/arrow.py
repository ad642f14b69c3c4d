"""Filters as pyarrow.compute evaluates them over columns in memory: the masks and row lists that libraries without
filters of their own are given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.predicates import AnyOf, Attributes, Predicate
from engine.types import Int64Array, Uint8Array


class ArrowColumns:
    """The attributes as Arrow arrays. A keyword column is its int32 codes, a list of keywords a list array of them."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._ints = {name: pa.array(column) for name, column in attributes.ints.items()}
        self._codes = {name: pa.array(one.codes) for name, one in attributes.keywords.items()}
        self._rows = {name: pa.array(one.row_of_code) for name, one in attributes.keywords.items() if one.is_list}

    def bits(self, predicate: Predicate) -> Uint8Array:
        """One bit a row, little-endian within a byte: uint8 [ceil(n / 8)]."""
        mask = self._mask(predicate)
        n_bytes = -(-self._attributes.n_rows // 8)
        if mask.offset == 0:
            return np.frombuffer(mask.buffers()[1], np.uint8)[:n_bytes]
        return np.packbits(mask.to_numpy(zero_copy_only=False), bitorder="little")

    def rows(self, predicate: Predicate) -> Int64Array:
        """The rows that pass, ascending: int64."""
        if not predicate.ranges and len(predicate.keywords) == 1 and predicate.keywords[0].attribute in self._rows:
            return np.unique(self._listed(predicate.keywords[0]))
        rows: Int64Array = pc.indices_nonzero(self._mask(predicate)).to_numpy().astype(np.int64)
        return rows

    def _mask(self, predicate: Predicate) -> Any:
        parts = []
        for one in predicate.ranges:
            column = self._ints[one.attribute]
            parts += [pc.greater_equal(column, one.low), pc.less(column, one.end)]
        parts += [self._keyword_mask(one) for one in predicate.keywords]
        mask = parts[0]
        for part in parts[1:]:
            mask = pc.and_(mask, part)
        return mask

    def _keyword_mask(self, wanted: AnyOf) -> Any:
        if wanted.attribute not in self._rows:
            return pc.is_in(self._codes[wanted.attribute], value_set=self._wanted(wanted))
        passing = np.zeros(self._attributes.n_rows, np.bool_)
        passing[self._listed(wanted)] = True
        return pa.array(passing)

    def _listed(self, wanted: AnyOf) -> Int64Array:
        """The rows whose list has one of the values, once for each that it has."""
        codes = self._codes[wanted.attribute]
        found = pc.filter(self._rows[wanted.attribute], pc.is_in(codes, value_set=self._wanted(wanted)))
        rows: Int64Array = found.to_numpy()
        return rows

    def _wanted(self, wanted: AnyOf) -> Any:
        keywords = self._attributes.keywords[wanted.attribute]
        return pa.array([keywords.code_of[value] for value in wanted.values], pa.int32())
