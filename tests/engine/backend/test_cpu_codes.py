from __future__ import annotations

import numpy as np

from engine.backend.cpu_codes import CpuCodes
from engine.backend.protocol import SEGMENT_ROWS, Vectors
from engine.types import Float32Array

HIDING = np.array([[127, 0.4], [127, 0.3], [127, 0.2]], np.float32)
"""Their codes are the same, but not what the query [0, -1] finds in them."""


def vectors_of(rows: Float32Array) -> Vectors:
    segments = [rows[at : at + SEGMENT_ROWS] for at in range(0, len(rows), SEGMENT_ROWS)]
    return Vectors(segments, len(rows), rows.shape[1], "float32", "dot")


def mask_of(flags: list[bool] | np.ndarray) -> np.ndarray:
    packed = np.packbits(np.asarray(flags, np.bool_), bitorder="little")
    return np.pad(packed, (0, -len(packed) % 8))


def test_what_any_slice_loses_counts_for_every_proof_after_it() -> None:
    rows = np.concatenate([HIDING, np.zeros((5, 2), np.float32)])
    codes = CpuCodes(2)
    for first, end in ((0, 3), (3, 8)):
        codes.add(rows[first:end], np.ones(end - first, np.bool_))
    query, mask = np.array([[0, -1]], np.float32), mask_of([True] * 3 + [False] * 5)
    shallow = codes.search(vectors_of(rows), query, [mask], k=1, depth=1)
    assert not shallow.proven.any()
    whole = codes.search(vectors_of(rows), query, [mask], k=1, depth=4)
    assert whole.proven.all()
    assert whole.top.rows.tolist() == [[2]]


def test_rows_of_several_segments_are_found_and_a_depth_below_k_is_k() -> None:
    rows = np.zeros((SEGMENT_ROWS + 100, 3), np.float32)
    best = [5, SEGMENT_ROWS - 1, SEGMENT_ROWS, SEGMENT_ROWS + 99]
    rows[best] = [[4, 0, 0], [3, 0, 0], [2, 0, 0], [1, 0, 0]]
    codes = CpuCodes(3)
    for first, end in ((0, 1000), (1000, SEGMENT_ROWS), (SEGMENT_ROWS, len(rows))):
        codes.add(rows[first:end], np.ones(end - first, np.bool_))
    assert codes.n_rows == len(rows)
    assert codes.memory_bytes == len(rows) * (16 + 16)
    everything = mask_of(np.ones(len(rows), np.bool_))
    found = codes.search(vectors_of(rows), np.eye(1, 3, dtype=np.float32), [everything], k=4, depth=1)
    assert found.top.rows.tolist() == [best]
    assert found.top.scores.tolist() == [[4, 3, 2, 1]]
