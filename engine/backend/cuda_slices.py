"""Queries in slices that fit a device's working memory, and their answers as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from engine.backend.protocol import TopK

_WORKING_BYTES = 1 << 30
"""Beside rows and lists: queries that would take more together are searched in slices."""


_MASKS_AND_SCORES = 1 / 8 + 8 / 128
"""Bytes of a row: a bit of a mask, and its part of the best key of a tile."""


def batch_bytes(n_rows: int, n_queries: int = 1024) -> int:
    """About what an exact scan of so many rows takes beside them, each query with a filter of its own."""
    of_query = int(n_rows * _MASKS_AND_SCORES)
    return min(n_queries * of_query, max(_WORKING_BYTES, of_query))


def slices(n_queries: int, working_bytes: int) -> Iterator[slice]:
    """Of so many queries, which take ``working_bytes`` together, as many at a time as there is memory for."""
    size = max(1, n_queries * _WORKING_BYTES // max(working_bytes, 1))
    return (slice(first, min(first + size, n_queries)) for first in range(0, n_queries, size))


def joined(parts: Sequence[TopK]) -> TopK:
    return TopK(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))
