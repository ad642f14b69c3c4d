"""What a score has beside similarity, for the kernels that choose the best rows: fusion comes before selection.

The score of row r for query b is ``scales[b] * similarity + <weights[b], features[r]> + extras[b][r]``.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kernels.arrays import SEGMENT_ROWS, Float32Array, Float64Array, Int64Array

_CHANGES_KEPT = 4096


@dataclass(eq=False)
class FeatureStamps:
    """What has become of features since they began, for who keeps a copy of them; whoever fills them tells it here.

    ``n_rows``: rows that have features, of which more may come. ``changes``: of each segment with such rows, how often
    some that had features before were given others; ``n_changes``: of all segments.
    """

    n_rows: int = 0
    changes: list[int] = field(default_factory=list)
    n_changes: int = 0
    _late: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_CHANGES_KEPT))

    def note_change(self, first_row: int, end_row: int) -> None:
        """Rows [first_row, end_row) of one segment have other features."""
        self.changes[first_row // SEGMENT_ROWS] += 1
        self.n_changes += 1
        self._late.append((first_row, end_row))

    def changes_since(self, n_changes: int) -> list[tuple[int, int]] | None:
        """The spans of rows that were changed after so many changes; None where that is not known any more."""
        missed = self.n_changes - n_changes
        if missed > len(self._late):
            return None
        return list(itertools.islice(reversed(self._late), missed))[::-1]


class Fusion(NamedTuple):
    """``scales`` float32 [B]; ``weights`` float32 [B, F]; ``features``: segments as those of the vectors, C-contiguous
    float32 [SEGMENT_ROWS, F], none where F is 0; ``extras``: a float32 array of all rows for each query, or None.
    ``stamps``: of the features, None where nobody may keep a copy of them.
    """

    scales: Float32Array
    weights: Float32Array
    features: Sequence[Float32Array]
    extras: Sequence[Float32Array | None]
    stamps: FeatureStamps | None = None

    def of(self, places: slice) -> Fusion:
        """That of some queries."""
        return self._replace(scales=self.scales[places], weights=self.weights[places], extras=list(self.extras[places]))

    @property
    def in_similarity(self) -> Float32Array:
        """The weights where a similarity counts as 1: float32 [B, F]; scales must be above 0."""
        return np.asarray(self.weights / self.scales[:, None], np.float32)


class ListExtremes(NamedTuple):
    """Of each feature among the rows of each inverted list the least and the largest value, float32 [nlist, F], inf and
    -inf where a list has none; and the ``sums`` of the values, float64 [nlist, F], of ``counts`` rows, int64 [nlist].
    """

    lows: Float32Array
    highs: Float32Array
    sums: Float64Array
    counts: Int64Array

    def bounds(self, weights: Float32Array) -> Float32Array:
        """What features weighted so add to a score at most, list by list: float32 [B, nlist]; 0 for empty lists."""
        if weights.shape == (1, 1):
            own = self.highs if weights[0, 0] > 0 else self.lows
            bounds = np.zeros((1, len(own)), np.float32)
            np.multiply(own[:, 0], weights[0, 0], out=bounds, where=self.counts > 0)
            return bounds
        has_rows = self.counts[:, None] > 0
        lows, highs = np.where(has_rows, self.lows, 0), np.where(has_rows, self.highs, 0)
        return np.asarray(np.maximum(weights, 0) @ highs.T + np.minimum(weights, 0) @ lows.T, np.float32)

    def means(self, weights: Float32Array) -> Float32Array:
        """What they add on average: float32 [B, nlist]."""
        own = (self.sums / np.maximum(self.counts, 1)[:, None]).astype(np.float32)
        return np.asarray(weights @ own.T, np.float32)


def no_extremes(nlist: int, n_features: int) -> ListExtremes:
    """Those of lists without rows."""
    shape = (nlist, n_features)
    lows, highs = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
    return ListExtremes(lows, highs, np.zeros(shape, np.float64), np.zeros(nlist, np.int64))


def list_ranges(reaches: Float32Array, scales: Float32Array) -> Float32Array:
    """How far above its centroid, as a difference of scores, a list is taken to hold rows: float32 [B]; infinite where
    the reach is.
    """
    ranges = np.full(len(reaches), np.inf, np.float32)
    return np.multiply(reaches, scales, out=ranges, where=np.isfinite(reaches))


def expected_gains(bounds: Float32Array, means: Float32Array, ranges: Float32Array) -> Float32Array:
    """By how much features are expected to lift the best row of each list: float32 [B, nlist].

    A list is taken to hold rows that score up to ``ranges`` [B] above its centroid by similarity, and up to ``bounds``
    above the mean by features; seldom both at once. Two such parts that know nothing of each other reach as far as the
    root of the sum of their squares, beyond the mean of the features; but where features spread far, the row that has
    the most of them has a similarity of its own, so that it is half a range beyond the spread at least. Where a range
    is infinite the gain is the bound.
    """
    spread = np.maximum(bounds - means, 0)
    own = ranges[:, None]
    is_ended = np.isfinite(own)
    reach = np.where(is_ended, np.maximum(own, 0), 0)
    both = np.maximum(np.sqrt(reach * reach + spread * spread), spread + reach * np.float32(0.5))
    gains = means + (both - reach)
    return np.asarray(np.where(is_ended, gains, bounds), np.float32)
