from __future__ import annotations

import pytest
import torch

from bench.baselines.faiss_gpu import FaissLists, cpu_lists, gpu_lists
from bench.gpu_rows import Made, exact_top, shuffled


@pytest.fixture(scope="module")
def made() -> Made:
    return Made(600, 16, "cpu")


@pytest.fixture(scope="module")
def index(made: Made) -> FaissLists:
    return cpu_lists(made, made.stored(torch.float32), nlist=4, sample_rows=600)


def test_with_every_list_and_row_it_is_exact_under_any_filter(made: Made, index: FaissLists) -> None:
    filters = shuffled(600, 3, "cpu", rate=0.01)
    queries = made.queries(3)
    found = index.filtered(queries.numpy(), filters.of_rows, k=10, wanted=600, nprobe=4)
    assert found.tolist() == exact_top(made, queries, k=10, passes=filters.passes).tolist()


def test_what_is_filtered_afterwards_is_missed_where_too_few_were_found(made: Made, index: FaissLists) -> None:
    filters = shuffled(600, 3, "cpu", rate=0.01)
    found = index.filtered(made.queries(3).numpy(), filters.of_rows, k=10, wanted=20, nprobe=4)
    assert (found >= 0).sum() < 18


def test_without_a_gpu_the_reason_is_told(made: Made) -> None:
    import faiss

    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("faiss has its GPU part")
    with pytest.raises(ImportError, match="GPU"):
        gpu_lists(made, made.stored(torch.float32), nlist=4, code_bytes=4, sample_rows=600)
