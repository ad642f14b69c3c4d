"""What the planner's choice costs beside the best one: every way timed for every query alone, each with its own filter.

Hindsight has every way that is exact, int8 codes among them where there are any, and inverted lists where their recall
over the cell is what was asked for. The time of a way for a query is the median of seven, taken in turn; masks are
ready for all: only searches are compared.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from rich.table import Table

from bench import datasets, filtered_data
from bench.awake import cores_awake
from bench.filtered_data import SHUFFLED, Cell, FilteredSet
from bench.harness import Options, Report, progress, run
from bench.inprocess import Asked, Compared, EngineProcess
from bench.metrics import recall_of_survivors
from bench.prepared import prepared
from engine.types import Schema, Strategy

RECALL = 0.95
REPEATS = 7
_WAYS = (Strategy.GATHER, Strategy.MASKED_SCAN, Strategy.FILTERED_IVFPQ)
_EXACT = (Strategy.GATHER, Strategy.MASKED_SCAN, Strategy.COARSE_SCAN)
_SLACK = 0.01
"""By which the recall of lists over a cell of some tens of queries may fall short by chance."""


def main(argv: Sequence[str] | None = None) -> int:
    return run("planner", _body, argv=argv)


def _body(options: Options, report: Report) -> None:
    encoder = datasets.minilm(threads=len(os.sched_getaffinity(0)))
    n_queries = 64 if options.quick else 256
    rows = (200_000,) if options.quick else (200_000, 1_000_000)
    sets = [filtered_data.mnist784(options.data, n_queries=n_queries)]
    sets += [filtered_data.short_texts(options.data, encoder, n_rows=n, n_queries=n_queries) for n in rows]
    regrets: list[npt.NDArray[np.float64]] = []
    for made in sets:
        regrets += _regrets_of(made, options, report)
    regret = np.concatenate(regrets)
    report.figure("queries", len(regret))
    report.at_most("mean_regret", float(regret.mean()), 1.15)
    report.at_most("p99_regret", float(np.percentile(regret, 99)), 3.0)


def _regrets_of(made: FilteredSet, options: Options, report: Report) -> list[npt.NDArray[np.float64]]:
    n, d = made.items.shape
    name = f"{made.name}-{n}"
    schema = Schema(made.name, id_type="uint64", metric=made.metric, dimension=d, attributes=made.attributes.specs())
    settings = {"min_rows_to_train": n}
    table = Table("filter", "k", "chosen", "mean regret", "p99", "recall", title=name, title_justify="left")
    regrets = []
    with (
        prepared(schema, made.items, settings=settings, trained=True, attributes=made.attributes) as ready,
        cores_awake(),
        EngineProcess(ready.folder, settings=settings) as engine,
    ):
        ways = (*_WAYS, Strategy.COARSE_SCAN) if engine.has_codes(made.name) else _WAYS
        for cell, predicates in made.predicates.items():
            for k in (10,) if options.quick else (10, 100):
                asked = Asked(made.queries, predicates, k, RECALL, SHUFFLED)
                compared = engine.compare(made.name, asked, ways=ways, repeats=REPEATS)
                regret, figures = _regret(made, cell, k, compared)
                regrets.append(regret)
                report.keep(f"{name}.{cell.name}.k{k}", figures)
                chosen = ", ".join(f"{way} {count}" for way, count in Counter(compared.chosen).items())
                told = (f"{regret.mean():.2f}", f"{np.percentile(regret, 99):.2f}", f"{figures['recall']:.3f}")
                table.add_row(cell.name, str(k), chosen, *told)
    progress.print(table)
    return regrets


def _regret(
    made: FilteredSet, cell: Cell, k: int, compared: Compared
) -> tuple[npt.NDArray[np.float64], Mapping[str, object]]:
    """The chosen way's time over the best one's, for each query; and what is told of the cell."""
    truth = made.truth(cell)[: len(compared.chosen), :k]
    recall = {way: recall_of_survivors(rows, truth) for way, rows in compared.rows.items()}
    allowed = [way for way in compared.seconds if way in _EXACT or recall[way] >= RECALL - _SLACK]
    best = np.min([compared.seconds[way] for way in allowed], axis=0)
    chosen = np.array([compared.seconds[way][place] for place, way in enumerate(compared.chosen)])
    found = np.array([compared.rows[way][place] for place, way in enumerate(compared.chosen)])
    regret: npt.NDArray[np.float64] = chosen / best
    figures = {
        "chosen": dict(Counter(way.value for way in compared.chosen)),
        "median_ms": {way.value: 1000 * float(np.median(seconds)) for way, seconds in compared.seconds.items()},
        "lists_allowed": Strategy.FILTERED_IVFPQ in allowed,
        "lists_recall": recall[Strategy.FILTERED_IVFPQ],
        "recall": recall_of_survivors(found, truth),
        "mean_regret": float(regret.mean()),
        "p99_regret": float(np.percentile(regret, 99)),
    }
    return regret, figures


if __name__ == "__main__":
    sys.exit(main())
