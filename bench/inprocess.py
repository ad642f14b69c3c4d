"""The engine without gRPC, in a process of its own: the same data directory, lanes and threads, called directly.

Answers what a search or an encoding alone costs. Heavy imports wait until the process is the measuring one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.harness import SEED
from bench.predicates import VARIANTS, Predicate
from engine.scoring import Scoring
from engine.types import Explanation, Float32Array, Int64Array, SearchParams, Strategy

if TYPE_CHECKING:
    from engine.pipeline.engine import Engine
    from engine.pipeline.search import JobResult, SearchJob

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed:
    """``rate`` of queries or texts a second, and the seconds of each call."""

    rate: float
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """rows int64 [B, k], padded with -1, and what was done for each query."""

    rows: Int64Array
    explanations: tuple[Explanation, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries float32 [B, d] with a filter each, of one k and recall target; for ``everywhere`` see Predicate.

    ``scoring``, ``strategy`` and ``nprobe``: of all, as SearchParams has them.
    """

    queries: Float32Array
    predicates: Sequence[Predicate]
    k: int
    recall_target: float | None
    everywhere: str
    scoring: Scoring | None = None
    strategy: Strategy | None = None
    nprobe: int | None = None

    def params(self, places: range, *, variant: int = 0) -> list[SearchParams]:
        varied = (self.predicates[place].varied(variant, everywhere=self.everywhere) for place in places)
        params = SearchParams(
            k=self.k,
            recall_target=self.recall_target,
            scoring=self.scoring,
            strategy=self.strategy,
            nprobe=self.nprobe,
        )
        return [replace(params, filter=one.filter()) for one in varied]


@dataclass(frozen=True, slots=True)
class Compared:
    """By way the median seconds of each query alone, float64 [B], and its rows int64 [B, k]; what the planner chose.

    A query that nothing can match is answered at once whatever way is asked for: its choice is the first way.
    """

    seconds: Mapping[Strategy, npt.NDArray[np.float64]]
    rows: Mapping[Strategy, Int64Array]
    chosen: Sequence[Strategy]


class EngineProcess:
    """A process with an engine over ``data_dir``, which no server has open."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, object] | None = None) -> None:
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_open,
            initargs=(data_dir, dict(settings or {})),
        )

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.submit(_close).result()
        self._pool.shutdown()

    def search(
        self,
        collection: str,
        queries: Float32Array,
        *,
        params: SearchParams = SearchParams(),
        batch: int = 64,
        seconds: float,
    ) -> Timed:
        """Search batch after batch for so long, in the search lane's thread."""
        return self._pool.submit(_search, collection, queries, params, batch, seconds).result()

    def answers(
        self, collection: str, queries: Float32Array, *, params: SearchParams = SearchParams(), batch: int = 64
    ) -> Answers:
        """The rows found; only for collections whose ids are row numbers."""
        return self._pool.submit(_answers, collection, queries, params, batch).result()

    def answers_each(self, collection: str, asked: Asked) -> Answers:
        """As ``answers``, each query with its own filter; in batches of 64."""
        return self._pool.submit(_answers_each, collection, asked).result()

    def search_each(self, collection: str, asked: Asked, *, batch: int, seconds: float) -> Timed:
        """Search batch after batch for so long, filters compiled and each batch searched once before."""
        return self._pool.submit(_search_each, collection, asked, batch, seconds).result()

    def search_anew(self, collection: str, asked: Asked, *, batch: int, seconds: float) -> Timed:
        """As ``search_each`` from the filter tree on: compiled within the time, and none that was met before.

        Filters vary from call to call by their bounds, so that whatever the engine keeps of one serves no other.
        """
        return self._pool.submit(_search_anew, collection, asked, batch, seconds).result()

    def compare(self, collection: str, asked: Asked, *, ways: Sequence[Strategy], repeats: int) -> Compared:
        """Every query alone by each way, in turn; ways are named as they are with a filter."""
        return self._pool.submit(_compare, collection, asked, tuple(ways), repeats).result()

    def has_codes(self, collection: str) -> bool:
        """Whether all rows have int8 codes, once those that upkeep wants are made."""
        return self._pool.submit(_has_codes, collection).result()

    def encode(self, collection: str, texts: Sequence[str], *, batch: int, seconds: float) -> Timed:
        """Encode batch after batch of token windows for so long, in the encode lane's thread."""
        return self._pool.submit(_encode, collection, list(texts), batch, seconds).result()


