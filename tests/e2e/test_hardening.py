"""What a hostile or hasty caller does: retries, leaves halfway, sends what no client of ours would."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from engine.client import SimilarTo
from engine.config import Settings
from engine.errors import (
    CollectionNotFound,
    ConfigError,
    EncodeFailed,
    InvalidArgument,
    LimitExceeded,
    VersionMismatch,
)
from engine.rpc.server import Server
from engine.telemetry.metrics import Metrics
from engine.types import Filter, Item, Match, SearchParams, TextField, Visibility
from engine.v1 import admin_pb2, common_pb2, ingest_pb2, retrieval_pb2
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema, wait_for

POINT = np.array([1, 2, 3, 4], np.float32)


# Request ids


def test_a_retry_is_answered_as_the_first_time_and_never_says_that_a_refused_item_was_written(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that fails once: the retry's own encoding works, but nothing of the retry is applied."""
    items = [Item("given", {"title": "x"}, {}, np.ones(64, np.float32)), Item("lost", {"title": "some words"})]
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        encoder, forward = own_server.encoder, own_server.encoder.forward

        def failing(windows: Any) -> Any:
            raise RuntimeError("once")

        monkeypatch.setattr(encoder, "forward", failing)
        first = client.upsert("things", items, request_id="r1")
        monkeypatch.setattr(encoder, "forward", forward)
        again = client.upsert("things", items, request_id="r1")
        assert (first.accepted, [one.index for one in first.errors]) == (1, [1])
        assert (again.accepted, again.sequence) == (first.accepted, first.sequence)
        assert [(one.index, one.id, type(one.error)) for one in again.errors] == [(1, "lost", EncodeFailed)]
        assert [item.id for item in client.get("things", ["given", "lost"])] == ["given"]


