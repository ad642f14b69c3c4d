"""Several named embeddings an item over a real channel: written, searched with weights, told by legs, read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.client import RetrievalClient, SimilarTo
from engine.errors import EngineError, InvalidArgument
from engine.item_columns import ItemColumns
from engine.ranking import LegInput, Pipeline, RankStage
from engine.scoring import Feature, Scoring
from engine.selection import Facet, RankFusion
from engine.types import (
    EmbeddingSpec,
    Examples,
    Filter,
    Item,
    ItemUpdate,
    Match,
    Schema,
    SearchParams,
    SearchResult,
    Strategy,
    TextField,
    Visibility,
)
from tests import rankers
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema

SEEN = Visibility.SEARCHABLE
EMBEDDINGS = (
    EmbeddingSpec("title", ("title",), 3.0),
    EmbeddingSpec("all", ("title", "body")),
    EmbeddingSpec("image", (), 2.0, 4),
)
SCHEMA = replace(
    text_schema(),
    text_fields=(TextField("title", 0, 1.0, "english"), TextField("body", 1)),
    embeddings=EMBEDDINGS,
    dtype="float32",
)
IMAGES = {"apple": [2, 0, 0, 0], "cherry": [0, 3, 0, 0], "bare": [1, 1, 0, 0]}
TEXTS = {
    "apple": {"title": "red apple", "body": "sweet fruit from the garden"},
    "cherry": {"title": "red cherry", "body": "small sweet fruit"},
    "sky": {"title": "blue sky", "body": "air above the garden"},
    "untitled": {"body": "red apple"},
    "bare": {},
}
COLOURS = {"apple": "red", "cherry": "red", "sky": "blue"}
ITEMS = [
    Item(
        name,
        text,
        {"colour": COLOURS[name], "price": len(name)} if name in COLOURS else {},
        named_vectors={"image": np.array(IMAGES[name], np.float32)} if name in IMAGES else {},
    )
    for name, text in TEXTS.items()
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("named")) as running:
        with a_client(running) as own:
            own.create_collection(SCHEMA)
            assert own.upsert("things", ITEMS, visibility=SEEN).errors == ()
            own.create_collection(vector_schema())
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[RetrievalClient]:
    with a_client(server) as connected:
        yield connected


def ids(result: SearchResult) -> list[object]:
    return [hit.id for hit in result.hits]


def unit(vector: Any) -> np.ndarray:
    vector = np.asarray(vector, np.float64)
    return vector / max(float(np.linalg.norm(vector)), 1e-30)


def of_items(client: RetrievalClient) -> dict[str, dict[str, np.ndarray]]:
    """What each item's embeddings ought to be, by the texts they read."""
    embeddings: dict[str, dict[str, np.ndarray]] = {}
    for name, text in TEXTS.items():
        own: dict[str, np.ndarray] = {}
        for embedding, fields in (("title", ["title"]), ("all", ["title", "body"])):
            read = "\n".join(text[field] for field in fields if field in text)
            if read:
                own[embedding] = unit(client.encode("things", [read])[0])
        if name in IMAGES:
            own["image"] = unit(IMAGES[name])
        embeddings[name] = own
    return embeddings


def expected(client: RetrievalClient, query: dict[str, Any], weights: dict[str, float]) -> dict[str, float]:
    """The weighted means of cosines, by brute force; an embedding that an item lacks adds nothing."""
    total = sum(weights[name] for name in query)
    return {
        item: sum(weights[name] * float(unit(query[name]) @ own[name]) for name in query if name in own) / total
        for item, own in of_items(client).items()
    }


def check(found: SearchResult, scores: dict[str, float]) -> None:
    assert {hit.id: hit.score for hit in found.hits} == pytest.approx(scores, abs=1e-5)
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)


def test_a_text_is_compared_with_every_embedding_that_reads_text(client: RetrievalClient) -> None:
    vector = client.encode("things", ["red apple"])[0]
    found = client.search("things", "red apple")
    check(found, expected(client, {"title": vector, "all": vector}, {"title": 3.0, "all": 1.0}))
    assert ids(found)[0] == "apple"


