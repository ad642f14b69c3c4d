"""Pages over a real channel, while others write, through compactions and with cursors that are no good."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.client import RetrievalClient, SimilarTo
from engine.errors import CursorLapsed, InvalidArgument
from engine.scoring import Scoring
from engine.selection import Facet, GroupBy
from engine.types import Contains, Filter, Item, NextPage, SearchParams, TextField, Visibility
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema, wait_for

D = 16
ITEMS = 1000
VECTORS = np.random.default_rng(5).normal(size=(ITEMS, D)).astype(np.float32)
QUERY = VECTORS.mean(axis=0)
SEEN = Visibility.SEARCHABLE


def fill(client: RetrievalClient) -> None:
    client.create_collection(vector_schema(dimension=D))
    items = [Item(n, {}, {"rank": n % 7, "group": "a"}, vector) for n, vector in enumerate(VECTORS)]
    client.upsert("points", items, visibility=Visibility.SEARCHABLE)


@pytest.fixture
def client(own_server: Serving) -> Iterator[RetrievalClient]:
    with a_client(own_server) as connected:
        fill(connected)
        yield connected


def cursor_of(page: NextPage | None) -> bytes:
    assert page is not None
    return page.cursor


def keep_writing(target: str, seed: int, stop: threading.Event, written: list[int]) -> None:
    rng = np.random.default_rng(seed)
    with RetrievalClient(target, timeout_s=20.0) as client:
        while not stop.is_set():
            ids = rng.integers(0, ITEMS, 20).tolist()
            near = [Item(one, {}, {"rank": 9}, QUERY + rng.normal(size=D).astype(np.float32)) for one in ids[:10]]
            client.upsert("points", near)
            client.delete("points", ids[10:])
            client.upsert(
                "points", [Item(ITEMS + one, {}, {}, QUERY) for one in ids[:3]], visibility=Visibility.SEARCHABLE
            )
            written.append(len(ids))


def test_pages_while_others_write_are_the_ranking_of_the_first_moment(
    client: RetrievalClient, own_server: Serving
) -> None:
    wanted = [hit.id for hit in client.search("points", QUERY, params=SearchParams(k=ITEMS, exact=True)).hits]
    params = SearchParams(k=70, page=True)
    page = client.search("points", QUERY, params=params)
    stop = threading.Event()
    written: list[list[int]] = [[], []]
    writers = [
        threading.Thread(target=keep_writing, args=(own_server.target, seed, stop, own))
        for seed, own in enumerate(written)
    ]
    for writer in writers:
        writer.start()
    try:
        hits = list(page.hits)
        while page.next_page is not None:
            n_writes = sum(map(len, written))
            wait_for(lambda n=n_writes: sum(map(len, written)) > n)  # type: ignore[misc]
            page = client.search("points", QUERY, params=replace(params, cursor=page.next_page.cursor))
            assert page.explanation.sequence == ITEMS
            hits += page.hits
    finally:
        stop.set()
        for writer in writers:
            writer.join(20)
    assert all(written)
    assert sorted(hit.id for hit in hits) == sorted(wanted)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_pages_of_a_batch_go_on_each_from_its_own_cursor(client: RetrievalClient) -> None:
    queries = np.stack([QUERY, -QUERY, QUERY])
    params = [SearchParams(k=5, page=True), SearchParams(k=990, page=True, facets=(Facet("group"),)), SearchParams(k=5)]
    first = client.search_batch("points", queries, params=params)
    client.delete("points", list(range(500)), visibility=Visibility.SEARCHABLE)
    assert first.next_pages[2] is None
    onward = [replace(one, cursor=cursor_of(page)) for one, page in zip(params[:2], first.next_pages[:2], strict=True)]
    second = client.search_batch("points", queries[:2], params=onward)
    assert second.sequence == first.sequence == ITEMS
    assert second.counts.tolist() == [5, 10]
    assert second.facets[1][0].counts == (("a", ITEMS),)
    assert second.next_pages[0] is not None
    assert second.next_pages[1] is None
    for place in range(2):
        assert not set(first.rows(place)[0]) & set(second.rows(place)[0])
    assert len({*first.rows(1)[0].tolist(), *second.rows(1)[0].tolist()}) == ITEMS
    with pytest.raises(InvalidArgument, match=r"params\.cursor: is of one query"):
        client.search_batch("points", queries, params=onward[0])


def test_texts_and_items_are_paged_as_they_were(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema())
        words = ["red", "apple", "sweet", "fruit", "garden"]
        items = [Item(f"i{n}", {"title": " ".join(words[: 1 + n % 5]), "body": f"number {n}"}) for n in range(30)]
        client.upsert("things", items, visibility=Visibility.SEARCHABLE)
        for query in ("red apple", SimilarTo("i4")):
            wanted = [hit.id for hit in client.search("things", query, params=SearchParams(k=29, page=True)).hits]
            page = client.search("things", query, params=SearchParams(k=20, page=True))
            client.upsert("things", [Item("i4", {"title": "sky"})], visibility=Visibility.SEARCHABLE)
            client.delete("things", ["i4", "i9"], visibility=Visibility.SEARCHABLE)
            n_texts = len(own_server.encoder.encoded)
            rest = client.search("things", query, params=SearchParams(k=9, cursor=cursor_of(page.next_page)))
            assert len(own_server.encoder.encoded) == n_texts
            assert [hit.id for hit in [*page.hits, *rest.hits]] == wanted
            client.upsert("things", items, visibility=Visibility.SEARCHABLE)


WORDS = ("ash", "bay", "cob", "dun")
BY_TERMS = [
    SearchParams(k=9, page=True, mode="lexical"),
    SearchParams(k=9, page=True, mode="hybrid", terms="cob dun"),
    SearchParams(k=9, page=True, filter=Filter(must_not=(Contains("title", "bay cob"),))),
]


@pytest.mark.parametrize("params", BY_TERMS)
def test_pages_by_terms_are_of_the_first_moment_while_texts_are_written_and_postings_merged(
    own_server: Serving, monkeypatch: pytest.MonkeyPatch, params: SearchParams
) -> None:
    monkeypatch.setattr("engine.index.lexical.lexical_index.AT_ONCE", 0)
    titles = [" ".join(WORDS[(n + i) % 4] for i in range(1 + n % 3)) for n in range(60)]
    with a_client(own_server) as client:
        client.create_collection(text_schema(text_fields=(TextField("title", analyser="plain"),)))
        client.upsert("things", [Item(f"i{n}", {"title": one}) for n, one in enumerate(titles)], visibility=SEEN)
        lexical = own_server.server.engine.collections["things"].index.lexical
        assert lexical is not None
        whole = client.search("things", "ash dun", params=replace(params, k=60))
        page = client.search("things", "ash dun", params=params)
        hits = list(page.hits)
        while page.next_page is not None:
            client.delete("things", [hit.id for hit in whole.hits[len(hits) :: 3]], visibility=SEEN)
            for n in range(8):
                new = [Item(f"n{len(hits)}-{n}-{i}", {"title": "ash dun dun bay"}) for i in range(5)]
                client.upsert("things", new, visibility=SEEN)
            wait_for(lambda: len(lexical.segments) <= 4 and not lexical.wants_merge)
            page = client.search("things", "ash dun", params=replace(params, cursor=page.next_page.cursor))
            hits += page.hits
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in whole.hits]
        assert len(hits) > 25


def test_a_cursor_of_other_terms_is_refused(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(text_schema(text_fields=(TextField("title", analyser="plain"),)))
        client.upsert("things", [Item(f"i{n}", {"title": f"ash {n}"}) for n in range(9)], visibility=SEEN)
        params = SearchParams(k=2, page=True, mode="hybrid", terms="ash")
        cursor = cursor_of(client.search("things", "bay", params=params).next_page)
        for other in ({"terms": "bay"}, {"terms": ""}, {"mode": "lexical"}, {"scoring": Scoring(lexical=7.0)}):
            changed: Any = {"cursor": cursor, **other}
            with pytest.raises(InvalidArgument, match=r"params\.cursor: is of another query"):
                client.search("things", "bay", params=replace(params, **changed))
        assert len(client.search("things", "bay", params=replace(params, cursor=cursor)).hits) == 2


def test_a_cursor_that_is_no_good_says_why(client: RetrievalClient) -> None:
    params = SearchParams(k=5, page=True)
    cursor = cursor_of(client.search("points", QUERY, params=params).next_page)
    for query, own in (
        (QUERY, replace(params, cursor=cursor[:-1])),
        (QUERY, replace(params, cursor=b"nonsense")),
        (-QUERY, replace(params, cursor=cursor)),
        (QUERY, replace(params, cursor=cursor, min_score=-9.0)),
        (QUERY, replace(params, group_by=GroupBy("rank"))),
    ):
        with pytest.raises(InvalidArgument) as caught:
            client.search("points", query, params=own)
        assert caught.value.field in ("params.cursor", "params.page")
    assert len(client.search("points", QUERY, params=replace(params, cursor=cursor, k=7)).hits) == 7


def test_a_lapsed_cursor_is_told_as_such(tmp_path: Path) -> None:
    with serving(tmp_path / "own", cursor_lease_seconds=0.0) as running, a_client(running) as client:
        fill(client)
        page = client.search("points", QUERY, params=SearchParams(k=5, page=True)).next_page
        with pytest.raises(CursorLapsed, match=r"params\.cursor: its lease ended"):
            client.search("points", QUERY, params=SearchParams(k=5, cursor=cursor_of(page)))


def test_a_compaction_waits_for_cursors_and_those_given_meanwhile_end_with_them(tmp_path: Path) -> None:
    with serving(tmp_path / "own", cursor_lease_seconds=3.0) as running, a_client(running) as client:
        fill(client)
        client.delete("points", list(range(0, ITEMS, 2)), visibility=Visibility.SEARCHABLE)
        params = SearchParams(k=5, page=True)
        before = client.search("points", QUERY, params=params).next_page
        assert before is not None
        operation = client.compact_collection("points")
        wait_for(lambda: client.operation(operation.name).stage == "waiting for cursors of pages to lapse")
        pages = [client.search("points", QUERY, params=replace(params, cursor=before.cursor)) for _ in range(2)]
        assert [hit.id for hit in pages[0].hits] == [hit.id for hit in pages[1].hits]
        last = pages[1].next_page
        assert last is not None
        assert last.cursor_expires_at == before.cursor_expires_at
        client.upsert("points", [Item(5000, {}, {}, QUERY)], visibility=Visibility.SEARCHABLE)
        client.wait_for_operation(operation)
        assert time.time() * 1e6 >= last.cursor_expires_at.micros
        with pytest.raises(CursorLapsed):
            client.search("points", QUERY, params=replace(params, cursor=last.cursor))
        page = client.search("points", QUERY, params=params)
        assert page.hits[0].id == 5000
        assert page.next_page is not None
        assert page.next_page.cursor_expires_at.micros > time.time() * 1e6 + 1e6
        assert len(client.search("points", QUERY, params=replace(params, cursor=page.next_page.cursor)).hits) == 5
