"""The tuning table: which (reach, slack) finds which recall at what cost, by k and selectivity, as measured.

Pure: it looks up what ``engine.index.measuring`` found, and knows nothing of how.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from engine.errors import CorruptData
from engine.index.costs import Costs, measure_costs, measure_costs_on

__all__ = ["TARGETS", "Band", "Costs", "Setting", "Tuning", "measure_costs", "measure_costs_on", "monotone"]

TARGETS = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99)


REACH_SLOPE = 0.1
"""By how much a query reaches further for each doubling of the lists it has met (docs/adr/0006-ended-by-score.md)."""

_LEAST_DEPTH = 1024
_DEPTH_PER_K = 32
_MOST_DEPTH = 8192


_MISSES_ALLOWED = 1 / 3
"""Settings tuned with queries made of stored rows promise too much, for real ones lie further off: aim to miss a third
of what may be (docs/adr/0017-queries-that-stand-in.md).
"""
_MISSES_OF_GROWTH = 0.45
"""The power of growth that misses go with: 1.23 to 1.6 times as many with each doubling (docs/log.md, 2026-11-27)."""
_WORK_APART = 2.0
"""Two settings tell what a row of work costs if the one has so many times the work of the other."""

_HIGHEST_AIM = 0.99
"""The highest target that is tuned; a request for more than that is taken as it is."""


def aim(recall_target: float, *, is_provisional: bool, growth: float = 1.0) -> float:
    """What to look up for the recall asked for; provisional where queries made of stored rows stood in for real ones.

    ``growth``: live rows over those that were there when it was measured.
    """
    misses = (1 - recall_target) * (_MISSES_ALLOWED if is_provisional else 1.0)
    misses /= math.pow(max(growth, 1.0), _MISSES_OF_GROWTH)
    return max(recall_target, min(round(1 - misses, 6), _HIGHEST_AIM))


def deepest(k: int) -> int:
    """Candidates that are kept at most where scores decide how many are rescored."""
    return max(min(max(_DEPTH_PER_K * k, _LEAST_DEPTH), _MOST_DEPTH), 2 * k)


@dataclass(frozen=True, slots=True)
class Setting:
    """How to search the lists, and the recall that queries not used for tuning had.

    ``reach`` and ``slack``: see ``kernels.packed_lists.ProbeLimits``. ``lists``, ``rows``, ``rescored``: what a query
    scanned and rescored on average, ``work`` as in ``Rescored``; ``most_lists``, ``most_rescored``: what none exceeded.
    ``seconds_b1`` is the wall time of a query alone, to compare with ``Costs``. ``seconds_b64`` is the processor time,
    over all threads, of one query of 64: settings compete by it, for busy neighbours disturb it less.
    """

    reach: float
    slack: float
    lists: float
    rows: float
    work: float
    rescored: float
    most_lists: int
    most_rescored: int
    expected_recall: float
    seconds_b1: float
    seconds_b64: float


@dataclass(frozen=True, slots=True)
class Band:
    """The cheapest settings for one k where a share ``selectivity`` of the live rows passes, by recall target.

    ``settings`` ascend by target; a target that no setting reaches is not there.
    """

    k: int
    selectivity: float
    settings: tuple[tuple[float, Setting], ...]

    def reaching(self, recall_target: float) -> Setting | None:
        """The setting of a tuned target, or one between those of its neighbours: recall rises less steeply the further
        a query reaches, so that it has at least as much of it. The least one for a target below all.
        """
        below: tuple[float, Setting] | None = None
        for target, setting in self.settings:
            if target >= recall_target:
                if below is None or target == recall_target:
                    return setting
                share = (recall_target - below[0]) / (target - below[0])
                recall = _mix(below[1].expected_recall, setting.expected_recall, share)
                return replace(_between(below[1], setting, share), expected_recall=recall)
            below = (target, setting)
        return None


class Tuning:
    """All bands of one trained image, and what exact searches cost where it was measured.

    ``logged_queries``: live queries that it was measured with; 0 where some made of rows stood in. ``live_rows``: of
    the collection when it was; 0 where an old image does not tell.
    """

    def __init__(self, bands: Iterable[Band], costs: Costs, *, logged_queries: int = 0, live_rows: int = 0) -> None:
        self.costs = costs
        self.logged_queries = logged_queries
        self.live_rows = live_rows
        self.bands = tuple(sorted(bands, key=lambda band: (band.selectivity, band.k)))
        self._by_selectivity: dict[float, list[Band]] = {}
        for band in self.bands:
            self._by_selectivity.setdefault(band.selectivity, []).append(band)
        self._selectivities = tuple(self._by_selectivity)
        self._of_k = lru_cache(maxsize=1024)(self._interpolate_over_k)

    @property
    def is_provisional(self) -> bool:
        """Whether real queries may find less than was measured."""
        return self.logged_queries == 0

    def lookup(self, k: int, selectivity: float, recall_target: float) -> Setting | None:
        """The cheapest setting for that recall; None where none was measured to reach it, or k or filter lie beyond.

        Between bands all numbers are interpolated over the logarithms of k and selectivity.
        """
        below, above = _around(self._selectivities, min(selectivity, 1.0))
        if below is None or above is None:
            return None
        hard = self._of_k(below, k, recall_target)
        if below == above or hard is None:
            return hard
        easy = self._of_k(above, k, recall_target)
        return hard if easy is None else _between(easy, hard, _share(above, below, selectivity))

    def best(self, k: int, selectivity: float) -> Setting | None:
        """The setting of the highest target that any setting reaches; None where k or filter lie beyond."""
        tried = (self.lookup(k, selectivity, target) for target in reversed(TARGETS))
        return next((setting for setting in tried if setting is not None), None)

    def row_seconds(self, k: int, selectivity: float) -> float | None:
        """Processor seconds of one more row of work, in a batch; None where that was not measured.

        What a query costs whatever it scans is the same for all settings of a band, and no part of it.
        """
        below, _ = _around(self._selectivities, min(selectivity, 1.0))
        of_k = [] if below is None else [band for band in self._by_selectivity[below] if band.k >= k]
        for band in of_k[:1]:
            ascending = sorted((setting for _, setting in band.settings), key=lambda one: one.work)
            if ascending and ascending[-1].work >= _WORK_APART * ascending[0].work:
                seconds = ascending[-1].seconds_b64 - ascending[0].seconds_b64
                return max(seconds, 0.0) / (ascending[-1].work - ascending[0].work)
        return None

    def recall_at_least(
        self, k: int, selectivity: float, *, nprobe: int, depth: int, reach: float = math.inf, slack: float = math.inf
    ) -> float:
        """The best recall of a setting that goes no further, and by which no query met more lists or rescored more; 0
        where there is none.
        """
        below, _ = _around(self._selectivities, min(selectivity, 1.0))
        harder = [] if below is None else [band for band in self._by_selectivity[below] if band.k >= k]
        settings = (setting for band in harder[:1] for _, setting in band.settings)
        enough = (
            one.expected_recall
            for one in settings
            if one.most_lists <= nprobe and one.most_rescored <= depth and one.reach <= reach and one.slack <= slack
        )
        return max(enough, default=0.0)

    def _interpolate_over_k(self, selectivity: float, k: int, recall_target: float) -> Setting | None:
        """The setting for k at a selectivity that was measured; None where a band beside k has none, for what another
        has for more hits reaches less far for these.
        """
        bands = {band.k: band for band in self._by_selectivity[selectivity]}
        below, above = _around(tuple(bands), k)
        if above is None:
            return None
        more = bands[above].reaching(recall_target)
        if more is None or below is None or below == above:
            return more
        fewer = bands[below].reaching(recall_target)
        return None if fewer is None else _between(fewer, more, _share(below, above, k))

    def to_json(self) -> dict[str, Any]:
        return {
            "logged_queries": self.logged_queries,
            "live_rows": self.live_rows,
            "costs": asdict(self.costs),
            "bands": [asdict(band) for band in self.bands],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Tuning:
        """The inverse of ``to_json``.

        Raises:
            CorruptData: it is not what ``to_json`` gives.
        """
        try:
            bands = [_band(one) for one in stored["bands"]]
            return cls(
                bands,
                Costs(**stored["costs"]),
                logged_queries=int(stored.get("logged_queries", 0)),
                live_rows=int(stored.get("live_rows", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"not a tuning table: {error!r}") from error


def monotone(settings: Sequence[tuple[float, Setting]]) -> tuple[tuple[float, Setting], ...]:
    """Ascending targets such that none takes longer than a higher one: where noise made it so, it gets the higher's."""
    cleaned: list[tuple[float, Setting]] = []
    for target, setting in sorted(settings, key=lambda one: one[0], reverse=True):
        higher = cleaned[-1][1] if cleaned else setting
        cleaned.append((target, higher if higher.seconds_b64 < setting.seconds_b64 else setting))
    return tuple(reversed(cleaned))


