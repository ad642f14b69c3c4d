"""Draws what ``python -m bench.filtered`` measured: `python -m bench.plot_filtered RESULTS.jsonl PICTURE.png`.

One row of panels for each kind of filter: rates from ready filters, rates from the predicate on, and recall.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import ROOT

_RESULTS = ROOT / "bench" / "results"
_COLOURS = {
    "engine": "#d62728",
    "faiss_ivf_flat": "#1f77b4",
    "faiss_ivf_pq": "#17becf",
    "faiss_ivf_pqfs": "#9467bd",
    "exact_gather": "#2ca02c",
    "hnswlib": "#8c564b",
    "usearch": "#e377c2",
    "milvus_lite": "#7f7f7f",
    "lancedb": "#bcbd22",
}
_LEAST_RECALL = 0.9
_WIDTH, _HEIGHT = 13.0, 3.6


@dataclass(frozen=True, slots=True)
class Point:
    """An engine in one cell; ``counts`` where it reached the recall on the tuning queries and enough pass."""

    kind: str
    rate: float
    engine: str
    recall: float
    qps: Mapping[str, float]
    counts: bool


@dataclass(frozen=True, slots=True)
class Fixed:
    """Recall in one cell at settings that do not know of the filter: the engine's defaults, faiss's nprobe."""

    kind: str
    rate: float
    engine: float
    faiss: float | None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.plot_filtered", description="Draw the filtered bench.")
    parser.add_argument("results", nargs="?", type=Path, default=_RESULTS / "cpu-2core-filtered.jsonl")
    parser.add_argument("picture", nargs="?", type=Path, default=_RESULTS / "cpu-2core-filtered.png")
    parser.add_argument("--set", default="minilm", help="the data set")
    parser.add_argument("--k", type=int, default=10, help="hits")
    asked = parser.parse_args(argv)
    lines = asked.results.read_text("utf-8").splitlines()
    line = latest(lines, asked.set)
    if line is None:
        parser.error(f"{asked.results} has no line with {asked.set}")
    draw(line, asked.set, asked.k, asked.picture)
    print(f"drawn: {asked.picture}")
    return 0


def latest(lines: Iterable[str], name: str) -> dict[str, Any] | None:
    """The last line that has figures of the set."""
    parsed: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
    return next((line for line in reversed(parsed) if f"{name}.rows" in line["figures"]), None)


def points(figures: Mapping[str, Any], name: str, k: int) -> list[Point]:
    found = []
    for kind, rate, cell in _cells(figures, name, k):
        for engine, one in cell["engines"].items():
            qps = {column: one[f"{column}_qps"]["median"] for column in ("ready", "whole") if f"{column}_qps" in one}
            counts = one["reached"] and cell["counts_for_speed"]
            found.append(Point(kind, rate, engine, one["recall"], qps, counts))
    return found


def fixed(figures: Mapping[str, Any], name: str, k: int) -> list[Fixed]:
    return [
        Fixed(kind, rate, cell["default_recall"], cell["fixed_nprobe_recall"])
        for kind, rate, cell in _cells(figures, name, k)
    ]


def _cells(figures: Mapping[str, Any], name: str, k: int) -> list[tuple[str, float, Mapping[str, Any]]]:
    """Kind, share of rows that pass, and figures of each cell, the highest rate first; no filter is a rate of 1."""
    found = []
    for key, cell in figures.items():
        if not key.startswith(f"{name}.") or not key.endswith(f".k{k}"):
            continue
        told = key.removeprefix(f"{name}.").removesuffix(f".k{k}")
        kind, _, percent = told.rpartition(" ") if told.endswith("%") else (told, "", "100%")
        found.append((kind, float(percent.rstrip("%")) / 100, cell))
    return sorted(found, key=lambda one: (one[0], -one[1]))


def draw(line: Mapping[str, Any], name: str, k: int, picture: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figures, machine = line["figures"], line["machine"]
    all_points, all_fixed = points(figures, name, k), fixed(figures, name, k)
    kinds = [kind for kind in dict.fromkeys(one.kind for one in all_points) if kind != "unfiltered"]
    drawn, axes = plt.subplots(len(kinds), 3, figsize=(_WIDTH, _HEIGHT * len(kinds)), squeeze=False, sharex=True)
    for row, kind in zip(axes, kinds, strict=True):
        own = [one for one in all_points if one.kind in {kind, "unfiltered"}]
        _rates(row[0], own, "ready", f"{kind}: queries a second, filters ready")
        _rates(row[1], own, "whole", f"{kind}: queries a second, from the predicate on")
        _recalls(row[2], [one for one in all_fixed if one.kind in {kind, "unfiltered"}], kind, k)
    told = {label: handle for handle, label in _legend(axes)}
    drawn.legend(told.values(), told.keys(), loc="lower center", ncol=5, frameon=False)
    rows = figures[f"{name}.rows"]
    drawn.suptitle(
        f"{name}: {rows['n']:,} x {rows['d']}, k = {k}, batches of 64, each query its own filter\n"
        f"{machine['cpu']}, {machine['cores']} cores; set for recall@{k} .95 on other queries; "
        "hollow: not reached there, or too few rows pass",
        fontsize=10,
    )
    drawn.tight_layout(rect=(0, 0.25 / len(kinds) / 3 + 0.04, 1, 1))
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(picture, dpi=110)
    plt.close(drawn)


def _rates(axis: Any, own: Sequence[Point], column: str, title: str) -> None:
    for engine in dict.fromkeys(one.engine for one in own):
        line = sorted((one for one in own if one.engine == engine and column in one.qps), key=lambda one: one.rate)
        if not line:
            continue
        rates, qps = [100 * one.rate for one in line], [one.qps[column] for one in line]
        colour = _COLOURS.get(engine, "black")
        axis.plot(rates, qps, color=colour, linewidth=2.4 if engine == "engine" else 1.2, label=engine)
        faces = [colour if one.counts else "white" for one in line]
        axis.scatter(rates, qps, facecolors=faces, edgecolors=colour, zorder=3, s=22)
    axis.set(xscale="log", yscale="log", xlabel="% of the rows pass")
    axis.set_title(title, fontsize=9)
    axis.grid(alpha=0.3)


def _recalls(axis: Any, own: Sequence[Fixed], kind: str, k: int) -> None:
    ordered = sorted(own, key=lambda one: one.rate)
    rates = [100 * one.rate for one in ordered]
    axis.plot(rates, [one.engine for one in ordered], "o-", color=_COLOURS["engine"], markersize=4)
    collapsing = [one for one in ordered if one.faiss is not None]
    axis.plot(
        [100 * one.rate for one in collapsing],
        [one.faiss for one in collapsing],
        "s--",
        color="black",
        markersize=4,
        label="faiss IVF, nprobe as without a filter",
    )
    axis.axhline(0.95, color="grey", linewidth=0.8)
    lowest = min([_LEAST_RECALL, *(one.faiss for one in collapsing if one.faiss is not None)])
    axis.set(xscale="log", xlabel="% of the rows pass", ylim=(lowest - 0.03, 1.01))
    axis.set_title(f"{kind}: recall@{k}, no setting for the filter", fontsize=9)
    axis.grid(alpha=0.3)


def _legend(axes: Any) -> list[tuple[Any, str]]:
    return [pair for axis in axes.flat for pair in zip(*axis.get_legend_handles_labels(), strict=True)]


if __name__ == "__main__":
    sys.exit(main())
