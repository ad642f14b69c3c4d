"""Whatever the change log has forgotten, a start gives the rows that were written; and it forgets nothing too early."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.index.costs import Costs
from engine.index.version_index import VersionIndex
from engine.pipeline.row_images import recover_rows, write_last_image
from engine.store import CollectionStore, DeleteOp, StoreLimits, UpsertOp, WriteRequest, change_log
from engine.types import AttributeSpec, AttributeType, Item, Schema, VersionInfo

SCHEMA = Schema(
    "items",
    id_type="uint64",
    metric="dot",
    dimension=2,
    attributes=(AttributeSpec("views", AttributeType.INT, filterable=False, volatile=True),),
)
COSTS = Costs(**{field.name: 1e-9 for field in fields(Costs)})
N_IDS = 6


class Life:
    """A store and its index, over restarts, beside a dict of what was written."""

    def __init__(self, root: Path, *, kept: int) -> None:
        self.items: dict[int, tuple[float, int]] = {}
        self._root = root
        self._limits = StoreLimits(changes_kept=kept)
        self._copies = 0
        version = VersionInfo("v1", "", 2, "dot", "float32", 1)
        self.store = CollectionStore.create(root / "0", SCHEMA, version, limits=self._limits)
        self.index = self._recovered()

    def _recovered(self) -> VersionIndex:
        index = VersionIndex(SCHEMA, self.store.versions[0], self.store.segments("v1"), COSTS)
        recover_rows(self.store, index)
        return index

    def act(self, action: str, number: int, value: int) -> None:
        match action:
            case "upsert":
                vectors = np.full((number % 3 + 1, 2), value, np.float32)
                self._commit(UpsertOp(Item(number, {}, {"views": value}), b"x" * 32, vectors))
                self.items[number] = (float(value), value)
            case "in place" if number in self.items:
                self._commit(UpsertOp(Item(number, {}, {"views": value}), b"x" * 32, None))
                self.items[number] = (self.items[number][0], value)
            case "delete":
                self._commit(DeleteOp(number))
                self.items.pop(number, None)
            case "image":
                write_last_image(self.store, self.index)
            case "restart":
                self.store.close()
                self._open(self._root / str(self._copies))
            case "kill":
                self._copies += 1
                shutil.copytree(self._root / str(self._copies - 1), self._root / str(self._copies))
                self.store.close()
                self._open(self._root / str(self._copies))
            case "damage":
                for path in sorted(self.store.segments("v1").folder.glob("rows-*.image"))[-1:]:
                    path.write_bytes(b"damaged")

    def _open(self, folder: Path) -> None:
        self.store = CollectionStore.open(folder, limits=self._limits)
        self.index = self._recovered()

    def _commit(self, op: UpsertOp | DeleteOp) -> None:
        (outcome,) = self.store.commit([WriteRequest([op])])
        self.index.apply(outcome.changes, sequence=outcome.sequence)

    def found(self) -> dict[int, tuple[float, int]]:
        """By the index, and by a start from what is on disk; that these are one."""
        served, started = _found(self.index), _found(self._recovered())
        assert served == started
        return started


def _found(index: VersionIndex) -> dict[int, tuple[float, int]]:
    views = index.columns.volatile("views").values
    found = {}
    for number in range(N_IDS):
        span = index.rows.rows_of_item(number)
        if span is not None:
            first, n_rows = span
            assert n_rows == number % 3 + 1
            rows = index.read(first, first + n_rows)
            assert np.all(rows == rows[0, 0])
            found[number] = (float(rows[0, 0]), int(views[first]))
    assert index.rows.n_items == len(found)
    return found


@pytest.fixture(autouse=True)
def by_single_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_log, "_FORGOTTEN_AT_ONCE", 1)


writes = st.sampled_from(["upsert", "upsert", "upsert", "in place", "delete"])
others = st.sampled_from(["image", "image", "restart", "kill", "damage"])
steps = st.lists(st.tuples(writes | others, st.integers(0, N_IDS - 1), st.integers(0, 9)), max_size=40)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(steps=steps, kept=st.integers(0, 6))
def test_rows_are_those_that_were_written_whatever_was_forgotten(steps: list[tuple[str, int, int]], kept: int) -> None:
    with TemporaryDirectory() as folder:
        life = Life(Path(folder), kept=kept)
        try:
            for step in steps:
                life.act(*step)
            assert life.found() == life.items
        finally:
            life.store.close()


def test_a_start_from_an_image_finds_every_change_since(tmp_path: Path) -> None:
    life = Life(tmp_path, kept=0)
    for number in range(5):
        life.act("upsert", number, 1)
    life.act("image", 0, 0)
    for value in range(9):
        life.act("upsert", 2, value)
    life.act("kill", 0, 0)
    assert life.index.image_sequence == 5
    assert life.found() == life.items
    assert [one.sequence for one in life.store.changes_after(5, limit=100)] == [*range(6, 15)]
    life.store.close()


def test_an_image_whose_changes_are_forgotten_is_passed_over_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(tmp_path, kept=0)
    life.act("upsert", 1, 1)
    life.act("image", 0, 0)
    life.store.keep_changes_after(None)
    life.act("upsert", 2, 2)
    life.act("upsert", 3, 3)
    life.act("kill", 0, 0)
    assert life.index.image_sequence == 0
    assert "a row image is not used: changes after sequence 1 are asked for" in caplog.text
    assert life.found() == life.items
    life.store.close()
