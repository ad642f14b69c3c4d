"""Every bench, one after another, each in its own process; the exit status is 1 where one missed a target or failed,
or its data set is not there.

Quick unless ``--full``. With ``--out DIR`` each appends its JSON line to DIR/NAME.jsonl. Two are apart: `bench.gpu`
needs a card and has a command line of its own, `bench.live` takes minutes for each of its parts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness import MISSED, NO_DATA, default_data, progress
from bench.machine import ROOT

NAMES = ("kernels", "filters", "planner", "encoder", "quality", "e2e", "memory", "jobs", "filtered", "bigann", "rank")
_VERDICTS = {
    0: "[green]all targets met[/green]",
    MISSED: "[red]a target was missed[/red]",
    NO_DATA: "[red]a data set is not there[/red]",
}


def main(argv: Sequence[str] | None = None) -> int:
    asked = _arguments(argv)
    statuses = {name: _run(name, asked) for name in asked.names}
    for name, status in statuses.items():
        progress.print(f"{name}: {_VERDICTS.get(status, f'[red]failed with status {status}[/red]')}")
    return int(any(statuses.values()))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument(
        "names", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}; all unless given"
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--quick", action="store_true", help="a minute for each bench (the default)")
    pace.add_argument("--full", action="store_true", help="more repetitions and queries")
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of the development data sets")
    parser.add_argument("--out", type=Path, metavar="DIR", help="append each JSON line to DIR/NAME.jsonl")
    asked = parser.parse_args(argv)
    if unknown := set(asked.names) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: there is no such bench; there are {', '.join(NAMES)}")
    return asked


def _run(name: str, asked: argparse.Namespace) -> int:
    command = [sys.executable, "-m", f"bench.{name}", "--data", str(asked.data)]
    if not asked.full:
        command.append("--quick")
    if asked.out is not None:
        command += ["--out", str(asked.out / f"{name}.jsonl")]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
