from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.gpu_lists import Coding, codebook_of, means, nearest, packed_lists, trained
from bench.gpu_rows import Made, clustered, exact_top
from bench.metrics import recall_at
from kernels import reference_lists
from kernels.packed_lists import fixed_limits


@pytest.fixture(scope="module")
def made() -> Made:
    return clustered(1500, 16, "cpu", clusters=8)


@pytest.fixture(scope="module")
def coding(made: Made) -> Coding:
    return trained(made, nlist=6, n_parts=8, sample_rows=1000)


def whole(made: Made) -> np.ndarray:
    return made.stored(torch.float32).numpy()


def test_each_row_lies_in_its_nearest_list_with_the_nearest_code_of_every_part(made: Made, coding: Coding) -> None:
    rows, centroids, codebook = whole(made), coding.centroids.numpy(), coding.codebook.numpy()
    lists = packed_lists(made, coding)
    assert lists.n_rows == len(rows)
    for number in range(lists.nlist):
        codes, listed, terms = lists.listed(number)
        assert not terms.any()
        for row, code in zip(listed.tolist(), codes, strict=True):
            distances = ((rows[row] - centroids) ** 2).sum(axis=1)
            assert distances[number] <= distances.min() + 1e-6
            parts = (rows[row] - centroids[number]).reshape(8, 2)
            own = np.stack([code & 15, code >> 4], axis=1).reshape(-1)
            errors = ((parts[:, None] - codebook) ** 2).sum(axis=2)
            assert (errors[np.arange(8), own] <= errors.min(axis=1) + 1e-6).all()


def test_training_brings_centroids_nearer_to_the_rows(made: Made) -> None:
    rows = made.stored(torch.float32)
    found = means(rows, 8)
    assert _error(rows, found) < 0.8 * _error(rows, rows[:8])
    parts = codebook_of(rows, 4)
    assert parts.shape == (4, 16, 4)
    assert _error(rows[:, :4], parts[0]) < 0.8 * _error(rows[:, :4], rows[:16, :4])


def test_a_scan_of_all_lists_finds_nearly_everything_within_few_candidates(made: Made, coding: Coding) -> None:
    queries = made.queries(8)
    limits = fixed_limits(8, k=10, nprobe=6, depth=60)
    lists = packed_lists(made, coding)
    (found, _), _ = reference_lists.scan_lists_in_waves(lists, queries.numpy(), [None] * 8, limits=limits)
    truth = exact_top(made, queries, k=10)
    assert np.mean([len(np.intersect1d(own, best)) / 10 for own, best in zip(found, truth, strict=True)]) > 0.9
    assert recall_at(found, truth) > 0.3


def _error(rows: torch.Tensor, centroids: torch.Tensor) -> float:
    return float(((rows - centroids[nearest(rows, centroids)]) ** 2).sum())