# In the process

_loop: asyncio.AbstractEventLoop
_engine: Engine


def _open(data_dir: Path, settings: dict[str, object]) -> None:
    global _loop, _engine
    from engine import threads
    from engine.config import load_settings

    threads.configure(None, data_dir / "kernel-cache")

    told = load_settings(None, {**settings, "data_dir": data_dir}, environ={})
    _loop = asyncio.new_event_loop()
    threading.Thread(target=_loop.run_forever, daemon=True).start()
    _engine = _await(_load(told))


async def _load(settings: Any) -> Engine:
    from engine.limits import Limits
    from engine.pipeline.engine import Engine

    engine = Engine(settings, Limits(), health=lambda name, serving: None)
    await engine.load()
    return engine


def _close() -> None:
    _await(_engine.close())


def _await(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop).result()


def _in_lane(lane: Any, action: Callable[[], T]) -> T:
    """In the lane's thread, as the server computes; the lane's own type is that of its batches."""
    result: T = _await(lane.call(action))
    return result


def _jobs(collection: str, queries: Float32Array, params: SearchParams, batch: int, explain: bool) -> list[SearchJob]:
    from engine.index.filters import compile_filter
    from engine.pipeline.search import CompiledParams, SearchJob

    served = _engine.collection(collection)
    compiled = CompiledParams(params, compile_filter(params.filter, served.schema))
    return [
        SearchJob(served.index, [compiled], vectors=queries[first : first + batch], explain=explain)
        for first in range(0, len(queries), batch)
    ]


def _answer(job: SearchJob) -> JobResult:
    from engine.errors import EngineError
    from engine.pipeline.search import search_jobs

    result = search_jobs(_engine.backend, [job])[0]
    if isinstance(result, EngineError):
        raise result
    return result


def _search(collection: str, queries: Float32Array, params: SearchParams, batch: int, seconds: float) -> Timed:
    jobs = _jobs(collection, queries, params, batch, explain=False)
    whole = [job for job in jobs if job.n_queries == batch] or jobs

    def measure() -> Timed:
        return _repeat(lambda number: _answer(whole[number % len(whole)]), batch, seconds)

    return _in_lane(_engine.lanes.search, measure)


def _answers(collection: str, queries: Float32Array, params: SearchParams, batch: int) -> Answers:
    return _collected(_jobs(collection, queries, params, batch, explain=True), len(queries), params.k)


def _collected(jobs: Iterable[SearchJob], n_queries: int, k: int) -> Answers:
    rows = np.full((n_queries, k), -1, np.int64)
    explanations: list[Explanation] = []
    at = 0
    for job in jobs:
        result = _answer(job)
        ends = np.cumsum(result.counts.astype(np.int64))
        for found in np.split(result.ids.astype(np.int64), ends[:-1]):
            rows[at, : len(found)] = found
            at += 1
        explanations.extend(result.explanations)
    return Answers(rows, tuple(explanations))


def _job_of(collection: str, asked: Asked, places: range, params: list[SearchParams], *, explain: bool) -> SearchJob:
    from engine.index.filters import compile_filter
    from engine.limits import Limits
    from engine.pipeline.scoring import compile_scoring
    from engine.pipeline.search import CompiledParams, SearchJob

    served = _engine.collection(collection)
    scoring = compile_scoring(asked.scoring, served.schema, Limits(), "scoring")
    compiled = [CompiledParams(one, compile_filter(one.filter, served.schema), scoring=scoring) for one in params]
    same = len(set(asked.predicates[places.start : places.stop])) == 1 and asked.predicates[0].is_empty
    vectors = asked.queries[places.start : places.stop]
    return SearchJob(served.index, compiled[:1] if same else compiled, vectors=vectors, explain=explain)


def _places(asked: Asked, batch: int) -> list[range]:
    """Whole batches; the one there is where there is no whole one."""
    n = len(asked.queries)
    return [range(first, first + batch) for first in range(0, n - batch + 1, batch)] or [range(n)]


