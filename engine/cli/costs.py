"""What exact searches cost on this machine, for `ebr doctor` to show and for a server to plan with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from engine import threads
from engine.cli import session
from engine.cli.probes import Finding

if TYPE_CHECKING:
    from engine.index.costs import Costs

_ROWS = 1_000_000
_DEPTH = 100
"""Rows by codes that a coarse scan rescores, where it proves its answer."""
_SHARES = (1.0, 0.1, 0.01, 0.001)


def measured(dimension: int, data_dir: Path) -> Costs:
    """Seconds of the parts of a search of float16 vectors by cosine.

    The kernels are those of ``data_dir``; where it has none they are compiled, which takes a minute.
    """
    kept = data_dir / "kernel-cache"
    long = "" if kept.is_dir() else f"; {data_dir} has no compiled kernels, which takes about a minute"
    session.err.print(Text(f"measuring what searches cost ...{long}"), soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="ebr-kernels-") as aside:
        n = threads.configure(None, kept if kept.is_dir() else Path(aside))
        from engine.backend import open_backend
        from engine.index.costs import measure_costs

        return measure_costs(open_backend("cpu", threads=n), dimension=dimension, dtype="float16", metric="cosine")


def told(costs: Costs, dimension: int) -> Iterator[Finding]:
    """The predicted cost of a query alone over a million rows, by the share of them that passes its filter."""
    for share in _SHARES:
        survivors = int(_ROWS * share)
        scan = 1000 * costs.scan_seconds(_ROWS, survivors, dimension)
        gather = 1000 * costs.gather_seconds(_ROWS, survivors, dimension)
        coarse = 1000 * costs.coarse_seconds(_ROWS, survivors, dimension, _DEPTH)
        name = f"{share:.4g} of 1M x {dimension}"
        yield Finding("cost", name, f"scan {scan:.2f}, gather {gather:.2f}, coarse {coarse:.2f} ms")


def write(costs: Costs, path: Path) -> None:
    """For the setting ``costs_file``."""
    path.write_text(json.dumps(asdict(costs), indent=1) + "\n", "utf-8")
