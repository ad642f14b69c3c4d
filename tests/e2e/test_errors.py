"""Every row of the error table, provoked over a real channel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from engine.client import RetrievalClient, SimilarTo
from engine.config import Settings
from engine.errors import (
    Cancelled,
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    DeadlineExceeded,
    EncodeFailed,
    EngineError,
    InvalidArgument,
    ItemNotFound,
    LimitExceeded,
    NoEncoder,
    QueueFull,
    Unavailable,
    Undecodable,
    Unimplemented,
    UnknownAttribute,
    VersionNotFound,
)
from engine.limits import Limits
from engine.rpc.server import Server
from engine.selection import RankFusion
from engine.types import Filter, HasId, Item, Match, Range, SearchParams, Visibility
from engine.v1 import admin_pb2, common_pb2, ingest_pb2, retrieval_pb2
from tests.e2e.conftest import fill
from tests.e2e.serving import Serving, a_client, serving, text_schema, wait_for

POINT = np.zeros(4, np.float32)


def where(**conditions: Any) -> SearchParams:
    return SearchParams(filter=Filter(**conditions))


PROVOKED: dict[str, tuple[Callable[[RetrievalClient], Any], type[EngineError], str]] = {
    "wrong dimension": (lambda c: c.search("points", np.zeros(5, np.float32)), InvalidArgument, "5 dimensions"),
    "NaN in a query": (lambda c: c.search("points", np.full(4, np.nan, np.float32)), InvalidArgument, "NaN"),
    "a least score beyond float32": (
        lambda c: c.search("points", POINT, params=SearchParams(min_score=1e39)),
        InvalidArgument,
        "params.min_score: 1e+39 is not a finite float32",
    ),
    "a least score beyond float32, of ranks": (
        lambda c: c.search("points", POINT, params=SearchParams(min_score=-1e39, rank_fusion=RankFusion())),
        InvalidArgument,
        "params.min_score: -1e+39 is not a finite float32",
    ),
    "k of 0": (lambda c: c.search("points", POINT, params=SearchParams(k=0)), InvalidArgument, "params.k"),
    "k beyond the limit": (
        lambda c: c.search("points", POINT, params=SearchParams(k=100_001)),
        LimitExceeded,
        "100000",
    ),
    "recall target of 2": (
        lambda c: c.search("points", POINT, params=SearchParams(recall_target=2.0)),
        InvalidArgument,
        "recall_target",
    ),
    "range without a bound": (lambda c: c.count("points", Filter(must=(Range("rank"),))), InvalidArgument, "must[0]"),
    "float bound on an int": (
        lambda c: c.count("points", Filter(must=(Range("rank", gte=1.5),))),
        InvalidArgument,
        "must[0]",
    ),
    "filter on an unknown attribute": (
        lambda c: c.search("points", POINT, params=where(must=(Match("size", any_of=("L",)),))),
        UnknownAttribute,
        "size",
    ),
    "filter on a volatile attribute": (
        lambda c: c.count("things", Filter(must=(Range("clicks", gt=1),))),
        UnknownAttribute,
        "clicks",
    ),
    "id of the other kind in a filter": (
        lambda c: c.count("points", Filter(must=(HasId(("seven",)),))),
        InvalidArgument,
        "must[0]",
    ),
    "no such collection": (lambda c: c.search("nowhere", POINT), CollectionNotFound, "nowhere"),
    "no such version": (lambda c: c.search("points", POINT, version="v9"), VersionNotFound, "v9"),
    "no such item": (lambda c: c.search("points", SimilarTo(999)), ItemNotFound, "999"),
    "text without an encoder": (lambda c: c.search("points", "words"), NoEncoder, "points"),
    "empty text": (lambda c: c.search("things", "   "), InvalidArgument, "empty"),
    "a text beyond the limit": (lambda c: c.search("things", "x " * (1 << 20 | 1)), LimitExceeded, "bytes"),
    "the same collection twice": (lambda c: c.create_collection(text_schema()), CollectionExists, "things"),
    "an unusable schema": (lambda c: c.create_collection(text_schema("9lives")), InvalidArgument, "schema.name"),
    "an empty filter to delete by": (lambda c: c.delete_by_filter("things", Filter()), InvalidArgument, "everything"),
    "an encoder that raises": (lambda c: c.search("things", "please explode"), EncodeFailed, "exploded"),
    "a deadline in the past": (lambda c: c.search("points", POINT, timeout_s=0.0), DeadlineExceeded, ""),
    "a deadline before a sequence": (
        lambda c: c.search("points", POINT, min_sequence=10**9, timeout_s=0.2),
        DeadlineExceeded,
        "",
    ),
}


@pytest.mark.parametrize("name", PROVOKED)
def test_each_mistake_has_its_error(client: RetrievalClient, name: str) -> None:
    provoke, wanted, told = PROVOKED[name]
    with pytest.raises(wanted) as raised:
        provoke(client)
    assert type(raised.value) is wanted
    assert told in raised.value.message


def test_an_error_carries_its_reason_and_the_field_it_is_about(server: Serving) -> None:
    request = retrieval_pb2.SearchRequest(collection="points", params=retrieval_pb2.SearchParams(k=0))
    request.query.vector.floats.values.extend([0, 0, 0, 0])
    error = raw_error(server, "RetrievalService/Search", request.SerializeToString())
    status = status_of(error)
    details = {detail.TypeName(): detail for detail in status.details}
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    details["google.rpc.ErrorInfo"].Unpack(info)
    details["google.rpc.BadRequest"].Unpack(bad)
    assert (info.reason, info.domain, info.metadata["field"]) == ("INVALID_FIELD", "ebr", "params.k")
    assert [one.field for one in bad.field_violations] == ["params.k"]


@pytest.mark.parametrize("content", [b"\xff" * 40, b"\x0a\xff\xff\xff\x0f", bytes(range(256))])
def test_garbage_is_undecodable_and_not_an_unknown_fault(server: Serving, content: bytes) -> None:
    error = raw_error(server, "RetrievalService/Search", content)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == Undecodable.reason


@pytest.mark.parametrize("depth", [200, 1_000_000])
def test_a_filter_nested_beyond_the_parser_is_refused(server: Serving, depth: int) -> None:
    request = nested_request(depth)
    error = raw_error(server, "RetrievalService/Search", request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == Undecodable.reason


def test_a_filter_nested_beyond_the_limit_but_not_the_parser_names_the_limit(client: RetrievalClient) -> None:
    tree = Filter(must=(Match("colour", any_of=("red",)),))
    for _ in range(20):
        tree = Filter(should=(tree, Match("colour", any_of=("blue",))))
    with pytest.raises(LimitExceeded):
        client.count("things", tree)


def test_an_oversized_message_is_refused_by_the_transport(tmp_path: Path) -> None:
    with serving(tmp_path, max_message_bytes=1 << 20) as small, a_client(small) as client:
        fill(client)
        with pytest.raises(EngineError) as raised:
            client.encode("things", ["word " * 300_000])
        assert raised.value.code == "RESOURCE_EXHAUSTED"
        assert client.server().limits.message_bytes == 1 << 20


def test_a_text_of_a_megabyte_is_encoded_and_says_how_much_was_cut(client: RetrievalClient) -> None:
    result = client.search("things", "sweet " * 180_000)
    assert result.hits
    assert result.explanation.truncated_tokens == 180_000 - 16


def test_too_many_hits_in_one_reply_names_both_factors(client: RetrievalClient) -> None:
    with pytest.raises(LimitExceeded, match="k x queries"):
        client.search_batch("points", np.zeros((64, 4), np.float32), params=SearchParams(k=100_000))


def test_what_is_not_implemented_says_so(server: Serving) -> None:
    request = admin_pb2.ListVersionsRequest(collection="points").SerializeToString()
    assert raw_error(server, "AdminService/ListVersions", request).code() is grpc.StatusCode.UNIMPLEMENTED
    params = retrieval_pb2.SearchParams(exclude_list="seen")
    search = retrieval_pb2.SearchRequest(collection="points", params=params)
    search.query.vector.floats.values.extend([0, 0, 0, 0])
    error = raw_error(server, "RetrievalService/Search", search.SerializeToString())
    assert reason_of(error) == Unimplemented.reason


def test_a_full_queue_answers_resource_exhausted_with_a_time_to_retry(tmp_path: Path) -> None:
    with serving(tmp_path, encode_queue_seconds=1e-3) as busy, a_client(busy) as client:
        fill(client)
        busy.encoder.gate.clear()
        busy.encoder.running.clear()
        held = threading.Thread(target=lambda: client.encode("things", ["one"]))
        held.start()
        busy.encoder.running.wait(10)
        try:
            with pytest.raises(QueueFull) as raised:
                client.encode("things", [f"word{n}" for n in range(20)])
            assert raised.value.retry_after_ms > 0
        finally:
            busy.encoder.gate.set()
            held.join()


def test_an_expired_query_is_never_encoded(own_server: Serving) -> None:
    with a_client(own_server) as client:
        fill(client)
        encoder = own_server.encoder
        encoder.gate.clear()
        encoder.running.clear()
        held = threading.Thread(target=lambda: client.encode("things", ["one"]))
        held.start()
        encoder.running.wait(10)
        before = len(encoder.encoded)
        with pytest.raises(DeadlineExceeded):
            client.search("things", "two", timeout_s=0.1)
        encoder.gate.set()
        held.join()
        client.encode("things", ["three"])
        assert encoder.encoded[before:] == [1, 1]


def test_a_cancelled_query_is_never_encoded(own_server: Serving) -> None:
    with a_client(own_server) as client, grpc.insecure_channel(own_server.target) as channel:
        fill(client)
        encoder = own_server.encoder
        encoder.gate.clear()
        encoder.running.clear()
        held = threading.Thread(target=lambda: client.encode("things", ["one"]))
        held.start()
        encoder.running.wait(10)
        before = len(encoder.encoded)
        request = retrieval_pb2.SearchRequest(collection="things", query=retrieval_pb2.Query(text="two"))
        call = channel.unary_unary("/engine.v1.RetrievalService/Search").future(request.SerializeToString())
        lane = own_server.server.engine.lanes.encode.lane
        wait_for(lambda: lane.waiting_cost > 0)
        call.cancel()
        wait_for(lambda: lane.waiting_cost > 0 and call.done())
        client.is_serving()
        encoder.gate.set()
        held.join()
        client.encode("things", ["three"])
        assert encoder.encoded[before:] == [1, 1]
        assert issubclass(Cancelled, EngineError)


def test_one_bad_query_of_a_batch_fails_alone(client: RetrievalClient) -> None:
    queries = np.zeros((4, 4), np.float32)
    queries[1, 2] = np.inf
    params = [
        SearchParams(k=3),
        SearchParams(k=3),
        SearchParams(k=2, filter=Filter(must=(Range("rank", gte=5),))),
        SearchParams(k=2, filter=Filter(must=(Match("nope", any_of=("x",)),))),
    ]
    result = client.search_batch("points", queries, params=params, explain=True)
    assert result.counts.tolist() == [3, 0, 2, 0]
    assert [type(one) for one in result.errors] == [type(None), InvalidArgument, type(None), UnknownAttribute]
    assert result.rows(0)[0].tolist() == [0, 1, 2]
    assert result.rows(2)[0].tolist() == [5, 6]
    with pytest.raises(UnknownAttribute):
        result.rows(3)


def test_an_encoder_that_raises_fails_its_batch_and_the_next_one_works(client: RetrievalClient) -> None:
    result = client.search_batch("things", ["please explode"])
    assert isinstance(result.errors[0], EncodeFailed)
    assert client.search("things", "red apple").hits[0].id == "apple"


def test_one_bad_item_of_an_upsert_loses_no_others(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        items = [
            Item("good", {"title": "a good one"}, {"price": 1}),
            Item("bad type", {"title": "x"}, {"price": "dear"}),
            Item("unknown", {"title": "x"}, {"size": 1}),
            Item("nan", {"title": "x"}, {"weight": float("nan")}),
            Item("textless", {}, {"price": 1}),
            Item("x" * 300, {"title": "x"}),
            Item("explode", {"title": "this will explode"}),
        ]
        result = client.upsert("things", items[:6], visibility=Visibility.SEARCHABLE)
        assert result.accepted == 1
        assert [one.index for one in result.errors] == [1, 2, 3, 4, 5]
        assert "price" in result.errors[0].error.message
        assert "bad type" in result.errors[0].error.message
        assert client.count("things") == 1
        failed = client.upsert("things", items[6:])
        assert [type(one.error) for one in failed.errors] == [EncodeFailed]


# The wire, by hand


def raw_error(server: Serving, method: str, content: bytes) -> Any:
    """The error of a call that sends ``content`` as it is."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options=options) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(f"/engine.v1.{method}")(content, timeout=20)
        return raised.value


