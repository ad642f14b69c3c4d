"""What every bench shares: its command line, the facts of the machine, fair timing, and the report it ends with.

Knows nothing of what is measured. A bench is a function of (Options, Report) that is handed to ``run``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import ROOT, MachineWatch, commit

SEED = 20_230_717
MISSED = 3
"""Exit status where a target was missed; Python's own for what failed is 1."""
NO_DATA = 4
"""Exit status where a data set is not there."""
progress = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; ``extra`` has a bench's own arguments."""

    quick: bool
    data: Path
    out: Path | None
    extra: argparse.Namespace


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


@dataclass(slots=True)
class Report:
    """Figures in the order they were found, and the targets among them."""

    bench: str
    figures: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)

    def figure(self, name: str, value: object) -> None:
        """One number, word, list or mapping of them; told on stderr at once."""
        self.figures[name] = _plain(value)
        progress.print(f"  [dim]{name}[/dim] {_shown(self.figures[name])}")

    def keep(self, name: str, value: object) -> None:
        """As ``figure``, for what is told in another way."""
        self.figures[name] = _plain(value)

    def at_least(self, name: str, value: float, bound: float) -> None:
        self._target(name, Target(float(value), bound, is_floor=True))

    def at_most(self, name: str, value: float, bound: float) -> None:
        self._target(name, Target(float(value), bound, is_floor=False))

    def _target(self, name: str, target: Target) -> None:
        self.targets[name] = target
        told = target.as_json()
        verdict = "[green]met[/green]" if target.ok else "[red]missed[/red]"
        progress.print(f"  target [bold]{name}[/bold] {told['value']} {told['target']} {verdict}")

    @property
    def ok(self) -> bool:
        return all(target.ok for target in self.targets.values())

    def as_json(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "commit": commit(),
            "machine": dict(machine),
            "figures": self.figures,
            "targets": {name: target.as_json() for name, target in self.targets.items()},
        }


def run(
    name: str,
    body: Callable[[Options, Report], None],
    *,
    arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Run a bench as a command: progress on stderr, a table and then one JSON line on stdout.

    Returns the exit status: 0, MISSED or NO_DATA.
    """
    options = _options(name, arguments, argv)
    report = Report(name)
    progress.print(f"[bold]{name}[/bold]{' --quick' if options.quick else ''}")
    # As an exception, so that whatever the bench started is stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    watch = MachineWatch()
    began = time.perf_counter()
    try:
        body(options, report)
    except FileNotFoundError as error:
        if error.filename is None or not Path(error.filename).is_relative_to(options.data):
            raise
        progress.print(
            f"[red]{name}: there is no {error.filename}: --data or EBR_DATA says where, CONTRIBUTING.md what[/red]"
        )
        return NO_DATA
    report.figure("quick", options.quick)
    report.figure("wall_s", time.perf_counter() - began)
    line = report.as_json(watch.facts())
    _print_tables(report)
    print(json.dumps(line), flush=True)
    if options.out is not None:
        append_line(options.out, line)
    return 0 if report.ok else MISSED


def _options(
    name: str, arguments: Callable[[argparse.ArgumentParser], None] | None, argv: Sequence[str] | None
) -> Options:
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and queries: ends within a minute")
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of the development data sets")
    parser.add_argument("--out", type=Path, help="append the JSON line to this file, such as bench/results/NAME.jsonl")
    if arguments is not None:
        arguments(parser)
    parsed = parser.parse_args(argv)
    return Options(parsed.quick, parsed.data, parsed.out, parsed)


def default_data() -> Path:
    return Path(os.environ.get("EBR_DATA", ROOT.parent / "shared" / "data"))


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


# Timing


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


# Printing


def rounded(value: float) -> float:
    """Five significant digits: more than any of these measurements carries."""
    return float(f"{value:.5g}")


def _plain(value: Any) -> Any:
    """JSON's own types, floats rounded."""
    if isinstance(value, Samples):
        return value.figures()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(one) for one in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    return rounded(float(value))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _print_tables(report: Report) -> None:
    out = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False)
    figures = Table("figure", "value", title=report.bench, title_justify="left")
    for name, value in report.figures.items():
        figures.add_row(name, _shown(value))
    out.print(figures)
    if not report.targets:
        return
    targets = Table("target", "value", "wanted", "")
    for name, target in report.targets.items():
        told = target.as_json()
        targets.add_row(name, _shown(told["value"]), told["target"], "met" if target.ok else "MISSED")
    out.print(targets)
