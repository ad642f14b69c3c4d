"""Pages of searches by terms: the ranking of the first moment, though every write changes what terms weigh."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidArgument
from engine.index.filters import compile_filter
from engine.index.lexical import LexicalIndex, lexical_index
from engine.index.version_index import VersionIndex
from engine.limits import Limits
from engine.pipeline.cursors import Cursor, Seal, fingerprint
from engine.pipeline.merging import merge_postings
from engine.pipeline.scoring import SIMILARITY_ALONE, compile_scoring
from engine.pipeline.search import CompiledParams, JobResult, SearchJob, search_jobs
from engine.scoring import HYBRID_LEXICAL, Feature, Overlap, Scoring
from engine.types import Contains, Filter, SearchParams, Strategy, TextField
from tests.engine.pipeline.test_fusion import FusedWorld, attributes, leg
from tests.engine.pipeline.test_search import COSTS, Change, D, backend, hits, names, small, with_lists

WORDS = ("ash", "bay", "cob", "dun")
titles = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)
queries = st.lists(st.sampled_from([*WORDS, "never"]), min_size=1, max_size=5).map(" ".join)
scorings = st.builds(
    Scoring,
    similarity=st.sampled_from([None, 0.0, 0.5]),
    lexical=st.sampled_from([0.5, 3.0]),
    terms=st.sampled_from([(), (Feature("size", 0.5),), (Overlap("skills", ("ice", "jam"), 2.0),)]),
)
BAY = Contains("title", "bay")
FILTERS: list[tuple[Filter, Callable[[str], bool]]] = [
    (Filter(), lambda title: True),
    (Filter(must=(BAY,)), lambda title: "bay" in title),
    (Filter(must_not=(BAY,)), lambda title: "bay" not in title),
]


class WordyWorld(FusedWorld):
    """A world whose items have titles."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.schema = replace(self.schema, text_fields=(TextField("title", analyser="plain"),))
        self.index = VersionIndex(self.schema, self.index.version, self, COSTS)
        self.index.clock = lambda: self.now
        self.titles: dict[int, str] = {}

    def write(self, name: str, vectors: np.ndarray, given: dict[str, Any], title: str) -> None:
        self.titles[self.next_row] = title
        self.put(name, vectors, given)

    def _apply(self, name: str, first: int, n_rows: int, old: object, attributes: dict[str, Any]) -> None:
        self.sequence += 1
        dead_row, dead = (old[2], len(old[0])) if old else (0, 0)  # type: ignore[index]
        text = {"title": self.titles[first]} if n_rows else {}
        change = Change(self.sequence, name, first, n_rows, dead_row, dead, attributes, text=text)
        self.index.apply([change], sequence=self.sequence)

    @property
    def lexical(self) -> LexicalIndex:
        assert self.index.lexical is not None
        return self.index.lexical

    def title(self, name: str) -> str:
        return self.titles[self.items[name][2]]

    def bm25(self, text: str, passes: set[str]) -> dict[str, float]:
        """By its own words, of the items that have any; statistics are of all that is not merged away."""
        held = [self.titles[row].split() for part in self.lexical.segments for row in part.items.tolist()]
        mean, k1, b = sum(map(len, held)) / max(len(held), 1), self.schema.bm25_k1, self.schema.bm25_b
        found: dict[str, float] = {}
        for word in text.split():
            df = sum(word in own for own in held)
            idf = math.log(1 + (len(held) - df + 0.5) / (df + 0.5))
            for name in passes:
                own = self.title(name).split()
                if n := own.count(word):
                    score = idf * n * (k1 + 1) / (n + k1 * (1 - b + b * len(own) / mean))
                    found[name] = found.get(name, 0.0) + score
        return found

    def expected(self, query: np.ndarray, params: SearchParams, text: str, passes: set[str]) -> dict[str, float]:
        scoring = params.scoring or Scoring()
        found = self.bm25(text, passes)
        most = max(found.values(), default=1.0)
        weight = scoring.lexical or (1.0 if params.mode == "lexical" else HYBRID_LEXICAL)
        similarity = 1.0 if scoring.similarity is None else scoring.similarity
        if params.mode == "lexical":
            passes, similarity = set(found), scoring.similarity or 0.0
        return {
            name: similarity * max(self.score(query, one) for one in self.items[name][0])
            + weight * found.get(name, 0.0) / most
            + sum(leg(term, self.items[name][1], self.now) for term in scoring.terms)
            for name in passes
        }


@st.composite
def worlds(draw: st.DrawFn) -> WordyWorld:
    world = WordyWorld(draw(st.sampled_from(["dot", "l2"])), draw(st.sampled_from([1, 3])))
    for name, is_dropped in draw(st.lists(st.tuples(names, st.booleans()), max_size=25)):
        if is_dropped:
            world.drop(name)
        else:
            vectors = draw(st.lists(small, min_size=1, max_size=world.chunk))
            world.write(name, np.array(vectors), draw(attributes), draw(titles))
    return world


