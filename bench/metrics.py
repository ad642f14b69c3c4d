"""How good a ranking is: nDCG against judged relevance, recall against the true best. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def ndcg_at(ranked: Sequence[str], relevance: Mapping[str, float], k: int) -> float:
    """nDCG@k of one query with linear gain and log2 discount, as trec_eval has it; 0 where nothing is relevant."""
    gains = [relevance.get(item, 0.0) for item in ranked[:k]]
    ideal = _discounted(sorted(relevance.values(), reverse=True)[:k])
    return _discounted(gains) / ideal if ideal > 0 else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


def mean_ndcg_at(rankings: Mapping[str, Sequence[str]], judged: Mapping[str, Mapping[str, float]], k: int) -> float:
    """Mean over the judged queries; one without a ranking counts as 0."""
    return float(np.mean([ndcg_at(rankings.get(query, ()), relevance, k) for query, relevance in judged.items()]))


def recall_at(found: npt.NDArray[Any], true: npt.NDArray[Any]) -> float:
    """Mean share of the true rows [B, k] that are among the rows found [B, >= k] for the same query."""
    k = true.shape[1]
    shares = [len(np.intersect1d(ours[:k], theirs)) / k for ours, theirs in zip(found, true, strict=True)]
    return float(np.mean(shares))


def recall_of_survivors(found: npt.NDArray[Any], true: npt.NDArray[Any]) -> float:
    """As ``recall_at`` where fewer than k rows may pass: true rows are padded with -1, the share is of what is.

    A query that nothing passes counts as answered in full.
    """
    shares = []
    for ours, theirs in zip(found, true, strict=True):
        wanted = theirs[theirs >= 0]
        shares.append(len(np.intersect1d(ours[: len(theirs)], wanted)) / len(wanted) if len(wanted) else 1.0)
    return float(np.mean(shares))
