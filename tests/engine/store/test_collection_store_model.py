from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from engine.dtypes import StoredArray, to_stored
from engine.store import (
    CollectionStore,
    Conflict,
    DeleteOp,
    StoreLimits,
    UpdateOp,
    UpsertOp,
    WriteOp,
    WriteOutcome,
    WriteRequest,
)
from engine.types import AttributeValue, GeoPoint, IdType, ItemId, ItemUpdate, Times, Timestamp, VectorDtype
from tests.engine.store.stores import make_store, text_hash, upsert, vectors_of

IDS: dict[IdType, list[ItemId]] = {
    "uint64": [0, 1, 2**63 - 1, 2**63, 2**64 - 1],
    "string": ["", "a", "a\x00", "ä", "\U0001f600"],
}
IN_PLACE = {"note", "clicks"}

attribute_values = st.fixed_dictionaries(
    {},
    optional={
        "color": st.sampled_from(["red", "grün"]),
        "tags": st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple),
        "sold": st.booleans(),
        "year": st.sampled_from([0, 1, -(2**63)]),
        "price": st.sampled_from([0.0, 1.0, 0.1]),
        "at": st.sampled_from([Timestamp(0), Timestamp(2**62)]),
        "place": st.sampled_from([GeoPoint(0.1, 0.2), GeoPoint(-90.0, 180.0)]),
        "note": st.sampled_from(["n", ""]),
        "clicks": st.integers(0, 2),
    },
)
some_time = st.one_of(st.none(), st.sampled_from([Timestamp(1), Timestamp(5), Timestamp(10)]))
times = st.builds(Times, some_time, some_time)
few_attributes = st.one_of(attribute_values, st.builds(lambda clicks: {"clicks": clicks}, st.integers(0, 2)))


@dataclass(frozen=True)
class Known:
    """What the oracle knows of an item; ``stored`` as bits."""

    title: str
    attributes: dict[str, AttributeValue]
    stored: StoredArray
    first_row: int
    sequence: int
    times: Times


