"""Scores of more than similarity over a real channel: terms, features, profiles, legs, and the modes of retrieval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import InvalidArgument, NoAnalyser, UnknownAttribute
from engine.scoring import Decay, Feature, Overlap, Scoring, ScoringProfile
from engine.selection import RankFusion
from engine.types import (
    AttributeSpec,
    AttributeType,
    Hit,
    Item,
    ItemUpdate,
    SearchParams,
    TextField,
    Timestamp,
    Visibility,
)
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema

NOW = 1_900_000_000_000_000
FIELDS = (TextField("title", 0, 1.0, "english", 2.0), TextField("body", 1, 1.0, "english"))
ATTRIBUTES = (
    AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True),
    AttributeSpec("price", AttributeType.FLOAT),
    AttributeSpec("posted", AttributeType.TIMESTAMP),
    AttributeSpec("skills", AttributeType.KEYWORD_LIST),
)
PROFILES = (ScoringProfile("popular", 1.0, 0.0, (Feature("clicks", 0.5, "log1p", name="fame"),)),)
SCHEMA = replace(text_schema(), text_fields=FIELDS, attributes=ATTRIBUTES, profiles=PROFILES)
ITEMS = [
    Item(
        "nurse", {"title": "registered nurse", "body": "care of patients"}, {"clicks": 0, "skills": ("care", "shift")}
    ),
    Item("night", {"title": "night nurse", "body": "nurses at night"}, {"clicks": 100, "skills": ("care",)}),
    Item("cook", {"title": "cook", "body": "food for patients"}, {"clicks": 3, "price": 2.0}),
    Item("old", {"title": "watchman", "body": "looks after doors"}, {"posted": Timestamp(1_000_000_000_000_000)}),
]
SEEN = Visibility.SEARCHABLE


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrievalClient]:
    with serving(tmp_path_factory.mktemp("scoring")) as running, a_client(running) as own:
        own.create_collection(SCHEMA)
        own.upsert("things", ITEMS, visibility=SEEN)
        yield own


def ids(hits: object) -> list[object]:
    return [hit.id for hit in hits]  # type: ignore[attr-defined]


def leg(hit: Hit, name: str) -> tuple[float, float, float]:
    (own,) = [one for one in hit.legs if one.name == name]
    return own.raw, own.normalised, own.weight


def test_terms_alone_find_the_items_that_have_one_of_them(client: RetrievalClient) -> None:
    found = client.search("things", "nurses at night", params=SearchParams(mode="lexical", legs=True))
    assert ids(found.hits) == ["night", "nurse"]
    best, other = found.hits
    assert leg(best, "lexical")[1:] == (1.0, 1.0)
    assert best.score == 1.0
    raw, normalised, weight = leg(other, "lexical")
    assert other.score == pytest.approx(weight * normalised) == pytest.approx(raw / leg(best, "lexical")[0])


def test_terms_and_similarity_count_together(client: RetrievalClient) -> None:
    params = SearchParams(mode="hybrid", scoring=Scoring(lexical=0.25), legs=True)
    found = client.search("things", "food for patients", params=params)
    assert set(ids(found.hits)) == {item.id for item in ITEMS}
    for hit in found.hits:
        total = np.float32(0)
        for one in hit.legs:
            total += np.float32(one.weight) * np.float32(one.normalised)
        assert np.float32(hit.score) == total
        assert leg(hit, "lexical")[2] == 0.25


def test_terms_may_differ_from_the_query(client: RetrievalClient) -> None:
    vector = client.encode("things", ["cook"])[0]
    found = client.search("things", vector, params=SearchParams(mode="lexical", terms="doors"))
    assert ids(found.hits) == ["old"]
    with pytest.raises(InvalidArgument, match=r"params\.terms: is empty, and so is the query's text: mode is lexical"):
        client.search("things", vector, params=SearchParams(mode="lexical"))


def test_a_profile_is_asked_for_by_name_and_told(client: RetrievalClient) -> None:
    scoring = Scoring("popular", similarity=0.0)
    found = client.search("things", "x", params=SearchParams(k=2, scoring=scoring, legs=True))
    assert ids(found.hits) == ["night", "cook"]
    assert leg(found.hits[0], "fame") == (100.0, pytest.approx(np.log(101.0)), 0.5)
    assert found.explanation.profile == "popular@1"


def test_a_volatile_feature_counts_as_it_is_now(client: RetrievalClient) -> None:
    params = SearchParams(k=1, scoring=Scoring("popular", similarity=0.0))
    client.update("things", [ItemUpdate("cook", {"clicks": 10_000})], visibility=SEEN)
    assert ids(client.search("things", "x", params=params).hits) == ["cook"]
    client.update("things", [ItemUpdate("cook", {"clicks": 3})], visibility=SEEN)
    assert ids(client.search("things", "x", params=params).hits) == ["night"]


def test_each_query_of_a_batch_is_scored_its_own_way(client: RetrievalClient) -> None:
    params = [
        SearchParams(k=1, scoring=Scoring(similarity=0.0, terms=(Overlap("skills", ("care", "shift")),)), legs=True),
        SearchParams(k=1, scoring=Scoring("popular", similarity=0.0), legs=True),
        SearchParams(k=1, mode="lexical"),
        SearchParams(k=1, scoring=Scoring(similarity=0.0, terms=(Decay("posted", 3600.0, missing=1.0, weight=-1.0),))),
    ]
    found = client.search_batch("things", ["a", "b", "doors", "d"], params=params)
    assert list(found.ids) == ["nurse", "night", "old", "old"]
    legs = {column.name: column for column in found.legs}
    assert legs.keys() == {"skills", "fame"}
    assert legs["skills"].weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert legs["skills"].normalised[0] == 1.0
    assert found.scores[0] == 1.0


def test_one_query_that_cannot_be_scored_fails_alone(client: RetrievalClient) -> None:
    bad = SearchParams(scoring=Scoring(terms=(Feature("void"),)))
    found = client.search_batch("things", ["nurse", "nurse"], params=[bad, SearchParams(k=1)])
    assert isinstance(found.errors[0], UnknownAttribute)
    assert found.counts.tolist() == [0, 1]


def test_hits_that_score_too_little_are_left_out(client: RetrievalClient) -> None:
    params = SearchParams(scoring=Scoring("popular", similarity=0.0), min_score=0.5)
    assert ids(client.search("things", "x", params=params).hits) == ["night", "cook"]


def test_ranks_of_similarity_and_terms_are_fused(client: RetrievalClient) -> None:
    fusion = RankFusion(constant=10.0, depth=3, lexical=0.5)
    text = "food for patients"
    dense = ids(client.search("things", text, params=SearchParams(k=3)).hits)
    lexical = ids(client.search("things", text, params=SearchParams(k=3, mode="lexical")).hits)
    wanted = {
        one: sum(w / (11 + own.index(one)) for w, own in ((1.0, dense), (0.5, lexical)) if one in own)
        for one in {*dense, *lexical}
    }
    params = SearchParams(k=2, rank_fusion=fusion, legs=True)
    found = client.search("things", text, params=params)
    assert ids(found.hits) == sorted(wanted, key=lambda one: -wanted[one])[:2]
    for hit in found.hits:
        assert hit.score == pytest.approx(wanted[hit.id])
        assert np.float32(hit.score) == sum(np.float32(one.weight) * np.float32(one.normalised) for one in hit.legs)
    batch = client.search_batch(
        "things", [text, text, text], params=[params, SearchParams(k=2), replace(params, page=True)]
    )
    assert list(batch.ids) == [*ids(found.hits), *dense[:2]]
    assert isinstance(batch.errors[2], InvalidArgument)
    mixed = [replace(params, legs=False), SearchParams(k=2, legs=True), SearchParams(k=2)]
    batch = client.search_batch("things", [text] * 3, params=mixed)
    assert (batch.counts.tolist(), list(batch.legs)) == ([2, 0, 2], [])
    assert isinstance(batch.errors[1], InvalidArgument)


def test_terms_want_a_text_field_with_an_analyser(client: RetrievalClient) -> None:
    client.create_collection(vector_schema())
    query = np.ones(4, np.float32)
    with pytest.raises(NoAnalyser, match="'points' has no text field with an analyser"):
        client.search("points", query, params=SearchParams(mode="lexical", terms="x"))


def test_profiles_are_set_replaced_and_removed_and_survive_a_restart(tmp_path: Path) -> None:
    fresh = ScoringProfile("fresh", 1.0, 0.0, (Decay("posted", 60.0),))
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(SCHEMA)
        assert client.set_profile("things", fresh).revision == 1
        assert client.set_profile("things", replace(fresh, similarity=0.5), default=True).revision == 2
        with pytest.raises(UnknownAttribute):
            client.set_profile("things", ScoringProfile("bad", terms=(Feature("void"),)))
        client.remove_profile("things", "popular")
        with pytest.raises(InvalidArgument, match="no profile 'popular'; it has fresh"):
            client.remove_profile("things", "popular")
        _is_fresh(running, client)
    with serving(tmp_path) as running, a_client(running) as client:
        _is_fresh(running, client)
        client.upsert("things", ITEMS[:1], visibility=SEEN)
        assert client.search("things", "nurse").explanation.profile == "fresh@2"
        client.set_profile("things", replace(fresh, similarity=0.5), default=False)
        assert client.get_collection("things").schema.default_profile == ""


def _is_fresh(running: Serving, client: RetrievalClient) -> None:
    schema = client.get_collection("things").schema
    assert [(one.name, one.similarity, one.revision) for one in schema.profiles] == [("fresh", 0.5, 2)]
    assert schema.default_profile == "fresh"


def test_each_of_many_items_is_left_out_of_its_own_answer_by_terms_alone(client: RetrievalClient) -> None:
    own = [item.id for item in ITEMS] * 20
    params = SearchParams(mode="lexical", terms="nurse patients doors night")
    alone = {one: client.search_similar_batch("things", [one], params=params).rows(0)[0] for one in own}
    found = client.search_similar_batch("things", own, params=params)
    assert [found.rows(place)[0] for place in range(len(own))] == [alone[one] for one in own]
