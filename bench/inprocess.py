"""The engine without gRPC, in a process of its own: the same data directory, lanes and threads, called directly.

Answers what a search or an encoding alone costs. Heavy imports wait until the process is the measuring one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bench.harness import SEED
from engine.types import Explanation, Float32Array, Int64Array, SearchParams

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
    rows = np.full((len(queries), params.k), -1, np.int64)
    explanations: list[Explanation] = []
    at = 0
    for job in _jobs(collection, queries, params, batch, explain=True):
        result = _answer(job)
        ends = np.cumsum(result.counts.astype(np.int64))
        for found in np.split(result.ids.astype(np.int64), ends[:-1]):
            rows[at, : len(found)] = found
            at += 1
        explanations.extend(result.explanations)
    return Answers(rows, tuple(explanations))


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
