"""A whole engine in process behaves as a dict with a search of everything, over folds, restarts and kills."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from engine.backend.faiss_build import train_ivfpq
from engine.config import Settings
from engine.index.costs import Costs
from engine.index.tuning import Tuning
from engine.index.version_index import Lists
from engine.ingest.replies import Written
from engine.limits import Limits
from engine.pipeline.calls import SearchCall
from engine.pipeline.collection import Collection
from engine.pipeline.engine import Engine
from engine.types import AttributeSpec, AttributeType, Filter, Item, Match, Schema, SearchParams, TextField, Visibility
from tests.fakes import WordEncoder

T = TypeVar("T")

WORDS = ("apple", "cherry", "garden", "ladder", "truck", "sky")
COLOURS = ("red", "green")
SCHEMA = Schema(
    name="things",
    id_type="uint64",
    encoder="words",
    text_fields=(TextField("title"),),
    attributes=(
        AttributeSpec("colour", AttributeType.KEYWORD),
        AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True),
    ),
)
CHEAP = Costs(*[1e-9] * 7)
titles = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
ids = st.integers(0, 11)


class EngineAgainstDict(RuleBasedStateMachine):
    """Texts are encoded, so that updates reuse rows, copy them or change in place as well as write new ones."""

    costs: Path

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.copies = 0
        self.data_dir = self.root / "0"
        self.loop = asyncio.new_event_loop()
        self.items: dict[int, tuple[str, dict[str, Any]]] = {}
        self.engine = self.started()
        self.run(self.engine.create(SCHEMA))

    def teardown(self) -> None:
        self.run(self.engine.close())
        self.loop.close()
        shutil.rmtree(self.root)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def started(self) -> Engine:
        async def start() -> Engine:
            engine = Engine(
                Settings(
                    data_dir=self.data_dir,
                    compute_threads=1,
                    costs_file=self.costs,
                    min_rows_to_train=10**9,
                    coarse_codes="off",
                ),
                Limits(),
                health=lambda name, serves: None,
                open_encoder=lambda *_, **__: WordEncoder(),
            )
            await engine.load()
            return engine

        return self.run(start())

    @property
    def collection(self) -> Collection:
        return self.engine.collection("things")

    @rule(
        written=st.dictionaries(
            ids,
            st.tuples(titles, st.fixed_dictionaries({}, optional={"colour": st.sampled_from(COLOURS)})),
            min_size=1,
            max_size=4,
        ),
        visibility=st.sampled_from(Visibility),
    )
    def upsert(self, written: dict[int, tuple[str, dict[str, Any]]], visibility: Visibility) -> None:
        items = [Item(one, {"title": title}, attributes) for one, (title, attributes) in written.items()]
        assert self.run(self._upserted(items, visibility)).accepted == len(items)
        self.items |= written

    async def _upserted(self, items: list[Item], visibility: Visibility) -> Written:
        prepared = await self.collection.prepare_items(items)
        return await self.collection.upsert(prepared, visibility=visibility)

    @rule(one=ids, clicks=st.integers(0, 3), colour=st.sampled_from(COLOURS))
    def update_attributes(self, one: int, clicks: int, colour: str) -> None:
        if one in self.items:
            title, attributes = self.items[one]
            changed = {**attributes, "clicks": clicks} if clicks else {**attributes, "colour": colour}
            done = self.run(self._upserted([Item(one, {"title": title}, changed)], Visibility.COMMITTED))
            assert done.unchanged_texts == 1
            self.items[one] = (title, changed)

    @rule(gone=st.sets(ids, max_size=4), visibility=st.sampled_from(Visibility))
    def delete(self, gone: set[int], visibility: Visibility) -> None:
        done = self.run(self.collection.delete([*gone], visibility=visibility))
        assert done.deleted == len(gone & self.items.keys())
        self.items = {one: value for one, value in self.items.items() if one not in gone}

    @rule(colour=st.sampled_from(COLOURS))
    def delete_by_filter(self, colour: str) -> None:
        tree = Filter(must=(Match("colour", (colour,)),))
        done = self.run(self.collection.delete_by_filter(tree, visibility=Visibility.SEARCHABLE))
        kept = {one: value for one, value in self.items.items() if value[1].get("colour") != colour}
        assert done.deleted == len(self.items) - len(kept)
        self.items = kept

    @rule()
    def switch_lists_in(self) -> None:
        """Trained on words, with every row still to be folded."""
        sample = WordEncoder().forward([one.windows[0] for one in WordEncoder().tokenize([*WORDS] * 8)])
        ivfpq = train_ivfpq(sample, nlist=2, code_bytes=8, metric="cosine", seed=1)
        lists = Lists(ivfpq, Tuning((), CHEAP), 0, "none")
        self.run(self.collection.lanes.search.call(lambda: self.collection.index.switch_lists(lists)))

    @rule()
    def fold(self) -> None:
        self.run(self.collection.lanes.search.call(self.collection.index.fold))

    @rule()
    def close_and_open(self) -> None:
        self.run(self.engine.close())
        self.engine = self.started()

    @rule()
    def kill_and_open(self) -> None:
        """What lies on disk at this moment is all that the next process has."""
        self.copies += 1
        copy = self.root / str(self.copies)
        shutil.copytree(self.data_dir, copy)
        self.run(self.engine.close())
        self.data_dir = copy
        self.engine = self.started()

    @invariant()
    def reads_tell_what_was_written(self) -> None:
        wanted = sorted(self.items)
        page, _ = self.run(self.collection.scroll(None, tree=Filter(), limit=100, vectors=True))
        assert [(item.id, item.text["title"], item.attributes) for item in page] == [
            (i, *self.items[i]) for i in wanted
        ]
        assert [item is not None for item in self.run(self.collection.get(range(12)))] == [
            i in wanted for i in range(12)
        ]
        encoder = WordEncoder()
        texts = encoder.tokenize([self.items[one][0] for one in wanted])
        vectors = encoder.forward([text.windows[0] for text in texts])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if page:
            np.testing.assert_allclose(np.vstack([item.vectors for item in page]), vectors, atol=1e-3)

    @invariant()
    def exact_search_finds_what_a_search_of_everything_finds(self) -> None:
        self.run(self.collection.visible(self.collection.store.sequence, None))
        for colour in (None, *COLOURS):
            tree = Filter() if colour is None else Filter(must=(Match("colour", (colour,)),))
            passing = {one for one, (_, held) in self.items.items() if colour in (None, held.get("colour"))}
            assert self.run(self.collection.count(tree))[0] == len(passing)
            call = SearchCall([SearchParams(k=20, exact=True, filter=tree)], texts=["red apple in the garden"])
            answer = self.run(self.collection.search(call))
            assert set(answer.ids.tolist()) == passing
            assert len(answer.ids) == len(passing)
            assert np.all(np.diff(answer.scores) <= 0)

    @invariant()
    def every_row_is_in_one_list_or_the_tail(self) -> None:
        index = self.collection.index

        def look() -> tuple[list[int], int, int]:
            packed = index.lists.ivfpq.lists if index.lists else None
            numbers = range(packed.nlist) if packed else ()
            rows = [row for number in numbers for row in packed.listed(number)[1].tolist()]
            return rows, index.indexed_rows, index.rows.n_rows

        rows, indexed, n_rows = self.run(self.collection.lanes.search.call(look))
        assert sorted(rows) == [*range(indexed)]
        assert indexed <= n_rows


def test_the_engine_behaves_as_a_dict_with_a_search_of_everything(tmp_path: Path) -> None:
    class Chosen(EngineAgainstDict):
        costs = tmp_path / "costs.json"

    Chosen.costs.write_text(json.dumps({one.name: 1e-9 for one in fields(Costs)}))
    run_state_machine_as_test(
        Chosen,
        settings=settings(
            max_examples=8,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
