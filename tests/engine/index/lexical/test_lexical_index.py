"""The index of postings against brute force over the texts themselves, while items come, die and are merged away."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.index.lexical import LexicalIndex, lexical_index
from engine.types import Schema, TextField, Uint8Array

WORDS = ["nurse", "nurses", "night", "shift", "the", "Running", "runs", "c", "ünder", "2024"]
SCHEMA = Schema(
    "jobs",
    dimension=2,
    text_fields=(TextField("title", 0, 1.0, "english", 2.5), TextField("sku", 1), TextField("body", 2, 1.0, "plain")),
    bm25_k1=1.1,
    bm25_b=0.6,
)
CHUNKED = Schema("jobs", dimension=2, text_fields=SCHEMA.text_fields, chunk=4)
STEMS = {"nurses": "nurs", "nurse": "nurs", "running": "run", "runs": "run"}

Texts = Mapping[str, str]
texts = st.fixed_dictionaries(
    {}, optional={name: st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join) for name in ("title", "sku", "body")}
)


def terms_of(field: str, text: str) -> list[tuple[str, str]]:
    """What the analysers make of the words above, told by hand."""
    words = text.lower().split()
    if field == "title":
        return [("english", STEMS.get(word, word)) for word in words if word != "the"]
    return [("plain", word) for word in words] if field == "body" else []


class Model:
    """Every item that is indexed and not merged away, by its first row."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.items: dict[int, Texts] = {}

    def terms(self, item: Texts) -> dict[tuple[str, str], float]:
        weighed: dict[tuple[str, str], float] = {}
        for field in self.schema.analysed_fields:
            for term in terms_of(field.name, item.get(field.name, "")):
                weighed[term] = weighed.get(term, 0.0) + field.lexical_weight
        return weighed

    def scores(self, text: str, passing: Sequence[int]) -> dict[int, float]:
        weighed = {row: own for row, item in self.items.items() if (own := self.terms(item))}
        if not weighed:
            return {}
        n, mean = len(weighed), sum(sum(own.values()) for own in weighed.values()) / len(weighed)
        k1, b = self.schema.bm25_k1, self.schema.bm25_b
        found: dict[int, float] = {}
        for term in terms_of("title", text) + terms_of("body", text):
            df = sum(term in own for own in weighed.values())
            idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
            for row, own in weighed.items():
                if term in own and row in passing:
                    norm = k1 * (1 - b + b * sum(own.values()) / mean)
                    found[row] = found.get(row, 0.0) + idf * own[term] * (k1 + 1) / (own[term] + norm)
        return found

    def containing(self, field: str, text: str) -> list[int]:
        wanted = set(terms_of(field, text))
        return [row for row, item in self.items.items() if wanted <= set(terms_of(field, item.get(field, "")))]