def _band(stored: Mapping[str, Any]) -> Band:
    settings = tuple((float(target), Setting(**one)) for target, one in stored["settings"])
    return Band(int(stored["k"]), float(stored["selectivity"]), settings)


def _around(ascending: Sequence[float], value: float) -> tuple[Any, Any]:
    """The nearest entries not above and not below ``value``; None where there is none."""
    below = next((one for one in reversed(ascending) if one <= value), None)
    above = next((one for one in ascending if one >= value), None)
    return below, above


def _share(start: float, end: float, value: float) -> float:
    """How far ``value`` lies from ``start`` to ``end`` in logarithms, 0 to 1."""
    return math.log(value / start) / math.log(end / start)


def _between(easy: Setting, hard: Setting, share: float) -> Setting:
    """The recall is the smaller one and the most the larger, as nothing was measured here."""
    return Setting(
        reach=_mix(easy.reach, hard.reach, share),
        slack=_mix(easy.slack, hard.slack, share),
        lists=_mix(easy.lists, hard.lists, share),
        rows=_mix(easy.rows, hard.rows, share),
        work=_mix(easy.work, hard.work, share),
        rescored=_mix(easy.rescored, hard.rescored, share),
        most_lists=max(easy.most_lists, hard.most_lists),
        most_rescored=max(easy.most_rescored, hard.most_rescored),
        expected_recall=min(easy.expected_recall, hard.expected_recall),
        seconds_b1=_mix(easy.seconds_b1, hard.seconds_b1, share),
        seconds_b64=_mix(easy.seconds_b64, hard.seconds_b64, share),
    )


def _mix(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
