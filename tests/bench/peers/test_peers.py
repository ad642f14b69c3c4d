from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.peers.arrow import ArrowColumns
from bench.peers.base import Rows, list_count, padded
from bench.peers.exact_gather import ExactGather
from bench.peers.faiss_ivf import IvfFlat, IvfPq
from bench.peers.process import NAMES, missing
from bench.predicates import AnyOf, Attributes, IntRange, Predicate, keyword_lists, single_keywords
from engine.types import Metric

N = 4000
PREDICATES = [
    Predicate((IntRange("shuffled", 100, 600),)),
    Predicate((IntRange("shuffled", 0, 2000),), (AnyOf("colour", ("black",)),)),
    Predicate(keywords=(AnyOf("skill", ("s1", "s7")),)),
    Predicate((IntRange("shuffled", 0, 2000),), (AnyOf("skill", ("s3",)),)),
]


def _attributes() -> Attributes:
    rng = np.random.default_rng(6)
    lists = [tuple({f"s{code}" for code in rng.integers(0, 20, 3).tolist()}) for _ in range(N)]
    colours = single_keywords(("black", "white"), rng.integers(0, 2, N, dtype=np.int32))
    return Attributes({"shuffled": rng.permutation(N)}, {"colour": colours, "skill": keyword_lists(lists)})


def _rows(folder: Path, metric: Metric) -> Rows:
    items = np.random.default_rng(7).standard_normal((N, 16), dtype=np.float32)
    return Rows(items, _attributes(), metric, folder, threads=2)


@pytest.mark.parametrize("predicate", PREDICATES)
def test_arrow_finds_the_rows_that_numpy_finds(predicate: Predicate) -> None:
    attributes = _attributes()
    columns, wanted = ArrowColumns(attributes), np.flatnonzero(predicate.mask(attributes))
    assert columns.rows(predicate).tolist() == wanted.tolist()
    bits = np.unpackbits(columns.bits(predicate), bitorder="little", count=N)
    assert np.flatnonzero(bits).tolist() == wanted.tolist()


@pytest.mark.parametrize("metric", ["dot", "l2"])
@pytest.mark.parametrize("kind", [ExactGather, IvfFlat, IvfPq])
def test_a_peer_at_its_deepest_finds_the_best_that_pass(tmp_path: Path, metric: Metric, kind: type[Any]) -> None:
    rows = _rows(tmp_path, metric)
    peer = kind(rows)
    peer.build()
    queries = rows.items[:4] + np.float32(0.01)
    for batch in (1, 4):
        filters = [peer.ready(predicate) for predicate in PREDICATES[:batch]]
        found = peer.search(queries[:batch], filters, k=10, knobs=peer.ladders(10)[-1][-1])
        for place, predicate in enumerate(PREDICATES[:batch]):
            scores = rows.items @ queries[place]
            if metric == "l2":
                scores = -((rows.items - queries[place]) ** 2).sum(axis=1)
            scores[~predicate.mask(rows.attributes)] = -np.inf
            assert found[place].tolist() == np.argsort(-scores)[:10].tolist(), (batch, place)


def test_an_index_is_built_once(tmp_path: Path) -> None:
    first = IvfFlat(_rows(tmp_path, "l2")).build()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert IvfFlat(_rows(tmp_path, "l2")).build() == first
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_a_million_rows_have_4096_lists() -> None:
    assert list_count(1_000_000) == 4096


def test_short_answers_are_padded() -> None:
    assert padded([[1, 2, 3], []], n=2, k=2).tolist() == [[1, 2], [-1, -1]]


def test_faiss_is_never_missing() -> None:
    assert missing("faiss_ivf_flat") is None
    assert len(NAMES) == 8
