from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.baselines.masked_topk import Scores, as_float32, gemm_topk, masked_gemm_topk, same_dtype, survivors_topk

K = 6


def small(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows and queries in bfloat16 whose scores are exact and seldom tie, and what passes, nothing for the last."""
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.integers(-1, 2, (100, 16)).astype(np.float32)).to(torch.bfloat16)
    queries = torch.from_numpy(rng.integers(-3, 4, (3, 16)).astype(np.float32)).to(torch.bfloat16)
    passes = torch.from_numpy(rng.random((3, 100)) < np.array([[0.5], [0.03], [0.0]]))
    return rows, queries, passes


def scores_expected(rows: torch.Tensor, queries: torch.Tensor, passes: torch.Tensor) -> list[list[float]]:
    scores = queries.float().numpy() @ rows.float().numpy().T
    scores[~passes.numpy()] = -np.inf
    return (-np.sort(-scores, axis=1)[:, :K]).tolist()


def check(found: torch.Tensor, rows: torch.Tensor, queries: torch.Tensor, passes: torch.Tensor) -> None:
    scores = queries.float() @ rows.float().T
    for query, (own, wanted) in enumerate(zip(found.tolist(), scores_expected(rows, queries, passes), strict=True)):
        there = [row for row in own if row >= 0]
        assert len(set(there)) == len(there)
        assert all(passes[query, row] for row in there)
        assert [float(scores[query, row]) for row in there] + [-np.inf] * (K - len(there)) == wanted


@pytest.mark.parametrize("scores_of", [same_dtype, as_float32])
@pytest.mark.parametrize("chunk_rows", [7, 30, 1000])
def test_products_in_chunks_find_the_best(scores_of: Scores, chunk_rows: int) -> None:
    rows, queries, passes = small(1)
    everything = torch.ones_like(passes)
    check(gemm_topk(rows, queries, k=K, chunk_rows=chunk_rows, scores_of=scores_of), rows, queries, everything)
    found = masked_gemm_topk(rows, queries, lambda first, end: passes[:, first:end].clone(), k=K, chunk_rows=chunk_rows)
    check(found, rows, queries, passes)


def test_survivors_are_gathered_and_the_best_of_them_found() -> None:
    rows, queries, passes = small(2)
    listed = [own.nonzero().squeeze(1) for own in passes]
    check(survivors_topk(rows, queries, listed, k=K), rows, queries, passes)