def _answers_each(collection: str, asked: Asked) -> Answers:
    n = len(asked.queries)
    spans = [range(first, min(first + 64, n)) for first in range(0, n, 64)]
    jobs = (_job_of(collection, asked, places, asked.params(places), explain=True) for places in spans)
    return _in_lane(_engine.lanes.search, lambda: _collected(jobs, n, asked.k))


def _search_each(collection: str, asked: Asked, batch: int, seconds: float) -> Timed:
    spans = _places(asked, batch)
    jobs = [_job_of(collection, asked, places, asked.params(places), explain=False) for places in spans]

    def measure() -> Timed:
        for job in jobs:
            _answer(job)
        return _repeat(lambda number: _answer(jobs[number % len(jobs)]), len(spans[0]), seconds)

    return _in_lane(_engine.lanes.search, measure)


_variant = 0


def _search_anew(collection: str, asked: Asked, batch: int, seconds: float) -> Timed:
    spans = _places(asked, batch)
    taken: list[float] = []

    def one(places: range) -> None:
        global _variant
        _variant = 1 + _variant % (VARIANTS - 1)
        params = asked.params(places, variant=_variant)
        began = time.perf_counter()
        _answer(_job_of(collection, asked, places, params, explain=False))
        taken.append(time.perf_counter() - began)

    def measure() -> Timed:
        one(spans[0])
        taken.clear()
        while sum(taken) < seconds:
            one(spans[len(taken) % len(spans)])
        return Timed(len(spans[0]) * len(taken) / sum(taken), tuple(taken))

    return _in_lane(_engine.lanes.search, measure)


_FILTERED_NAME = {Strategy.EXACT_SCAN: Strategy.MASKED_SCAN, Strategy.IVFPQ: Strategy.FILTERED_IVFPQ}


def _compare(collection: str, asked: Asked, ways: tuple[Strategy, ...], repeats: int) -> Compared:
    n = len(asked.queries)
    seconds = {way: np.zeros(n) for way in ways}
    rows = {way: np.full((n, asked.k), -1, np.int64) for way in ways}
    chosen: list[Strategy] = []

    def measure() -> None:
        for place in range(n):
            alone = range(place, place + 1)
            params = asked.params(alone)
            own = _answer(_job_of(collection, asked, alone, params, explain=True)).explanations[0].strategy
            chosen.append(ways[0] if own is Strategy.NONE else _FILTERED_NAME.get(own, own))
            jobs = {
                way: _job_of(collection, asked, alone, [replace(one, strategy=way) for one in params], explain=False)
                for way in ways
            }
            taken: dict[Strategy, list[float]] = {way: [] for way in ways}
            for way, job in jobs.items():
                found = _answer(job).ids.astype(np.int64)
                rows[way][place, : len(found)] = found
            for _ in range(repeats):
                for way, job in jobs.items():
                    began = time.perf_counter()
                    _answer(job)
                    taken[way].append(time.perf_counter() - began)
            for way in ways:
                seconds[way][place] = np.median(taken[way])

    _in_lane(_engine.lanes.search, measure)
    return Compared(seconds, rows, chosen)


def _has_codes(collection: str) -> bool:
    index = _engine.collection(collection).index
    while _in_lane(_engine.lanes.search, lambda: index.coarse.n_rows or index.wants_codes):
        if index.coarse.n_rows == index.rows.n_rows:
            return True
        time.sleep(0.05)
    return False


def _encode(collection: str, texts: list[str], batch: int, seconds: float) -> Timed:
    encoder = _engine.collection(collection).encoder
    assert encoder is not None
    windows = [one.windows[0] for one in encoder.tokenize(texts, role="query")]
    shuffled = [windows[place] for place in np.random.default_rng(SEED).permutation(len(windows))]
    batches = [shuffled[first : first + batch] for first in range(0, len(shuffled) - batch + 1, batch)]

    def measure() -> Timed:
        return _repeat(lambda number: encoder.forward(batches[number % len(batches)]), batch, seconds)

    return _in_lane(_engine.lanes.encode.lane, measure)


def _repeat(call: Callable[[int], object], batch: int, seconds: float) -> Timed:
    taken: list[float] = []
    call(0)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or not taken:
        at = time.perf_counter()
        call(len(taken) + 1)
        taken.append(time.perf_counter() - at)
    return Timed(batch * len(taken) / sum(taken), tuple(taken))
