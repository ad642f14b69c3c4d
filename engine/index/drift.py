"""Whether rows that come now lie where those did that inverted lists were trained among. Pure: is given distances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.errors import CorruptData
from engine.types import Float32Array

FAR_SHARE = 0.1
"""Of rows that training did not see lie further from their list's centroid than ``Drift.far_distance``."""
_REMEMBERED_SHARE = 1 / 4
"""Of the rows that lists were trained among, as rows of late: of more, older ones count ever less."""
_EXCESS_TO_RETRAIN = 0.1
"""Rows of the same distribution had .035 at most, those of another one .13 to .9 (docs/log.md, 2026-11-26)."""
_LEAST_ADDED_SHARE = 0.1
"""Of the rows that lists were trained among: fewer new ones are not worth a training, whatever they are like."""


@dataclass(frozen=True, slots=True)
class Drift:
    """``rows`` were added since lists were trained among ``live_rows``; of those of late ``far`` lie further than
    ``far_distance``, squared, from their centroid. Rows are counted, for one outlier moves a mean.
    """

    far_distance: float
    live_rows: int
    rows: int = 0
    far: float = 0.0

    @classmethod
    def from_unseen(cls, distances: Float32Array, *, live_rows: int) -> Drift:
        """As it begins: ``distances`` float32 [q], squared, of live rows that the lists were not trained on, q > 0."""
        return cls(float(np.quantile(distances, 1 - FAR_SHARE, method="higher")), live_rows)

    @classmethod
    def from_json(cls, stored: Any) -> Drift:
        """The inverse of ``dataclasses.asdict``.

        Raises:
            CorruptData: it is none.
        """
        if not isinstance(stored, Mapping) or not all(isinstance(one, int | float) for one in stored.values()):
            raise CorruptData(f"no drift of lists: {stored!r}")
        try:
            return cls(**stored)
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
        return self.rows >= _LEAST_ADDED_SHARE * self.live_rows and self.excess >= _EXCESS_TO_RETRAIN

    @property
    def _most(self) -> float:
        return max(1.0, _REMEMBERED_SHARE * self.live_rows)

    @property
    def _remembered(self) -> float:
        return min(self.rows, self._most)
