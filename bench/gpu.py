"""What a GPU does, in parts of less than three minutes each: `python -m bench.gpu --part scan`.

Each line goes at once to bench/results/CARD-gpu.jsonl. With ``--device host`` every part runs tiny where there is no
GPU, our kernels by the C++ shim of the tests: that tries the bench out, and its lines are printed and kept nowhere.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.gpu_imports import check, print_check
from bench.gpu_report import Lines
from bench.machine import ROOT
from bench.measured import MISSED

if TYPE_CHECKING:
    from bench.gpu_bed import Bed

CANNOT_RUN = 5
"""Exit status where something that a part needs is missing."""


@dataclass(frozen=True, slots=True)
class Part:
    """``rows`` and ``small_rows``: how many are searched unless told; ``seconds``: what a comparison may take."""

    run: Callable[[Bed, Lines, int, argparse.Namespace], None]
    rows: int
    small_rows: int
    seconds: float


def _ceilings(bed: Bed, lines: Lines, rows: int, asked: argparse.Namespace) -> None:
    _module("ceilings").measure(bed, lines)


def _scan(bed: Bed, lines: Lines, rows: int, asked: argparse.Namespace) -> None:
    _module("scan").measure(bed, lines, n_rows=rows)


def _linr(bed: Bed, lines: Lines, rows: int, asked: argparse.Namespace) -> None:
    _module("linr").measure(bed, lines, n_rows=rows, checkout=asked.retrieve_checkout)


def _ivfpq(bed: Bed, lines: Lines, rows: int, asked: argparse.Namespace) -> None:
    _module("ivfpq").measure(bed, lines, n_rows=rows, rates=asked.rate)


def _live(bed: Bed, lines: Lines, rows: int, asked: argparse.Namespace) -> None:
    _module("live").measure(bed, lines, n_rows=rows)


def _e2e(bed: Bed, lines: Lines, rows: int, asked: argparse.Namespace) -> None:
    _module("e2e").measure(bed, lines)


PARTS = {
    "ceilings": Part(_ceilings, 0, 0, 5.0),
    "scan": Part(_scan, 10_000_000, 1500, 10.0),
    "linr": Part(_linr, 15_500_000, 640, 5.0),
    "ivfpq": Part(_ivfpq, 10_000_000, 1500, 1.5),
    "live": Part(_live, 10_000_000, 1500, 3.0),
    "e2e": Part(_e2e, 0, 0, 5.0),
}


def main(argv: Sequence[str] | None = None) -> int:
    asked = _arguments(argv)
    if asked.device == "host":
        os.environ.setdefault("TRITON_INTERPRET", "1")  # asked for when Triton is imported, by whomever
    checked = check(asked.part, asked.device)
    if asked.check_imports:
        print_check(checked, as_json=asked.json)
        return 0 if all(told["can_run"] for told in checked.values()) else CANNOT_RUN
    if any(not told["can_run"] for told in checked.values()):
        print_check(checked, as_json=False)
        return CANNOT_RUN
    bed, facts = _bed(asked)
    out = None if bed.is_host else asked.out or ROOT / "bench" / "results" / f"{bed.name}-gpu.jsonl"
    missed = 0
    for name in asked.part:
        part = PARTS[name]
        lines = Lines(name, bed.name, facts, out)
        part.run(replace(bed, seconds=part.seconds), lines, asked.rows or bed.sized(part.rows, part.small_rows), asked)
        missed += lines.missed
    return MISSED if missed and not bed.is_host else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="may be given again; all unless given")
    parser.add_argument("--device", choices=("cuda", "host"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny, as on the host, and one round")
    parser.add_argument("--rows", type=int, help="in place of a part's own number")
    parser.add_argument("--out", type=Path, help="append lines to this file; not on the host")
    parser.add_argument("--check-imports", action="store_true", help="only tell what each part needs and lacks")
    parser.add_argument("--json", action="store_true", help="with --check-imports")
    parser.add_argument(
        "--rate", type=float, action="append", help="of ivfpq, the share that passes; may be given again"
    )
    parser.add_argument("--retrieve-checkout", type=Path, metavar="DIR", help="of rmnigm/retrieve, beside ours in linr")
    asked = parser.parse_args(argv)
    asked.part = asked.part or list(PARTS)
    return asked


def _bed(asked: argparse.Namespace) -> tuple[Bed, dict[str, Any]]:
    from bench import gpu_bed

    if asked.device == "host":
        return gpu_bed.on_host(), {}
    return gpu_bed.on_gpu(small=asked.small), gpu_bed.gpu_facts()


def _module(name: str) -> Any:
    return importlib.import_module(f"bench.gpu_{name}")


if __name__ == "__main__":
    sys.exit(main())
