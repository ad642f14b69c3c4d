"""Searches over a real channel: texts, vectors, items, filters, batches, streams."""

from __future__ import annotations

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from engine.client import BatchResult, RetrievalClient, SimilarTo
from engine.types import (
    Filter,
    GeoPoint,
    GeoRadius,
    HasId,
    IsNull,
    Match,
    Range,
    SearchParams,
    Strategy,
    Timestamp,
)
from tests.e2e.conftest import DAY, THINGS
from tests.e2e.serving import Serving


def ids_where(client: RetrievalClient, **conditions: object) -> list[str]:
    params = SearchParams(k=10, filter=Filter(**conditions))  # type: ignore[arg-type]
    return sorted(str(hit.id) for hit in client.search("things", "red sweet garden", params=params).hits)


def test_a_text_finds_the_items_that_share_its_words_best_first(client: RetrievalClient) -> None:
    result = client.search("things", "red apple fruit", params=SearchParams(k=3), text_fields=["title"])
    assert result.hits[0].id == "apple"
    assert result.hits[0].text == {"title": "red apple"}
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)


def test_a_hit_returns_what_was_asked_for_and_never_what_is_not_stored(client: RetrievalClient) -> None:
    hit = client.search("things", "fire engine ladder", attributes=["*"], vectors=True).hits[0]
    assert hit.attributes == {"colour": "red", "weight": 12.5, "place": GeoPoint(52.52, 13.40)}
    assert hit.text == {}
    assert hit.vector is not None
    assert hit.vector.shape == (1, 64)
    np.testing.assert_allclose(np.linalg.norm(hit.vector), 1, atol=1e-3)


def test_the_reply_says_how_it_was_found(client: RetrievalClient) -> None:
    told = client.search(
        "things", "red", params=SearchParams(filter=Filter(must=(Match("colour", ("red",)),)))
    ).explanation
    assert told.index_version == "v1"
    assert told.encoder_version == "words-1"
    assert told.strategy in (Strategy.GATHER, Strategy.MASKED_SCAN)
    assert told.selectivity == 3 / 5
    assert told.selectivity_exact
    assert told.device == "cpu"
    assert told.score_dtype == "float16"
    assert told.times.encode > 0
    assert told.sequence >= 5


def test_filters_of_every_kind_over_the_wire(client: RetrievalClient) -> None:
    assert ids_where(client, must=(Match("colour", any_of=("red",)),)) == ["apple", "cherry", "engine"]
    assert ids_where(client, must=(Match("colour", except_=("red",)),)) == ["sky"]
    assert ids_where(client, must_not=(Match("colour", any_of=("red",)),)) == ["nothing", "sky"]
    assert ids_where(client, must=(Match("tags", any_of=("food", "tool")),)) == ["apple"]
    assert ids_where(client, must=(Match("remote", any_of=(False,)),)) == ["cherry"]
    assert ids_where(client, must=(Range("price", gt=3),)) == ["cherry"]
    assert ids_where(client, must=(Range("weight", gte=12, lt=13),)) == ["engine"]
    assert ids_where(client, must=(Range("posted", gte=Timestamp(2 * DAY)),)) == ["cherry"]
    assert ids_where(client, must=(GeoRadius("place", GeoPoint(52.5, 13.4), 5000.0),)) == ["engine"]
    assert ids_where(client, must=(HasId(("sky", "apple", "gone")),)) == ["apple", "sky"]
    assert ids_where(client, must=(IsNull("tags"),)) == ["engine", "nothing", "sky"]
    some = (Match("colour", any_of=("blue",)), Range("price", lte=3), Match("remote", any_of=(True,)))
    assert ids_where(client, should=some) == ["apple", "sky"]
    assert ids_where(client, should=some, min_should=2) == ["apple"]
    assert ids_where(client, must=(Match("colour", any_of=("green",)),)) == []


def test_an_attribute_that_is_not_stored_can_be_filtered_on(client: RetrievalClient) -> None:
    assert ids_where(client, must=(Match("secret", any_of=("yes",)),)) == ["engine"]


def test_nothing_passing_is_an_empty_answer_that_cost_nothing(client: RetrievalClient) -> None:
    params = SearchParams(filter=Filter(must=(Match("colour", any_of=("green",)),)))
    result = client.search("things", "red", params=params)
    assert result.hits == []
    assert result.explanation.strategy is Strategy.NONE
    assert result.explanation.rows_scanned == 0


def test_an_item_finds_its_neighbours_and_not_itself(client: RetrievalClient) -> None:
    near = client.search("points", SimilarTo(5), params=SearchParams(k=4))
    assert [hit.id for hit in near.hits] == [4, 6, 3, 7]
    assert [hit.score for hit in near.hits] == [-1.0, -1.0, -4.0, -4.0]


def test_excluded_items_are_never_returned(client: RetrievalClient) -> None:
    params = SearchParams(k=3, exclude_ids=np.array([0, 2, 999], np.uint64))
    assert [hit.id for hit in client.search("points", np.zeros(4, np.float32), params=params).hits] == [1, 3, 4]
    texts = client.search("things", "red apple", params=SearchParams(k=5, exclude_ids=("apple",)))
    assert "apple" not in [hit.id for hit in texts.hits]
    assert len(texts.hits) == 4


def test_k_beyond_what_lives_returns_all_of_it(client: RetrievalClient) -> None:
    assert len(client.search("points", np.zeros(4, np.float32), params=SearchParams(k=1000)).hits) == 20