def test_a_query_gives_each_embedding_its_own_text_or_vector_and_weight(client: RetrievalClient) -> None:
    vector, image = client.encode("things", ["red cherry"])[0], np.array([1, 0, 0, 0], np.float32)
    params = SearchParams(embedding_weights={"title": 0.5, "image": 4.0})
    found = client.search("things", {"title": "red cherry", "image": image}, params=params)
    check(found, expected(client, {"title": vector, "image": image}, {"title": 0.5, "image": 4.0}))
    by_vectors = client.search("things", {"title": vector, "image": image}, params=params)
    assert ids(by_vectors) == ids(found)


def test_a_full_match_of_what_counts_scores_1(client: RetrievalClient) -> None:
    only_title = SearchParams(embedding_weights={"all": 0.0})
    found = client.search("things", "red apple", params=only_title)
    assert found.hits[0].id == "apple"
    assert found.hits[0].score == pytest.approx(1.0, abs=1e-6)
    full = client.search("things", {"title": "red apple", "all": "red apple\nsweet fruit from the garden"})
    assert full.hits[0].score == pytest.approx(1.0, abs=1e-6)


def test_an_embedding_of_weight_0_needs_neither_text_nor_vector_that_fits(client: RetrievalClient) -> None:
    query = {"title": "blue sky", "image": np.ones(7, np.float32), "all": ""}
    found = client.search("things", query, params=SearchParams(embedding_weights={"image": 0, "all": 0}))
    assert found.hits[0].id == "sky"


def test_a_vector_alone_is_for_all_embeddings(client: RetrievalClient) -> None:
    weights = {"title": 0.0, "all": 0.0}
    found = client.search("things", np.array([0, 1, 0, 0], np.float32), params=SearchParams(embedding_weights=weights))
    assert ids(found)[0] == "cherry"
    with pytest.raises(InvalidArgument, match=r"query\.vector: has 4 dimensions, the embedding 'title' has 64"):
        client.search("things", np.array([0, 1, 0, 0], np.float32))


def test_neighbours_of_an_item_are_found_by_the_embeddings_it_has(client: RetrievalClient) -> None:
    found = client.search("things", SimilarTo("untitled"))
    own = of_items(client)
    scores = {name: float(own["untitled"]["all"] @ one["all"]) for name, one in own.items() if "all" in one}
    scores |= {"bare": 0.0}
    del scores["untitled"]
    check(found, scores)
    with pytest.raises(InvalidArgument, match="there is none of the embeddings that count"):
        client.search("things", SimilarTo("untitled"), params=SearchParams(embedding_weights={"all": 0}))


def test_examples_are_items_whose_embeddings_make_the_query(client: RetrievalClient) -> None:
    found = client.search("things", Examples(like=("apple", "cherry"), unlike=("bare",)))
    own = of_items(client)
    query: dict[str, Any] = {}
    for name in ("title", "all", "image"):
        liked = (own["apple"][name] + own["cherry"][name]) / 2
        query[name] = 2 * liked - own["bare"].get(name, 0)
    scores = expected(client, query, {"title": 3.0, "all": 1.0, "image": 2.0})
    check(found, {name: scores[name] for name in ("sky", "untitled")})
    with pytest.raises(InvalidArgument, match="like_vectors: have no names"):
        client.search("things", Examples(like_vectors=np.ones((1, 132), np.float32)))


