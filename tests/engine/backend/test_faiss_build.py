"""Where k-means runs: on a GPU that faiss sees and that is asked for. The GPU here hands out indices of the CPU."""

from __future__ import annotations

import logging
from typing import Any

import faiss
import numpy as np
import pytest

from engine.backend.faiss_build import TrainDevice, train_centroids
from engine.types import Float32Array, Metric


def sample() -> Float32Array:
    return np.random.default_rng(1).standard_normal((600, 12)).astype(np.float32)


class ClaimedGpu:
    """What faiss-gpu adds to faiss, over the CPU; ``fails``: as a GPU without memory does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, n: int = 1, fails: bool = False) -> None:
        self.fails = fails
        self.trained: list[Any] = []
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: n, raising=False)
        monkeypatch.setattr(faiss, "StandardGpuResources", lambda: self, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", self._to_gpu, raising=False)

    def setTempMemory(self, n_bytes: int) -> None:  # noqa: N802  # faiss's name
        assert 0 < n_bytes < 1 << 30

    def _to_gpu(self, resources: object, ordinal: int, index: Any) -> Any:
        assert (resources, ordinal) == (self, 0)
        if self.fails:
            raise RuntimeError("Error in cudaMalloc: out of memory")
        self.trained.append(index)
        return index


def centroids(device: TrainDevice, metric: Metric = "dot") -> Float32Array:
    return train_centroids(sample(), nlist=16, metric=metric, seed=7, device=device)


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_the_centroids_of_a_gpu_become_those_of_the_quantiser(monkeypatch: pytest.MonkeyPatch, metric: Metric) -> None:
    expected = centroids("cpu", metric)
    gpu = ClaimedGpu(monkeypatch)
    np.testing.assert_array_equal(centroids("cuda", metric), expected)
    (used,) = gpu.trained
    assert used.ntotal == 16
    assert used.metric_type == (faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def test_a_gpu_is_left_alone_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = ClaimedGpu(monkeypatch)
    centroids("cpu")
    assert gpu.trained == []


def test_a_faiss_without_gpus_trains_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = centroids("cpu")
    gpu = ClaimedGpu(monkeypatch, n=0)
    np.testing.assert_array_equal(centroids("cuda"), expected)
    assert gpu.trained == []
    monkeypatch.delattr(faiss, "get_num_gpus")
    np.testing.assert_array_equal(centroids("cuda"), expected)


def test_a_gpu_that_fails_leaves_training_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = centroids("cpu")
    ClaimedGpu(monkeypatch, fails=True)
    with caplog.at_level(logging.WARNING, logger="engine.backend.faiss_build"):
        np.testing.assert_array_equal(centroids("cuda"), expected)
    assert "out of memory" in caplog.text
