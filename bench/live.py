"""A collection that lives: `python -m bench.live --part beside`. How soon upserts are found, what they and upkeep cost
searches, whether lists keep up with what really came, how fast servers come back, how fast rows are loaded, and what
they take.

One JSON line a part, with what else the machine did in each second of it. Each part has a server in a process of its
own on loopback and loads it from others; all share the cores.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import partial

from bench import live_arrival
from bench.harness import SEED, Options, Report, run
from bench.live_bed import Bed, Pace, made
from bench.live_watch import SecondsWatch

PARTS = ("freshness", "beside", "arrival", "upkeep", "recovery", "load", "bytes")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--part", action="append", choices=PARTS)
    asked = parser.parse_known_args(argv)[0]
    statuses = [run("live", partial(_body, part), arguments=_arguments, argv=argv) for part in asked.part or PARTS]
    return max(statuses)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", action="append", choices=PARTS, help="may be given again; all unless given")
    rows = "in place of a million, or of 100,000 with --quick; of postings that arrive the newest, all unless given"
    parser.add_argument("--rows", type=int, help=rows)
    parser.add_argument("--seconds", type=float, help="of one window")
    parser.add_argument("--pairs", type=int, help="of windows, quiet and busy")


def _body(part: str, options: Options, report: Report) -> None:
    pace = Pace.of(options)
    report.figure("part", part)
    report.figure("seed", SEED)
    rows = (live_arrival.postings if part == "arrival" else made)(options, pace.rows)
    report.figure("vectors", rows.source)
    report.figure("windows", {"seconds": pace.seconds, "pairs": pace.pairs})
    with SecondsWatch() as watch:
        bed = Bed(rows, pace, report, watch)
        importlib.import_module(f"bench.live_{part}").measure(bed)
    report.figure("server_cpu_s", bed.server_cpu_s)
    report.figure("driver_cpu_s", max(0.0, watch.own_cpu_s - bed.server_cpu_s))
    report.keep("each_second", watch.figures())


if __name__ == "__main__":
    sys.exit(main())
