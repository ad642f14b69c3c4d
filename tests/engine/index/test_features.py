"""Tables of features as columns change: who copies what their stamps tell has what they have."""

from __future__ import annotations

import numpy as np

from engine.index.columns import Columns
from engine.index.features import MICROS, DecayFeature, FeatureSpec, FeatureTable, NumberFeature
from engine.index.regions import SEGMENT_ROWS
from engine.types import AttributeSpec, AttributeType, Float32Array, Timestamp
from kernels.fusion import FeatureStamps

CLICKS = AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True)
POSTED = AttributeSpec("posted", AttributeType.TIMESTAMP)
SPECS: tuple[FeatureSpec, ...] = (NumberFeature("clicks", scale="log1p"), DecayFeature("posted", half_life_s=86_400))
NOW = 1_700_000_000 * MICROS


class Copy:
    """Follows a table by its stamps alone, as a device does."""

    def __init__(self) -> None:
        self.stamps: FeatureStamps | None = None
        self.changes: list[int] = []
        self.n_rows = 0
        self.values = np.zeros((0, 2), np.float32)

    def follow(self, table: FeatureTable) -> int:
        """How many rows were copied."""
        if table.stamps is not self.stamps:
            self.stamps, self.changes, self.n_rows = table.stamps, [], 0
        copied = 0
        grown = np.zeros((len(table.segments) * SEGMENT_ROWS, 2), np.float32)
        grown[: self.n_rows] = self.values[: self.n_rows]
        for number, (segment, changes) in enumerate(zip(table.segments, table.stamps.changes, strict=True)):
            first, end = number * SEGMENT_ROWS, min((number + 1) * SEGMENT_ROWS, table.stamps.n_rows)
            if number < len(self.changes) and self.changes[number] == changes:
                first = min(max(first, self.n_rows), end)
            grown[first:end] = segment[first - number * SEGMENT_ROWS : end - number * SEGMENT_ROWS]
            copied += end - first
        self.values, self.n_rows, self.changes = grown, table.stamps.n_rows, list(table.stamps.changes)
        return copied


def columns_of(n_rows: int) -> Columns:
    columns = Columns([CLICKS, POSTED])
    add(columns, n_rows)
    return columns


def add(columns: Columns, n_rows: int) -> None:
    first = columns.n_rows
    columns.append(
        [{"clicks": row % 7, "posted": Timestamp(NOW - row * MICROS)} for row in range(first, first + n_rows)]
    )


def of_rows(table: FeatureTable) -> Float32Array:
    return np.concatenate(table.segments)[: table.n_rows]


def test_a_copy_made_by_stamps_has_what_the_table_has_and_no_more_is_copied_than_that_needs() -> None:
    columns, table, copy = columns_of(100), FeatureTable(SPECS), Copy()

    def copied(now: int = NOW) -> int:
        table.follow(columns, now)
        n_copied = copy.follow(table)
        np.testing.assert_array_equal(copy.values[: copy.n_rows], of_rows(table))
        assert copy.n_rows == columns.n_rows
        return n_copied

    assert copied() == 100
    assert copied() == 0
    add(columns, SEGMENT_ROWS - 60)
    assert copied() == SEGMENT_ROWS - 60
    columns.set_volatile(SEGMENT_ROWS + 3, 2, {"clicks": 1_000})
    assert copied() == 40
    columns.set_volatile(5, 1, {"clicks": 77})
    add(columns, 3)
    assert copied() == SEGMENT_ROWS + 3
    assert copied(NOW + 3600 * MICROS) == columns.n_rows


def test_features_of_other_columns_have_other_stamps() -> None:
    table = FeatureTable(SPECS)
    table.follow(columns_of(10), NOW)
    before = table.stamps
    table.follow(columns_of(5), NOW)
    assert table.stamps is not before
    assert (before.n_rows, table.stamps.n_rows) == (10, 5)
