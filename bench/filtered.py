"""Filtered search beside the best that others offer: recall and rate at every pass rate, a filter for each query.

The engine in-process and each peer in a process of its own take turns. Two columns: filters *ready*, every engine from
its own mask or list of rows, and the *whole* from the predicate on, where peers' masks are made by pyarrow.compute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from bench import datasets, filtered_data
from bench.filtered_cell import FAISS, CellBench, Engines, Pace, print_cell
from bench.filtered_data import UNFILTERED, Cell, FilteredSet
from bench.filtered_targets import hold
from bench.harness import Options, Report, progress, run
from bench.inprocess import EngineProcess
from bench.peers import NAMES, PeerProcess
from bench.peers.process import missing
from bench.prepared import Prepared, prepared
from engine.types import Schema

_SETS = ("minilm", "mnist784", "skills")
_QUICK_PEERS = ("faiss_ivf_flat", "faiss_ivf_pqfs", "exact_gather")
_QUICK_KINDS = ("unfiltered", "independent", "near")
_LEAST_NPROBE = 16
_FULL_ROWS = 1_000_000
_QUICK_ROWS = 200_000


def main(argv: Sequence[str] | None = None) -> int:
    return run("filtered", _body, arguments=_arguments, argv=argv)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=_SETS, help="the data sets; all, of --quick the first")
    parser.add_argument("--peers", nargs="*", choices=NAMES, help="the peers; all that are installed, of --quick three")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="the kinds of filter, such as unfiltered near far")
    parser.add_argument("--k", nargs="+", type=int, choices=(10, 100), help="hits; 10 and 100, of --quick 10")


def _body(options: Options, report: Report) -> None:
    report.figure("threads", len(os.sched_getaffinity(0)))
    for name in options.extra.only or (_SETS[:1] if options.quick else _SETS):
        _measure(_made(name, options), options, report)


def _made(name: str, options: Options) -> FilteredSet:
    n_queries = 256 if options.quick else 1024
    if name == "mnist784":
        return filtered_data.mnist784(options.data, n_queries=n_queries)
    encoder = datasets.minilm(threads=len(os.sched_getaffinity(0)))
    if name == "skills":
        return filtered_data.skills(options.data, encoder, n_queries=n_queries)
    n_rows = _QUICK_ROWS if options.quick else _FULL_ROWS
    return filtered_data.short_texts(options.data, encoder, n_rows=n_rows, n_queries=n_queries)


def _measure(made: FilteredSet, options: Options, report: Report) -> None:
    n, d = made.items.shape
    schema = Schema(made.name, id_type="uint64", metric=made.metric, dimension=d, attributes=made.attributes.specs())
    # Lists are trained once, when all rows are there, and not on the way to it as well.
    settings = {"min_rows_to_train": n}
    cells = _cells(made, options)
    for cell in cells:
        made.truth(cell)
    with (
        prepared(schema, made.items, settings=settings, trained=True, attributes=made.attributes) as ready,
        contextlib.ExitStack() as stack,
    ):
        engine = stack.enter_context(EngineProcess(ready.folder, settings=settings))
        peers = {name: stack.enter_context(_peer(name, made)) for name in _peers(options, report)}
        _tell_builds(made, ready, peers, report)
        is_ready = frozenset(name for name, peer in peers.items() if peer.has_ready)
        pace = Pace(2, 0.12) if options.quick else Pace(5, 0.4)
        bench = CellBench(made, Engines(engine, peers, is_ready), pace)
        for k in options.extra.k or ((10,) if options.quick else (10, 100)):
            _cells_of(made, bench, cells, k, report)


def _cells_of(made: FilteredSet, bench: CellBench, cells: Sequence[Cell], k: int, report: Report) -> None:
    for cell in cells:
        result = bench.measure(cell, k)
        print_cell(made.name, result)
        prefix = f"{made.name}.{cell.name}.k{k}"
        report.keep(prefix, result.figures())
        hold(prefix, result, report)
        if cell == UNFILTERED and k == 10 and k in bench.fixed:
            _accept(made, bench.fixed[k][0], report)


def _cells(made: FilteredSet, options: Options) -> list[Cell]:
    kinds = options.extra.kinds or (_QUICK_KINDS if options.quick else None)
    return [cell for cell in made.predicates if cell == UNFILTERED or kinds is None or cell.kind in kinds]


def _peers(options: Options, report: Report) -> list[str]:
    asked = options.extra.peers
    if asked is None:
        asked = _QUICK_PEERS if options.quick else NAMES
    left_out = {name: why for name in asked if (why := missing(name))}
    for name, why in left_out.items():
        report.figure(f"without.{name}", why)
    return [name for name in asked if name not in left_out]


def _peer(name: str, made: FilteredSet) -> PeerProcess:
    return PeerProcess(name, made, threads=len(os.sched_getaffinity(0)))


def _tell_builds(made: FilteredSet, ready: Prepared, peers: dict[str, PeerProcess], report: Report) -> None:
    n, d = made.items.shape
    report.figure(f"{made.name}.rows", {"n": n, "d": d, "metric": made.metric, "queries": len(made.queries)})
    report.figure(f"{made.name}.engine.built", dict(ready.made))
    for name, peer in peers.items():
        progress.print(f"  {name}: building, or opening what an earlier run built")
        built = peer.build()
        told = {"spec": built.spec, "seconds": built.seconds, "mib": built.bytes / 2**20}
        report.figure(f"{made.name}.{name}.built", told)


def _accept(made: FilteredSet, nprobe: int, report: Report) -> None:
    """Vectors that a few lists are enough for would prove nothing.

    Raises:
        RuntimeError: the million rows are too easy.
    """
    report.figure(f"{made.name}.{FAISS[0]}.nprobe_for_recall_0.95", nprobe)
    if len(made.items) == _FULL_ROWS and nprobe < _LEAST_NPROBE:
        raise RuntimeError(
            f"the rows are too easy: faiss needs nprobe {nprobe}, and less than {_LEAST_NPROBE} is refused"
        )


if __name__ == "__main__":
    sys.exit(main())