def test_a_request_id_of_another_kind_of_request_is_refused(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        client.upsert("points", [Item(1, {}, {}, POINT)], request_id="written")
        client.delete("points", [2], request_id="deleted")
        with pytest.raises(InvalidArgument, match="request_id"):
            client.delete("points", [1], request_id="written")
        with pytest.raises(InvalidArgument, match="request_id"):
            client.upsert("points", [Item(2, {}, {}, POINT)], request_id="deleted")
        assert client.count("points") == 1


def test_a_request_id_beyond_the_limit_is_refused(own_server: Serving) -> None:
    """Tens of thousands of them are kept."""
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        assert client.upsert("points", [Item(1, {}, {}, POINT)], request_id="ü" * 128).accepted == 1
        with pytest.raises(LimitExceeded, match="request_id"):
            client.upsert("points", [Item(2, {}, {}, POINT)], request_id="ü" * 128 + "x")
        with pytest.raises(LimitExceeded, match="request_id"):
            client.delete("points", [1], request_id="x" * 257)
        assert client.count("points") == 1


def test_a_page_whose_items_are_deleted_while_it_is_read_does_not_end_the_scroll(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        client.upsert("points", [Item(n, {}, {}, POINT) for n in range(6)])
        store = own_server.server.engine.collection("points").store
        get, pages = store.get, []

        def with_the_first_page_gone(ids: Any, **rest: Any) -> Any:
            pages.append(ids)
            return [None] * len(ids) if len(pages) == 1 else get(ids, **rest)

        monkeypatch.setattr(store, "get", with_the_first_page_gone)
        assert [item.id for item in client.scroll("points", page_size=2, vectors=True)] == [2, 3, 4, 5]


def test_the_last_of_several_versions_of_an_item_in_one_request_wins(own_server: Serving) -> None:
    """The second one's text is the stored one when it is compared, and no longer when it is committed."""
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        client.upsert("things", [Item("a", {"title": "stored"})])
        versions = [
            Item("a", {"title": "x"}, {}, np.ones(64, np.float32)),
            Item("a", {"title": "stored"}),
            Item("a", {"title": "last"}),
        ]
        assert client.upsert("things", versions, visibility=Visibility.SEARCHABLE).accepted == 3
        assert client.get("things", ["a"])[0].text == {"title": "last"}


# Callers that leave


def test_a_collection_is_deleted_whole_though_the_caller_left(own_server: Serving) -> None:
    with a_client(own_server) as client, grpc.insecure_channel(own_server.target) as channel:
        client.create_collection(vector_schema())
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            release.wait(20)

        own_server.server.engine.lanes.commit.post(hold)
        held.wait(20)
        content = admin_pb2.DeleteCollectionRequest(collection="points").SerializeToString()
        call = channel.unary_unary("/engine.v1.AdminService/DeleteCollection").future(content)
        wait_for(lambda: not own_server.server.engine.collections)
        call.cancel()
        client.is_serving()
        release.set()
        assert client.create_collection(vector_schema()).items == 0


def test_a_collection_is_created_whole_though_the_caller_left(tmp_path: Path) -> None:
    with serving(tmp_path) as running, a_client(running) as client, grpc.insecure_channel(running.target) as channel:
        engine = running.server.engine
        opening, release = threading.Event(), threading.Event()

        def slow(*_: object, **__: object) -> Any:
            opening.set()
            release.wait(20)
            return running.encoder

        engine._open_encoder = slow
        schema = admin_pb2.Schema(name="slow", encoder="words", text_fields=[admin_pb2.TextField(name="t")])
        schema.metric = common_pb2.METRIC_COSINE
        content = admin_pb2.CreateCollectionRequest(schema=schema).SerializeToString()
        call = channel.unary_unary("/engine.v1.AdminService/CreateCollection").future(content)
        opening.wait(20)
        call.cancel()
        client.is_serving()
        release.set()
        wait_for(lambda: "slow" in engine.collections)
        assert client.get_collection("slow").items == 0


def test_who_waits_for_a_deleted_collection_learns_that_it_is_gone(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        collection = own_server.server.engine.collection("points")
        errors: list[BaseException] = []

        def search() -> None:
            try:
                client.search("points", POINT, min_sequence=10**6, timeout_s=20)
            except BaseException as error:
                errors.append(error)

        waiting = threading.Thread(target=search)
        waiting.start()
        wait_for(lambda: bool(collection._waiters))
        client.delete_collection("points")
        waiting.join(10)
        assert [type(one) for one in errors] == [CollectionNotFound]


def test_a_write_under_way_to_a_collection_that_is_deleted_learns_that_it_is_gone(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        encoder = own_server.encoder
        encoder.gate.clear()
        encoder.running.clear()
        errors: list[BaseException] = []

        def write() -> None:
            try:
                client.upsert("things", [Item("a", {"title": "words"})])
            except BaseException as error:
                errors.append(error)

        writing = threading.Thread(target=write)
        writing.start()
        encoder.running.wait(20)
        client.delete_collection("things")
        encoder.gate.set()
        writing.join(10)
        assert [type(one) for one in errors] == [CollectionNotFound]


def test_waiters_that_gave_up_are_not_kept(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        collection = own_server.server.engine.collection("points")

        async def give_up() -> None:
            for _ in range(200):
                with pytest.raises(Exception, match="not searchable"):
                    await collection.visible(2**60, deadline=0.0)

        own_server.on_loop(give_up)
        assert len(collection._waiters) < 50


# Collections that cannot be opened


def test_a_collection_that_cannot_be_opened_is_not_serving_and_can_be_deleted(tmp_path: Path) -> None:
    with serving(tmp_path) as first, a_client(first) as client:
        client.create_collection(text_schema())
    with serving(tmp_path, encoder_version="words-2") as second, a_client(second) as client:
        engine = second.server.engine
        depths = []
        for _ in range(3):
            with pytest.raises(VersionMismatch):
                client.get_collection("things")
            depths.append(_depth(engine._failed["things"]))
        assert depths[0] == depths[-1]
        assert not client.is_serving("things")
        client.delete_collection("things")
        assert client.create_collection(text_schema()).items == 0


def _depth(error: BaseException) -> int:
    depth, trace = 0, error.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    return depth


def test_a_serving_process_shows_the_collector_nothing_of_what_it_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    async def serve() -> None:
        server = Server(Settings(data_dir=tmp_path, listen="127.0.0.1:0", device="cpu"), freezes_heap=True)
        load = server.engine.load

        async def loaded() -> None:
            await load()
            done.append("loaded")

        monkeypatch.setattr(server.engine, "load", loaded)
        monkeypatch.setattr(
            "engine.rpc.server.gc", SimpleNamespace(collect=lambda: 0, freeze=lambda: done.append("frozen"))
        )
        try:
            await server.start()
        finally:
            await server.stop()

    asyncio.run(serve())
    assert done == ["loaded", "frozen"]


def test_metrics_on_a_port_in_use_are_refused_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=address):
            Metrics().serve(address)


# Messages that no client of ours sends


@pytest.mark.parametrize("field", ["dtype", "metric", "id_type", "text_mode"])
def test_an_enum_value_of_the_future_in_a_schema_is_refused(server: Serving, field: str) -> None:
    schema = admin_pb2.Schema(**{"name": "future", "dimension": 4, field: 99})
    error = failed(server, "AdminService/CreateCollection", admin_pb2.CreateCollectionRequest(schema=schema))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"schema.{field}" in error.details()


def test_a_priority_of_the_future_is_refused(server: Serving) -> None:
    search = retrieval_pb2.SearchRequest(collection="things", query=retrieval_pb2.Query(text="x"), priority=99)  # type: ignore[arg-type]
    upsert = ingest_pb2.UpsertRequest(collection="things", priority=99)  # type: ignore[arg-type]
    assert "priority" in failed(server, "RetrievalService/Search", search).details()
    assert "priority" in failed(server, "IngestService/Upsert", upsert).details()


@pytest.mark.parametrize("name", ["n" * 100_000, "ü\n" * 50_000, "\U0001f600" * 20_000])
def test_an_error_that_repeats_a_long_value_still_arrives(server: Serving, name: str) -> None:
    error = failed(server, "AdminService/GetCollection", admin_pb2.GetCollectionRequest(collection=name))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    tree = Filter(must=(Match(name, any_of=(name,)),))
    with a_client(server) as client, pytest.raises(Exception, match="cannot filter"):
        client.count("points", tree)


@pytest.mark.parametrize(
    "token", [json.dumps("\ud800"), "[" * 200_000, json.dumps(5), json.dumps(""), json.dumps("x" * 300)]
)
def test_a_forged_page_token_is_refused(server: Serving, token: str) -> None:
    request = ingest_pb2.ScrollRequest(collection="things", page_token=base64.urlsafe_b64encode(token.encode()))
    error = failed(server, "IngestService/Scroll", request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "page_token" in error.details()


def test_ids_of_both_kinds_to_exclude_are_refused(server: Serving) -> None:
    params = retrieval_pb2.SearchParams(exclude_ids=common_pb2.ItemIds(numbers=b"\0" * 8, texts=["a"]))
    request = retrieval_pb2.SearchRequest(collection="points", query=retrieval_pb2.Query(text="x"), params=params)
    assert "exclude_ids" in failed(server, "RetrievalService/Search", request).details()


# Numbers


def test_neighbours_of_an_item_with_several_embeddings_are_scored_by_cosine(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema(metric="cosine", chunk=2))
        both = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
        items = [Item(1, {}, {}, both), Item(2, {}, {}, np.array([1, 1, 0, 0], np.float32))]
        client.upsert("points", items, visibility=Visibility.SEARCHABLE)
        assert client.search("points", SimilarTo(1)).hits[0].score == pytest.approx(1.0, abs=1e-3)


def test_weights_far_apart_give_no_nan(own_server: Serving) -> None:
    fields = (TextField("title", weight=1e-300), TextField("body", order=1, weight=1e300))
    with a_client(own_server) as client:
        client.create_collection(text_schema(text_fields=fields, text_mode="weighted"))
        items = [
            Item("t", {"title": "apple"}),
            Item("b", {"body": "apple"}),
            Item("tb", {"title": "x", "body": "apple"}),
        ]
        client.upsert("things", items, visibility=Visibility.SEARCHABLE)
        scores = [hit.score for hit in client.search("things", "apple").hits]
        assert scores == pytest.approx([1.0, 1.0, 1.0], abs=1e-3)


def test_a_query_for_many_hits_keeps_no_more_for_its_neighbours(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        items = [Item(n, {}, {}, np.array([n, 0, 0, 0], np.float32)) for n in range(3000)]
        client.upsert("points", items, visibility=Visibility.SEARCHABLE)
        kept = _kept(own_server, monkeypatch)
        params = [SearchParams(k=3000), *[SearchParams(k=1)] * 15]
        result = client.search_batch("points", np.zeros((16, 4), np.float32), params=params)
        assert result.counts.tolist() == [3000, *[1] * 15]
        assert sum(kept) == 3000 + 15


def test_excluded_ids_are_looked_up_once_for_all_items_of_a_call(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each would hold up every other search for seconds."""
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        items = [Item(n, {}, {}, np.array([n, 0, 0, 0], np.float32)) for n in range(10)]
        client.upsert("points", items, visibility=Visibility.SEARCHABLE)
        rows = own_server.server.engine.collection("points").index.rows
        rows_of, looked_up = rows.rows_of, []

        def counted(ids: Any) -> Any:
            looked_up.append(len(ids))
            return rows_of(ids)

        monkeypatch.setattr(rows, "rows_of", counted)
        params = SearchParams(k=10, exclude_ids=np.array([1, 2, 3], np.uint64))
        result = client.search_similar_batch("points", [0, 5, 2], params=params)
        assert [set(result.rows(i)[0]) for i in range(3)] == [
            {4, 5, 6, 7, 8, 9},
            {0, 4, 6, 7, 8, 9},
            {0, 4, 5, 6, 7, 8, 9},
        ]
        assert sorted(looked_up) == [1, 1, 1, 3]


def _kept(server: Serving, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that each call of an exact scan or gather keeps in all, as they happen."""
    backend, kept = server.server.engine.backend, []

    def counted(scan: Callable[..., Any]) -> Callable[..., Any]:
        def call(vectors: Any, queries: Any, chosen: Any, *, k: int, **rest: Any) -> Any:
            kept.append(k * len(queries))
            return scan(vectors, queries, chosen, k=k, **rest)

        return call

    for name in ("masked_scan", "gather"):
        monkeypatch.setattr(backend, name, counted(getattr(backend, name)))
    return kept


def failed(server: Serving, method: str, request: Any) -> Any:
    """The error of a call."""
    with grpc.insecure_channel(server.target) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(f"/engine.v1.{method}")(request.SerializeToString(), timeout=20)
        return raised.value
