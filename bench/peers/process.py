"""A peer in a process of its own: its libraries and threads are no one else's. Tuned knobs are kept between runs."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cache import cache_folder, content_key
from bench.filtered_data import FilteredSet
from bench.metrics import recall_of_survivors
from bench.peers.base import Built, Knobs, Peer, Rows, Tuned
from bench.predicates import Predicate
from engine.types import Float32Array, Int64Array

_CLASSES = {
    "faiss_ivf_flat": ("bench.peers.faiss_ivf", "IvfFlat", "faiss"),
    "faiss_ivf_pq": ("bench.peers.faiss_ivf", "IvfPq", "faiss"),
    "faiss_ivf_pqfs": ("bench.peers.faiss_ivf", "IvfPqFastScan", "faiss"),
    "exact_gather": ("bench.peers.exact_gather", "ExactGather", "threadpoolctl"),
    "hnswlib": ("bench.peers.graphs", "Hnswlib", "hnswlib"),
    "usearch": ("bench.peers.graphs", "Usearch", "usearch"),
    "milvus_lite": ("bench.peers.databases", "MilvusLite", "milvus_lite"),
    "lancedb": ("bench.peers.databases", "LanceDb", "lancedb"),
}
NAMES = tuple(_CLASSES)
_TUNE_SECONDS = 0.15
_SLOW_SECONDS = 20.0
"""A ladder's search for its border ends after so long with the best that was met."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries with a filter each; ``key`` names them, and their truth, for what is kept."""

    key: str
    queries: Float32Array
    predicates: Sequence[Predicate]
    truth: Int64Array

    def first(self, n: int) -> Asked:
        return Asked(f"{self.key}-{n}", self.queries[:n], self.predicates[:n], self.truth[:n])


def missing(name: str) -> str | None:
    """Why a peer cannot be measured, or None where it can."""
    module = _CLASSES[name][2]
    try:
        found = importlib.util.find_spec(module)
    except ImportError:
        found = None
    return None if found else f"the package {module} is not installed"


class PeerProcess:
    """See the module."""

    def __init__(self, name: str, made: FilteredSet, *, threads: int) -> None:
        self.name = name
        module, kind, _ = _CLASSES[name]
        shared = _shared_rows(made)
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_open,
            initargs=(name, module, kind, shared, made.metric, threads),
        )

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def build(self) -> Built:
        return self._pool.submit(_build).result()

    def is_for(self, rate: float) -> bool:
        """Whether it makes sense at this pass rate."""
        return self._pool.submit(_is_for, rate).result()

    @property
    def has_ready(self) -> bool:
        return self._pool.submit(_has_ready).result()

    def tune(self, asked: Asked, *, k: int, wanted: float) -> Tuned:
        """The fastest knobs that reach the recall on these queries; kept, as the search for them is slow."""
        return self._pool.submit(_tune, asked, k, wanted).result()

    def recall(self, asked: Asked, *, k: int, knobs: Knobs) -> float:
        return self._pool.submit(_recall, asked, k, knobs).result()

    def rate(self, asked: Asked, *, k: int, knobs: Knobs, batch: int, seconds: float, whole: bool) -> float:
        """Queries a second, batch after batch; ``whole`` has the filters made ready within the time."""
        return self._pool.submit(_rate_of, asked, k, knobs, batch, seconds, whole).result()


def _shared_rows(made: FilteredSet) -> Path:
    """A folder with what every peer of the set opens: vectors to be mapped, and the attributes."""
    folder = cache_folder() / f"peers-{made.name}-{content_key(made.key, *made.attributes.columns())}"
    if not (folder / "attributes.pickle").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "items.npy", made.items)
        half = folder / "attributes.half"
        half.write_bytes(pickle.dumps(made.attributes))
        half.replace(folder / "attributes.pickle")
    return folder


# In the process

_peer: Peer
_name: str
_folder: Path
_ready: tuple[str, list[Any]] = ("", [])


def _open(name: str, module: str, kind: str, folder: Path, metric: Any, threads: int) -> None:
    global _peer, _name, _folder
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    items = np.load(folder / "items.npy", mmap_mode="r")
    attributes = pickle.loads((folder / "attributes.pickle").read_bytes())
    made: Peer = getattr(importlib.import_module(module), kind)(Rows(items, attributes, metric, folder, threads))
    _peer, _name, _folder = made, name, folder


def _build() -> Built:
    return _peer.build()


def _is_for(rate: float) -> bool:
    return rate <= _peer.largest_rate


def _has_ready() -> bool:
    return _peer.has_ready


def _filters(asked: Asked) -> list[Any]:
    """Ready for these queries; those of the last ones are kept."""
    global _ready
    if _ready[0] != asked.key:
        _ready = asked.key, []
        _ready = asked.key, [_peer.ready(predicate) for predicate in asked.predicates]
    return _ready[1]


def _tune(asked: Asked, k: int, wanted: float) -> Tuned:
    key = content_key(_name, asked.key, str((k, round(wanted, 4))), asked.truth, asked.queries)
    kept = _folder / "tuned" / f"{_name}-{key}.json"
    if kept.is_file():
        told = json.loads(kept.read_text("ascii"))
        return Tuned(tuple(told["knobs"]), told["recall"])
    tuned = _tuned(asked, k, wanted)
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps({"knobs": tuned.knobs, "recall": tuned.recall}), "ascii")
    return tuned


def _tuned(asked: Asked, k: int, wanted: float) -> Tuned:
    borders = [_border(ladder, asked, k, wanted) for ladder in _peer.ladders(k)]
    reached = [one for one in borders if one.recall >= wanted]
    if not reached:
        return max(borders, key=lambda one: one.recall)
    if len(reached) == 1:
        return reached[0]
    return max(reached, key=lambda one: _rate_of(asked, k, one.knobs, 64, _TUNE_SECONDS, whole=False))


def _border(ladder: Sequence[Knobs], asked: Asked, k: int, wanted: float) -> Tuned:
    """The first rung that reaches the recall, by bisection, or the last where none does."""
    low, high = 0, len(ladder) - 1
    best: Tuned | None = None
    began = time.perf_counter()
    while low < high and time.perf_counter() - began < _SLOW_SECONDS:
        middle = (low + high) // 2
        recall = _recall(asked, k, ladder[middle])
        if recall >= wanted:
            best, high = Tuned(ladder[middle], recall), middle
        else:
            low = middle + 1
    if best is not None and best.knobs == ladder[high]:
        return best
    return Tuned(ladder[high], _recall(asked, k, ladder[high]))


def _recall(asked: Asked, k: int, knobs: Knobs) -> float:
    filters = _filters(asked)
    parts = [
        _peer.search(asked.queries[at : at + 64], filters[at : at + 64], k=k, knobs=knobs)
        for at in range(0, len(asked.queries), 64)
    ]
    return recall_of_survivors(np.concatenate(parts), asked.truth[:, :k])


def _rate_of(asked: Asked, k: int, knobs: Knobs, batch: int, seconds: float, whole: bool) -> float:
    places = list(range(0, max(1, len(asked.queries) - batch + 1), batch))
    filters = [] if whole else _filters(asked)

    def call(number: int) -> None:
        part = slice(places[number % len(places)], places[number % len(places)] + batch)
        own = [_peer.ready(predicate) for predicate in asked.predicates[part]] if whole else filters[part]
        _peer.search(asked.queries[part], own, k=k, knobs=knobs)

    done, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or not done:
        call(done)
        done += 1
    return done * min(batch, len(asked.queries)) / elapsed