def test_each_embedding_has_a_leg_and_all_legs_add_up(client: RetrievalClient) -> None:
    scoring = Scoring(similarity=2.0, lexical=0.5, terms=(Feature("price", 0.25),))
    params = SearchParams(legs=True, scoring=scoring, embedding_weights={"title": 1.0, "all": 3.0})
    found = client.search("things", "red apple", params=params)
    own, vector = of_items(client), unit(client.encode("things", ["red apple"])[0])
    for hit in found.hits:
        assert [leg.name for leg in hit.legs] == ["similarity.title", "similarity.all", "price", "lexical"]
        title, every = hit.legs[:2]
        assert (title.weight, every.weight) == (0.5, 1.5)
        for name, leg in (("title", title), ("all", every)):
            cosine = float(own[hit.id][name] @ vector) if name in own[hit.id] else 0.0
            assert leg.raw == leg.normalised == pytest.approx(cosine, abs=1e-6)
        total = np.float32(0)
        for one in hit.legs:
            total += np.float32(one.weight) * np.float32(one.normalised)
        assert np.float32(hit.score) == total


def test_legs_alone_change_no_score(client: RetrievalClient) -> None:
    plain = client.search("things", "sweet fruit")
    told = client.search("things", "sweet fruit", params=SearchParams(legs=True))
    check(told, {str(hit.id): hit.score for hit in plain.hits})


def test_filters_and_strategies_work_as_ever(client: RetrievalClient) -> None:
    tree = Filter(must=(Match("colour", ("red",)),))
    for strategy in (Strategy.GATHER, Strategy.MASKED_SCAN):
        found = client.search("things", "red apple", params=SearchParams(filter=tree, strategy=strategy))
        assert ids(found) == ["apple", "cherry"]


def test_a_batch_is_answered_as_its_queries_are_alone(client: RetrievalClient) -> None:
    texts, images = ["red apple", "blue sky"], np.array([[0, 1, 0, 0], [1, 0, 0, 0]], np.float32)
    params = [SearchParams(legs=True), SearchParams(embedding_weights={"image": 0.5})]
    batch = client.search_batch("things", {"title": texts, "image": images}, params=params)
    for place in range(2):
        alone = client.search("things", {"title": texts[place], "image": images[place]}, params=params[place])
        found, scores = batch.rows(place)
        assert list(found) == ids(alone)
        assert scores.tolist() == pytest.approx([hit.score for hit in alone.hits])
    similar = client.search_similar_batch("things", ["apple", "nobody"])
    assert list(similar.rows(0)[0]) == ids(client.search("things", SimilarTo("apple")))
    assert isinstance(similar.errors[1], EngineError)


def test_one_bad_query_of_a_batch_does_not_fail_its_neighbours(client: RetrievalClient) -> None:
    images = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [np.nan, 0, 0, 0], [1, 0, 0, 0]], np.float32)
    last = SearchParams(embedding_weights={"title": 1.0})
    batch = client.search_batch("things", {"image": images}, params=[SearchParams()] * 3 + [last])
    assert batch.rows(0)[0][0] == "cherry"
    for place, told in ((1, "is zero"), (2, "is NaN"), (3, "neither text nor vector")):
        with pytest.raises(InvalidArgument, match=told):
            batch.rows(place)
    texts = client.search_batch("things", {"title": ["red cherry", " "]})
    assert texts.rows(0)[0][0] == "cherry"
    with pytest.raises(InvalidArgument, match=r"query\[1\].named.texts\[title\]: is empty"):
        texts.rows(1)


def test_a_vector_for_all_embeddings_that_is_none_is_told_as_the_field_that_was_filled(client: RetrievalClient) -> None:
    vectors = np.ones((3, 64), np.float32)
    vectors[1, 5] = np.nan
    texts = SearchParams(embedding_weights={"image": 0.0})
    with pytest.raises(InvalidArgument, match=r"^query.vector: value 5 is NaN or infinite"):
        client.search("things", vectors[1], params=texts)
    batch = client.search_batch("things", vectors, params=[texts, texts, SearchParams(k=0)])
    assert batch.rows(0)[0]
    with pytest.raises(InvalidArgument, match=r"^query\[1\].vector: value 5 is NaN or infinite"):
        batch.rows(1)