def mask_of(rows: Sequence[int], n_rows: int) -> Uint8Array:
    bits = np.zeros(-(-n_rows // 64) * 64, np.bool_)
    bits[list(rows)] = True
    return np.packbits(bits, bitorder="little")


def check_scores(index: LexicalIndex, model: Model, text: str, passing: Sequence[int]) -> None:
    rows, scores = index.scores(index.weigh(text), mask_of(passing, index.n_rows))
    expected = model.scores(text, passing)
    assert rows.tolist() == sorted(expected)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [expected[row] for row in sorted(expected)], rtol=1e-5)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_scores_and_rows_equal_brute_force_whatever_came_died_and_was_merged(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patched:
        at_once = data.draw(st.sampled_from([0, 10, 100_000]))
        patched.setattr(lexical_index, "AT_ONCE", at_once)
        schema = data.draw(st.sampled_from([SCHEMA, CHUNKED]))
        index, model = LexicalIndex(schema), Model(schema)
        living: dict[int, int] = {}
        for _ in range(data.draw(st.integers(1, 6))):
            _change(data, schema, index, model, living)
        passing = data.draw(st.sets(st.sampled_from(sorted(living)))) if living else set()
        query = " ".join(data.draw(st.lists(st.sampled_from([*WORDS, "never"]), max_size=5)))
        check_scores(index, model, query, sorted(passing))
        field, wanted = data.draw(st.sampled_from(["title", "body"])), data.draw(st.sampled_from(WORDS))
        terms = [term for _, term in terms_of(field, wanted)]
        if terms:
            live = _rows_of(living)
            holding = {first: living[first] for first in model.containing(field, wanted) if first in living}
            assert [row for row in index.contains(field, terms).tolist() if row in live] == sorted(_rows_of(holding))


def _rows_of(living: Mapping[int, int]) -> set[int]:
    return {row for first, n in living.items() for row in range(first, first + n)}


def _change(data: st.DataObject, schema: Schema, index: LexicalIndex, model: Model, living: dict[int, int]) -> None:
    match data.draw(st.sampled_from(["append", "append", "kill", "merge"])):
        case "append":
            at, firsts, counts, own = index.n_rows, [], [], data.draw(st.lists(texts, max_size=5))
            for item in own:
                at += data.draw(st.integers(0, 2))
                firsts.append(at)
                counts.append(data.draw(st.integers(1, schema.chunk)))
                model.items[at], living[at] = item, counts[-1]
                at += counts[-1]
            index.append(firsts, counts, own)
        case "kill":
            for first in data.draw(st.sets(st.sampled_from(sorted(living)))) if living else ():
                del living[first]
        case "merge":
            if index.wants_merge:
                merge = index.begin_merge(mask_of(sorted(_rows_of(living)), index.n_rows))
                merged_rows = {row for part in merge.parts for row in part.items.tolist()}
                index.switch(merge, merge.run())
                for row in merged_rows - living.keys():
                    del model.items[row]


def test_an_update_in_one_batch_and_the_next_is_as_if_only_the_last_text_were_there_once_merged() -> None:
    index = LexicalIndex(SCHEMA)
    index.append([0, 1], [1, 1], [{"title": "night nurse"}, {"title": "day nurse"}])
    index.append([2], [1], [{"title": "cook"}])
    rows, _ = index.scores(index.weigh("night"), mask_of([1, 2], 3))
    assert rows.tolist() == []
    rows, scores = index.scores(index.weigh("nurse cook"), mask_of([1, 2], 3))
    assert rows.tolist() == [1, 2]
    assert scores[1] > scores[0]


def test_by_the_weights_of_an_earlier_moment_rows_score_what_they_did_then() -> None:
    index = LexicalIndex(SCHEMA)
    index.append([0, 1], [1, 1], [{"title": "night nurse shift", "body": "2024"}, {"title": "day nurse nurse"}])
    terms, mask = index.weigh("nurse nurse shift 2024"), mask_of([0, 1], 9)
    rows, scores = (found.copy() for found in index.scores(terms, mask))
    index.append(range(2, 9), [1] * 7, [{"title": "nurse", "body": "shift"}] * 7)
    again, same = index.scores(terms, mask)
    assert (again.tolist(), same.tolist()) == (rows.tolist(), scores.tolist())
    assert index.scores(index.weigh("nurse nurse shift 2024"), mask)[1].tolist() != scores.tolist()


def test_terms_of_one_analyser_are_not_those_of_another() -> None:
    index = LexicalIndex(SCHEMA)
    index.append([0, 1], [1, 1], [{"title": "nurses"}, {"body": "nurs"}])
    assert index.scores(index.weigh("nurses"), mask_of([0, 1], 2))[0].tolist() == [0]
    assert index.scores(index.weigh("nurs"), mask_of([0, 1], 2))[0].tolist() == [1]


def test_a_field_without_an_analyser_is_not_searched() -> None:
    index = LexicalIndex(SCHEMA)
    index.append([0], [1], [{"sku": "nurse"}])
    assert index.scores(index.weigh("nurse"), mask_of([0], 1))[0].tolist() == []


def test_segments_stay_few_while_items_come_one_by_one() -> None:
    index = LexicalIndex(SCHEMA)
    for row in range(300):
        index.append([row], [1], [{"title": f"nurse {row}"}])
    sizes = [one.size for one in index.segments]
    assert sum(sizes) == 600
    assert len(sizes) <= math.log2(600)


def test_items_that_come_during_a_merge_stay_behind_what_it_makes() -> None:
    index = LexicalIndex(SCHEMA)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lexical_index, "AT_ONCE", 0)
        for row in range(4):
            index.append([row], [1], [{"title": "nurse"}])
        merge = index.begin_merge(mask_of([0, 1, 3], 4))
        index.append([4], [1], [{"title": "nurse"}])
        assert not index.wants_merge
        index.switch(merge, merge.run())
    assert index.scores(index.weigh("nurse"), mask_of(range(5), 5))[0].tolist() == [0, 1, 3, 4]


def test_nothing_is_found_in_an_empty_index() -> None:
    index = LexicalIndex(SCHEMA)
    assert index.scores(index.weigh("nurse"), np.zeros(0, np.uint8))[0].tolist() == []
    assert index.contains("title", ["nurs"]).tolist() == []
    index.append([0], [1], [{"title": "the"}])
    assert index.scores(index.weigh("nurse the"), mask_of([0], 1))[0].tolist() == []
