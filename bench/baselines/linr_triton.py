"""LiNR's searches as merged kernels, in Triton: clauses over scores, filter and product in one pass, one-bit codes.

Source: as ``linr``; the paper has these in CUDA. A program takes a block of items for all queries, so that an item is
read once. Without a GPU they run where TRITON_INTERPRET is 1.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from bench.baselines import linr_kernels
from bench.baselines.linr import Clauses, selected

_BLOCK = 128
_LEAST_QUERIES = 16
"""What a product of Triton takes at least: fewer queries are padded."""


def similarity_masking(items: Tensor, clauses: Clauses, queries: Tensor, asked: Tensor, *, k: int) -> Tensor:
    """V1 with its clauses as one kernel over the scores."""
    scores = queries @ items.T
    kernel = linr_kernels.mask_scores[_grid(len(items))]
    kernel(scores, clauses.attributes, asked.contiguous(), len(items), **_shape(clauses, queries, at_least=1))
    return selected(scores, k)


def merged_prefilter(items: Tensor, clauses: Clauses, queries: Tensor, asked: Tensor, *, k: int) -> Tensor:
    """V2 with merged kernels: rows that no query wants are masked out of the load."""
    return selected(_merged(linr_kernels.filter_and_score, items, clauses, queries, asked), k)


def merged_prefilter_early_out(items: Tensor, clauses: Clauses, queries: Tensor, asked: Tensor, *, k: int) -> Tensor:
    """As ``merged_prefilter``, but a block of which nobody wants a row loads none and multiplies nothing."""
    return selected(_merged(linr_kernels.filter_then_score, items, clauses, queries, asked), k)


def quantised_filter(
    items: Tensor,
    codes: Tensor,
    clauses: Clauses,
    queries: Tensor,
    query_codes: Tensor,
    asked: Tensor,
    *,
    k: int,
    pool: int,
) -> Tensor:
    """V3: of the rows that pass the ``pool`` with the most bits in common, then the best of those by exact score."""
    matches = torch.empty((len(queries), len(items)), dtype=torch.int16, device=items.device)
    linr_kernels.count_matches[_grid(len(items))](
        matches,
        codes,
        query_codes,
        clauses.attributes,
        asked.contiguous(),
        len(items),
        n_words=codes.shape[1],
        **_shape(clauses, queries, at_least=1),
    )
    counts, rows = matches.topk(min(pool, len(items)), sorted=False)
    scores = torch.bmm(items[rows], queries[:, :, None]).squeeze(2)
    best, places = scores.masked_fill_(counts < 0, -torch.inf).topk(min(k, scores.shape[1]))
    return torch.where(best > -torch.inf, rows.gather(1, places), -1)


def _merged(kernel: Any, items: Tensor, clauses: Clauses, queries: Tensor, asked: Tensor) -> Tensor:
    scores = torch.empty((len(queries), len(items)), dtype=items.dtype, device=items.device)
    kernel[_grid(len(items))](
        scores,
        items,
        queries,
        clauses.attributes,
        asked.contiguous(),
        len(items),
        D=items.shape[1],
        **_shape(clauses, queries, at_least=_LEAST_QUERIES),
    )
    return scores


def _grid(n_items: int) -> tuple[int]:
    return (triton.cdiv(n_items, _BLOCK),)


def _shape(clauses: Clauses, queries: Tensor, *, at_least: int) -> dict[str, int]:
    """What kernels are compiled for; ``TOGETHER``: the queries, rounded up."""
    reverse = sum(1 << clause for clause, is_reverse in enumerate(clauses.is_reverse) if is_reverse)
    together = max(at_least, triton.next_power_of_2(len(queries)))
    told = {"B": len(queries), "together": together, "n_clauses": len(clauses.is_reverse), "reverse": reverse}
    return {**told, "block": _BLOCK}