@pytest.mark.parametrize(
    ("query", "weights", "told"),
    [
        ("red", {"title": 0, "all": 0}, "no embedding counts"),
        ("red", {"image": 1}, r"embedding_weights\[image\]: the query has neither text nor vector"),
        ("red", {"title": -1}, r"embedding_weights\[title\]: -1.0 is not a float32 from 0 on"),
        ("red", {"title": float("nan")}, "is not a float32"),
        ("red", {"body": 1}, r"embedding_weights\[body\]: there is no such embedding; the collection has title, all"),
        ({"body": "red"}, {}, r"query.named.texts\[body\]: there is no such embedding"),
        ({"image": "red"}, {}, r"query.named.texts\[image\]: has 4 dimensions, the encoder 64"),
        ({"image": np.ones(3, np.float32)}, {}, r"query.named.vectors\[image\]: has 3 dimensions"),
        ({}, {}, "the call has no query"),
    ],
)
def test_a_query_that_does_not_fit_is_told_what_is_wrong(
    client: RetrievalClient, query: Any, weights: dict[str, float], told: str
) -> None:
    with pytest.raises(InvalidArgument, match=told):
        client.search("things", query, params=SearchParams(embedding_weights=weights))


QUERIES: list[Any] = [
    "red apple",
    {"title": "red cherry", "image": np.array([1, 2, 0, 0], np.float32)},
    {"image": np.array([1, 2, 0, 0], np.float32)},
    SimilarTo("apple"),
]


@pytest.mark.parametrize("query", QUERIES)
def test_pages_of_named_embeddings_are_of_the_first_moment(own_server: Serving, query: Any) -> None:
    with a_client(own_server) as client:
        client.create_collection(SCHEMA)
        client.upsert("things", ITEMS, visibility=SEEN)
        params = SearchParams(k=2, page=True, legs=True)
        wanted = client.search("things", query, params=replace(params, k=5)).hits
        page = client.search("things", query, params=params)
        hits, n_texts = list(page.hits), len(own_server.encoder.encoded)
        while page.next_page is not None:
            client.delete("things", ["apple", "cherry", wanted[-1].id], visibility=SEEN)
            client.upsert("things", [Item(f"new{len(hits)}", {"title": "red"})], visibility=SEEN)
            n_texts = len(own_server.encoder.encoded)
            page = client.search("things", query, params=replace(params, cursor=page.next_page.cursor))
            assert len(own_server.encoder.encoded) == n_texts
            hits += page.hits
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in wanted]
        for hit in hits:
            assert {leg.name.split(".")[0] for leg in hit.legs} == {"similarity"}
            told = [np.float32(leg.weight) * np.float32(leg.normalised) for leg in hit.legs]
            assert sum(told, np.float32(0)) == np.float32(hit.score)


def test_pages_of_maxima_and_their_cursors_are_of_one_choice(own_server: Serving) -> None:
    with a_client(own_server) as client:
        embeddings = (EmbeddingSpec("title", ("title",)), EmbeddingSpec("all", ("title", "body")))
        client.create_collection(replace(SCHEMA, embeddings=embeddings, combine="maximum"))
        client.upsert("things", [replace(item, named_vectors={}) for item in ITEMS], visibility=SEEN)
        params = SearchParams(k=2, page=True, embedding_weights={"all": 0})
        wanted = [hit.id for hit in client.search("things", "red apple", params=replace(params, k=9)).hits]
        page = client.search("things", "red apple", params=params)
        assert page.next_page is not None
        client.delete("things", [wanted[-1]], visibility=SEEN)
        onward = replace(params, cursor=page.next_page.cursor)
        rest = client.search("things", "red apple", params=replace(onward, k=9))
        assert [hit.id for hit in (*page.hits, *rest.hits)] == wanted
        with pytest.raises(InvalidArgument, match=r"params\.cursor: is of another query"):
            client.search("things", "red apple", params=replace(onward, embedding_weights={"title": 0}))


