from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import bigann
from bench.adapters.ann_benchmarks import Ebr
from bench.adapters.bigann_filter import EbrFilter
from bench.adapters.vectordbbench import EbrClient
from bench.serving import served
from bench.vector_files import sparse_matrix


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated track."""
    made = tmp_path_factory.mktemp("track")
    bigann._generate(made, 600, 20)
    return made


def test_the_truth_of_a_track_is_what_a_plain_loop_finds(folder: Path) -> None:
    track = bigann.opened(folder)
    for query in range(20):
        wanted = set(track.asked.row(query).tolist())
        assert len(wanted) in {1, 2}
        passing = [row for row in range(600) if wanted <= set(track.tags.row(row).tolist())]
        distances = ((track.rows.astype(np.int64) - track.queries[query].astype(np.int64)) ** 2).sum(axis=1)
        ranked = sorted(passing, key=lambda row: (distances[row], row))[:10]
        assert track.truth[query][track.truth[query] >= 0].tolist() == ranked


def test_a_track_is_the_same_whenever_it_is_generated(folder: Path, tmp_path: Path) -> None:
    bigann._generate(tmp_path, 600, 20)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_the_rows_of_a_tag_are_the_tags_of_rows_turned_round() -> None:
    matrix = sparse_matrix([[1, 2], [], [2]], n_columns=4)
    assert [matrix.transposed().row(tag).tolist() for tag in range(4)] == [[], [0], [0, 2], []]


def test_the_filter_track_adapter_finds_the_true_rows(folder: Path) -> None:
    track = bigann.opened(folder)
    adapter = EbrFilter("euclidean", open_dataset=lambda name: track)
    try:
        adapter.fit("generated")
        adapter.set_query_arguments({"recall_target": 0.95})
        adapter.filtered_query(track.queries, bigann._csr(track.asked), 10)
        assert np.array_equal(adapter.get_results(), track.truth)
    finally:
        adapter.done()


def test_the_ann_benchmarks_adapter_finds_the_nearest() -> None:
    vectors = np.random.default_rng(4).standard_normal((300, 16), dtype=np.float32)
    adapter = Ebr("euclidean")
    try:
        adapter.fit(vectors)
        adapter.set_query_arguments(0.9)
        adapter.batch_query(vectors[:5], 3)
        assert adapter.get_batch_results()[:, 0].tolist() == [0, 1, 2, 3, 4]
        assert adapter.query(vectors[7], 2)[0] == 7
        assert adapter.get_memory_usage() > 300 * 16 * 2 / 1024
        assert str(adapter) == adapter.name == "ebr(recall_target=0.9)"
    finally:
        adapter.done()


def test_the_vectordbbench_client_inserts_and_searches_with_each_kind_of_filter(tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).standard_normal((200, 8), dtype=np.float32)
    with served(tmp_path / "server") as running:
        config = {"target": running.client.target}
        case = SimpleNamespace(metric_type=SimpleNamespace(value="COSINE"))
        made = EbrClient(8, config, case, drop_old=True, with_scalar_labels=True)
        client: EbrClient = pickle.loads(pickle.dumps(made))
        with client.init():
            labels = ["even" if row % 2 == 0 else "odd" for row in range(200)]
            assert client.insert_embeddings(vectors.tolist(), list(range(200)), labels) == (200, None)
            client.optimize()
            assert client.search_embedding(vectors[11].tolist(), k=5)[0] == 11
            client.prepare_filter(SimpleNamespace(int_value=150))
            assert min(client.search_embedding(vectors[11].tolist(), k=5)) >= 150
            client.prepare_filter(SimpleNamespace(label_value="even"))
            assert {number % 2 for number in client.search_embedding(vectors[11].tolist(), k=5)} == {0}
            client.prepare_filter(SimpleNamespace())
            assert client.search_embedding(vectors[11].tolist(), k=1) == [11]
