from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backend.cpu import CpuBackend
from engine.backend.cpu_ivfpq import CpuIvfPq, faiss_metric
from engine.backend.faiss_build import allowed_code_bytes, train_ivfpq
from engine.backend.protocol import SEGMENT_ROWS, Candidates, IvfPqIndex, Vectors
from engine.errors import CorruptData, FailedPrecondition, InvalidArgument
from engine.types import Float32Array, Metric, Uint8Array
from kernels import cpu as kernels
from kernels.fusion import FeatureStamps, Fusion, no_extremes
from kernels.packed_lists import fixed_limits

N, NLIST = 600, 8


def clustered(d: int, seed: int = 3) -> Float32Array:
    """Normalised rows around a few centres."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((NLIST, d))
    rows = centres[generator.integers(0, NLIST, N)] + 0.4 * generator.standard_normal((N, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def build(d: int = 17, metric: Metric = "cosine") -> CpuIvfPq:
    rows = clustered(d)
    index = train_ivfpq(rows, nlist=NLIST, code_bytes=4, metric=metric, seed=5)
    index.add(rows[:250])
    index.add(rows[250:])
    return index


def search(
    index: IvfPqIndex, queries: Float32Array, *, depth: int, nprobe: int = NLIST, mask: Uint8Array | None = None
) -> Candidates:
    limits = fixed_limits(len(queries), k=1, nprobe=nprobe, depth=depth)
    return index.search(queries, limits=limits, masks=[mask] * len(queries))


@pytest.fixture(scope="module")
def index() -> CpuIvfPq:
    return build()


@pytest.mark.parametrize("d", [1, 3, 8, 17, 100, 127, 4096])
def test_every_dimension_allows_code_lengths_of_which_four_is_one(d: int) -> None:
    assert {1, 2, 4} <= set(allowed_code_bytes(d))


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("d", [3, 17, 32])
def test_the_true_nearest_rows_are_among_the_candidates(metric: Metric, d: int) -> None:
    index: IvfPqIndex = build(d, metric)
    rows = clustered(d)
    found = search(index, rows[:50], depth=100)
    recall = np.mean([row in of_query for row, of_query in enumerate(found.rows)])
    assert recall == 1.0
    assert (index.n_rows, index.nlist, index.code_bytes) == (N, NLIST, 4)


@given(seed=st.integers(0, 2**32), density=st.sampled_from([0.0, 0.01, 0.3, 1.0]), n_queries=st.sampled_from([1, 9]))
@settings(max_examples=40, deadline=None)
def test_a_row_whose_bit_is_clear_is_never_a_candidate(
    index: CpuIvfPq, seed: int, density: float, n_queries: int
) -> None:
    generator = np.random.default_rng(seed)
    chosen = generator.random(generator.integers(1, N + 1)) < density
    queries = clustered(17)[:n_queries]
    found = search(index, queries, depth=40, mask=np.packbits(chosen, bitorder="little"))
    for of_query in found.rows:
        kept = of_query[of_query >= 0]
        assert chosen[kept].all()
        assert kept.size == np.unique(kept).size == min(40, chosen.sum())


def test_each_query_has_its_own_probes_depth_and_mask(index: CpuIvfPq) -> None:
    rows, queries = clustered(17), clustered(17)[:3]
    segment = np.zeros((SEGMENT_ROWS, 17), np.float16)
    segment[:N] = rows
    nothing, odd = np.zeros(N // 8 + 1, np.uint8), np.packbits(np.arange(N) % 2 == 1, bitorder="little")
    found = index.search_rescored(
        Vectors([segment], N, 17, "float16", "cosine"),
        queries,
        limits=fixed_limits(3, k=1, nprobe=NLIST, depth=N)._replace(
            nprobes=np.array([NLIST, 2, NLIST]), depths=np.array([N, 1, N])
        ),
        masks=[odd, None, nothing],
        k=5,
    )
    exact = np.argsort(-(rows.astype(np.float16).astype(np.float32) @ queries[0]), kind="stable")
    assert found.top.rows[0].tolist() == exact[exact % 2 == 1][:5].tolist()
    assert (found.top.rows[1] >= 0).sum() == 1
    assert found.top.rows[2].tolist() == [-1] * 5
    assert found.lists_scanned.tolist() == [NLIST, 2, NLIST]
    assert found.rows_scanned[[0, 2]].tolist() == [N, N]
    assert 0 < found.rows_scanned[1] < N
    assert found.rescored.tolist() == [N // 2, 1, 0]
    assert not found.gave_up.any()


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_a_reach_and_a_slack_mean_the_same_for_a_query_of_any_length_and_place(metric: Metric) -> None:
    """Twice the query, or all of it moved away: distances to the lists change, and what is scanned hardly does."""
    index, rows = build(17, metric), clustered(17)
    limits = fixed_limits(60, k=10, nprobe=NLIST, depth=N)._replace(
        reaches=np.full(60, 1.0, np.float32), slacks=np.full(60, 1.0, np.float32)
    )
    segment = np.zeros((SEGMENT_ROWS, 17), np.float16)
    segment[:N] = rows
    vectors = Vectors([segment], N, 17, "float16", metric)
    near, far = rows[:60], rows[:60] * np.float32(3)
    first, second = (
        index.search_rescored(vectors, queries, limits=limits, masks=[None] * 60, k=10) for queries in (near, far)
    )
    kth = np.zeros(60, np.float32)
    assert np.all(index.scales(far, kth) > index.scales(near, kth))
    assert 0 < first.lists_scanned.mean() < NLIST
    if metric == "dot":
        np.testing.assert_array_equal(first.lists_scanned, second.lists_scanned)
    else:
        assert 0.3 < second.lists_scanned.mean() / first.lists_scanned.mean() < 3


def test_vectors_whose_distances_are_beyond_float32_are_listed_and_saved_all_the_same(tmp_path: Path) -> None:
    index = build(17, "l2")
    assert not np.isfinite(index.add(np.full((3, 17), 1e19, np.float32))).any()
    index.save(tmp_path / "ivfpq.faiss")
    opened = CpuIvfPq.load(tmp_path / "ivfpq.faiss", threads=1)
    assert opened.n_rows == index.n_rows == N + 3


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_adding_tells_how_far_each_row_lies_from_the_centroid_of_its_list(metric: Metric) -> None:
    index = build(17, metric)
    rows = clustered(17, seed=9)[:40]
    foreseen = index.distances(rows)
    assert index.n_rows == N
    told = index.add(rows)
    expected = np.zeros(len(rows), np.float32)
    for number in range(index.nlist):
        mine = index.lists.listed(number)[1]
        mine = mine[mine >= N] - N
        expected[mine] = ((rows[mine] - index.lists.centroids[number, :17]) ** 2).sum(axis=1)
    np.testing.assert_allclose(told, expected, rtol=1e-4)
    np.testing.assert_array_equal(told, foreseen)
    assert index.add(rows[:0]).shape == (0,)


def feature_of(index: CpuIvfPq, values: Float32Array, stamps: FeatureStamps) -> dict[str, Any]:
    """Two queries that a feature counts for, and what bounds it."""
    segments = [values[:, None]]
    extremes = no_extremes(index.nlist, 1)
    everything = np.full(-(-len(values) // 64) * 8, 255, np.uint8)
    kernels.widen_extremes(extremes, index.numbers, segments, everything, first_row=0, end_row=index.n_rows)
    fusion = Fusion(np.ones(2, np.float32), np.full((2, 1), 0.5, np.float32), segments, [None] * 2, stamps)
    limits = fixed_limits(2, k=5, nprobe=NLIST, depth=N)
    return {"limits": limits, "masks": [None] * 2, "k": 5, "fusion": fusion, "extremes": extremes}


def test_a_feature_beside_the_codes_follows_what_is_added_changed_and_renumbered() -> None:
    index, rows = build(), clustered(17)
    values = np.random.default_rng(1).random(3 * N).astype(np.float32)
    stamps = FeatureStamps(len(values), [0])
    held = rows

    def assert_best() -> None:
        vectors = Vectors([held], len(held), 17, "float32", "cosine")
        found = index.search_rescored(vectors, held[:2], **feature_of(index, values, stamps))
        scores = held[:2] @ held.T + 0.5 * values[: len(held)]
        np.testing.assert_array_equal(found.top.rows, np.argsort(-scores, axis=1, kind="stable")[:, :5])

    before = index.memory_bytes
    assert_best()
    assert index.memory_bytes > before
    values[[3, 400]] = 9
    stamps.note_change(3, 4)
    stamps.note_change(400, 401)
    assert_best()
    index.add(rows[:70])
    held = np.concatenate([rows, rows[:70]])
    assert_best()
    stays = np.ones(len(held), np.bool_)
    stays[::3] = False
    index.renumber(np.where(stays, np.cumsum(stays) - 1, -1))
    held = held[stays]
    assert_best()


def test_of_features_beside_the_codes_those_used_last_are_kept() -> None:
    index, rows = build(), clustered(17)
    vectors = Vectors([rows], N, 17, "float32", "cosine")
    kept = [FeatureStamps(N, [0]) for _ in range(40)]
    sizes = []
    for stamps in kept:
        index.search_rescored(vectors, rows[:2], **feature_of(index, np.ones(N, np.float32), stamps))
        sizes.append(index.memory_bytes)
    assert sizes[0] < sizes[1] < sizes[15] == sizes[39]


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_a_row_joins_the_list_that_faiss_would_have_it_in(metric: Metric) -> None:
    index = build(32, metric)
    rows = clustered(32, seed=4)[:200]
    index.add(rows)
    quantizer = faiss.IndexFlat(32, faiss_metric(metric))
    quantizer.add(index.lists.centroids)
    np.testing.assert_array_equal(index.numbers[N:], quantizer.search(rows, 1)[1][:, 0])


def test_more_probes_than_lists_and_more_depth_than_rows_only_pad(index: CpuIvfPq) -> None:
    found = search(index, clustered(17)[:1], nprobe=10 * NLIST, depth=N + 50)
    assert sorted(found.rows[0].tolist()) == [-1] * 50 + list(range(N))


def test_an_index_saved_and_opened_answers_as_before(index: CpuIvfPq, tmp_path: Path) -> None:
    path = tmp_path / "ivfpq.faiss"
    index.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["ivfpq.faiss"]
    opened = CpuBackend(threads=1).load_ivfpq(path, dimension=17, metric="dot")
    queries = clustered(17)[:9]
    before = search(index, queries, nprobe=3, depth=20)
    after = search(opened, queries, nprobe=3, depth=20)
    np.testing.assert_array_equal(after.rows, before.rows)
    opened.add(queries)
    assert opened.n_rows == N + 9
    assert opened.memory_bytes > path.stat().st_size * 0.8


def test_the_same_seed_trains_the_same_index() -> None:
    queries = clustered(17)[:20]
    first, second = (search(build(), queries, nprobe=2, depth=20).rows for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_file_that_is_cut_short_or_no_index_is_corrupt(index: CpuIvfPq, tmp_path: Path) -> None:
    path = tmp_path / "ivfpq.faiss"
    index.save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no index"):
        path.write_bytes(content)
        with pytest.raises(CorruptData, match="ivfpq"):
            CpuIvfPq.load(path, threads=1)
    with pytest.raises(CorruptData):
        CpuIvfPq.load(tmp_path / "absent", threads=1)


def test_an_index_of_another_kind_dimension_or_metric_is_corrupt(index: CpuIvfPq, tmp_path: Path) -> None:
    flat, path = tmp_path / "flat.faiss", tmp_path / "ivfpq.faiss"
    faiss.write_index(faiss.IndexFlatL2(8), str(flat))
    index.save(path)
    with pytest.raises(CorruptData, match="IndexFlat"):
        CpuIvfPq.load(flat, threads=1)
    with pytest.raises(CorruptData, match="dimension is 24, not 32"):
        CpuIvfPq.load(path, threads=1, dimension=32)
    with pytest.raises(CorruptData, match="metric is not l2"):
        CpuIvfPq.load(path, threads=1, metric="l2")
    with pytest.raises(CorruptData, match="asked for 9"):
        search(index, np.zeros((1, 9), np.float32), depth=1)


def test_training_refuses_code_lengths_and_samples_that_cannot_work() -> None:
    sample = clustered(17)
    with pytest.raises(InvalidArgument, match="code_bytes: 5 is none of"):
        train_ivfpq(sample, nlist=NLIST, code_bytes=5, metric="l2", seed=1)
    with pytest.raises(FailedPrecondition, match="16 are needed"):
        train_ivfpq(sample[:15], nlist=NLIST, code_bytes=4, metric="l2", seed=1)