def test_a_collection_without_named_embeddings_refuses_their_names(client: RetrievalClient) -> None:
    vector = np.ones(4, np.float32)
    with pytest.raises(InvalidArgument, match="the collection has no named embeddings"):
        client.search("points", {"title": vector})
    with pytest.raises(InvalidArgument, match="the collection has no named embeddings"):
        client.search("points", vector, params=SearchParams(embedding_weights={"title": 1.0}))
    refused = client.upsert("points", [Item(1, named_vectors={"title": vector})])
    assert "the collection has no named embeddings" in refused.errors[0].error.message


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (Item("x", vector=np.ones(64, np.float32)), "has no name: the collection has named embeddings"),
        (Item("x", named_vectors={"picture": np.ones(4, np.float32)}), "there is no such embedding"),
        (Item("x", named_vectors={"image": np.ones(5, np.float32)}), "the embedding has 4 dimensions"),
        (Item("x", named_vectors={"image": np.ones((2, 4), np.float32)}), r"has shape \(2, 4\)"),
        (Item("x", named_vectors={"image": np.zeros(4, np.float32)}), "is zero, which has no cosine"),
        (Item("x", named_vectors={"image": np.full(4, np.inf, np.float32)}), "not a finite number"),
        (Item("x", {"title": " "}), "neither text to encode nor vectors"),
    ],
)
def test_an_item_that_does_not_fit_is_refused(client: RetrievalClient, item: Item, told: str) -> None:
    (refused,) = client.upsert("things", [item]).errors
    with pytest.raises(InvalidArgument, match=told):
        raise refused.error


def test_items_come_back_with_their_embeddings_by_name(client: RetrievalClient) -> None:
    own = of_items(client)
    (got,) = client.get("things", ["apple"], vectors=True)
    scrolled = {item.id: item for item in client.scroll("things", vectors=True)}
    (hit,) = client.search("things", "red apple", params=SearchParams(k=1), vectors=True).hits
    assert got.vectors is None
    for found in (got, scrolled["apple"], hit):
        assert {name: vector.tolist() for name, vector in found.named_vectors.items()} == {
            name: pytest.approx(vector.tolist(), abs=1e-6) for name, vector in own["apple"].items()
        }
    assert set(scrolled["bare"].named_vectors) == {"image"}
    assert set(scrolled["untitled"].named_vectors) == {"all"}
    assert client.get("things", ["apple"])[0].named_vectors == {}


def test_an_item_is_encoded_again_only_where_its_texts_or_vectors_changed(own_server: Serving) -> None:
    with a_client(own_server) as client:
        client.create_collection(SCHEMA)
        client.upsert("things", ITEMS, visibility=SEEN)
        encoded = len(own_server.encoder.encoded)
        again = client.upsert("things", ITEMS)
        assert again.unchanged_texts == 4  # the fifth has no text
        client.update("things", [ItemUpdate("apple", {"colour": "green"})], visibility=SEEN)
        assert len(own_server.encoder.encoded) == encoded
        image = {"image": np.array([0, 0, 0, 1], np.float32)}
        changed = replace(ITEMS[0], named_vectors=image)
        assert client.upsert("things", [changed], visibility=SEEN).unchanged_texts == 0
        assert client.search("things", image, params=SearchParams(k=1)).hits[0].id == "apple"
        assert sum(own_server.encoder.encoded[encoded:]) == 2
        # A vector for an embedding that reads text spares the encoder.
        given = Item("given", named_vectors={"title": client.encode("things", ["purple rain"])[0]})
        client.upsert("things", [given], visibility=SEEN)
        assert ids(client.search("things", "purple rain"))[0] == "given"


def test_a_restart_gives_back_what_was_written(tmp_path: Path) -> None:
    query = {"title": "red apple", "image": np.array([0, 1, 0, 0], np.float32)}
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(SCHEMA)
        client.upsert("things", ITEMS, visibility=SEEN)
        before = client.search("things", query, params=SearchParams(legs=True), vectors=True)
    with serving(tmp_path) as running, a_client(running) as client:
        schema = client.get_collection("things").schema
        assert [one.dimension for one in schema.embeddings] == [64, 64, 4]
        after = client.search("things", query, params=SearchParams(legs=True), vectors=True)
        assert [(hit.id, hit.score, hit.legs) for hit in after.hits] == [
            (hit.id, hit.score, hit.legs) for hit in before.hits
        ]
        assert running.encoder.encoded.count(1) == len(running.encoder.encoded)  # queries alone


