"""How hits are chosen and told, over a real channel."""

from __future__ import annotations

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import InvalidArgument, ItemNotFound, LimitExceeded, UnknownAttribute
from engine.selection import Diversity, Facet, GroupBy
from engine.types import Examples, Filter, Item, Match, Range, SearchParams

ZERO = np.zeros(4, np.float32)


def test_hits_are_grouped_in_single_searches_and_in_batches_each_by_its_own(client: RetrievalClient) -> None:
    by_colour = SearchParams(k=5, group_by=GroupBy("colour"))
    result = client.search("things", "red fruit", params=by_colour)
    assert {hit.id for hit in result.hits} - {"apple", "cherry"} == {"sky", "nothing"}
    assert len(result.hits) == 3
    assert result.explanation.group_rounds == 1
    batch = client.search_batch(
        "things",
        ["red fruit"] * 3,
        params=[by_colour, SearchParams(k=5), SearchParams(k=5, group_by=GroupBy("remote"))],
    )
    assert batch.counts.tolist() == [3, 5, 5]


def test_a_grouping_that_cannot_be_fails_its_query_alone(client: RetrievalClient) -> None:
    params = [SearchParams(group_by=GroupBy(name)) for name in ("rank", "void", "rank")]
    params[2] = SearchParams(group_by=GroupBy("rank", 200_000))
    batch = client.search_batch("points", np.zeros((3, 4), np.float32), params=params)
    assert [type(one) for one in batch.errors] == [type(None), UnknownAttribute, LimitExceeded]
    with pytest.raises(InvalidArgument, match=r"params.group_by.attribute: 'tags' is a keyword_list") as caught:
        client.search("things", "red", params=SearchParams(group_by=GroupBy("tags")))
    assert caught.value.field == "params.group_by.attribute"


def test_ints_written_after_the_first_grouping_are_grouped_too(client: RetrievalClient) -> None:
    params = SearchParams(k=3, group_by=GroupBy("rank"))
    assert [hit.id for hit in client.search("points", ZERO, params=params).hits] == [0, 1, 2]
    client.upsert("points", [Item(100, {}, {"rank": 1}, ZERO)])
    client.upsert("points", [Item(101, {}, {"rank": 7}, ZERO)])
    last = client.upsert("points", [Item(102, {}, {}, ZERO)]).sequence
    found = client.search("points", ZERO, params=params, min_sequence=last).hits
    assert [hit.id for hit in found] == [0, 100, 101]


def test_hits_that_resemble_one_another_less_are_picked_in_single_searches_and_in_batches(
    client: RetrievalClient,
) -> None:
    vectors = np.array([[4, 0, 0, 0], [4, 0.1, 0, 0], [3, 3, 0, 0], [2, 0, 3, 0]], np.float32)
    query = np.array([1, 0, 0, 0], np.float32)
    only = Filter(must=(Range("rank", gte=1000),))
    items = [Item(200 + n, {}, {"rank": 1000}, vector) for n, vector in enumerate(vectors)]
    last = client.upsert("points", items).sequence
    params = [SearchParams(k=2, filter=only, diversity=Diversity(one, 4)) for one in (1.0, 0.5)]
    found = client.search("points", query, params=params[1], min_sequence=last).hits
    batch = client.search_batch("points", np.stack([query, query]), params=params)
    assert [batch.rows(n)[0].tolist() for n in range(2)] == [[200, 201], [hit.id for hit in found]]
    assert found[0].id == 200
    assert found[1].id != 201
    with pytest.raises(LimitExceeded, match=r"params.diversity.candidates"):
        client.search("points", query, params=SearchParams(diversity=Diversity(0.5, 100_000)))
    assert client.server().limits.diversity_candidates == 1000


def test_examples_are_searched_for_in_single_searches_and_in_batches(client: RetrievalClient) -> None:
    found = client.search("things", Examples(("apple",), ("sky",)), params=SearchParams(k=4)).hits
    assert found[0].id == "cherry"
    assert {hit.id for hit in found} == {"cherry", "engine", "nothing"}
    only = SearchParams(k=3, filter=Filter(must=(Range("rank", gte=0, lte=19), Range("rank", lt=100))))
    vector = np.array([[3, 0, 0, 0]], np.float32)
    examples = [Examples((5, 7)), Examples((5, 777)), Examples(like_vectors=vector, unlike=(1,)), Examples()]
    batch = client.search_batch("points", examples, params=only)
    assert [type(one) for one in batch.errors] == [type(None), ItemNotFound, type(None), InvalidArgument]
    assert not {5, 7} & set(batch.rows(0)[0])
    alone = client.search("points", examples[2], params=only).hits
    assert batch.rows(2)[0].tolist() == [hit.id for hit in alone]
    with pytest.raises(InvalidArgument, match=r"query\[3\].examples.like: is empty"):
        batch.rows(3)
    with pytest.raises(ItemNotFound):
        client.search("things", Examples(("gone",)))


def test_values_are_counted_in_single_searches_and_in_batches_each_by_its_own(client: RetrievalClient) -> None:
    facets = tuple(map(Facet, ("colour", "tags", "remote", "price")))
    found = client.search("things", "red", params=SearchParams(k=1, facets=facets))
    assert [(one.attribute, one.counts) for one in found.facets] == [
        ("colour", (("red", 3), ("blue", 1))),
        ("tags", (("fruit", 2), ("food", 1))),
        ("remote", ((False, 1), (True, 1))),
        ("price", ((3, 1), (9, 1))),
    ]
    red = Filter(must=(Match("tags", ("food",)),))
    params = [SearchParams(facets=facets[:1], filter=red), SearchParams(), SearchParams(facets=(Facet("void"),))]
    batch = client.search_batch("things", ["red"] * 3, params=params)
    assert [[one.counts for one in own] for own in batch.facets] == [[(("red", 1),)], [], []]
    assert isinstance(batch.errors[2], UnknownAttribute)
    assert not client.search_batch("things", ["red"]).facets
