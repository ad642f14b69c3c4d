"""Exact search in two passes: by int8 codes, then by vectors; what that does not prove is scanned.

Runs in the search lane's thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, TopK
from engine.index.version_index import VersionIndex
from engine.pipeline.cohorts import Cohort
from engine.types import Float32Array, Uint8Array


def coarse_scan(
    backend: Backend, index: VersionIndex, vectors: Float32Array, group: Sequence[Cohort], *, k: int, depth: int
) -> tuple[TopK, npt.NDArray[np.bool_]]:
    """What a masked scan finds for ``vectors`` float32 [B, d], those of ``group``; and which were proven, bool [B].

    The ``depth`` best rows by codes are rescored; rows without codes are scanned.
    """
    masks = [bits for cohort in group for bits in cohort.bits]
    top, proven = coarse_scan_from(0, backend, index, vectors, masks, k=k, depth=depth)
    _learn(index, group, proven, depth=max(depth, k), k=k)
    return top, proven


def coarse_scan_from(
    first_row: int,
    backend: Backend,
    index: VersionIndex,
    vectors: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    k: int,
    depth: int,
) -> tuple[TopK, npt.NDArray[np.bool_]]:
    """As ``coarse_scan``, of the rows from ``first_row`` on, some of which have codes; nothing is learned of it."""
    codes, n_rows = index.coarse.codes, index.rows.n_rows
    assert codes is not None
    found = codes.search(index.vectors, vectors, masks, k=k, depth=max(depth, k), first_row=first_row)
    top = found.top
    if codes.n_rows < n_rows:
        tail = backend.masked_scan(index.vectors, vectors, masks, k=k, first_row=codes.n_rows)
        top = backend.merge_topk([top, tail], k=k)
    if not found.proven.all():
        wanted = ~found.proven
        own = [mask for mask, is_wanted in zip(masks, wanted.tolist(), strict=True) if is_wanted]
        exact = backend.masked_scan(index.vectors, vectors[wanted], own, k=k, first_row=first_row)
        rows, scores = top.rows.copy(), top.scores.copy()
        rows[wanted], scores[wanted] = exact.rows, exact.scores
        top = TopK(rows, scores)
    return top, found.proven


def _learn(index: VersionIndex, group: Sequence[Cohort], proven: npt.NDArray[np.bool_], *, depth: int, k: int) -> None:
    """A query of which every row that passes is rescored is proven whatever the depth, and tells nothing of it."""
    index.coarse.count(proven)
    survivors = np.concatenate([cohort.survivors for cohort in group])
    index.coarse.learn(depth / k, proven[survivors >= depth])