def test_vectors_of_callers_need_no_encoder_and_dot_products_are_not_divided(own_server: Serving) -> None:
    schema = Schema(
        "pairs",
        metric="dot",
        dtype="float32",
        embeddings=(EmbeddingSpec("a", (), 1.0, 2), EmbeddingSpec("b", (), 2.0, 3)),
    )
    with a_client(own_server) as client:
        client.create_collection(schema)
        both = {"a": np.array([1, 2], np.float32), "b": np.array([1, 0, 3], np.float32)}
        client.upsert("pairs", [Item("both", named_vectors=both), Item("one", named_vectors={"a": both["a"]})])
        client.upsert("pairs", [Item("nothing")])
        client.upsert("pairs", [Item("last", named_vectors={"b": both["b"]})], visibility=SEEN)
        query = {"a": np.array([3, 1], np.float32), "b": np.array([0, 0, 1], np.float32)}
        found = client.search("pairs", query)
        assert {hit.id: hit.score for hit in found.hits} == {"both": 5.0 + 6.0, "one": 5.0, "last": 6.0}
        alone = client.search("pairs", query, params=SearchParams(embedding_weights={"a": 10, "b": 0}, legs=True))
        assert [(hit.id, hit.score) for hit in alone.hits] == [("both", 50.0), ("one", 50.0), ("last", 0.0)]
        assert [(leg.name, leg.raw, leg.weight) for leg in alone.hits[0].legs] == [("similarity.a", 5.0, 10.0)]


def test_items_as_columns_are_refused(client: RetrievalClient) -> None:
    columns = ItemColumns(["x"], np.ones((1, 132), np.float32))
    with pytest.raises(InvalidArgument, match="the collection has named embeddings: use Upsert"):
        list(client.upsert_columns("things", [columns]))


def told(client: RetrievalClient, collection: str) -> dict[object, dict[str, list[float]]]:
    """The embeddings of all items, by name."""
    return {
        item.id: {name: vector.tolist() for name, vector in item.named_vectors.items()}
        for item in client.scroll(collection, vectors=True)
    }


def test_what_is_exported_can_be_loaded_with_its_vectors(own_server: Serving, tmp_path: Path) -> None:
    exported, schema_file = tmp_path / "things.jsonl", tmp_path / "bare.toml"
    schema_file.write_text(
        """
        name = "bare"
        dtype = "float32"
        [[embedding]]
        name = "title"
        dimension = 64
        [[embedding]]
        name = "image"
        weight = 0.5
        dimension = 4
        """
    )
    with a_client(own_server) as client:
        client.create_collection(replace(SCHEMA, embeddings=(EMBEDDINGS[0], EMBEDDINGS[2]), attributes=()))
        items = [replace(item, attributes={}) for item in ITEMS if item.id != "untitled"]
        client.upsert("things", items, visibility=SEEN)
    run = CliRunner().invoke
    target = ("--target", own_server.target)
    assert run(app, ["export", "-c", "things", "--vectors", "-o", str(exported), *target]).exit_code == 0
    loaded = run(app, ["load", str(exported), "--schema", str(schema_file), *target])
    assert loaded.exit_code == 0, loaded.output
    np.save(tmp_path / "one.npy", np.ones((1, 68), np.float32))
    refused = run(app, ["load", str(tmp_path / "one.npy"), "-c", "bare", *target])
    assert refused.exit_code == 1
    assert "one.npy has one vector an item; the collection has named embeddings" in refused.output
    with a_client(own_server) as client:
        before, after = (told(client, name) for name in ("things", "bare"))
    assert before == after
    assert set(before) == {"apple", "cherry", "sky", "bare"}
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"_id": "x", "_named_vectors": [1, 2]}')
    refused = run(app, ["load", str(bad), "-c", "bare", *target])
    assert refused.exit_code == 1
    assert "is no object of vectors by the names of embeddings" in refused.output


