"""What every bench shares: its command line, the facts of the machine, fair timing, and the report it ends with.

Knows nothing of what is measured. A bench is a function of (Options, Report) that is handed to ``run``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.machine import ROOT, MachineWatch, commit
from bench.measured import (
    MISSED,
    SEED,
    Samples,
    Target,
    append_line,
    interleaved,
    percentiles,
    plain,
    rounded,
    seconds_of,
)

__all__ = [
    "MISSED",
    "NO_DATA",
    "SEED",
    "Options",
    "Report",
    "Samples",
    "Target",
    "append_line",
    "default_data",
    "interleaved",
    "percentiles",
    "progress",
    "rounded",
    "run",
    "seconds_of",
]

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


@dataclass(slots=True)
class Report:
    """Figures in the order they were found, and the targets among them."""

    bench: str
    figures: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)

    def figure(self, name: str, value: object) -> None:
        """One number, word, list or mapping of them; told on stderr at once."""
        self.figures[name] = plain(value)
        progress.print(f"  [dim]{name}[/dim] {_shown(self.figures[name])}")

    def keep(self, name: str, value: object) -> None:
        """As ``figure``, for what is told in another way."""
        self.figures[name] = plain(value)

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


# Printing


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
