"""Attribute columns of one version's row space, one for each filterable or volatile attribute, and its texts' postings.

Rows are appended, dead ones too; liveness is not known here. Written and read by the search lane alone, but for
``memory_bytes``. An attribute that is neither filterable nor volatile has no column.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engine.errors import UnknownAttribute
from engine.index.column_types import BoolColumn, Column, KeywordColumn, NumberColumn, new_column
from engine.index.growing import flags_of, has_rows
from engine.index.lexical import LexicalIndex
from engine.index.regions import SEGMENT_ROWS, Listed, Region, Span, segments_of
from engine.item_columns import ValueColumn
from engine.types import AttributeSpec, AttributeType, AttributeValue, Int64Array

_SAMPLE_ROWS = 4096
"""So many estimate a share of 10% within 1% nineteen times in twenty."""
_SAMPLE_AGE = 9 / 8
"""A sample is drawn again once there are so many times the rows it was drawn from."""
_SAMPLE_SEED = 1_729
_KEPT_CHANGES = 65_536
_serial_numbers = itertools.count()


class Columns:
    """Columns by attribute, all ``n_rows`` long. ``serial``: a number that no other columns of the process have;
    ``n_changes``: how often values were changed in place.

    ``lexical``: the postings of text fields, None where no field has an analyser; whoever appends rows does so to it.
    """

    def __init__(self, attributes: Sequence[AttributeSpec], lexical: LexicalIndex | None = None) -> None:
        self.n_rows = 0
        self.lexical = lexical
        self.serial = next(_serial_numbers)
        self.n_changes = 0
        self._changes: deque[tuple[int, int]] = deque(maxlen=_KEPT_CHANGES)
        self._sample: Listed | None = None
        self._sampled_from = 0
        self._filterable: dict[str, Column] = {}
        self._volatile: dict[str, NumberColumn] = {}
        for spec in attributes:
            self.add_attribute(spec)

    @property
    def memory_bytes(self) -> int:
        """Everything allocated for the columns. Any thread may ask."""
        return sum(column.memory_bytes for _, column in self.by_name())

    def by_name(self) -> list[tuple[str, Column]]:
        """Every column with the attribute it is for."""
        return [*self._filterable.items(), *self._volatile.items()]

    def add_attribute(self, spec: AttributeSpec) -> None:
        """A new attribute, null in every row so far."""
        if spec.volatile:
            self._volatile[spec.name] = NumberColumn(np.int64 if spec.type is AttributeType.INT else np.float64)
            self._volatile[spec.name].append_nulls(self.n_rows)
        elif spec.filterable:
            column = new_column(spec.type)
            column.append_nulls(self.n_rows)
            self._filterable[spec.name] = column

    def append(self, rows: Sequence[Mapping[str, AttributeValue]]) -> None:
        """Append one row for each mapping; attributes without a column are passed over."""
        for name, column in self.by_name():
            column.append([row.get(name) for row in rows])
        self.n_rows += len(rows)

    def append_columns(self, attributes: Mapping[str, ValueColumn], count: int) -> None:
        """Append ``count`` rows of which the attributes are told column by column."""
        for name, column in self.by_name():
            told = attributes.get(name)
            if told is None:
                column.append_nulls(count)
            else:
                column.append_column(told)
        self.n_rows += count

    def append_dead(self, count: int) -> None:
        """Append rows that were never written, all null."""
        for _, column in self.by_name():
            column.append_nulls(count)
        self.n_rows += count

    def set_volatile(self, first_row: int, n_rows: int, values: Mapping[str, AttributeValue]) -> None:
        """Write the volatile attributes of ``values`` in place, null where it has none; others are passed over."""
        for name, column in self._volatile.items():
            column.set(first_row, n_rows, values.get(name))
        if self._volatile:
            self.n_changes += 1
            self._changes.append((first_row, n_rows))

    def changes_since(self, n_changes: int) -> list[tuple[int, int]] | None:
        """Rows (first, count) whose volatile values were set since so many changes; None: too many to be told."""
        missed = self.n_changes - n_changes
        if missed > len(self._changes):
            return None
        return list(itertools.islice(self._changes, len(self._changes) - missed, None))

    def require_numbers(self, attribute: str) -> NumberColumn | BoolColumn:
        """The column of an attribute that has numbers, or of a bool.

        Raises:
            UnknownAttribute: there is none.
        """
        column = self._volatile.get(attribute) or self._filterable.get(attribute)
        if not isinstance(column, NumberColumn | BoolColumn):
            raise UnknownAttribute(attribute, "the index has no column of numbers for it")
        return column

    def numbers(self, attribute: str, first: int, end: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Values of rows [first, end), float64 and 0 where there is none, timestamps in microseconds, bools as 0 and 1;
        and which are there.
        """
        column = self.require_numbers(attribute)
        present = flags_of(column.present.room, first, end)
        if isinstance(column, BoolColumn):
            return flags_of(column.true.room, first, end).astype(np.float64), present
        return column.values[first:end].astype(np.float64), present

    def numbers_at(self, attribute: str, rows: Int64Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """As ``numbers``, of any rows, in any shape."""
        column = self.require_numbers(attribute)
        present = has_rows(column.present.room, rows)
        if isinstance(column, BoolColumn):
            return has_rows(column.true.room, rows).astype(np.float64), present
        return column.values[rows].astype(np.float64), present

    def keys_at(self, attribute: str, rows: Int64Array) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
        """A number for the value of each of ``rows`` [n], equal where values are, and which rows have a value; of a
        filterable keyword, int or bool.
        """
        column = self.column(attribute)
        assert isinstance(column, KeywordColumn | BoolColumn | NumberColumn)
        return column.keys_at(rows), has_rows(column.present.room, rows)

    def values_of_keys(self, attribute: str, keys: Int64Array) -> tuple[str | bool | int, ...]:
        """The values that keys stand for."""
        column = self.column(attribute)
        if isinstance(column, KeywordColumn):
            return column.values_of_keys(keys)
        return tuple(map(bool, keys.tolist())) if isinstance(column, BoolColumn) else tuple(keys.tolist())

    def column(self, attribute: str) -> Column:
        """The column of a filterable attribute.

        Raises:
            UnknownAttribute: there is none.
        """
        column = self._filterable.get(attribute)
        if column is None:
            raise UnknownAttribute(attribute, "the index has no column for it")
        return column

    def postings_of(self, field: str) -> LexicalIndex:
        """The postings that have a text field's terms.

        Raises:
            UnknownAttribute: there are none.
        """
        if self.lexical is None:
            raise UnknownAttribute(field, "the index has no postings for it")
        return self.lexical

    def volatile(self, attribute: str) -> NumberColumn:
        """The column of a volatile attribute, which must be in the schema."""
        return self._volatile[attribute]

    def stamps(self) -> Int64Array:
        """[n_segments]: a segment's stamp changes whenever what filters read of its rows does.

        Rows are appended and never changed but for volatile attributes, on which nothing filters: their number tells.
        """
        stamps = np.full(segments_of(self.n_rows), SEGMENT_ROWS, np.int64)
        if self.n_rows % SEGMENT_ROWS:
            stamps[-1] = self.n_rows % SEGMENT_ROWS
        return stamps

    def sample(self) -> Region:
        """Rows to estimate from: all where they are few, else so many evenly spread, each at random in its share."""
        if self.n_rows <= _SAMPLE_ROWS:
            return Span(0, self.n_rows)
        if self._sample is None or self.n_rows > _SAMPLE_AGE * self._sampled_from:
            places = np.arange(_SAMPLE_ROWS) + np.random.default_rng(_SAMPLE_SEED).random(_SAMPLE_ROWS)
            self._sample = Listed((places * (self.n_rows / _SAMPLE_ROWS)).astype(np.int64))
            self._sampled_from = self.n_rows
        return self._sample