class StoreAgainstDict(RuleBasedStateMachine):
    id_type: IdType
    dtype: VectorDtype

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.copies = 0
        self.folder = self.root / "books0"
        self.store = make_store(
            self.folder, id_type=self.id_type, dtype=self.dtype, limits=StoreLimits(wal_bytes=150_000)
        )
        self.items: dict[ItemId, Known] = {}
        self.owner_of_row: dict[int, ItemId] = {}
        self.sequence = 0
        self.next_row = 0
        self.seed = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    @rule(content=st.data(), durable=st.booleans())
    def commit(self, content: st.DataObject, *, durable: bool) -> None:
        requests = [
            WriteRequest([self.draw_op(content) for _ in range(content.draw(st.integers(0, 4)))], durable=durable)
            for _ in range(content.draw(st.integers(1, 3)))
        ]
        for request, outcome in zip(requests, self.store.commit(requests), strict=True):
            self.check_outcome(request, outcome)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = CollectionStore.open(self.folder)

    @rule()
    def die_and_recover(self) -> None:
        """What lies on disk at this moment is all that the next process has."""
        self.copies += 1
        copy = self.root / f"books{self.copies}"
        shutil.copytree(self.folder, copy)
        self.store.close()
        self.folder = copy
        self.store = CollectionStore.open(copy)

    @invariant()
    def the_store_holds_what_the_oracle_holds(self) -> None:
        assert (self.store.sequence, self.store.item_count) == (self.sequence, len(self.items))
        assert self.store.row_count("v1") == self.next_row
        self.check_items()
        self.check_rows()

    def draw_op(self, content: st.DataObject) -> WriteOp:
        item_id = content.draw(st.sampled_from(IDS[self.id_type]))
        kind = content.draw(st.sampled_from(["given", "given", "reuse", "reuse", "delete", "update", "update"]))
        if kind == "delete":
            return DeleteOp(item_id, content.draw(st.sampled_from([None, None, 2, 20])))
        known = self.items.get(item_id)
        wanted = content.draw(st.sampled_from([None, None, 0, known.sequence if known else 7, self.sequence]))
        if kind == "update":
            clear = content.draw(st.lists(st.sampled_from(["color", "clicks", "year"]), max_size=2, unique=True))
            values = {name: one for name, one in content.draw(few_attributes).items() if name not in clear}
            return UpdateOp(ItemUpdate(item_id, values, tuple(clear), wanted, content.draw(times)))
        self.seed += 1
        vectors = vectors_of(self.seed, n_rows=1 + self.seed % 3) if kind == "given" else None
        title = content.draw(st.sampled_from(["one", "one", "two"]))
        op = upsert(item_id, title, content.draw(few_attributes), vectors=vectors)
        return replace(op, item=replace(op.item, if_sequence=wanted, times=content.draw(times)))

    def check_outcome(self, request: WriteRequest, outcome: WriteOutcome) -> None:
        changes = iter(outcome.changes)
        stale, deleted, conflicts = [], 0, []
        for index, op in enumerate(request.ops):
            item_id = op.id
            before = self.items.get(item_id)
            found = before.sequence if before else 0
            if isinstance(op, DeleteOp):
                deleted += self.expect_delete(op)
            elif op.if_sequence not in (None, found) or (isinstance(op, UpdateOp) and not before):
                conflicts.append(Conflict(index, found, op.if_sequence))
            elif isinstance(op, UpdateOp):
                self.expect_update(op.update)
            elif not self.expect_upsert(op):
                stale.append(index)
            if self.items.get(item_id) is not before:
                change = next(changes)
                assert (change.id, change.sequence) == (item_id, self.sequence)
                for row in range(change.dead_first_row, change.dead_first_row + change.dead_n_rows):
                    assert self.owner_of_row.pop(row) == item_id
                for row in range(change.first_row, change.first_row + change.n_rows):
                    assert self.owner_of_row.setdefault(row, item_id) == item_id
                after = self.items.get(item_id)
                assert change.attributes == (after.attributes if after else {})
                assert change.times == (after.times if after else Times())
                assert change.in_place == bool(before and after and before.first_row == after.first_row)
        assert next(changes, None) is None
        assert (outcome.stale, outcome.deleted, outcome.conflicts) == (tuple(stale), deleted, tuple(conflicts))
        assert outcome.sequence == self.sequence

    def expect_delete(self, op: DeleteOp) -> int:
        known = self.items.get(op.id)
        if known is None:
            return 0
        ends = known.times.expires_at
        if op.expired_by is not None and (ends is None or ends.micros > op.expired_by):
            return 0
        del self.items[op.id]
        self.sequence += 1
        return 1

    def expect_update(self, update: ItemUpdate) -> None:
        old = self.items[update.id]
        merged = {**old.attributes, **update.attributes}
        for name in update.clear:
            merged.pop(name, None)
        begins = update.times.visible_from or old.times.visible_from
        ends = update.times.expires_at or old.times.expires_at
        op = upsert(update.id, old.title, merged)
        assert self.expect_upsert(replace(op, item=replace(op.item, times=Times(begins, ends))))

    def expect_upsert(self, op: UpsertOp) -> bool:
        old = self.items.get(op.item.id)
        title, attributes = op.item.text["title"], dict(op.item.attributes)
        if op.vectors is None and (old is None or old.title != title):
            return False
        self.sequence += 1
        if op.vectors is not None:
            stored = to_stored(op.vectors, self.dtype)
        else:
            assert old is not None
            stored = old.stored
        kept = op.vectors is None and old is not None and filterable(old.attributes) == filterable(attributes)
        first_row = old.first_row if kept and old is not None else self.next_row
        if not kept:
            self.next_row += len(stored)
        self.items[op.item.id] = Known(title, attributes, stored, first_row, self.sequence, op.item.times)
        return True

    def check_items(self) -> None:
        ids = sorted(self.items, key=lambda item_id: item_id.encode() if isinstance(item_id, str) else item_id)
        assert [item.id for item in self.store.scroll(None, limit=100)] == ids
        for item_id, item in zip(ids, self.store.get(ids, vectors=True), strict=True):
            known = self.items[item_id]
            assert item is not None
            assert item.vectors is not None
            assert (item.text, item.attributes, item.sequence, item.times) == (
                {"title": known.title},
                known.attributes,
                known.sequence,
                known.times,
            )
            assert to_stored(item.vectors, self.dtype).tobytes() == known.stored.tobytes()
        assert self.store.text_hashes(IDS[self.id_type]) == {i: text_hash(k.title) for i, k in self.items.items()}

        expired = {
            i for i, k in self.items.items() if k.times.expires_at is not None and k.times.expires_at.micros <= 5
        }
        assert set(self.store.expired(5, limit=100)) == expired

    def check_rows(self) -> None:
        timed = {(k.first_row, len(k.stored), k.times) for k in self.items.values() if not k.times.are_always}
        assert set(self.store.timed_rows()) == timed
        expected = sorted((known.first_row, item_id) for item_id, known in self.items.items())
        live = list(self.store.live_rows("v1"))
        assert [(row.first_row, row.id) for row in live] == expected
        arrays = self.store.segments("v1").arrays(self.next_row)
        for row in live:
            known = self.items[row.id]
            assert (row.sequence, row.attributes, row.n_rows) == (
                known.sequence,
                known.attributes,
                len(known.stored),
            )
            assert arrays[0][row.first_row : row.first_row + row.n_rows].tobytes() == known.stored.tobytes()
        rows = [first for row in live for first in range(row.first_row, row.first_row + row.n_rows)]
        assert sorted(self.owner_of_row) == rows


def filterable(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if name not in IN_PLACE}


@pytest.mark.parametrize("chosen_dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("chosen_id_type", ["uint64", "string"])
def test_the_store_behaves_as_a_dict_of_items(chosen_id_type: IdType, chosen_dtype: VectorDtype) -> None:
    class Chosen(StoreAgainstDict):
        id_type = chosen_id_type
        dtype = chosen_dtype

    run_state_machine_as_test(
        Chosen,
        settings=settings(
            max_examples=12,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
