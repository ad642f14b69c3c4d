"""Items as columns over a real channel: what they leave is what items one by one leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from engine.client import RetrievalClient, UpsertResult
from engine.convert_columns import item_columns_to
from engine.errors import CollectionNotFound, InvalidArgument, LimitExceeded
from engine.item_columns import ItemColumns, value_column
from engine.types import Filter, GeoPoint, Item, Match, Range, SearchParams, TextField, Timestamp, Visibility
from engine.v1 import ingest_pb2_grpc
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema, wait_for

D = 6
N = 300


@pytest.fixture
def client(own_server: Serving) -> Iterator[RetrievalClient]:
    with a_client(own_server) as connected:
        yield connected


def some_columns(n: int = N, first: int = 0) -> ItemColumns:
    """Every type of attribute, null here and there."""
    rng = np.random.default_rng(first)
    places = range(first, first + n)
    attributes = {
        "colour": [("red", "blue", None)[i % 3] for i in places],
        "tags": [(f"t{i % 7}", "all") if i % 2 else () for i in places],
        "remote": [i % 2 == 0 if i % 5 else None for i in places],
        "price": np.array(places),
        "weight": [i if i % 4 else None for i in places],
        "posted": [Timestamp(i) for i in places],
        "place": [GeoPoint(i % 90, i % 180) if i % 11 else None for i in places],
        "clicks": list(places),
    }
    vectors = rng.standard_normal((n, D)).astype(np.float32)
    return ItemColumns([f"i{i}" for i in places], vectors, {k: value_column(v, k) for k, v in attributes.items()})


def one_by_one(columns: ItemColumns) -> list[Item]:
    return [columns.item(place) for place in range(len(columns))]


def told(result: UpsertResult) -> list[tuple[object, ...]]:
    return [(one.index, one.id, one.error.code, one.error.reason, one.error.message) for one in result.errors]


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_columns_are_stored_found_and_filtered_as_items_one_by_one_are(client: RetrievalClient, metric: str) -> None:
    columns = some_columns()
    columns.vectors[17] = np.nan
    columns.vectors[40, 2] = np.inf
    schema = text_schema(metric=metric, encoder=None, dimension=D, text_fields=(TextField("title", analyser="plain"),))
    for name in ("together", "alone"):
        client.create_collection(replace(schema, name=name))
    (together,) = client.upsert_columns("together", [columns], visibility=Visibility.SEARCHABLE)
    alone = client.upsert("alone", one_by_one(columns), visibility=Visibility.SEARCHABLE)
    assert told(together) == told(alone)
    assert (together.sequence, together.accepted) == (alone.sequence, alone.accepted) == (N - 2, N - 2)
    items = [list(client.scroll(name, page_size=N, vectors=True)) for name in ("together", "alone")]
    for one, other in zip(*items, strict=True):
        assert replace(one, vectors=None) == replace(other, vectors=None)
        np.testing.assert_array_equal(one.vectors, other.vectors)
    tree = Filter(
        must=(Match("tags", any_of=("t3", "all")), Range("weight", gt=20.5)), must_not=(Match("colour", ("red",)),)
    )
    for query in columns.vectors[:5]:
        answers = [client.search(name, query, params=SearchParams(filter=tree)) for name in ("together", "alone")]
        assert answers[0].hits == answers[1].hits
        assert len(answers[0].hits) == 10


def test_of_an_id_that_comes_twice_the_last_wins(client: RetrievalClient) -> None:
    client.create_collection(vector_schema(dimension=2))
    ids = np.array([*range(100), 7, *range(200, 300)], np.uint64)
    vectors = np.stack([np.arange(len(ids)), np.zeros(len(ids))], axis=1).astype(np.float32)
    again = ItemColumns(np.array([8], np.uint64), np.array([[5000, 0]], np.float32))
    results = list(
        client.upsert_columns("points", [ItemColumns(ids, vectors), again], visibility=Visibility.SEARCHABLE)
    )
    assert [result.accepted for result in results] == [201, 1]
    assert client.count("points") == 200
    found = client.get("points", [7, 8], vectors=True)
    assert [item.vectors[0, 0] for item in found if item.vectors is not None] == [100, 5000]


def test_what_was_written_as_columns_is_there_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "restarted"
    with serving(folder) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        ids = np.arange(1000, dtype=np.uint64)
        vectors = np.random.default_rng(1).standard_normal((1000, D)).astype(np.float32)
        batches = [ItemColumns(ids[at : at + 100], vectors[at : at + 100]) for at in range(0, 1000, 100)]
        results = list(client.upsert_columns("points", batches, visibility=Visibility.DURABLE))
        assert [result.sequence for result in results] == [*range(100, 1001, 100)]
    with serving(folder) as running, a_client(running) as client:
        wait_for(lambda: client.is_serving("points"))
        assert client.count("points") == 1000
        assert [client.search("points", vectors[one]).hits[0].id for one in (0, 999)] == [0, 999]


def test_a_stream_ends_with_what_is_wrong_with_all_of_a_request(client: RetrievalClient) -> None:
    client.create_collection(vector_schema(dimension=2))
    good = ItemColumns(np.arange(3, dtype=np.uint64), np.ones((3, 2), np.float32))
    replies = client.upsert_columns("points", [good, replace(good, vectors=np.ones((3, 5), np.float32))])
    assert next(replies).accepted == 3
    with pytest.raises(InvalidArgument, match="have 5 dimensions, the collection has 2"):
        next(replies)
    with pytest.raises(CollectionNotFound):
        list(client.upsert_columns("nobody", [good]))
    with pytest.raises(InvalidArgument, match=r"vectors\.rows: 2 vectors for 3 ids"):
        list(client.upsert_columns("points", [replace(good, vectors=np.ones((2, 2), np.float32))]))
    too_many = ItemColumns(np.arange(10_001, dtype=np.uint64), np.ones((10_001, 2), np.float32))
    with pytest.raises(LimitExceeded, match="10001 is beyond the limit of 10000 items a request"):
        list(client.upsert_columns("points", [too_many]))
    assert client.count("points") == 3


def test_a_retry_with_the_same_request_id_is_answered_as_it_was(client: RetrievalClient, own_server: Serving) -> None:
    client.create_collection(vector_schema(dimension=2))
    request = item_columns_to(
        ItemColumns(np.arange(3, dtype=np.uint64), np.array([[1, 2], [np.nan, 0], [3, 4]], np.float32))
    )
    request.collection, request.request_id = "points", "once"
    with grpc.insecure_channel(own_server.target) as channel:
        stub = ingest_pb2_grpc.IngestServiceStub(channel)
        replies = list(stub.UpsertColumns(iter([request, request])))
    for reply in replies:
        assert (reply.accepted, reply.sequence, [one.index for one in reply.errors]) == (2, 2, [1])
        assert reply.request_id == "once"


def test_columns_that_contradict_themselves_are_refused_by_name(client: RetrievalClient) -> None:
    client.create_collection(vector_schema(dimension=2))
    good = ItemColumns(np.arange(3, dtype=np.uint64), np.ones((3, 2), np.float32))
    short = replace(good, attributes={"rank": value_column([1, 2], "rank")})
    with pytest.raises(InvalidArgument, match=r"attributes\[rank\]: has 2 values for 3 ids"):
        list(client.upsert_columns("points", [short]))