def status_of(error: Any) -> status_pb2.Status:
    trailers = dict(error.trailing_metadata())
    return status_pb2.Status.FromString(trailers["grpc-status-details-bin"])


def reason_of(error: Any) -> str:
    status = status_of(error)
    assert code_pb2.Code.Name(status.code) == error.code().name
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return info.reason


def nested_request(depth: int) -> bytes:
    """A SearchRequest whose filter nests ``depth`` deep, written byte by byte from the inside out."""
    filter_tag, condition_tag = b"\x32", b"\x0a"  # Condition.filter = 6, Filter.must = 1
    parts: list[bytes] = []
    size = 0
    for _ in range(depth):
        for tag in (filter_tag, condition_tag):
            head = tag + varint(size)
            parts.append(head)
            size += len(head)
    tree = b"".join(reversed(parts))
    params = b"\x12" + varint(len(tree)) + tree
    return b"\x0a\x06points" + b"\x22" + varint(len(params)) + params


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def test_the_hand_made_nesting_is_what_it_claims_to_be() -> None:
    request = retrieval_pb2.SearchRequest.FromString(nested_request(3))
    tree = request.params.filter
    for _ in range(3):
        tree = tree.must[0].filter
    assert tree == common_pb2.Filter()
    assert ingest_pb2.DESCRIPTOR.package == "engine.v1"
    assert Limits().filter_depth < 200


def test_a_port_that_is_taken_is_told_in_the_words_of_the_system(server: Serving, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"cannot listen on {server.target}: Address already in use; another address: --listen"
    ):
        asyncio.run(_make_server(Settings(data_dir=tmp_path, listen=server.target)))


async def _make_server(settings: Settings) -> None:
    Server(settings)


def test_a_host_that_is_not_found_is_told_as_such() -> None:
    with (
        RetrievalClient("nowhere.invalid:50051") as client,
        pytest.raises(Unavailable, match="no host is found at nowhere"),
    ):
        client.list_collections()
