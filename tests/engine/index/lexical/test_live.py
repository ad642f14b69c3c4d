"""Postings follow the changes that an index applies."""

from __future__ import annotations

from dataclasses import fields

from engine.dtypes import StoredArray
from engine.index.costs import Costs
from engine.index.version_index import VersionIndex
from engine.store import Change
from engine.types import Schema, TextField, VersionInfo

SCHEMA = Schema("jobs", metric="dot", dimension=2, text_fields=(TextField("title", analyser="english"),))
COSTS = Costs(**{field.name: 1e-9 for field in fields(Costs)})


class NoSegments:
    def arrays(self, n_rows: int) -> list[StoredArray]:
        raise AssertionError("no vectors are read")


def index_of(schema: Schema) -> VersionIndex:
    return VersionIndex(schema, VersionInfo("v1", "", 2, "dot", "float32", 1), NoSegments(), COSTS)


def written(sequence: int, row: int, title: str, *, item_id: str = "", dead_row: int | None = None) -> Change:
    dead = (0, 0) if dead_row is None else (dead_row, 1)
    return Change(sequence, item_id or f"n{row}", row, 1, *dead, {}, in_place=False, text={"title": title})


def rows_with(index: VersionIndex, text: str) -> list[int]:
    assert index.lexical is not None
    return index.lexical.scores(index.lexical.weigh(text), index.rows.alive)[0].tolist()


def test_changes_that_were_applied_already_bring_no_postings_again() -> None:
    once, twice = index_of(SCHEMA), index_of(SCHEMA)
    changes = [written(1, 0, "night nurse"), written(2, 1, "day nurse")]
    once.apply(changes, sequence=2)
    twice.apply(changes[:1], sequence=1)
    twice.apply(changes, sequence=2, analysed=twice.analyse(changes))
    assert once.lexical is not None
    assert twice.lexical is not None
    rows, scores = once.lexical.scores(once.lexical.weigh("night nurse"), once.rows.alive)
    for index in (once, twice):
        found = index.lexical.scores(index.lexical.weigh("night nurse"), index.rows.alive)
        assert (found[0].tolist(), found[1].tolist()) == (rows.tolist(), scores.tolist())


def test_an_item_written_twice_in_a_commit_has_its_last_text() -> None:
    index = index_of(SCHEMA)
    changes = [written(1, 0, "night nurse", item_id="a"), written(2, 1, "cook", item_id="a", dead_row=0)]
    index.apply(changes, sequence=2)
    assert (rows_with(index, "nurse"), rows_with(index, "cook")) == ([], [1])


def test_an_item_that_was_deleted_is_not_found() -> None:
    index = index_of(SCHEMA)
    index.apply([written(1, 0, "nurse", item_id="a"), written(2, 1, "nurse")], sequence=2)
    index.apply([Change(3, "a", 0, 0, 0, 1, {}, in_place=False)], sequence=3)
    assert rows_with(index, "nurse") == [1]


def test_a_collection_without_analysers_analyses_nothing() -> None:
    index = index_of(Schema("jobs", metric="dot", dimension=2, text_fields=(TextField("title"),)))
    changes = [written(1, 0, "nurse")]
    assert index.analyse(changes) is None
    index.apply(changes, sequence=1)
    assert index.lexical is None
    assert index.memory().lexical == 0
