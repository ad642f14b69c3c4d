from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from engine.backend import open_backend
from engine.backend.faiss_build import train_ivfpq
from engine.backend.protocol import Backend, Candidates, Rescored, Vectors
from engine.index import measuring
from engine.index.choosing import Race, Shape, choose, draw_pilot, scaled
from engine.index.costs import Costs, measure_costs, measure_costs_on, pack
from engine.index.measuring import Subject, fastest, tune
from engine.index.queries import Queries, logged_queries, stand_ins
from engine.index.taking import take
from engine.index.tuning import Band, aim
from engine.types import Float32Array, Int64Array, Uint8Array
from kernels.packed_lists import ProbeLimits

N, D, NLIST = 6000, 32, 64
SLOW_EXACT = Costs(1.0, 1e-3, 1e-3, 1e-3, 1.0, 1e-3, 1e-3)
"""With exact search this slow, no band is left out for being slower than it."""


def clustered(n: int = N, seed: int = 2) -> Float32Array:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, D))
    return (centres[rng.integers(0, 40, n)] + 0.5 * rng.standard_normal((n, D))).astype(np.float32)


def of_rows(rows: Float32Array, own: Int64Array) -> Queries:
    """Rows alone."""
    return replace(logged_queries(rows[own]), rows=own)


def as_vectors(rows: Float32Array) -> Vectors:
    return Vectors([rows], len(rows), D, "float32", "l2")


@pytest.fixture(scope="module")
def backend() -> Backend:
    backend = open_backend("cpu", 1)
    backend.warm_up(as_vectors(clustered(4)))
    return backend


@pytest.fixture(scope="module")
def subject(backend: Backend) -> Subject:
    rows = clustered()
    index = train_ivfpq(rows, nlist=NLIST, code_bytes=4, metric="l2", seed=1)
    index.add(rows)
    alive = np.random.default_rng(4).random(N) < 0.9
    queries = np.random.default_rng(5).permutation(np.flatnonzero(alive))[:100]
    return Subject(backend, as_vectors(rows), index, alive, of_rows(rows, queries))


@pytest.fixture(scope="module")
def bands(subject: Subject) -> list[Band]:
    return tune(subject, SLOW_EXACT, seed=3)


