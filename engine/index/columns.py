"""Attribute columns of one version's row space, one for each filterable or volatile attribute.

Rows are appended, dead ones too; liveness is not known here. Written and read by the search lane alone, but for
``memory_bytes``. An attribute that is neither filterable nor volatile has no column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import UnknownAttribute
from engine.index.column_types import Column, NumberColumn, new_column
from engine.types import AttributeSpec, AttributeType, AttributeValue


class Columns:
    """Columns by attribute, all ``n_rows`` long."""

    def __init__(self, attributes: Sequence[AttributeSpec]) -> None:
        self.n_rows = 0
        self._filterable: dict[str, Column] = {}
        self._volatile: dict[str, NumberColumn] = {}
        for spec in attributes:
            self.add_attribute(spec)

    @property
    def memory_bytes(self) -> int:
        """Everything allocated for the columns. Any thread may ask."""
        columns = [*self._filterable.values(), *self._volatile.values()]
        return sum(column.memory_bytes for column in columns)

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
        for name, column in self._by_name():
            column.append([row.get(name) for row in rows])
        self.n_rows += len(rows)

    def append_dead(self, count: int) -> None:
        """Append rows that were never written, all null."""
        for _, column in self._by_name():
            column.append_nulls(count)
        self.n_rows += count

    def set_volatile(self, first_row: int, n_rows: int, values: Mapping[str, AttributeValue]) -> None:
        """Write the volatile attributes of ``values`` in place, null where it has none; others are passed over."""
        for name, column in self._volatile.items():
            column.set(first_row, n_rows, values.get(name))

    def column(self, attribute: str) -> Column:
        """The column of a filterable attribute.

        Raises:
            UnknownAttribute: there is none.
        """
        column = self._filterable.get(attribute)
        if column is None:
            raise UnknownAttribute(attribute, "the index has no column for it")
        return column

    def volatile(self, attribute: str) -> NumberColumn:
        """The column of a volatile attribute, which must be in the schema."""
        return self._volatile[attribute]

    def _by_name(self) -> list[tuple[str, Column]]:
        return [*self._filterable.items(), *self._volatile.items()]
