"""What a score has beside similarity, as compiled kernels are told of it: see ``kernels.fusion``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels._cpu_addresses import segment_addresses
from kernels._cpu_jit import compiled, load
from kernels._cpu_panel import PANEL_QUERIES, pack_queries
from kernels.arrays import Float32Array, Int64Array
from kernels.fusion import Fusion

_FLOAT32 = np.zeros(0, np.float32)
FLOAT_BYTES = 4


class Fused(NamedTuple):
    """``bases``: address of each segment of features; ``panels`` and ``lane_scales``: weights and scales as the panels
    of queries have them, zeros in the lanes beyond B; ``extras``: an address for each query, 0 where there is none.
    """

    is_on: bool
    bases: Int64Array
    n_features: int
    weights: Float32Array
    scales: Float32Array
    panels: Float32Array
    lane_scales: Float32Array
    extras: Int64Array


def fused_of(fusion: Fusion | None, places: slice, end_row: int) -> Fused:
    """What the kernels are told for some of the queries; the fusion must live as long as that is used."""
    if fusion is None:
        return _NOT_FUSED
    own = fusion.of(places)
    weights = np.array(own.weights, np.float32, order="C")
    scales = np.array(own.scales, np.float32)
    n_queries, n_features = weights.shape
    lane_scales = np.zeros(-(-n_queries // PANEL_QUERIES) * PANEL_QUERIES, np.float32)
    lane_scales[:n_queries] = scales
    assert all(part.dtype == np.float32 and part.shape[1] == n_features for part in own.features)
    assert all(extra is None or (extra.dtype == np.float32 and len(extra) >= end_row) for extra in own.extras)
    return Fused(
        True,
        segment_addresses(own.features, end_row) if n_features else np.zeros(0, np.int64),
        n_features,
        weights,
        scales,
        pack_queries(weights),
        lane_scales,
        np.array([0 if extra is None else extra.ctypes.data for extra in own.extras], np.int64),
    )


_NOT_FUSED = Fused(
    False,
    np.zeros(0, np.int64),
    0,
    np.zeros((0, 0), np.float32),
    np.zeros(0, np.float32),
    np.zeros((0, 0, PANEL_QUERIES), np.float32),
    np.zeros(0, np.float32),
    np.zeros(0, np.int64),
)


@compiled
def feature_address(fused: Fused, row: int) -> int:
    """Where the features of a row lie."""
    address: int = fused.bases[row >> 16] + (row & 65535) * fused.n_features * FLOAT_BYTES
    return address


@compiled
def weighted_features(fused: Fused, query: int, row: int) -> np.float32:
    total = np.float32(0)
    if fused.n_features > 0:
        address = feature_address(fused, row)
        for i in range(fused.n_features):
            total += load(_FLOAT32, address, i) * fused.weights[query, i]
    return total


@compiled
def fused_score(fused: Fused, query: int, row: int, similarity: np.float32) -> np.float32:
    total: np.float32 = fused.scales[query] * similarity + weighted_features(fused, query, row)
    if fused.extras[query] != 0:
        total += load(_FLOAT32, fused.extras[query], row)
    return total


@compiled
def fuse_rows(fused: Fused, query: int, rows: Int64Array, count: int, scores: Float32Array) -> None:
    """Turn the similarities ``scores[:count]`` of ``rows[:count]`` into scores."""
    for j in range(count):
        scores[j] = fused_score(fused, query, rows[j], scores[j])