def test_a_batch_answers_each_query_by_its_own_parameters(client: RetrievalClient) -> None:
    queries = np.array([[3, 0, 0, 0], [3, 0, 0, 0], [19, 0, 0, 0]], np.float32)
    params = [
        SearchParams(k=1),
        SearchParams(k=2, filter=Filter(must=(Range("rank", gt=10),))),
        SearchParams(k=3, filter=Filter(must_not=(HasId((19,)),))),
    ]
    result = client.search_batch("points", queries, params=params, explain=True)
    assert result.counts.tolist() == [1, 2, 3]
    assert [result.rows(i)[0].tolist() for i in range(3)] == [[3], [11, 12], [18, 17, 16]]  # type: ignore[union-attr]
    assert [round(one.selectivity, 2) for one in result.explanations] == [1.0, 0.45, 0.95]


def test_a_batch_of_texts_answers_like_single_searches(client: RetrievalClient) -> None:
    texts = ["red apple", "blue sky", "fire engine"]
    result = client.search_batch("things", texts, params=SearchParams(k=2))
    for place, text in enumerate(texts):
        single = client.search("things", text, params=SearchParams(k=2))
        ids, scores = result.rows(place)
        assert list(ids) == [hit.id for hit in single.hits]
        np.testing.assert_allclose(scores, [hit.score for hit in single.hits], rtol=1e-6)


def test_a_batch_of_items_finds_the_neighbours_of_each(client: RetrievalClient) -> None:
    result = client.search_similar_batch("points", [0, 777, 19], params=SearchParams(k=2))
    assert result.counts.tolist() == [2, 0, 2]
    assert result.rows(0)[0].tolist() == [1, 2]  # type: ignore[union-attr]
    assert result.errors[1] is not None


def test_a_stream_answers_its_batches_in_order(client: RetrievalClient) -> None:
    batches = [np.full((2, 4), n, np.float32) for n in range(30)]
    direct = [client.search_batch("points", batch, params=SearchParams(k=1)) for batch in batches]
    streamed = list(client.search_stream("points", iter(batches), params=SearchParams(k=1)))
    assert len(streamed) == 30
    for one, other in zip(streamed, direct, strict=True):
        assert isinstance(one, BatchResult)
        np.testing.assert_array_equal(one.ids, other.ids)


def test_a_bad_batch_does_not_end_its_stream(client: RetrievalClient) -> None:
    batches = [np.zeros((1, 4), np.float32), np.zeros((1, 9), np.float32), np.zeros((1, 4), np.float32)]
    streamed = list(client.search_stream("points", iter(batches)))
    assert [isinstance(one, BatchResult) for one in streamed] == [True, False, True]


def test_forced_exact_and_its_ways_agree(client: RetrievalClient) -> None:
    query = np.array([7.4, 0, 0, 0], np.float32)
    for strategy in (Strategy.MASKED_SCAN, Strategy.GATHER, Strategy.EXACT_SCAN):
        params = SearchParams(k=3, exact=True, strategy=strategy)
        assert [hit.id for hit in client.search("points", query, params=params).hits] == [7, 8, 6]


def test_texts_are_encoded_as_queries_are(client: RetrievalClient) -> None:
    vectors = client.encode("things", ["red apple", "blue"])
    assert vectors.shape == (2, 64)
    by_vector = client.search("things", vectors[0], params=SearchParams(k=3))
    by_text = client.search("things", "red apple", params=SearchParams(k=3))
    assert [hit.id for hit in by_vector.hits] == [hit.id for hit in by_text.hits]


def test_get_count_and_scroll_tell_what_was_written(client: RetrievalClient) -> None:
    got = client.get("things", ["sky", "gone", "apple"])
    assert [item.id for item in got] == ["sky", "apple"]
    assert got[0].attributes == {"colour": "blue", "clicks": 7}
    assert client.count("things") == len(THINGS)
    assert client.count("things", Filter(must=(Match("colour", any_of=("red",)),))) == 3
    assert [item.id for item in client.scroll("things", page_size=2)] == sorted(str(item.id) for item in THINGS)
    red = client.scroll("things", Filter(must=(Match("colour", any_of=("red",)),)), page_size=2)
    assert [item.id for item in red] == ["apple", "cherry", "engine"]
    assert [item.id for item in client.scroll("points", page_size=7)] == list(range(20))


def test_health_is_told_overall_and_for_each_collection(server: Serving, client: RetrievalClient) -> None:
    assert client.is_serving()
    assert client.is_serving("things")
    assert client.is_serving("engine.v1.RetrievalService")
    assert not client.is_serving("nowhere")
    with grpc.insecure_channel(server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service="points"))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services(server: Serving) -> None:
    with grpc.insecure_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        reply = next(iter(stub.ServerReflectionInfo(iter([request]))))
    names = {service.name for service in reply.list_services_response.service}
    assert {"engine.v1.RetrievalService", "engine.v1.IngestService", "engine.v1.AdminService"} <= names
    assert "grpc.health.v1.Health" in names


def test_the_server_publishes_its_limits_and_memory(client: RetrievalClient) -> None:
    server = client.server()
    assert server.limits.k == 100_000
    assert server.peak_memory_bytes > 1 << 20
    assert {"imports", "index"} <= set(server.start_seconds)
