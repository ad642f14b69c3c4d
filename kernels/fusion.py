"""What a score has beside similarity, for the kernels that choose the best rows: fusion comes before selection.

The score of row r for query b is ``scales[b] * similarity + <weights[b], features[r]> + extras[b][r]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.arrays import Float32Array


class Fusion(NamedTuple):
    """``scales`` float32 [B]; ``weights`` float32 [B, F]; ``features``: segments as those of the vectors, C-contiguous
    float32 [SEGMENT_ROWS, F], none where F is 0; ``extras``: a float32 array of all rows for each query, or None.
    """

    scales: Float32Array
    weights: Float32Array
    features: Sequence[Float32Array]
    extras: Sequence[Float32Array | None]

    def of(self, places: slice) -> Fusion:
        """That of some queries."""
        return self._replace(scales=self.scales[places], weights=self.weights[places], extras=list(self.extras[places]))

    @property
    def in_similarity(self) -> Float32Array:
        """The weights where a similarity counts as 1: float32 [B, F]; scales must be above 0."""
        return np.asarray(self.weights / self.scales[:, None], np.float32)


class ListExtremes(NamedTuple):
    """The least and the largest value of each feature among the rows of each inverted list: float32 [nlist, F] each,
    inf and -inf where a list has none.
    """

    lows: Float32Array
    highs: Float32Array

    def bounds(self, weights: Float32Array) -> Float32Array:
        """What features weighted so add to a score at most, list by list: float32 [B, nlist]; 0 for empty lists."""
        has_rows = self.lows <= self.highs
        lows, highs = np.where(has_rows, self.lows, 0), np.where(has_rows, self.highs, 0)
        return np.asarray(np.maximum(weights, 0) @ highs.T + np.minimum(weights, 0) @ lows.T, np.float32)


def no_extremes(nlist: int, n_features: int) -> ListExtremes:
    """Those of lists without rows."""
    shape = (nlist, n_features)
    return ListExtremes(np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32))
