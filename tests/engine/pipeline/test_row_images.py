"""What is read back from an image and the changes since is what is read back from the store alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ReadOnly
from engine.index.column_types import KeywordColumn
from engine.index.costs import Costs
from engine.index.filters import compile_filter
from engine.index.lexical import LexicalIndex, analysis_of
from engine.index.row_arrays import Capture
from engine.index.row_image import (
    Origin,
    arrays_path,
    image_path,
    image_sequences,
    load_image,
    name_image,
    read_image,
    write_arrays,
)
from engine.index.rows import NEVER
from engine.index.version_index import VersionIndex
from engine.pipeline.row_images import recover_rows, write_last_image
from engine.store import CollectionStore, DeleteOp, UpdateOp, UpsertOp, WriteOp, WriteRequest
from engine.types import (
    AttributeSpec,
    AttributeType,
    AttributeValue,
    Contains,
    Filter,
    GeoPoint,
    GeoRadius,
    IdType,
    IsNull,
    Item,
    ItemId,
    ItemUpdate,
    Match,
    Range,
    Schema,
    Timestamp,
    VersionInfo,
)
from tests.engine.index.filter_model import ATTRIBUTES, SCHEMA, TEXT, WORDS, items

VIEWS = AttributeSpec("views", AttributeType.INT, filterable=False, volatile=True)
LIKES = AttributeSpec("likes", AttributeType.FLOAT, filterable=False, volatile=True)
NOTE = AttributeSpec("note", AttributeType.KEYWORD, filterable=False)
FIRST = (*ATTRIBUTES[:4], VIEWS, NOTE)
LATER = (*ATTRIBUTES[4:], LIKES)
COSTS = Costs(**{field.name: 1e-9 for field in fields(Costs)})
N_IDS = 8
CONDITIONS = [
    Match("keyword", ("a", "two words")),
    Match("keyword", except_=("b",)),
    Match("keyword_list", ("b", "ü")),
    Match("bool", (True,)),
    Match("bool", (False,)),
    Match("int", (-1, 2**63 - 1)),
    Range("float", lt=0.1),
    Range("timestamp", gte=Timestamp(0)),
    GeoRadius("geo_point", GeoPoint(52.5, 13.3), 10_000.0),
    *(IsNull(spec.name) for spec in ATTRIBUTES),
    *(Contains(TEXT, word) for word in (*WORDS, "Big red")),
]


class Life:
    """A store, and an index that has followed it from the start."""

    def __init__(self, folder: Path, id_type: IdType) -> None:
        schema = Schema("items", id_type, "dot", dimension=2, text_fields=SCHEMA.text_fields, chunk=3, attributes=FIRST)
        self.store = CollectionStore.create(folder, schema, VersionInfo("v1", "", 2, "dot", "float32", 1))
        self.index = self.empty_index()
        self.ids: list[ItemId] = [n if id_type == "uint64" else f"itém\n{n}" for n in range(N_IDS)]
        self._capture: tuple[Origin, Capture] | None = None
        self._attributes: dict[int, Mapping[str, AttributeValue]] = {}
        self._texts: dict[int, str] = {}

    @property
    def folder(self) -> Path:
        return self.store.segments("v1").folder

    def empty_index(self) -> VersionIndex:
        return VersionIndex(self.store.schema, self.store.versions[0], self.store.segments("v1"), COSTS)

    def write(self, ops: list[tuple[str, int, Mapping[str, AttributeValue]]]) -> None:
        requests = [WriteRequest([self._op(*one)]) for one in ops]
        for outcome in self.store.commit(requests):
            self.index.apply(outcome.changes, sequence=outcome.sequence)

    def _op(self, kind: str, number: int, attributes: Mapping[str, AttributeValue]) -> WriteOp:
        item_id = self.ids[number]
        if kind == "delete":
            return DeleteOp(item_id)
        known = self.store.schema
        given = {name: value for name, value in attributes.items() if known.attribute(name)}
        if kind == "in place":
            given = {**self._attributes.get(number, {}), "views": len(attributes), "note": "n"}
        self._attributes[number] = given
        n_rows = number % 3 + 1
        vectors = np.full((n_rows, 2), number, np.float32) if kind == "new" else None
        if kind == "update":
            return UpdateOp(ItemUpdate(item_id, given))
        if kind == "new":
            self._texts[number] = str(attributes.get(TEXT, ""))
        text = self._texts.get(number, "")
        return UpsertOp(Item(item_id, {TEXT: text}, given), sha256(text.encode()).digest(), vectors)

    def add_attribute(self) -> None:
        added = len(self.store.schema.attributes) - len(FIRST)
        if added < len(LATER):
            schema = self.store.add_attribute(LATER[added])
            self.index.add_attribute(LATER[added], schema)

    def write_image(self) -> None:
        write_last_image(self.store, self.index)

    def begin_image(self) -> None:
        """As beside writes: what columns hold is gathered later."""
        version, schema = self.index.version, self.index.schema
        sequence, n_rows = self.index.sequence, self.index.rows.n_rows
        origin = Origin(sequence, version.id, 0, schema.id_type, n_rows, schema.attributes, analysis_of(schema))
        self._capture = origin, Capture(self.index.rows, self.index.columns)

    def end_image(self) -> None:
        if self._capture is not None:
            origin, capture = self._capture
            capture.find_items()
            while capture.step():
                pass
            name_image(self.folder, write_arrays(self.folder, origin, capture.arrays))
            self._capture = None

    def from_image(self) -> VersionIndex:
        index = self.empty_index()
        recover_rows(self.store, index)
        return index

    def from_store(self) -> VersionIndex:
        index = self.empty_index()
        index.recover(self.store.live_rows("v1"), n_rows=self.store.row_count("v1"), sequence=self.store.sequence)
        return index


def alive(index: VersionIndex) -> Any:
    return np.flatnonzero(np.unpackbits(index.rows.alive, bitorder="little"))


def holds(index: VersionIndex, ids: list[ItemId]) -> dict[str, object]:
    """All that searches can see of an index."""
    rows, live = index.rows, alive(index)
    told: dict[str, object] = {
        "counts": (rows.n_rows, rows.n_alive, rows.n_items, index.columns.n_rows, index.sequence),
        "live": live.tolist(),
        "ids": rows.ids[live].tolist(),
        "first_rows": rows.first_rows[live].tolist(),
        "spans": [rows.rows_of_item(one) for one in ids],
        "living": (rows.died[live] == NEVER).all(),
    }
    for condition in CONDITIONS:
        if isinstance(condition, Contains) or index.schema.attribute(condition.attribute) is not None:
            program = compile_filter(Filter(must=(condition,)), index.schema)
            mask = program.evaluate(index.columns, index.rows_of) & rows.alive
            told[repr(condition)] = np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()
    for spec in (VIEWS, LIKES):
        if index.schema.attribute(spec.name) is not None:
            column = index.columns.volatile(spec.name)
            present = np.unpackbits(column.present.bits, bitorder="little")[live]
            told[spec.name] = (column.values[live].tolist(), present.tolist())
    return told


attributes_of = items.map(lambda drawn: {**drawn[0], "views": len(drawn), "likes": 0.5} if drawn else {})
KINDS = ["new", "new", "in place", "same text", "update", "delete"]
groups = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, N_IDS - 1), attributes_of),
    min_size=1,
    max_size=6,
)
steps = st.lists(
    st.one_of(groups, st.sampled_from(["write_image", "begin_image", "end_image", "add_attribute"])),
    max_size=14,
)


@settings(max_examples=60)
@given(st.sampled_from(["uint64", "string"]), steps, groups)
def test_an_image_and_what_was_changed_since_are_as_the_store_alone(
    id_type: IdType, script: list[Any], last: Any
) -> None:
    with TemporaryDirectory() as root:
        life = Life(Path(root) / "items", id_type)
        for step in script:
            if isinstance(step, str):
                getattr(life, step)()
            else:
                life.write(step)
        whole, from_image = life.from_store(), life.from_image()
        has_image = bool(image_sequences(life.folder))
        assert from_image.image_sequence == max(image_sequences(life.folder), default=0)
        assert holds(from_image, life.ids) == holds(whole, life.ids) == holds(life.index, life.ids)
        live, followed = alive(whole), life.index.rows.born
        born, told = from_image.rows.born[live], whole.rows.born[live]
        assert ((born == told) | (has_image & (born == followed[live]))).all()
        life.index = from_image
        life.write(last)
        assert holds(from_image, life.ids) == holds(life.from_store(), life.ids), "it goes on as any other"
        life.store.abandon()


def grown(folder: Path, id_type: IdType = "uint64") -> Life:
    """With images at two sequence numbers, and changes after them."""
    life = Life(folder, id_type)
    for number in range(N_IDS):
        life.write([("new", number, {"keyword": "a", "int": number, "views": number})])
    life.write_image()
    life.write([("delete", 3, {}), ("new", 5, {"keyword": "b"}), ("in place", 6, {"x": 1})])
    life.write_image()
    life.add_attribute()
    life.write([("delete", 5, {}), ("new", 2, {"keyword": "b"}), ("in place", 7, {}), ("new", 3, {LATER[0].name: 0.5})])
    return life


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    one = grown(tmp_path / "items")
    yield one
    one.store.abandon()


@pytest.mark.parametrize("id_type", ["uint64", "string"])
def test_the_newest_image_is_used_and_said(tmp_path: Path, id_type: IdType, caplog: pytest.LogCaptureFixture) -> None:
    life = grown(tmp_path / "items", id_type)
    with caplog.at_level(logging.INFO):
        index = life.from_image()
    assert index.image_sequence == 11
    assert holds(index, life.ids) == holds(life.from_store(), life.ids)
    assert "image of sequence 11 and 4 changed since" in caplog.text
    life.store.abandon()


def changed(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path, int], None]:
    def change(folder: Path, sequence: int) -> None:
        path = image_path(folder, sequence)
        stored = json.loads(path.read_text())
        edit(stored)
        path.write_text(json.dumps(stored))

    return change


def flipped(folder: Path, sequence: int) -> None:
    path = arrays_path(folder, sequence)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(folder: Path, sequence: int) -> None:
    path = arrays_path(folder, sequence)
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, Callable[[Path, int], object]] = {
    "a bit": flipped,
    "an end that is missing": cut,
    "no arrays": lambda folder, sequence: arrays_path(folder, sequence).unlink(),
    "no JSON": lambda folder, sequence: image_path(folder, sequence).write_text("{"),
    "another format": changed(lambda told: told.update(format=0)),
    "no object": lambda folder, sequence: image_path(folder, sequence).write_text("[]"),
    "another sequence": changed(lambda told: told["origin"].update(sequence=4)),
    "another generation": changed(lambda told: told["origin"].update(generation=1)),
    "another version": changed(lambda told: told["origin"].update(version="v2")),
    "another id type": changed(lambda told: told["origin"].update(id_type="string")),
    "another attribute": changed(lambda told: told["origin"]["attributes"][0].update(name="x")),
    "an attribute more": changed(lambda told: told["origin"]["attributes"].append(told["origin"]["attributes"][0])),
    "no attribute": changed(lambda told: told["origin"].update(attributes=[{"name": "x", "type": "y"}])),
    "more rows": changed(lambda told: told["origin"].update(n_rows=told["origin"]["n_rows"] + 1)),
    "fewer rows": changed(lambda told: told["origin"].update(n_rows=2)),
    "an array that is not there": changed(lambda told: told["places"].pop()),
    "an array beyond the end": changed(lambda told: told["places"][0].update(offset=10**9)),
    "an array of objects": changed(lambda told: told["places"][0].update(dtype="object")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_image_that_cannot_be_used_is_passed_over_with_a_warning(
    life: Life, damage: Callable[[Path, int], object], caplog: pytest.LogCaptureFixture
) -> None:
    expected = holds(life.from_store(), life.ids)
    for sequence, next_best in ((11, N_IDS), (N_IDS, 0)):
        damage(life.folder, sequence)
        caplog.clear()
        index = life.from_image()
        assert index.image_sequence == next_best
        assert holds(index, life.ids) == expected
        assert "a row image is not used" in caplog.text


def test_an_image_of_what_the_store_has_lost_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    longer, life = grown(tmp_path / "longer"), grown(tmp_path / "items")
    longer.write([("new", 0, {"keyword": "lost"})])
    longer.write_image()
    for path in (arrays_path, image_path):
        path(longer.folder, 16).rename(path(life.folder, 16))
    index = life.from_image()
    assert index.image_sequence == 11
    assert "later than the store" in caplog.text
    assert holds(index, life.ids) == holds(life.from_store(), life.ids)
    life.write([("delete", 1, {})])
    life.write_image()
    assert image_sequences(life.folder) == [16, 11], "the other one is removed, and is no older one of this"
    assert life.from_image().image_sequence == 16
    longer.store.abandon()
    life.store.abandon()


def test_an_image_of_another_history_is_found_by_its_items(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    life, other = grown(tmp_path / "items"), Life(tmp_path / "other", "uint64")
    for number in (*range(N_IDS), 7, 7, 7):
        other.write([("new", number, {})])
    other.write_image()
    for path in (arrays_path, image_path):
        path(other.folder, 11).replace(path(life.folder, 11))
    index = life.from_image()
    assert index.image_sequence == N_IDS
    assert "a row image is not used" in caplog.text
    assert holds(index, life.ids) == holds(life.from_store(), life.ids)
    life.store.abandon()
    other.store.abandon()


def test_an_image_is_not_used_where_the_log_lacks_a_change(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    real = life.store.changes_after
    monkeypatch.setattr(life.store, "changes_after", lambda after, limit: real(after, limit=limit)[1:])
    assert life.from_image().image_sequence == 0


def test_no_image_exists_before_the_store_is_synced(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ReadOnly("the disk refused")

    before = image_sequences(life.folder)
    with monkeypatch.context() as patch:
        patch.setattr(life.store, "sync", refuse)
        with pytest.raises(ReadOnly):
            life.write_image()
    assert image_sequences(life.folder) == before
    assert holds(life.from_image(), life.ids) == holds(life.from_store(), life.ids)
    life.write_image()
    assert image_sequences(life.folder) == [15, 11]


def test_the_newest_two_images_stay_and_nothing_else_that_was_left(life: Life) -> None:
    for name in ("rows-0000000000000001.image", "rows-0000000000000002.image.new", "rows-x.json.new"):
        (life.folder / name).write_text("left by a crash")
    kept = [path for path in life.folder.iterdir() if not path.name.startswith("rows-")]
    life.write_image()
    names = [f"rows-{sequence:016d}.{suffix}" for sequence in (11, 15) for suffix in ("image", "json")]
    assert sorted(path.name for path in life.folder.glob("rows-*")) == names
    assert [path for path in life.folder.iterdir() if not path.name.startswith("rows-")] == kept


def test_an_image_that_is_made_again_is_whole(life: Life) -> None:
    flipped(life.folder, 11)
    life.write_image()
    flipped(life.folder, 15)
    life.index.image_sequence = 0
    life.write_image()
    assert life.from_image().image_sequence == 15


def test_keywords_of_every_density_come_back_without_rows_that_came_later(tmp_path: Path) -> None:
    """Thousands of rows: keywords as masks and bitmaps, of which some lose all but one row, or all."""
    life = Life(tmp_path / "items", "uint64")

    def appended(first: int, count: int) -> None:
        ops = [
            UpsertOp(
                Item(number, {}, {"keyword": f"k{number}", "keyword_list": tuple(words(number))}),
                b"",
                np.ones((1, 2), np.float32),
            )
            for number in range(first, first + count)
        ]
        (outcome,) = life.store.commit([WriteRequest(ops)])
        life.index.apply(outcome.changes, sequence=outcome.sequence)

    def words(number: int) -> Iterator[str]:
        yield from (f"every {step}" for step in (1, 7, 500, 9_000, 9_999) if number % step == 0)
        yield from ["late"] * (number > 10_000)
        yield from ["once before"] * (number in (77, 10_500))

    appended(0, 10_000)
    life.begin_image()
    appended(10_000, 1_000)
    life.end_image()
    _, columns, _ = load_image(life.folder, read_image(life.folder, 10_000))
    for attribute, words_of in (("keyword", ["k9999", "k10500"]), ("keyword_list", ["every 7", "late", "once before"])):
        column = columns.column(attribute)
        assert isinstance(column, KeywordColumn)
        assert column.rows(words_of).max() < column.present.n_rows == 10_000
        assert not np.unpackbits(column.present.bits, bitorder="little")[10_000:].any()
    whole, from_image = life.from_store(), life.from_image()
    assert from_image.image_sequence == 10_000
    for word in ("every 1", "every 7", "every 500", "every 9000", "every 9999", "late", "once before"):
        program = compile_filter(Filter(must=(Match("keyword_list", (word,)),)), life.store.schema)
        masks = [program.evaluate(index.columns, index.rows_of) for index in (whole, from_image)]
        np.testing.assert_array_equal(*masks)
    for number in (0, 77, 9_999, 10_000, 10_999):
        program = compile_filter(Filter(must=(Match("keyword", (f"k{number}",)),)), life.store.schema)
        (row,) = np.flatnonzero(
            np.unpackbits(program.evaluate(from_image.columns, from_image.rows_of), bitorder="little")
        )
        assert row == number
    assert from_image.columns.memory_bytes == pytest.approx(whole.columns.memory_bytes, rel=0.2)
    life.store.abandon()


def test_gathering_goes_on_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.index.row_arrays._SLICE_SECONDS", 0.0)
    life = grown(tmp_path / "items", "string")
    capture = Capture(life.index.rows, life.index.columns)
    capture.find_items()
    n_slices = 0
    while capture.step():
        n_slices += 1
    assert n_slices > 3
    origin = replace(_origin(life), sequence=life.index.sequence)
    name_image(life.folder, write_arrays(life.folder, origin, capture.arrays))
    assert life.from_image().image_sequence == life.index.sequence
    life.store.abandon()


def _origin(life: Life) -> Origin:
    schema = life.index.schema
    return Origin(0, "v1", 0, schema.id_type, life.index.rows.n_rows, schema.attributes, analysis_of(schema))


def test_an_image_whose_texts_were_analysed_otherwise_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = grown(tmp_path / "items", "string")
    life.write_image()
    monkeypatch.setattr("engine.index.lexical.analysers.version", lambda name: "0.1")
    index = life.from_image()
    assert index.image_sequence == 0
    assert holds(index, life.ids) == holds(life.index, life.ids)
    assert "tantivy" in caplog.text


def test_texts_are_not_analysed_again_where_an_image_has_their_postings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = grown(tmp_path / "items", "string")
    life.write_image()
    monkeypatch.setattr(LexicalIndex, "analyse", lambda *_: pytest.fail("analysed"))
    index = life.from_image()
    assert holds(index, life.ids) == holds(life.index, life.ids)


def test_terms_that_no_live_text_has_are_not_in_an_image(tmp_path: Path) -> None:
    life = Life(tmp_path / "items", "string")
    life.write([("new", 0, {TEXT: "red"}), ("new", 1, {TEXT: "big"}), ("delete", 0, {})])
    life.write_image()
    index = life.from_image()
    assert index.lexical is not None
    assert index.lexical.terms.vocabularies["english"].texts == ["big"]
    life.write([("new", 2, {TEXT: "red ünder"})])
    assert holds(life.from_image(), life.ids) == holds(life.index, life.ids)
