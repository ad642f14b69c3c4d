"""Writes over a real channel: visibility, updates in place, retries, deletes, what a restart gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import CollectionNotFound, InvalidArgument, LimitExceeded, VersionMismatch
from engine.index.lexical import AnalysedTexts
from engine.lanes.lane import Lane
from engine.lanes.turns import IDS_A_TURN, ITEMS_A_TURN
from engine.pipeline.collection import Collection
from engine.store import Change, WriteOutcome, WriteRequest
from engine.types import (
    AttributeSpec,
    AttributeType,
    Filter,
    HasId,
    Item,
    Match,
    Range,
    SearchParams,
    TextField,
    Visibility,
)
from engine.v1 import admin_pb2, admin_pb2_grpc, common_pb2
from tests.e2e.conftest import THINGS, fill
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema

SEEN = Visibility.SEARCHABLE


def best(client: RetrievalClient, text: str, **params: object) -> list[object]:
    chosen = SearchParams(**params)  # type: ignore[arg-type]
    return [hit.id for hit in client.search("things", text, params=chosen).hits]


def test_an_acknowledged_write_is_found_by_a_search_that_asks_for_its_sequence(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        for n in range(20):
            written = client.upsert("things", [Item(f"i{n}", {"title": f"unique{n} word"})])
            result = client.search("things", f"unique{n}", min_sequence=written.sequence)
            assert result.hits[0].id == f"i{n}"
            assert result.explanation.sequence >= written.sequence


def test_unchanged_text_is_not_encoded_again(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        before = sum(own_server.encoder.encoded)
        changed = [replace(item, attributes={"price": 5}) for item in THINGS]
        result = client.upsert("things", changed, visibility=SEEN)
        assert result.unchanged_texts == len(THINGS)
        assert sum(own_server.encoder.encoded) == before
        assert client.count("things", Filter(must=(Range("price", gte=5, lte=5),))) == len(THINGS)
        assert best(client, "blue sky", k=1) == ["sky"]


def test_a_changed_text_replaces_the_old_one_at_once(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        client.upsert("things", [Item("sky", {"title": "green meadow"})], visibility=SEEN)
        assert best(client, "green meadow", k=1) == ["sky"]
        assert best(client, "blue air above the garden").count("sky") == 1
        assert client.count("things") == len(THINGS)


def test_a_volatile_attribute_changes_in_place(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        rows = client.get_collection("things").message.versions[0].memory.row_count
        sky = next(item for item in THINGS if item.id == "sky")
        client.upsert("things", [replace(sky, attributes={**sky.attributes, "clicks": 8})], visibility=SEEN)
        assert client.get("things", ["sky"])[0].attributes["clicks"] == 8
        assert client.get_collection("things").message.versions[0].memory.row_count == rows


def test_a_retry_with_the_same_request_id_is_applied_once(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        first = client.upsert("things", [Item("a", {"title": "one"})], request_id="r1", visibility=SEEN)
        client.upsert("things", [Item("a", {"title": "two"})], visibility=SEEN)
        again = client.upsert("things", [Item("a", {"title": "one"})], request_id="r1", visibility=SEEN)
        assert again.sequence == first.sequence
        assert client.get("things", ["a"])[0].text == {"title": "two"}


def test_a_deleted_item_is_never_returned(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        result = client.delete("things", ["apple", "gone"], visibility=SEEN)
        assert result.deleted == 1
        assert "apple" not in best(client, "red apple")
        assert client.get("things", ["apple"]) == []
        assert client.count("things", Filter(must=(HasId(("apple",)),))) == 0


def test_more_ids_than_a_call_may_have_are_refused_and_a_filter_deletes_any_number(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        engine = own_server.server.engine
        engine.limits = replace(engine.limits, upsert_items=3)
        for name, ids in (("points", range(4)), ("things", ["apple", "cherry", "engine", "sky"])):
            with pytest.raises(LimitExceeded, match=r"ids: 4 .* 3 ids a call"):
                client.delete(name, ids)
        assert client.delete("points", range(3)).deleted == 3
        assert client.delete_by_filter("points", Filter(must=(Range("rank", gte=3),)), visibility=SEEN).deleted == 17


def test_many_ids_to_delete_make_way_for_searches(own_server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    with a_client(own_server) as client:
        fill(client)
        monkeypatch.setattr("engine.lanes.turns.asyncio", SimpleNamespace(sleep=sleep))
        monkeypatch.setattr("engine.lanes.turns._REST_SECONDS", 0.125)
        monkeypatch.setattr(Lane, "is_busy", property(lambda lane: lane.name == "search"))
        assert client.delete("points", range(3 * IDS_A_TURN)).deleted == 20
    assert rests == [0.125, 0.125]


def test_deleting_by_filter_deletes_what_passes_and_nothing_else(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        red = Filter(must=(Match("colour", any_of=("red",)),))
        assert client.delete_by_filter("things", red, visibility=SEEN).deleted == 3
        assert sorted(str(item.id) for item in client.scroll("things")) == ["nothing", "sky"]
        assert client.delete_by_filter("things", Filter(), everything=True, visibility=SEEN).deleted == 2
        assert client.count("things") == 0


def test_a_stream_of_upserts_is_acknowledged_batch_by_batch(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        batches = [
            [Item(n, {}, {"rank": n}, np.array([n, 1, 0, 0], np.float32)) for n in range(at, at + 10)]
            for at in range(0, 50, 10)
        ]
        replies = list(client.upsert_stream("points", batches, visibility=SEEN))
        assert [reply.accepted for reply in replies] == [10] * 5
        assert [reply.sequence for reply in replies] == [10, 20, 30, 40, 50]
        assert client.count("points") == 50


def test_a_new_attribute_is_null_for_old_items_and_filterable_for_new_ones(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        client.add_attribute("things", AttributeSpec("size", AttributeType.KEYWORD))
        client.upsert("things", [Item("box", {"title": "cardboard box"}, {"size": "L"})], visibility=SEEN)
        assert client.count("things", Filter(must=(Match("size", any_of=("L",)),))) == 1
        with pytest.raises(InvalidArgument):
            client.add_attribute("things", AttributeSpec("size", AttributeType.INT))


def test_chunks_score_an_item_by_its_best_window_and_return_it_once(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema("long", chunk=3))
        filler = " ".join(f"filler{n}" for n in range(16))
        client.upsert(
            "long",
            [
                Item("deep", {"title": f"{filler} {filler} needle haystack"}),
                Item("shallow", {"title": "needle in many other different words of no use at all"}),
                Item("beyond", {"title": f"{filler} {filler} {filler} needle haystack"}),
            ],
            visibility=SEEN,
        )
        found = client.search("long", "needle haystack", params=SearchParams(k=3))
        assert [hit.id for hit in found.hits] == ["deep", "shallow", "beyond"]
        assert client.count("long") == 3
        assert len(client.get("long", ["deep"], vectors=True)[0].vectors) == 3  # type: ignore[arg-type]
        assert client.get_collection("long").message.truncated_items == 1


def test_weighted_fields_are_encoded_apart_and_averaged(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fields = (TextField("title", weight=3.0), TextField("body", order=1, weight=1.0))
        client.create_collection(text_schema("weighted", text_mode="weighted", text_fields=fields))
        client.upsert("weighted", [Item("a", {"title": "tulip", "body": "spade"})], visibility=SEEN)
        title = client.search("weighted", "tulip").hits[0].score
        body = client.search("weighted", "spade").hits[0].score
        assert title == pytest.approx(3 * body, rel=0.01)


def test_a_restart_gives_back_exactly_what_was_acknowledged(tmp_path: Path) -> None:
    with serving(tmp_path) as first, a_client(first) as client:
        fill(client)
        client.delete("things", ["cherry"])
        client.upsert("things", [Item("sky", {"title": "green meadow"}, {"price": 2})])
        kept = {item.id: item for item in client.scroll("things", vectors=True)}
        sequence = client.get_collection("things").sequence
        answers = client.search("things", "red garden", params=SearchParams(k=10)).hits
    with serving(tmp_path) as second, a_client(second) as client:
        again = {item.id: item for item in client.scroll("things", vectors=True)}
        assert sum(second.encoder.encoded) <= 1
        assert again.keys() == kept.keys()
        for item_id, item in kept.items():
            np.testing.assert_array_equal(item.vectors, again[item_id].vectors)
            assert replace(item, vectors=None) == replace(again[item_id], vectors=None)
        assert client.get_collection("things").sequence == sequence
        found = client.search("things", "red garden", params=SearchParams(k=10)).hits
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in answers]
        assert client.count("points") == 20


def test_a_collection_whose_encoder_changed_is_not_served_with_the_wrong_one(tmp_path: Path) -> None:
    with serving(tmp_path) as first, a_client(first) as client:
        fill(client)
    with serving(tmp_path, encoder_version="words-2") as second, a_client(second) as client:
        with pytest.raises(VersionMismatch, match="words-1"):
            client.search("things", "red")
        assert client.search("points", np.zeros(4, np.float32)).hits
        assert not client.is_serving("things")


def test_a_deleted_collection_is_gone_and_its_name_is_free(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        client.delete_collection("things")
        with pytest.raises(CollectionNotFound):
            client.count("things")
        assert [one.schema.name for one in client.list_collections()] == ["points"]
        assert not client.is_serving("things")
        client.create_collection(text_schema())
        assert client.count("things") == 0


def test_a_schema_without_a_metric_takes_the_encoders_own(own_server: Serving) -> None:
    own_server.encoder.metric = "dot"
    with grpc.insecure_channel(own_server.target) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        schema = admin_pb2.Schema(name="own", encoder="words", text_fields=[admin_pb2.TextField(name="title")])
        made = stub.CreateCollection(admin_pb2.CreateCollectionRequest(schema=schema), timeout=60).collection
        plain = admin_pb2.Schema(name="plain", dimension=3)
        other = stub.CreateCollection(admin_pb2.CreateCollectionRequest(schema=plain), timeout=60).collection
    assert made.versions[0].metric == common_pb2.METRIC_DOT
    assert other.versions[0].metric == common_pb2.METRIC_COSINE


def test_requests_of_a_stream_are_under_way_together_and_written_in_their_order(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        store = own_server.server.engine.collections["points"].store
        groups: list[int] = []
        real = store.commit

        def counted(requests: Sequence[WriteRequest]) -> list[WriteOutcome]:
            groups.append(len(requests))
            return real(requests)

        store.commit = counted  # type: ignore[method-assign]
        batches = [[Item(1, {}, {"rank": n}, np.full(4, n, np.float32))] for n in range(300)]
        replies = list(client.upsert_stream("points", batches, visibility=SEEN))
        assert [reply.accepted for reply in replies] == [1] * 300
        assert [reply.sequence for reply in replies] == list(range(1, 301))
        assert sum(groups) == 300
        assert max(groups) > 1, "one at a time"
        (stored,) = client.get("points", [1], vectors=True)
        assert stored.attributes == {"rank": 299}


def test_a_large_request_of_a_stream_is_not_overtaken_by_small_ones_behind_it(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        large = [Item(n, {}, {"rank": 0}, np.ones(4, np.float32)) for n in range(20 * ITEMS_A_TURN)]
        small = [[Item(n, {}, {"rank": 1 + n}, np.ones(4, np.float32))] for n in range(5)]
        replies = list(client.upsert_stream("points", [large, *small], visibility=SEEN))
        assert [reply.sequence for reply in replies] == [len(large) + n for n in range(6)]
        stored = client.get("points", range(6))
        assert [item.attributes["rank"] for item in stored] == [1, 2, 3, 4, 5, 0]


def test_items_that_were_read_for_a_collection_are_not_written_to_another_of_its_name(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_client(own_server) as client, a_client(own_server) as other:
        client.create_collection(vector_schema())

        def replace_it() -> None:
            other.delete_collection("points")
            other.create_collection(vector_schema(metric="dot"))

        async def caught_up(collection: Collection, deadline: float | None) -> None:
            await asyncio.to_thread(replace_it)

        first = own_server.server.engine.collections["points"]
        monkeypatch.setattr(first, "_caught_up", caught_up)
        items = [Item(n, {}, {"rank": n}, np.ones(4, np.float32)) for n in range(ITEMS_A_TURN + 1)]
        with pytest.raises(CollectionNotFound):
            client.upsert("points", items)
        assert client.count("points") == 0


def test_a_large_write_is_applied_a_part_at_a_time_and_seen_whole_when_it_is_acknowledged(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pipeline.collection._APPLIED_AT_ONCE", 7)
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        index = own_server.server.engine.collections["points"].index
        parts: list[tuple[int, int]] = []
        real = index.apply

        def counted(changes: Sequence[Change], *, sequence: int, analysed: AnalysedTexts | None = None) -> None:
            parts.append((len(changes), sequence))
            real(changes, sequence=sequence, analysed=analysed)

        index.apply = counted  # type: ignore[method-assign, assignment]
        items = [Item(n, {}, {"rank": n}, np.ones(4, np.float32)) for n in range(30)]
        assert client.upsert("points", items, visibility=SEEN).sequence == 30
        assert client.count("points") == 30
        assert client.delete("points", list(range(5, 40)), visibility=SEEN).deleted == 25
        assert client.count("points") == 5
        assert parts == [(7, 7), (7, 14), (7, 21), (7, 28), (2, 30), (7, 37), (7, 44), (7, 51), (4, 55)]


def test_a_stream_of_more_items_than_may_wait_is_held_back_and_not_refused(tmp_path: Path) -> None:
    with serving(tmp_path, commit_batch_items=20, commit_queue_items=40) as few, a_client(few) as client:
        client.create_collection(vector_schema())
        batches = [[Item(n * 30 + m, {}, {}, np.ones(4, np.float32)) for m in range(30)] for n in range(60)]
        assert sum(reply.accepted for reply in client.upsert_stream("points", batches)) == 1800


def test_texts_in_a_stream_keep_their_place_among_vectors(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        vector = np.ones(own_server.encoder.dimension, np.float32)
        batches = [
            [Item("one", {"title": f"turn {n}"}, {"price": n}, None if n % 3 == 0 else vector)] for n in range(40)
        ]
        replies = list(client.upsert_stream("things", batches))
        assert [reply.sequence for reply in replies] == list(range(1, 41))
        (stored,) = client.get("things", ["one"])
        assert (stored.text["title"], stored.attributes["price"]) == ("turn 39", 39)


def test_a_request_that_is_refused_ends_its_stream_after_those_before_it(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        limit = own_server.server.engine.limits.upsert_items
        good = [Item(1, {}, {}, np.ones(4, np.float32))]
        replies = client.upsert_stream("points", [good, good, good * (limit + 1), good])
        assert [next(replies).accepted, next(replies).accepted] == [1, 1]
        with pytest.raises(LimitExceeded):
            next(replies)
        assert client.upsert("points", good).accepted == 1
