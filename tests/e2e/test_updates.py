"""Attributes changed without encoding, and writes that are made only where nobody wrote in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from engine.client import RetrievalClient, UpsertResult
from engine.errors import InvalidArgument, ItemNotFound, LimitExceeded, SequenceMismatch
from engine.ingest.texts import text_hash
from engine.types import Filter, Item, ItemId, ItemUpdate, Match, Range, SearchParams, Visibility
from tests.e2e.conftest import fill
from tests.e2e.serving import Serving, a_client

SEEN = Visibility.SEARCHABLE


@pytest.fixture
def client(own_server: Serving) -> Iterator[RetrievalClient]:
    with a_client(own_server) as one:
        fill(one)
        yield one


def priced(client: RetrievalClient, price: int) -> int:
    return client.count("things", Filter(must=(Range("price", gte=price, lte=price),)))


def attributes(client: RetrievalClient, item_id: str) -> dict[str, object]:
    (item,) = client.get("things", [item_id])
    return dict(item.attributes)


def test_an_update_changes_what_it_names_and_encodes_nothing(own_server: Serving, client: RetrievalClient) -> None:
    before = sum(own_server.encoder.encoded)
    (stored,) = client.get("things", ["sky"])
    result = client.update("things", [ItemUpdate("sky", {"price": 77, "tags": ("new",)})], visibility=SEEN)
    assert (result.accepted, result.errors) == (1, ())
    (now,) = client.get("things", ["sky"])
    assert now.sequence == result.sequence > stored.sequence
    assert now.text == stored.text
    assert now.attributes == {**stored.attributes, "price": 77, "tags": ("new",)}
    assert priced(client, 77) == 1
    assert client.search("things", "blue sky", params=SearchParams(k=1)).hits[0].id == "sky"
    client.update("things", [ItemUpdate("sky", {"clicks": 9}, clear=("price",))], visibility=SEEN)
    assert priced(client, 77) == 0
    assert attributes(client, "sky") == {**{k: v for k, v in now.attributes.items() if k != "price"}, "clicks": 9}
    client.update("things", [ItemUpdate("sky", {"tags": ()})], visibility=SEEN)
    assert "tags" not in attributes(client, "sky")
    assert client.count("things", Filter(must=(Match("tags", any_of=("new",)),))) == 0
    assert sum(own_server.encoder.encoded) == before + 1, "the query alone"


def test_an_update_that_is_refused_loses_no_others(client: RetrievalClient) -> None:
    updates = [
        ItemUpdate("nobody", {"price": 1}),
        ItemUpdate("sky", {"price": 5}),
        ItemUpdate("sky", {"nothing": 1}),
        ItemUpdate("sky"),
        ItemUpdate("sky", {"price": 1}, clear=("price",)),
        ItemUpdate("sky", {"price": "dear"}),
        ItemUpdate("sky", {"price": 6}, if_sequence=10**6),
    ]
    result = client.update("things", updates, visibility=SEEN)
    told = {error.index: error.error for error in result.errors}
    assert sorted(told) == [0, 2, 3, 4, 5, 6]
    assert isinstance(told[0], ItemNotFound)
    assert all(isinstance(told[place], InvalidArgument) for place in (2, 3, 4, 5))
    assert isinstance(told[6], SequenceMismatch)
    assert result.accepted == 1
    assert attributes(client, "sky")["price"] == 5
    with pytest.raises(LimitExceeded):
        client.update("things", [ItemUpdate("sky", {"price": 5})] * 100_000)


def test_of_writers_that_read_the_same_only_the_first_writes(client: RetrievalClient) -> None:
    (read,) = client.get("things", ["sky"])
    first = client.update("things", [ItemUpdate("sky", {"price": 1}, if_sequence=read.sequence)])
    second = client.update("things", [ItemUpdate("sky", {"price": 2}, if_sequence=read.sequence)])
    third = client.upsert("things", [Item("sky", {"title": "another"}, if_sequence=read.sequence)])
    assert first.accepted == 1
    for refused in (second, third):
        assert refused.accepted == 0
        (error,) = refused.errors
        assert isinstance(error.error, SequenceMismatch)
        assert error.error.metadata == {"id": "sky", "wanted": str(read.sequence), "found": str(first.sequence)}
    assert attributes(client, "sky")["price"] == 1
    client.update("things", [ItemUpdate("sky", {"price": 3}, if_sequence=first.sequence)])
    assert attributes(client, "sky")["price"] == 3


def test_an_item_is_made_only_where_there_is_none(client: RetrievalClient) -> None:
    made = client.upsert("things", [Item("new", {"title": "brand new"}, if_sequence=0)])
    assert made.accepted == 1
    again = client.upsert("things", [Item("new", {"title": "other"}, if_sequence=0), Item("more", {"title": "more"})])
    assert again.accepted == 1
    assert [(error.index, error.id) for error in again.errors] == [(0, "new")]
    (kept,) = client.get("things", ["new"])
    assert kept.text["title"] == "brand new"


def test_a_retry_is_told_the_same_conflicts(client: RetrievalClient) -> None:
    items = [
        Item("", {"title": "no id"}),
        Item("sky", {"title": "mine"}, if_sequence=0),
        Item("fresh", {"title": "fresh"}),
        Item("river", {"title": "mine"}, if_sequence=10**6),
    ]
    updates = [ItemUpdate("nobody", {"price": 1}), ItemUpdate("fresh", {"price": 1})]

    def told(result: UpsertResult) -> list[tuple[int, object, str]]:
        return [(error.index, error.id, error.error.message) for error in result.errors]

    first, second = (client.upsert("things", items, request_id="r") for _ in range(2))
    assert (first.accepted, [place for place, *_ in told(first)]) == (1, [0, 1, 3])
    assert (told(second), second.accepted, second.sequence) == (told(first), 1, first.sequence)
    one, two = (client.update("things", updates, request_id="u") for _ in range(2))
    assert one == two or [error.error.message for error in one.errors] == [error.error.message for error in two.errors]
    assert (two.accepted, two.sequence) == (one.accepted, one.sequence) == (1, one.sequence)


def test_what_a_second_round_writes_again_is_no_conflict_of_its_own(
    own_server: Serving, client: RetrievalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = own_server.server.engine.collections["things"].store
    real = store.text_hashes

    def outdated(ids: Sequence[ItemId]) -> dict[ItemId, bytes]:
        """As if someone had changed the text of one item right after it was looked up."""
        monkeypatch.setattr(store, "text_hashes", real)
        return real(ids) | {"river": text_hash(Item("river", {"title": "new text"}), store.schema)}

    monkeypatch.setattr(store, "text_hashes", outdated)
    (read,) = client.get("things", ["sky"])
    items = [
        Item("sky", {"title": "mine"}, if_sequence=read.sequence),
        Item("fresh", {"title": "fresh"}, if_sequence=0),
        Item("river", {"title": "new text"}),
        Item("moon", {"title": "none"}, if_sequence=10**6),
    ]
    for _ in range(2):
        result = client.upsert("things", items, request_id="again")
        assert result.accepted == 3
        assert [error.index for error in result.errors] == [3]
    found = client.get("things", ["sky", "fresh", "river"])
    assert [item.text["title"] for item in found] == ["mine", "fresh", "new text"]