MAXIMUM = replace(
    SCHEMA,
    name="best",
    combine="maximum",
    embeddings=(EmbeddingSpec("title", ("title",)), EmbeddingSpec("body", ("body",))),
)
TEXTUAL = [replace(item, named_vectors={}) for item in ITEMS if item.id != "bare"]


@pytest.fixture(scope="module")
def best(server: Serving) -> Iterator[RetrievalClient]:
    """A client of a server with a collection ``best`` that takes the maximum."""
    with a_client(server) as own:
        own.create_collection(MAXIMUM)
        assert own.upsert("best", TEXTUAL, visibility=SEEN).errors == ()
        yield own


def maxima(client: RetrievalClient, text: str, names: tuple[str, ...]) -> dict[str, float]:
    """The greatest cosine of each item's texts of those names, by brute force."""
    query = unit(client.encode("best", [text])[0])
    return {
        str(item.id): max(
            float(unit(client.encode("best", [item.text[name]])[0]) @ query) for name in names if name in item.text
        )
        for item in TEXTUAL
        if any(name in item.text for name in names)
    }


def test_of_a_maximum_the_best_embedding_counts(best: RetrievalClient) -> None:
    found = best.search("best", "red apple", params=SearchParams(legs=True))
    check(found, maxima(best, "red apple", ("title", "body")))
    legs = {hit.id: {leg.name: leg.raw for leg in hit.legs} for hit in found.hits}
    assert legs["apple"] == {"similarity.title": pytest.approx(1.0), "similarity.body": 0.0}
    assert legs["untitled"] == {"similarity.title": 0.0, "similarity.body": pytest.approx(1.0)}


def test_embeddings_of_weight_0_are_left_out_of_a_maximum(best: RetrievalClient) -> None:
    for weights, names in (({"body": 0}, ("title",)), ({"title": 0, "body": 1}, ("body",))):
        params = SearchParams(embedding_weights=weights)
        check(best.search("best", "red apple", params=params), maxima(best, "red apple", names))
    tree = Filter(must=(Match("colour", ("red",)),))
    only_body = SearchParams(embedding_weights={"title": 0}, filter=tree, k=1)
    assert ids(best.search("best", "small sweet fruit", params=only_body)) == ["cherry"]


def test_terms_count_beside_the_embeddings_that_are_chosen(best: RetrievalClient) -> None:
    """The terms of an item are at its first row, which need not be one of an embedding that counts."""
    params = SearchParams(mode="hybrid", terms="apple", embedding_weights={"title": 0}, legs=True)
    found = best.search("best", "air above the garden", params=params)
    legs = {hit.id: {leg.name: leg.normalised for leg in hit.legs} for hit in found.hits}
    assert set(legs) == {"apple", "cherry", "sky", "untitled"}
    assert legs["apple"]["lexical"] == 1.0
    assert legs["sky"] == {"similarity.body": pytest.approx(1.0), "lexical": 0.0}
    lexical = SearchParams(mode="lexical", embedding_weights={"title": 0})
    assert ids(best.search("best", "apple", params=lexical)) == ["apple"]


def test_neighbours_and_examples_by_a_maximum_leave_their_items_out(best: RetrievalClient) -> None:
    only_body = SearchParams(embedding_weights={"title": 0})
    assert ids(best.search("best", SimilarTo("cherry"), params=only_body))[0] == "apple"
    assert "cherry" not in ids(best.search("best", Examples(like=("cherry", "sky"))))
    with pytest.raises(InvalidArgument, match="there is none of the embeddings that count"):
        best.search("best", SimilarTo("untitled"), params=SearchParams(embedding_weights={"body": 0}))


