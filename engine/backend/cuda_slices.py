"""Queries in slices that fit a device's working memory, and their answers as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from engine.backend.protocol import TopK

_WORKING_BYTES = 1 << 30
"""Beside rows and lists: queries that would take more together are searched in slices."""


def slices(n_queries: int, working_bytes: int) -> Iterator[slice]:
    """Of so many queries, which take ``working_bytes`` together, as many at a time as there is memory for."""
    size = max(1, n_queries * _WORKING_BYTES // max(working_bytes, 1))
    return (slice(first, min(first + size, n_queries)) for first in range(0, n_queries, size))


def joined(parts: Sequence[TopK]) -> TopK:
    return TopK(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))
