"""Exact search as everybody writes it in torch: a matrix product, a mask where there is a filter, and ``topk``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Scores = Callable[[Tensor, Tensor], Tensor]
"""Of queries [B, d] and rows [m, d], one dtype: [B, m]."""


def same_dtype(queries: Tensor, rows: Tensor) -> Tensor:
    """Scores rounded to the rows' dtype: the least to write and to select from."""
    return queries @ rows.T


def as_float32(queries: Tensor, rows: Tensor) -> Tensor:
    """Scores as they are summed. Only a GPU's product can give another dtype than it takes."""
    if rows.is_cuda:
        return torch.mm(queries, rows.T, out_dtype=torch.float32)
    return queries.float() @ rows.float().T


def gemm_topk(rows: Tensor, queries: Tensor, *, k: int, chunk_rows: int, scores_of: Scores = same_dtype) -> Tensor:
    """The best rows int64 [B, k] of all, so many rows at a time as their scores have room."""
    parts = [
        _best(scores_of(queries, rows[first : first + chunk_rows]), first, k)
        for first in range(0, len(rows), chunk_rows)
    ]
    return _merged(parts, k)


def masked_gemm_topk(
    rows: Tensor,
    queries: Tensor,
    passes: Callable[[int, int], Tensor],
    *,
    k: int,
    chunk_rows: int,
    scores_of: Scores = same_dtype,
) -> Tensor:
    """As ``gemm_topk`` of the rows [first, end) that pass, bool [B, end - first]; padded with -1."""
    parts = []
    for first in range(0, len(rows), chunk_rows):
        chunk = rows[first : first + chunk_rows]
        scores = scores_of(queries, chunk)
        scores.masked_fill_(passes(first, first + len(chunk)).logical_not_(), -torch.inf)
        parts.append(_best(scores, first, k))
    return _merged(parts, k)


def survivors_topk(rows: Tensor, queries: Tensor, listed: Sequence[Tensor], *, k: int) -> Tensor:
    """The best rows int64 [B, k] among those listed for each query: gathered, multiplied, selected; padded with -1."""
    found = torch.full((len(queries), k), -1, dtype=torch.int64, device=rows.device)
    for query, own in enumerate(listed):
        scores = rows.index_select(0, own) @ queries[query]
        best = scores.topk(min(k, len(own))).indices
        found[query, : len(best)] = own[best]
    return found


def _best(scores: Tensor, first: int, k: int) -> tuple[Tensor, Tensor]:
    best, at = scores.topk(min(k, scores.shape[1]))
    return best, at + first


def _merged(parts: Sequence[tuple[Tensor, Tensor]], k: int) -> Tensor:
    scores, rows = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
    best, places = scores.topk(min(k, scores.shape[1]))
    return torch.where(best > -torch.inf, rows.gather(1, places), -1)