class Listed:
    """An index that returns what it is told to, best first, each row a score of 1 below the one before."""

    n_rows, nlist, code_bytes, memory_bytes = N, NLIST, 4, 0
    numbers, sizes = np.zeros(N, np.int32), np.full(NLIST, N // NLIST)

    def __init__(self, rows: Int64Array) -> None:
        self._rows = rows

    def add(self, vectors: Float32Array) -> Float32Array:
        raise AssertionError("nothing is added")

    def scales(self, queries: Float32Array, kth: Float32Array) -> Float32Array:
        return np.ones(len(queries), np.float32)

    def search(self, queries: Float32Array, *, limits: ProbeLimits, masks: Sequence[Uint8Array | None]) -> Candidates:
        return Candidates(self._rows, np.where(self._rows < 0, -np.inf, -np.arange(self._rows.shape[1])))

    def search_rescored(self, *args: object, **kwargs: object) -> Rescored:
        raise AssertionError("nothing is timed")


def brute_force(rows: Float32Array, query_row: int, flags: npt.NDArray[np.bool_], k: int) -> set[int]:
    distances = ((rows - rows[query_row]) ** 2).sum(axis=1)
    distances[~flags] = np.inf
    distances[query_row] = np.inf
    return set(np.argsort(distances, kind="stable")[:k].tolist())


@pytest.mark.parametrize("share", [0.9, 0.2])
def test_recall_is_what_brute_force_says_with_the_query_left_out(subject: Subject, share: float) -> None:
    rows, k, slack = subject.vectors.segments[0], 10, 0.5
    flags = subject.alive & (np.random.default_rng(6).random(N) < share)
    cell = measuring._cell(subject, k, flags, SLOW_EXACT)
    recalls = measuring._recalls(cell, cell.tuned, 0.5, (slack,))[:, 0]
    assert 0 < recalls.mean() < 1
    for place, query_row in enumerate(subject.asked.rows[: len(cell.tuned.rows)].tolist()):
        limits = measuring._limits(cell, cell.tuned.ks[place : place + 1], 0.5, slack)
        found = subject.ivfpq.search(rows[query_row][None], limits=limits, masks=[pack(flags)]).rows[0]
        right = brute_force(rows, query_row, flags, k)
        assert recalls[place] == pytest.approx(len(right & set(found.tolist())) / k)


def test_any_of_several_equal_rows_is_a_right_answer(backend: Backend) -> None:
    rows = clustered(200)
    rows[100:104] = rows[0] + 0.001
    others = np.array([[0, 100, 101], [0, 102, 103]])
    own = np.zeros(4, np.int64)
    subject = Subject(backend, as_vectors(rows), Listed(others), np.ones(200, np.bool_), of_rows(rows, own))
    cell = measuring._cell(subject, 10, subject.alive, SLOW_EXACT)
    truth = measuring._truth(subject, subject.asked.part(0, 2), None, 2)
    assert measuring._recalls(cell, truth, 1.0, (0.0, -1.0)).tolist() == [[1.0, 0.5], [1.0, 0.5]]


def test_padding_is_never_taken_for_a_row_not_even_for_the_last_one(backend: Backend) -> None:
    rows = clustered(200)
    rows[199] = rows[0] + 0.001
    padding = Listed(np.full((2, 400), -1))
    own = np.array([0, 50, 0, 50])
    subject = Subject(backend, as_vectors(rows), padding, np.ones(200, np.bool_), of_rows(rows, own))
    cell = measuring._cell(subject, 10, subject.alive, SLOW_EXACT)
    assert not measuring._recalls(cell, cell.tuned, 1.0, (0.0, 100.0)).any()


def test_fewer_survivors_than_k_are_all_that_is_wanted(subject: Subject) -> None:
    flags = np.zeros(N, np.bool_)
    flags[np.setdiff1d(np.arange(N), subject.asked.rows)[:6]] = True
    cell = measuring._cell(subject, 10, flags, SLOW_EXACT)
    assert set(cell.tuned.wanted.tolist()) == {6}
    assert measuring._recalls(cell, cell.tuned, 1.0, (6.0,)).min() == 1.0


def test_a_query_whose_own_row_is_hidden_ends_by_its_hits_and_one_that_sees_it_by_one_more(subject: Subject) -> None:
    flags = subject.alive & (np.random.default_rng(6).random(N) < 0.5)
    cell = measuring._cell(subject, 10, flags, SLOW_EXACT)
    asked = subject.asked.rows[: len(cell.tuned.rows)]
    np.testing.assert_array_equal(cell.tuned.rows, np.where(flags[asked], asked, -1))
    np.testing.assert_array_equal(cell.tuned.ks, np.where(flags[asked], 11, 10))


def test_tuned_settings_keep_their_promise_on_other_queries_and_other_masks(
    subject: Subject, bands: list[Band]
) -> None:
    cells = {(band.k, band.selectivity): dict(band.settings) for band in bands}
    assert {(10, 1.0), (10, 0.3), (10, 0.1), (100, 1.0)} <= set(cells)
    rows, others = subject.vectors.segments[0], np.setdiff1d(np.flatnonzero(subject.alive), subject.asked.rows)[:120]
    for selectivity in (1.0, 0.3):
        flags = subject.alive & (np.random.default_rng(77).random(N) < selectivity)
        setting = cells[10, selectivity][0.9]
        cell = measuring._cell(subject, 10, flags, SLOW_EXACT)
        limits = measuring._limits(cell, np.full(len(others), 11), setting.reach, setting.slack)
        found = subject.ivfpq.search(rows[others], limits=limits, masks=[pack(flags)] * len(others))
        hits = [
            len(brute_force(rows, row, flags, 10) & set(of_query.tolist())) / 10
            for row, of_query in zip(others.tolist(), found.rows, strict=True)
        ]
        assert np.mean(hits) >= 0.88
        assert abs(np.mean(hits) - setting.expected_recall) < 0.06


def test_a_higher_target_takes_more_work(bands: list[Band]) -> None:
    settings = dict(next(band for band in bands if (band.k, band.selectivity) == (10, 1.0)).settings)
    work = [(setting.rows, setting.rescored) for _, setting in sorted(settings.items())]
    assert len(work) >= 3
    assert work[0][0] <= work[-1][0]
    assert all(one.most_lists >= one.lists and one.most_rescored >= one.rescored for one in settings.values())


def test_between_two_rungs_a_reach_is_read_off_a_straight_line() -> None:
    n = len(measuring._SLACKS)
    recalls = np.array([[0.5] * n, [0.7] * n, [0.9] * n, [1.0] * n])
    recalls[:, 1:] += 0.01
    pairs = measuring._least_reaches(recalls, [0.0, 1.0, 2.0, 3.0], 0.8)
    assert pairs == [(pytest.approx(1.5), measuring._SLACKS[0]), (pytest.approx(1.45), measuring._SLACKS[1])]
    assert measuring._least_reaches(recalls, [0.0, 1.0, 2.0, 3.0], 1.5) == []
    assert measuring._least_reaches(recalls, [0.0, 1.0, 2.0, 3.0], 0.4)[0] == (0.0, 0.0)


def test_queries_that_tune_never_report(subject: Subject) -> None:
    cell = measuring._cell(subject, 10, subject.alive, SLOW_EXACT)
    assert len(cell.tuned.rows) == len(cell.told.rows) == 50
    assert not set(cell.tuned.rows.tolist()) & set(cell.told.rows.tolist())


def test_where_exact_search_is_faster_than_one_probe_nothing_is_tuned_for_long(subject: Subject) -> None:
    free = Costs(1e-9, 1e-15, 1e-15, 1e-15, 1e-9, 1e-15, 1e-15)
    assert {band.selectivity for band in tune(subject, free, seed=3)} <= {1.0, 0.3}


def test_the_fastest_setting_reaches_its_target(subject: Subject) -> None:
    setting = fastest(subject, SLOW_EXACT, recall_target=0.9)
    assert setting is not None
    assert setting.expected_recall > 0.85
    assert setting.seconds_b64 > 0


def test_every_other_stand_in_lies_between_its_row_and_the_nearest_of_some_drawn_from_those_named() -> None:
    rows = clustered(400)
    own, among = np.array([5, 6, 7, 8]), np.arange(8, 60)
    made = stand_ins(as_vectors(rows), own, among=among, rng=np.random.default_rng(1))
    assert made.is_middle.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(made.rows, own)
    np.testing.assert_array_equal(made.vectors[::2], rows[own[::2]])
    for query, row in ((made.vectors[1], 6), (made.vectors[3], 8)):
        others = among[among != row]
        nearest = others[((rows[others] - rows[row]) ** 2).sum(axis=1).argmin()]
        np.testing.assert_allclose(query, (rows[row] + rows[nearest]) / 2, rtol=1e-5, atol=1e-6)


def test_where_rows_have_near_copies_settings_keep_their_promise_to_queries_that_are_none(backend: Backend) -> None:
    rng = np.random.default_rng(8)
    originals = clustered(1000, seed=9)
    rows = (np.repeat(originals, 12, axis=0) + 0.02 * rng.standard_normal((12_000, D))).astype(np.float32)
    index = train_ivfpq(rows, nlist=NLIST, code_bytes=16, metric="l2", seed=1)
    index.add(rows)
    own, everywhere = rng.permutation(len(rows))[:256], np.ones(len(rows), np.bool_)
    others = clustered(1300, seed=9)[1000:1128]  # about the same centres, and copies of nothing

    def missed(asked: Queries) -> float:
        subject = Subject(backend, as_vectors(rows), index, everywhere, asked)
        setting = fastest(subject, SLOW_EXACT, recall_target=aim(0.95, is_provisional=True))
        assert setting is not None
        real = Subject(backend, as_vectors(rows), index, everywhere, logged_queries(others))
        cell = measuring._cell(real, 10, everywhere, SLOW_EXACT)
        return 1 - float(measuring._recalls(cell, cell.told, setting.reach, (setting.slack,)).mean())

    between = stand_ins(as_vectors(rows), own, among=np.arange(len(rows)), rng=rng)
    assert missed(of_rows(rows, own)) > 0.05 > missed(between)


def test_rows_are_taken_in_the_order_asked_from_any_segment() -> None:
    rows = clustered(30)
    vectors = Vectors([rows[:10].astype(np.float16), rows[10:20].astype(np.float16)], 20, D, "float16", "dot")
    asked = np.array([15, 3, 19, 0, 10])
    assert np.array_equal(take(vectors, asked), rows[asked].astype(np.float16).astype(np.float32))


def test_a_pilot_is_live_rows_with_the_queries_among_them() -> None:
    rows, rng = clustered(500), np.random.default_rng(1)
    live = np.flatnonzero(rng.random(500) < 0.5)
    queries = rng.permutation(live)[:20]
    pilot = draw_pilot(as_vectors(rows), live, queries, rng)
    assert np.array_equal(pilot.rows, live)
    assert np.array_equal(take(pilot.vectors, pilot.asked.rows), rows[queries])


def test_a_race_ends_with_the_fastest_shape_and_measures_few(backend: Backend) -> None:
    class Known(Race):
        def _measure(self, shape: Shape) -> float:
            return abs(shape.nlist - 512) + abs(shape.code_bytes - 16)

    rows = clustered(100)
    pilot = draw_pilot(as_vectors(rows), np.arange(100), np.arange(4), np.random.default_rng(0))
    race = Known(backend, pilot, SLOW_EXACT, lambda nlist, code: Listed(np.zeros((1, 1), np.int64)), recall_target=0.9)
    assert choose(race, 60_000, (4, 8, 16, 32)) == Shape(512, 16)
    assert len(race.found) <= 5
    assert choose(race, 60_000, (4, 8, 16, 32), nlist=99, code_bytes=7) == Shape(99, 7)
    assert choose(race, 60_000, (4, 8, 16, 32), code_bytes=7).code_bytes == 7


def test_of_lists_that_are_nearly_as_fast_on_a_part_of_the_rows_the_most_are_taken(backend: Backend) -> None:
    seconds = {256: 1.3, 512: 1.0, 1024: 1.1, 2048: 2.0}

    class Known(Race):
        def _measure(self, shape: Shape) -> float:
            return seconds[shape.nlist]

    rows = clustered(100)
    pilot = draw_pilot(as_vectors(rows), np.arange(100), np.arange(4), np.random.default_rng(0))
    race = Known(backend, pilot, SLOW_EXACT, lambda nlist, code: Listed(np.zeros((1, 1), np.int64)), recall_target=0.9)
    assert choose(race, 262_144, (16,)).nlist == 512
    assert choose(race, 262_144, (16,), is_part=True).nlist == 1024
    seconds[1024] = 1.2
    race.found.clear()
    assert choose(race, 262_144, (16,), is_part=True).nlist == 512


def test_of_codes_that_are_nearly_as_fast_the_middling_one_is_taken(backend: Backend) -> None:
    seconds = {16: 1.0, 32: 1.1, 64: 1.3}

    class Known(Race):
        def _measure(self, shape: Shape) -> float:
            return seconds[shape.code_bytes]

    rows = clustered(100)
    pilot = draw_pilot(as_vectors(rows), np.arange(100), np.arange(4), np.random.default_rng(0))
    race = Known(backend, pilot, SLOW_EXACT, lambda nlist, code: Listed(np.zeros((1, 1), np.int64)), recall_target=0.9)
    assert choose(race, 60_000, (16, 32, 64)).code_bytes == 32
    seconds[32] = 1.2
    race.found.clear()
    assert choose(race, 60_000, (16, 32, 64)).code_bytes == 16


def test_lists_scale_with_the_root_of_the_rows() -> None:
    assert scaled(512, 60_000, 6_000_000) == 8192
    assert scaled(256, 60_000, 60_000) == 256


def test_costs_are_measured_and_grow_with_what_is_scored(backend: Backend) -> None:
    for costs in (
        measure_costs(backend, dimension=D, dtype="float16", metric="cosine"),
        measure_costs_on(backend, as_vectors(clustered())),
    ):
        assert 0 < costs.scan_seconds(1000, 1000, D) < costs.scan_seconds(1_000_000, 1_000_000, D)
        assert 0 < costs.gather_seconds(1000, 10, D) < costs.gather_seconds(1_000_000, 1000, D)
        assert 0 < costs.coarse_seconds(1000, 1000, D, 20) < costs.coarse_seconds(1_000_000, 1_000_000, D, 20)
        assert costs.coarse_seconds(1000, 1000, D, 20) < costs.coarse_seconds(1000, 1000, D, 500)


def test_a_coarse_scan_reads_all_rows_or_those_that_pass_and_rescores_no_more_than_pass() -> None:
    costs = Costs(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 100.0, 2.0, 5.0, 7.0)
    assert costs.coarse_seconds(10, 9, 3, 4) == 100 + 10 + 3 * 10 * 2 + 4 * 7
    assert costs.coarse_seconds(10, 2, 3, 4) == 100 + 10 + 3 * 2 * 5 + 2 * 7


def test_a_coarse_scan_that_was_never_measured_takes_for_ever() -> None:
    assert SLOW_EXACT.coarse_seconds(10, 0, 3, 0) == np.inf


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1003])
def test_packed_flags_are_whole_words_with_nothing_beyond_the_rows(n: int) -> None:
    flags = np.random.default_rng(0).random(n) < 0.5
    mask = pack(flags)
    bits = np.unpackbits(mask, bitorder="little")
    assert len(mask) % 8 == 0
    assert np.array_equal(bits[:n], flags)
    assert not bits[n:].any()


def test_of_middles_twice_as_much_may_be_missed_as_of_rows() -> None:
    """Eight queries of each kind by three slacks: of rows a tenth is missed, and of middles a tenth, a fifth, half."""
    rows, middles = np.full((8, 3), 0.9), np.repeat([[0.9, 0.8, 0.5]], 8, axis=0)
    both, is_middle = np.concatenate([rows, middles]), np.arange(16) >= 8
    assert measuring._recall_of_both(both, is_middle) == pytest.approx([0.9, 0.9, 0.75])
    assert measuring._recall_of_both(rows, is_middle[:8]) == pytest.approx([0.9, 0.9, 0.9])
