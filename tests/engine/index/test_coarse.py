from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.backend import open_backend
from engine.backend.protocol import SEGMENT_ROWS, Backend, Vectors
from engine.dtypes import to_stored
from engine.index.coarse import Coarse
from engine.index.coarse_depth import DEPTHS_PER_K
from engine.index.costs import Costs
from engine.types import Uint8Array

D = 8
COSTS = Costs(1e-5, 1e-9, 1e-10, 1e-10, 1e-5, 1e-9, 1e-9, 1e-5, 1e-11, 1e-11, 1e-9)
BACKEND = open_backend("cpu", threads=2)


class Recorder:
    """A backend whose codes remember how they were made."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.memory_bytes = 0
        self.slices: list[int] = []
        self.alive: list[bool] = []

    def new_codes(self, dimension: int) -> Recorder:
        return self

    def add(self, vectors: object, alive: np.ndarray) -> None:
        assert self.n_rows // SEGMENT_ROWS == (self.n_rows + len(alive) - 1) // SEGMENT_ROWS
        self.slices.append(len(alive))
        self.alive += alive.tolist()
        self.n_rows += len(alive)


def vectors_of(rows: Sequence[np.ndarray], n_rows: int) -> Vectors:
    return Vectors(list(rows), n_rows, rows[0].shape[1], "float16", "dot")


def packed(flags: np.ndarray) -> Uint8Array:
    return np.packbits(flags, bitorder="little")


def grown(coarse: Coarse, backend: Backend, vectors: Vectors, living: np.ndarray) -> None:
    while coarse.grow(backend, vectors, lambda first, end: living[first:end]):
        pass


def test_codes_are_made_in_slices_that_never_cross_a_segment_and_know_which_rows_live() -> None:
    recorder, coarse = Recorder(), Coarse()
    n = SEGMENT_ROWS + 1000
    vectors = vectors_of([np.zeros((SEGMENT_ROWS, D), np.float16)] * 2, n)
    alive = np.random.default_rng(0).random(n) < 0.5
    grown(coarse, recorder, vectors, alive)  # type: ignore[arg-type]
    assert recorder.alive == alive.tolist()
    assert len(recorder.slices) > 2
    assert recorder.slices[0] == 64
    assert all(after <= 4 * before for before, after in zip(recorder.slices, recorder.slices[1:], strict=False))
    assert not coarse.grow(recorder, vectors, lambda first, end: alive[first:end])  # type: ignore[arg-type]


def test_new_rows_get_codes_where_those_before_end() -> None:
    recorder, coarse = Recorder(), Coarse()
    segment = np.zeros((SEGMENT_ROWS, D), np.float16)
    everything = np.ones(SEGMENT_ROWS, np.bool_)
    for n in (100, 101, 3000):
        grown(coarse, recorder, vectors_of([segment], n), everything)  # type: ignore[arg-type]
        assert coarse.n_rows == n


def test_codes_are_wanted_where_two_passes_are_faster_and_never_where_their_cost_is_unknown() -> None:
    coarse = Coarse()
    assert coarse.wants_rows(1_000_000, 1_000_000, 128, COSTS)
    assert not coarse.wants_rows(10, 10, 128, COSTS)
    assert not coarse.wants_rows(0, 0, 128, replace(COSTS, scan_call=1.0))
    assert not coarse.wants_rows(
        1_000_000, 1_000_000, 128, replace(COSTS, coarse_value_dense=1e-10, coarse_value_sparse=1e-10)
    )
    assert not coarse.wants_rows(1_000_000, 1_000_000, 128, Costs(1e-5, 1e-9, 1e-10, 1e-10, 1e-5, 1e-9, 1e-9))


def test_new_rows_are_given_codes_once_scanning_them_is_a_part_of_the_cost() -> None:
    coarse = Coarse()
    segment = np.zeros((SEGMENT_ROWS, D), np.float16)
    grown(coarse, Recorder(), vectors_of([segment], 50_000), np.ones(50_000, np.bool_))  # type: ignore[arg-type]
    costs = replace(COSTS, scan_call=1e-9, scan_row=1e-12)
    assert not coarse.wants_rows(50_000, 50_000, D, costs)
    assert not coarse.wants_rows(50_001, 50_001, D, costs)
    assert coarse.wants_rows(55_000, 55_000, D, costs)


def test_what_was_learned_of_depths_is_forgotten_once_the_rows_are_twice_as_many() -> None:
    recorder, coarse = Recorder(), Coarse()
    segment, everything = np.zeros((SEGMENT_ROWS, D), np.float16), np.ones(SEGMENT_ROWS, np.bool_)
    grown(coarse, recorder, vectors_of([segment], 64), everything)  # type: ignore[arg-type]
    coarse.learn(DEPTHS_PER_K[-1], np.zeros(100, np.bool_))
    learnt = coarse.depths.rungs
    grown(coarse, recorder, vectors_of([segment], 100), everything)  # type: ignore[arg-type]
    assert coarse.depths.rungs == learnt
    grown(coarse, recorder, vectors_of([segment], 150), everything)  # type: ignore[arg-type]
    assert coarse.depths.rungs == Coarse().depths.rungs


@pytest.mark.parametrize("value", [np.nan, np.inf, 6e4])
def test_a_dead_row_of_whatever_values_spoils_no_proof(value: float) -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((500, D)).astype(np.float32)
    rows[77] = value
    stored = np.zeros((SEGMENT_ROWS, D), np.float16)
    stored[:500] = to_stored(rows, "float16")
    alive = np.arange(500) != 77
    coarse = Coarse()
    grown(coarse, BACKEND, vectors_of([stored], 500), alive)
    assert coarse.codes is not None
    vectors, queries = vectors_of([stored], 500), rng.standard_normal((20, D)).astype(np.float32)
    mask = np.zeros(64, np.uint8)
    mask[: len(packed(alive))] = packed(alive)
    found = coarse.codes.search(vectors, queries, [mask] * 20, k=3, depth=100)
    exact = BACKEND.masked_scan(vectors, queries, [mask] * 20, k=3)
    assert found.proven.all()
    np.testing.assert_array_equal(found.top.rows, exact.rows)


def test_counts_are_of_queries_and_those_not_proven() -> None:
    coarse = Coarse()
    coarse.count(np.array([True, False, True]))
    coarse.count(np.array([False]))
    assert (coarse.asked, coarse.unproven) == (4, 2)


def test_without_codes_there_is_nothing_to_plan_with() -> None:
    coarse = Coarse()
    assert coarse.state is None
    assert (coarse.n_rows, coarse.memory_bytes) == (0, 0)