def compiled(world: WordyWorld, params: SearchParams, cursor: Cursor | None = None) -> CompiledParams:
    scoring = compile_scoring(params.scoring, world.schema, Limits(), "scoring", params.mode)
    if scoring is None and params.legs:
        scoring = SIMILARITY_ALONE
    program = compile_filter(params.filter, world.schema)
    return CompiledParams(replace(params, page=True), program, scoring=scoring, cursor=cursor)


def ask(world: WordyWorld, query: Any, params: SearchParams, text: str, cursor: Cursor | None = None) -> JobResult:
    own = compiled(world, params, cursor)
    job = SearchJob(world.index, [own], vectors=np.array([query], np.float32), terms=[text], explain=True)
    (result,) = search_jobs(backend(), [job])
    assert not isinstance(result, EngineError)
    assert not any(result.errors)
    return result


class _Direct:
    """A lane that does at once what it is asked."""

    async def call(self, work: Callable[[], Any]) -> Any:
        return work()


def merge(world: WordyWorld) -> None:
    lane: Any = _Direct()
    asyncio.run(merge_postings(lane, world.index))


def change(world: WordyWorld, what: str, name: str, title: str) -> None:
    if what == "merge":
        merge(world)
    elif what == "drop":
        world.drop(name)
    else:
        world.write(name, np.ones((1, D)), {"size": 3, "skills": ("ice",)}, title)


changes = st.lists(st.tuples(st.sampled_from(["put", "drop", "drop", "merge"]), names, titles), max_size=6)


@settings(deadline=None)
@given(
    worlds(),
    small,
    queries,
    st.builds(SearchParams, k=st.integers(1, 4), mode=st.sampled_from(["lexical", "hybrid"]))
    | st.builds(SearchParams, k=st.integers(1, 4), scoring=scorings),
    st.integers(0, len(FILTERS) - 1),
    st.lists(changes, max_size=10),
)
def test_pages_are_the_ranking_of_the_first_moment_whatever_is_written_and_merged_between_them(
    world: WordyWorld, query: np.ndarray, text: str, params: SearchParams, which: int, written: list[Any]
) -> None:
    tree, is_passing = FILTERS[which]
    asked, seal = replace(params, filter=tree), Seal()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lexical_index, "AT_ONCE", 0)
        patched.setattr(lexical_index, "first_to_merge", lambda sizes: 0 if len(sizes) > 1 else None)
        wanted = hits(ask(world, query, replace(asked, k=1000), text))[0]
        expected = world.expected(query, asked, text, {name for name in world.items if is_passing(world.title(name))})
        assert dict(wanted) == pytest.approx(expected, rel=1e-5, abs=1e-5)
        found: list[tuple[str, float]] = []
        cursor, rounds = None, iter(written)
        while True:
            result = ask(world, query, asked, text, cursor)
            found += hits(result)[0]
            (cursor,) = result.cursors
            if cursor is None:
                break
            cursor = seal.open(seal.close(cursor, b"?" * 32), b"?" * 32, "cursor", now=world.now)
            for one in next(rounds, []):
                change(world, *one)
    assert found == wanted


def a_world_of_words(n: int) -> WordyWorld:
    rng = np.random.default_rng(11)
    world = WordyWorld()
    for number in range(n):
        title = " ".join(rng.choice(WORDS, rng.integers(1, 6)))
        world.write(f"n{number}", rng.integers(-8, 9, (1, D)).astype(np.float32), {}, title)
    return world


def paged(world: WordyWorld, asked: SearchParams, text: str, between: Callable[[int], None]) -> list[tuple[str, float]]:
    """The hits of all pages; ``between`` is called with how many there were so far."""
    result = ask(world, np.ones(D), asked, text)
    found = hits(result)[0]
    while result.cursors[0] is not None:
        between(len(found))
        result = ask(world, np.ones(D), asked, text, result.cursors[0])
        found += hits(result)[0]
    return found


def test_rows_that_died_while_postings_were_merged_are_on_the_pages_of_a_moment_at_which_they_lived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lexical_index, "AT_ONCE", 0)
    world = a_world_of_words(24)
    world.drop("n3")
    asked = SearchParams(k=5, mode="lexical")
    begun = world.lexical.begin_merge(world.index.rows.needed_bits())
    assert begun is not None
    wanted = hits(ask(world, np.ones(D), replace(asked, k=50), "ash cob"))[0]

    def between(n: int) -> None:
        if n == 5:
            world.drop(wanted[-1][0])
            world.drop(wanted[7][0])
            world.lexical.switch(begun, begun.run())
            world.write("new", np.ones((1, D)), {}, "ash ash")
        merge(world)

    assert paged(world, asked, "ash cob", between) == wanted
    assert len(wanted) > 15


def test_what_no_page_needs_is_left_out_of_merged_postings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical_index, "AT_ONCE", 0)
    world = a_world_of_words(8)
    first = ask(world, np.ones(D), SearchParams(k=2, mode="hybrid"), "ash").cursors[0]
    assert first is not None
    world.drop("n1")
    merge(world)
    assert 1 in rows_with_postings(world)
    world.now = first.expires_at
    for n in range(8):
        world.write(f"late{n}", np.ones((1, D)), {}, "bay ash cob")
    merge(world)
    assert 1 not in rows_with_postings(world)


