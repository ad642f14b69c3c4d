"""What the filtered bench is held to, cell by cell. Pure: from what was measured to targets met or missed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.filtered_cell import FAISS, OURS, RECALL, CellResult
from bench.harness import Report, Samples

_GATHER = "exact_gather"
_DATABASES = ("milvus_lite", "lancedb")


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that must be at least the bound."""

    name: str
    value: float
    bound: float


def hold(prefix: str, result: CellResult, report: Report) -> None:
    for one in bounds(result):
        report.at_least(f"{prefix}.{one.name}", one.value, one.bound)


def bounds(result: CellResult) -> Iterator[Bound]:
    """Recall everywhere; speed where there are enough survivors, against those peers that reached the recall."""
    if result.k == 10:
        yield Bound("recall", result.default_recall, RECALL)
    if not result.counts_for_speed:
        return
    rate = result.cell.rate
    if rate <= 0.001:
        yield from _over("ready_over_gather", result, "ready", [_GATHER], 0.9)
    elif rate <= 0.1:
        yield from _over("ready_over_faiss", result, "ready", FAISS, 2.0)
    else:
        yield from _over("over_faiss", result, "ready", FAISS, 0.9)
    if rate <= 0.1:
        yield from _over("whole_over_best", result, "whole", [*FAISS, _GATHER], 2.0)
    for database in _DATABASES:
        yield from _over(f"over_{database}", result, "whole" if rate < 1 else "ready", [database], 1.0)


def _over(name: str, result: CellResult, column: str, peers: Iterable[str], bound: float) -> Iterator[Bound]:
    """Nothing where no peer was measured that reached the recall."""
    ours = _median(result, OURS, column)
    theirs = [
        _median(result, peer, column) for peer in peers if peer in result.engines and result.engines[peer].reached
    ]
    best = max((one for one in theirs if one is not None), default=None)
    if ours is not None and best is not None:
        yield Bound(name, ours / best, bound)


def _median(result: CellResult, engine: str, column: str) -> float | None:
    samples: Samples | None = getattr(result.engines[engine], column)
    return None if samples is None else samples.median
