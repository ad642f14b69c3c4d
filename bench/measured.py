"""Measurements of one thing and how they are taken and told: samples, targets, turns. Needs NumPy and nothing else."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20_230_717
MISSED = 3
"""Exit status where a target was missed; Python's own for what failed is 1."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Repeated measurements of one thing, in the order they were taken."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def minimum(self) -> float:
        return min(self.values)

    @property
    def maximum(self) -> float:
        return max(self.values)

    def figures(self) -> dict[str, float]:
        """For a report: median with spread."""
        return {"median": rounded(self.median), "min": rounded(self.minimum), "max": rounded(self.maximum)}


@dataclass(frozen=True, slots=True)
class Target:
    """A figure held against its bound; ``is_floor`` says from which side."""

    value: float
    bound: float
    is_floor: bool

    @property
    def ok(self) -> bool:
        return self.value >= self.bound if self.is_floor else self.value <= self.bound

    def as_json(self) -> dict[str, Any]:
        return {
            "value": rounded(self.value),
            "target": f"{'>=' if self.is_floor else '<='} {self.bound:g}",
            "ok": self.ok,
        }


def seconds_of(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def interleaved(
    variants: Mapping[str, Callable[[], float]], *, rounds: int, warm_up_rounds: int = 1
) -> dict[str, Samples]:
    """Measure variants in turn, A B A B, so that a busy neighbour falls on all of them; each call gives its figure.

    The warm-up rounds are measured too, and thrown away.
    """
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(warm_up_rounds + rounds):
        for name, measure in variants.items():
            value = measure()
            if number >= warm_up_rounds:
                taken[name].append(value)
    return {name: Samples(tuple(values)) for name, values in taken.items()}


def percentiles(values: Iterable[float], ranks: Sequence[float] = (50, 90, 99)) -> dict[str, float]:
    """By the nearest rank, so that each is a value that was measured: {"p50": ..., ...}."""
    ordered = np.sort(np.fromiter(values, np.float64))
    at = np.percentile(ordered, ranks, method="inverted_cdf")
    return {f"p{rank:g}": float(value) for rank, value in zip(ranks, at, strict=True)}


# Telling


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def rounded(value: float) -> float:
    """Five significant digits: more than any of these measurements carries."""
    return float(f"{value:.5g}")


def plain(value: Any) -> Any:
    """JSON's own types, floats rounded."""
    if isinstance(value, Samples):
        return value.figures()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(one) for one in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    return rounded(float(value))
