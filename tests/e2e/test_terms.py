"""Texts are searched by terms as they are written, changed, moved to other rows, deleted and read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import InvalidArgument, UnknownAttribute
from engine.index.lexical import LexicalIndex, Merge
from engine.index.lexical.merging import Segment
from engine.types import Contains, Filter, Item, ItemId, ItemUpdate, SearchParams, TextField, Visibility
from tests.e2e.conftest import THINGS
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema, wait_for

FIELDS = (TextField("title", 0, 1.0, "english", 2.0), TextField("body", 1, 1.0, "plain"), TextField("sku", 2))
SCHEMA = replace(text_schema(), text_fields=FIELDS, bm25_k1=0.0, bm25_b=0.75)
FRUIT, RED, GARDEN = Contains("body", "fruit"), Contains("title", "reds"), Contains("body", "Garden the")


def written(client: RetrievalClient) -> None:
    client.create_collection(SCHEMA)
    client.upsert("things", THINGS, visibility=Visibility.SEARCHABLE)


def ids(client: RetrievalClient, *must: Contains, collection: str = "things") -> list[ItemId]:
    tree = Filter(must=must)
    found = [item.id for item in client.scroll(collection, tree)]
    assert client.count(collection, tree) == len(found)
    return found


def lexical(running: Serving, name: str = "things") -> LexicalIndex:
    found = running.server.engine.collections[name].index.lexical
    assert found is not None
    return found


@pytest.fixture
def own_client(own_server: Serving) -> Iterator[RetrievalClient]:
    with a_client(own_server) as client:
        written(client)
        yield client


def test_a_schema_s_analysers_and_weights_come_back(own_client: RetrievalClient) -> None:
    found = own_client.get_collection("things")
    assert (found.schema.text_fields, found.schema.bm25_k1, found.schema.bm25_b) == (FIELDS, 0.0, 0.75)
    assert found.versions[0].message.memory.lexical > 0


def test_searches_are_filtered_by_terms(own_client: RetrievalClient) -> None:
    assert ids(own_client, RED) == ["apple", "cherry"]
    assert ids(own_client, RED, GARDEN) == ["apple"]
    assert ids(own_client, Contains("body", "gardens")) == []
    params = SearchParams(k=10, filter=Filter(must_not=(FRUIT,)))
    assert {hit.id for hit in own_client.search("things", "red", params=params).hits} == {"engine", "sky", "nothing"}


def test_terms_follow_what_is_written(own_client: RetrievalClient) -> None:
    own_client.upsert("things", [Item("sky", {"title": "red evening"})], visibility=Visibility.SEARCHABLE)
    assert ids(own_client, RED) == ["apple", "cherry", "sky"]
    # The same words in another field are the same text to the encoder.
    own_client.upsert("things", [Item("sky", {"body": "red evening"})], visibility=Visibility.SEARCHABLE)
    assert ids(own_client, RED) == ["apple", "cherry"]
    # A filterable attribute that changes moves the item to other rows.
    own_client.update("things", [ItemUpdate("apple", {"price": 4})], visibility=Visibility.SEARCHABLE)
    own_client.update("things", [ItemUpdate("cherry", {"clicks": 4})], visibility=Visibility.SEARCHABLE)
    assert ids(own_client, RED) == ["apple", "cherry"]
    own_client.delete("things", ["apple"], visibility=Visibility.SEARCHABLE)
    assert ids(own_client, RED) == ["cherry"]


def test_what_cannot_be_asked_is_refused(own_client: RetrievalClient) -> None:
    with pytest.raises(UnknownAttribute, match="'sku': the text field has no analyser"):
        ids(own_client, Contains("sku", "red"))
    with pytest.raises(UnknownAttribute, match="'colour': the schema has no such text field"):
        ids(own_client, Contains("colour", "red"))
    with pytest.raises(InvalidArgument, match="has no terms") as caught:
        ids(own_client, Contains("title", "the"))
    assert caught.value.field == "filter.must[0].contains.text"


def test_compaction_gives_postings_the_new_rows(own_client: RetrievalClient, own_server: Serving) -> None:
    own_client.delete("things", ["apple", "sky"])
    own_client.upsert("things", [Item("pear", {"title": "a red pear"})], visibility=Visibility.SEARCHABLE)
    own_client.wait_for_operation(own_client.compact_collection("things"))
    assert lexical(own_server).n_rows == 4
    assert sum(len(one.items) for one in lexical(own_server).segments) == 4
    assert ids(own_client, RED) == ["cherry", "pear"]
    own_client.upsert("things", [Item("rose", {"title": "red rose"})], visibility=Visibility.SEARCHABLE)
    assert ids(own_client, RED) == ["cherry", "pear", "rose"]


def test_postings_are_there_after_a_restart_with_and_without_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    for _ in range(2):
        with serving(folder) as running, a_client(running) as client:
            if not client.list_collections():
                written(client)
            assert ids(client, RED) == ["apple", "cherry"]
        for image in folder.glob("collections/things/versions/*/rows-*"):
            image.unlink()
    with serving(folder) as running, a_client(running) as client:
        assert ids(client, RED, GARDEN) == ["apple"]
    with serving(folder) as running, a_client(running) as client:
        assert ids(client, RED, GARDEN) == ["apple"]
        assert running.server.engine.collections["things"].index.image_sequence > 0


def test_a_snapshot_has_the_postings_of_its_moment(own_client: RetrievalClient, own_server: Serving) -> None:
    taken = own_client.wait_for_operation(own_client.create_snapshot("things")).snapshot
    assert taken is not None
    own_client.delete("things", ["apple"], visibility=Visibility.SEARCHABLE)
    own_client.wait_for_operation(own_client.restore_snapshot("things", taken.id, into="again"))
    assert ids(own_client, RED) == ["cherry"]
    assert ids(own_client, RED, collection="again") == ["apple", "cherry"]


def test_postings_are_merged_beside_writes(own_server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.index.lexical.lexical_index.AT_ONCE", 0)
    fields = (TextField("title", analyser="plain"),)
    with a_client(own_server) as client:
        client.create_collection(vector_schema(text_fields=fields))
        for n in range(40):
            item = Item(n, {"title": f"thing {n % 4}"}, vector=np.full(4, n, np.float32))
            client.upsert("points", [item], visibility=Visibility.SEARCHABLE)
        wait_for(lambda: len(lexical(own_server, "points").segments) <= 6)
        wait_for(lambda: not lexical(own_server, "points").wants_merge)
        assert ids(client, Contains("title", "thing 3"), collection="points") == list(range(3, 40, 4))


def test_a_merge_that_fails_is_told_and_begun_again(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("engine.index.lexical.lexical_index.AT_ONCE", 0)
    run, failing = Merge.run, [True]

    def run_or_fail(merge: Merge) -> Segment:
        if failing:
            raise MemoryError("no room")
        return run(merge)

    monkeypatch.setattr(Merge, "run", run_or_fail)
    with a_client(own_server) as client:
        client.create_collection(vector_schema(text_fields=(TextField("title", analyser="plain"),)))
        for n in range(6):
            if n == 4:
                wait_for(lambda: "postings of points could not be merged" in caplog.text)
                failing.clear()
            item = Item(n, {"title": "red"}, vector=np.full(4, n, np.float32))
            client.upsert("points", [item], visibility=Visibility.SEARCHABLE)
            assert client.count("points", Filter(must=(Contains("title", "red"),))) == n + 1
        wait_for(lambda: len(lexical(own_server, "points").segments) <= 3)
        assert client.count("points", Filter(must=(Contains("title", "red"),))) == 6


def test_an_item_of_several_rows_passes_with_all_of_them(own_server: Serving) -> None:
    fields = (TextField("title", analyser="plain"),)
    with a_client(own_server) as client:
        client.create_collection(vector_schema(text_fields=fields, chunk=3))
        vectors = np.eye(4, dtype=np.float32)
        items = [
            Item(1, {"title": "a red one"}, vector=vectors[:3]),
            Item(2, {"title": "a blue one"}, vector=vectors[3:]),
        ]
        client.upsert("points", items, visibility=Visibility.SEARCHABLE)
        params = SearchParams(k=5, filter=Filter(must=(Contains("title", "red"),)))
        (hit,) = client.search("points", vectors[2], params=params).hits
        assert (hit.id, hit.score) == (1, 0.0)
        assert client.count("points", params.filter) == 1
