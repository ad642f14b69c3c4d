"""Whether rows that come now lie where those did that inverted lists were trained among, and as evenly. Pure: is given
distances and sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.errors import CorruptData
from engine.types import Float32Array, Int64Array

FAR_SHARE = 0.1
"""Of rows that training did not see lie further from their list's centroid than ``Drift.far_distance``."""
_REMEMBERED_SHARE = 1 / 4
"""Of the rows that lists were trained among, as rows of late: of more, older ones count ever less."""
_EXCESS_TO_RETRAIN = 0.1
"""Rows of the same distribution had .035 at most, those of another one .13 to .9 (docs/log.md, 2026-11-26)."""
_IMBALANCE_TO_RETRAIN = 1.25
"""Times that of when lists were trained. Rows of the same distribution had 1.012 at most, a flood of one old cluster
that has twice the rows scanned 1.58 and more (docs/log.md, 2026-11-27)."""
_LEAST_ADDED_SHARE = 0.1
"""Of the rows that lists were trained among: fewer new ones are not worth a training, whatever they are like."""


@dataclass(frozen=True, slots=True)
class Drift:
    """``rows`` were added since lists were trained among ``live_rows``; of those of late ``far`` lie further than
    ``far_distance``, squared, from their centroid. Rows are counted, for one outlier moves a mean. ``imbalance``: of
    the lists when they were trained, or None: it was not always kept.
    """

    far_distance: float
    live_rows: int
    rows: int = 0
    far: float = 0.0
    imbalance: float | None = None

    @classmethod
    def from_unseen(cls, distances: Float32Array, *, live_rows: int, sizes: Int64Array) -> Drift:
        """As it begins: ``distances`` float32 [q], squared, of live rows that the lists were not trained on, q > 0;
        ``sizes`` int64 [nlist] of the lists.
        """
        far_distance = float(np.quantile(distances, 1 - FAR_SHARE, method="higher"))
        return cls(far_distance, live_rows, imbalance=imbalance_of(sizes))

    @classmethod
    def from_json(cls, stored: Any) -> Drift:
        """The inverse of ``dataclasses.asdict``.

        Raises:
            CorruptData: it is none.
        """
        if not isinstance(stored, Mapping):
            raise CorruptData(f"no drift of lists: {stored!r}")
        told = {name: one for name, one in stored.items() if one is not None}
        if not all(isinstance(one, int | float) for one in told.values()):
            raise CorruptData(f"no drift of lists: {stored!r}")
        try:
            return cls(**told)
        except TypeError as error:
            raise CorruptData(f"no drift of lists: {error!r}") from error

    def after(self, distances: Float32Array) -> Drift:
        """Once rows were added that lie at these squared distances, float32 [m], from their centroids."""
        n, most = self._remembered + len(distances), self._most
        far = self.far + int((distances > self.far_distance).sum())
        return replace(self, rows=self.rows + len(distances), far=far * min(1.0, most / max(n, 1)))

    @property
    def excess(self) -> float:
        """Far rows of late beyond those to be expected, as a share of the rows that are remembered; at least 0."""
        return max(0.0, self.far - FAR_SHARE * self._remembered) / self._most

    @property
    def wants_training(self) -> bool:
        """Whether rows come from another distribution, and enough have come that lists for them pay."""
        return self._has_enough and self.excess >= _EXCESS_TO_RETRAIN

    def wants_other_lists(self, sizes: Int64Array) -> bool:
        """Whether rows, far or not, have gone to so few lists that others would be clearly shorter to scan; ``sizes``
        int64 [nlist] as they are now. False where it is not known how the lists were.
        """
        return self._has_enough and self.imbalance_over_trained(sizes) >= _IMBALANCE_TO_RETRAIN

    def imbalance_over_trained(self, sizes: Int64Array) -> float:
        """How uneven lists of ``sizes`` int64 [nlist] are, over what they were when they were trained; 0 where that is
        not known.
        """
        return imbalance_of(sizes) / self.imbalance if self.imbalance else 0.0

    @property
    def _has_enough(self) -> bool:
        return self.rows >= _LEAST_ADDED_SHARE * self.live_rows

    @property
    def _most(self) -> float:
        return max(1.0, _REMEMBERED_SHARE * self.live_rows)

    @property
    def _remembered(self) -> float:
        return min(self.rows, self._most)


def imbalance_of(sizes: Int64Array) -> float:
    """How many times as long the list that a row is in is, on average, as lists on average: faiss's imbalance factor of
    ``sizes`` int64 [nlist]. 1 where all are of one length; growth alone does not change it.
    """
    lengths = sizes.astype(np.float64)
    return float(len(lengths) * (lengths @ lengths) / max(1.0, lengths.sum() ** 2))