def rows_with_postings(world: WordyWorld) -> list[int]:
    return [row for part in world.lexical.segments for row in part.items.tolist()]


def test_the_legs_of_every_page_add_up_and_the_best_by_terms_is_still_the_measure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lexical_index, "AT_ONCE", 0)
    world = a_world_of_words(40)
    asked = SearchParams(k=6, legs=True, scoring=Scoring(similarity=0.1, lexical=1 / 3))
    best = max(world.bm25("bay dun", set(world.items)).items(), key=lambda one: one[1])
    first = ask(world, np.ones(D), asked, "bay dun")
    world.drop(best[0])
    merge(world)
    second = ask(world, np.ones(D), replace(asked, legs=False), "bay dun", first.cursors[0])
    third = ask(world, np.ones(D), asked, "bay dun", second.cursors[0])
    for page in (first, third):
        legs = {column.name: column for column in page.legs}
        total = sum((one.weights[0] * one.normalised for one in legs.values()), np.zeros(6, np.float32))
        np.testing.assert_array_equal(total, page.scores)
        lexical = legs["lexical"]
        np.testing.assert_allclose(lexical.raw, lexical.normalised * best[1], rtol=1e-5)


@pytest.mark.parametrize(("nprobe", "depth"), [(2, 60), (8, 600)])
def test_with_lists_hits_by_terms_come_once(nprobe: int, depth: int) -> None:
    world = a_world_of_words(600)
    with_lists(world, 500)
    asked = SearchParams(k=25, mode="hybrid", strategy=Strategy.IVFPQ, nprobe=nprobe, rescore_depth=depth)
    wanted = hits(ask(world, np.ones(D), replace(asked, k=600, strategy=None, exact=True), "dun"))[0]
    found = paged(world, asked, "dun", lambda n: world.drop(f"n{n}"))
    assert len(set(found)) == len(found) > 200
    assert found == [one for one in wanted if one in set(found)]
    if nprobe == 8:
        assert found == wanted


def test_items_that_resemble_one_are_paged_by_terms_without_it() -> None:
    world = a_world_of_words(20)
    own = compiled(world, SearchParams(k=4, mode="hybrid"))

    def page(cursor: Cursor | None) -> JobResult:
        job = SearchJob(world.index, [replace(own, cursor=cursor)], item_ids=["n7"], terms=["ash"])
        (result,) = search_jobs(backend(), [job])
        assert isinstance(result, JobResult)
        return result

    result = page(None)
    found = hits(result)[0]
    while result.cursors[0] is not None:
        world.drop(f"n{len(found)}")
        world.write("n7", np.ones((1, D)), {}, "ash")
        result = page(result.cursors[0])
        found += hits(result)[0]
    assert sorted(name for name, _ in found) == sorted({f"n{n}" for n in range(20)} - {"n7"})


def printed(world: WordyWorld, params: SearchParams, query: Any = "ash") -> bytes:
    own = compiled(world, params)
    return fingerprint(query, params, own.program, own.scoring, None)


def test_terms_their_weight_and_the_mode_make_another_query() -> None:
    world = WordyWorld()
    params = [
        SearchParams(),
        SearchParams(mode="lexical"),
        SearchParams(mode="hybrid"),
        SearchParams(mode="hybrid", terms="bay"),
        SearchParams(mode="hybrid", terms="ash bay"),
        SearchParams(scoring=Scoring(lexical=2.0)),
        SearchParams(scoring=Scoring(similarity=0.0, lexical=1.0)),
    ]
    assert len({printed(world, one) for one in params}) == len(params)
    assert printed(world, SearchParams(mode="hybrid", legs=True, k=3)) == printed(world, SearchParams(mode="hybrid"))
    assert printed(world, SearchParams(legs=True)) == printed(world, SearchParams())


def test_a_cursor_takes_eight_bytes_for_each_distinct_term() -> None:
    world = a_world_of_words(20)

    def size(text: str) -> int:
        (cursor,) = ask(world, np.ones(D), SearchParams(k=2, mode="hybrid"), text).cursors
        assert cursor is not None
        return len(Seal().close(cursor, b"?" * 32))

    assert size("ash bay ash cob never") - size("never") == 3 * 8


def test_a_cursor_with_terms_that_was_changed_is_none() -> None:
    world = a_world_of_words(20)
    (cursor,) = ask(world, np.ones(D), SearchParams(k=2, mode="hybrid"), "ash bay").cursors
    assert cursor is not None
    seal, asked = Seal(), printed(world, SearchParams(mode="hybrid"))
    token = seal.close(cursor, asked)
    for place in (len(token) - 4 * D - 1, len(token) - 4 * D - 9):  # a weight, a number
        changed = bytes([*token[:place], token[place] ^ 1, *token[place + 1 :]])
        with pytest.raises(InvalidArgument, match="was changed"):
            seal.open(changed, asked, "cursor", now=world.now)
