"""LiNR's exact searches with attribute-based matching, in torch: masked similarities, and explicit pre-filtering.

Source: Borisyuk et al., "LiNR: Model Based Neural Retrieval on GPUs at LinkedIn", arXiv 2407.13218, 3.1 and 5.3. Items
have one 64-bit attribute a clause; its third search, by one-bit codes, and the merged kernels are in ``linr_triton``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clauses:
    """Of items, int64 [C, n], or of queries, [C, B]: C attributes each.

    An item passes where it has the query's own attribute in every clause, or another one where ``is_reverse`` [C].
    """

    attributes: Tensor
    is_reverse: tuple[bool, ...]

    def passes(self, asked: Tensor, first: int, end: int) -> Tensor:
        """Which of the items [first, end) pass for queries' attributes [C, B]: bool [B, end - first]."""
        passing: Tensor | None = None
        for own, wanted, is_reverse in zip(self.attributes, asked, self.is_reverse, strict=True):
            compare = torch.ne if is_reverse else torch.eq
            passed = compare(own[first:end][None], wanted[:, None])
            passing = passed if passing is None else passing.logical_and_(passed)
        assert passing is not None
        return passing


def similarity_masking(items: Tensor, clauses: Clauses, queries: Tensor, asked: Tensor, *, k: int) -> Tensor:
    """V1: every score, then the mask over them, then the best: rows int64 [B, k], padded with -1."""
    scores = queries @ items.T
    scores.masked_fill_(clauses.passes(asked, 0, len(items)).logical_not_(), -torch.inf)
    return selected(scores, k)


def explicit_prefilter(items: Tensor, clauses: Clauses, queries: Tensor, asked: Tensor, *, k: int) -> Tensor:
    """V2 as torch has it: the rows that pass are sliced out, a query at a time. Rows int64 [B, k], padded with -1."""
    passing = clauses.passes(asked, 0, len(items))
    found = torch.full((len(queries), k), -1, dtype=torch.int64, device=items.device)
    for query in range(len(queries)):
        rows = passing[query].nonzero().squeeze(1)
        best = (items.index_select(0, rows) @ queries[query]).topk(min(k, len(rows))).indices
        found[query, : len(best)] = rows[best]
    return found


def selected(scores: Tensor, k: int) -> Tensor:
    """The best k rows of scores [B, n], -1 where nothing has a score."""
    best, rows = scores.topk(min(k, scores.shape[1]))
    return torch.where(best > -torch.inf, rows, -1)


def sign_codes(vectors: Tensor) -> Tensor:
    """One bit a dimension, [n, d] to int32 [n, d / 32]: a Sign-OPORP of as many bins as dimensions.

    With bins of one value its permutation and its random signs change no number of matching bits.
    """
    n, d = vectors.shape
    bits = (vectors > 0).view(n, d // 32, 32).to(torch.int64)
    words = (bits << torch.arange(32, device=vectors.device)).sum(dim=2)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def sign_codes_of(chunks: Iterable[tuple[int, Tensor]], dimension: int) -> Tensor:
    """As ``sign_codes``, of rows that come chunk by chunk."""
    parts = [sign_codes(chunk) for _, chunk in chunks]
    return torch.cat(parts) if parts else torch.empty((0, dimension // 32), dtype=torch.int32)