@pytest.mark.parametrize(
    ("query", "weights", "told"),
    [
        ("red", {"title": 2}, r"embedding_weights\[title\]: 2.0 is neither 0 nor 1"),
        ("red", {"title": 0, "body": 0}, "no embedding counts"),
        ({"title": "red"}, {}, "query.named: is for weighted sums"),
        (np.ones(65, np.float32), {}, "has 65 dimensions, the embedding 'title' has 64"),
    ],
)
def test_a_query_that_no_maximum_can_answer_is_refused(
    best: RetrievalClient, query: Any, weights: dict[str, float], told: str
) -> None:
    with pytest.raises(InvalidArgument, match=told):
        best.search("best", query, params=SearchParams(embedding_weights=weights))


def test_a_maximum_outlives_updates_compaction_and_a_restart(tmp_path: Path) -> None:
    only_body = SearchParams(embedding_weights={"title": 0}, legs=True)
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(MAXIMUM)
        client.upsert("best", [Item(f"dead{n}", {"title": "blue sky", "body": "x y"}) for n in range(3)])
        client.upsert("best", TEXTUAL, visibility=SEEN)
        before = client.search("best", "red apple", params=only_body)
        client.delete("best", [f"dead{n}" for n in range(3)])
        client.update("best", [ItemUpdate("apple", {"colour": "green"})], visibility=SEEN)
        client.search("best", "red apple", params=only_body)
        rows = client.get_collection("best").versions[0].message.memory.row_count
        client.wait_for_operation(client.compact_collection("best"))
        assert client.get_collection("best").versions[0].message.memory.row_count < rows
        check(client.search("best", "red apple", params=only_body), maxima(client, "red apple", ("body",)))
        (untitled,) = client.get("best", ["untitled"], vectors=True)
        assert set(untitled.named_vectors) == {"body"}
    with serving(tmp_path) as running, a_client(running) as client:
        assert client.get_collection("best").schema.combine == "maximum"
        after = client.search("best", "red apple", params=only_body)
        scores = {str(hit.id): hit.score for hit in before.hits if not str(hit.id).startswith("dead")}
        check(after, scores)
        assert set(told(client, "best")["apple"]) == {"title", "body"}


def test_values_are_counted_once_an_item_whichever_of_its_embeddings_count(best: RetrievalClient) -> None:
    for weights in ({}, {"title": 0}, {"body": 0}):
        params = SearchParams(k=1, facets=(Facet("colour"),), embedding_weights=weights)
        (counted,) = best.search("best", "red apple", params=params).facets
        assert counted.counts == (("red", 2), ("blue", 1))


def test_a_ranker_reads_the_leg_of_each_embedding(own_server: Serving, tmp_path: Path) -> None:
    """A model that wants titles unlike the query, and what its missing value is where titles do not count."""
    model = str(rankers.linear(tmp_path / "m.onnx", (-1.0, 0.0)))
    inputs = (LegInput("similarity.title", missing=7.0), LegInput("similarity.all"))
    with a_client(own_server) as client:
        client.create_collection(SCHEMA)
        client.upsert("things", ITEMS, visibility=SEEN)
        client.set_pipeline("things", Pipeline(20, RankStage(model, inputs)))
        found = client.search("things", "red apple")
        query = unit(client.encode("things", ["red apple"])[0])
        cosines = {
            name: float(own["title"] @ query) if "title" in own else 0.0 for name, own in of_items(client).items()
        }
        check(found, {name: -cosine for name, cosine in cosines.items()})
        without = client.search("things", "red apple", params=SearchParams(embedding_weights={"title": 0}))
        assert {hit.score for hit in without.hits} == {-7.0}
        with pytest.raises(InvalidArgument, match="where embeddings have names each has a leg of its own"):
            client.set_pipeline("things", Pipeline(20, RankStage(model, (LegInput("similarity"), *inputs))))


def test_ranks_are_fused_of_what_the_weights_find(client: RetrievalClient) -> None:
    """Title alone finds the sky, terms the apple: each is first of one leg."""
    params = SearchParams(rank_fusion=RankFusion(), terms="apple", embedding_weights={"all": 0}, k=2)
    assert set(ids(client.search("things", "blue sky", params=params))) == {"sky", "apple"}
