"""The filter track of big-ann-benchmarks over a generated set in its YFCC format: recall and rate through the adapter.

The files are written and read back as that project has them. With ``--folder`` its own files are searched instead.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.adapters.bigann_filter import EbrFilter, Tags
from bench.awake import cores_awake
from bench.cache import cache_folder, content_key
from bench.filtered_data import best_of, scores_of
from bench.harness import SEED, Options, Report, Samples, progress, run, seconds_of
from bench.metrics import recall_of_survivors
from bench.vector_files import (
    SparseMatrix,
    read_sparse,
    read_truth,
    sparse_matrix,
    write_sparse,
    write_truth,
    write_vectors,
)
from engine.ingest.vector_files import read_vectors
from engine.types import Int64Array

K = 10
_RECALL = 0.9
_TARGETS = (0.8, 0.9, 0.95)
_BASE, _QUERIES = "base.10M.u8bin", "query.public.100K.u8bin"
_TAGS, _ASKED, _TRUTH = "base.metadata.10M.spmat", "query.metadata.public.100K.spmat", "GT.public.ibin"
_D = 192
_CLUSTERS = 400
_VOCABULARY = 20_000
_TAGS_A_ROW = 11


@dataclass(frozen=True, slots=True)
class Track:
    """uint8 [n, 192] and [B, 192], the tags of each, and the true rows int64 [B, 10], padded with -1."""

    rows: npt.NDArray[np.uint8]
    tags: SparseMatrix
    queries: npt.NDArray[np.uint8]
    asked: SparseMatrix
    truth: Int64Array

    def get_dataset(self) -> npt.NDArray[np.uint8]:
        return self.rows

    def get_dataset_metadata(self) -> Tags:
        return _csr(self.tags)


def main(argv: Sequence[str] | None = None) -> int:
    return run("bigann", _body, arguments=_arguments, argv=argv)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help=f"with {_BASE}, {_TAGS} and so on; a generated one unless given")


def _body(options: Options, report: Report) -> None:
    n_rows, n_queries = (50_000, 1000) if options.quick else (200_000, 5000)
    folder = options.extra.folder or generated(n_rows, n_queries)
    track = opened(folder)
    _tell(track, report)
    report.figure("cores_kept_awake", True)
    adapter = EbrFilter("euclidean", open_dataset=lambda name: track)
    try:
        report.figure("fit_s", seconds_of(lambda: adapter.fit("yfcc-generated")))
        with cores_awake():
            for target in _TARGETS:
                _search(adapter, track, target, options, report)
    finally:
        adapter.done()


def _tell(track: Track, report: Report) -> None:
    rows_of_tag = track.tags.transposed()
    passing = [len(rows_with(rows_of_tag, track.asked.row(query))) for query in range(len(track.queries))]
    report.figure("rows", {"n": len(track.rows), "d": track.rows.shape[1], "queries": len(track.queries)})
    report.figure("threads", len(os.sched_getaffinity(0)))
    shares = np.asarray(passing) / len(track.rows)
    ranks = np.percentile(shares, (10, 50, 90))
    report.figure("pass_rate", {f"p{rank}": float(share) for rank, share in zip((10, 50, 90), ranks, strict=True)})


def _search(adapter: EbrFilter, track: Track, target: float, options: Options, report: Report) -> None:
    adapter.set_query_arguments({"recall_target": target})
    asked = _csr(track.asked)
    rates = []
    for _ in range(2 if options.quick else 4):
        taken = seconds_of(lambda: adapter.filtered_query(track.queries, asked, K))
        rates.append(len(track.queries) / taken)
    recall = recall_of_survivors(adapter.get_results(), track.truth)
    report.figure(f"target_{target:g}", {"recall": recall, "qps": Samples(tuple(rates[1:])).median})
    report.at_least(f"target_{target:g}.recall@{K}", recall, min(target, _RECALL))


@dataclass(frozen=True, slots=True)
class _Csr:
    """As SciPy names the parts."""

    indptr: npt.NDArray[Any]
    indices: npt.NDArray[Any]


def _csr(matrix: SparseMatrix) -> _Csr:
    return _Csr(matrix.starts, matrix.columns)


# The files


def opened(folder: Path) -> Track:
    truth = read_truth(folder / _TRUTH)[0][:, :K].astype(np.int64)
    rows, queries = np.asarray(read_vectors(folder / _BASE)), np.asarray(read_vectors(folder / _QUERIES))
    return Track(rows, read_sparse(folder / _TAGS), queries, read_sparse(folder / _ASKED), truth)


def generated(n_rows: int, n_queries: int) -> Path:
    """A folder of files in the track's format, made once: clustered vectors, tags by Zipf's law."""
    key = content_key("yfcc", str((n_rows, n_queries, _D, _CLUSTERS, _VOCABULARY, _TAGS_A_ROW, SEED)))
    folder = cache_folder() / f"yfcc-{key}"
    if not (folder / _TRUTH).is_file():
        progress.print("  generating vectors and tags, which later runs find in the cache")
        folder.mkdir(parents=True, exist_ok=True)
        _generate(folder, n_rows, n_queries)
    return folder


def _generate(folder: Path, n_rows: int, n_queries: int) -> None:
    """The truth last: a run that is killed leaves no folder that looks whole."""
    rng = np.random.default_rng(SEED)
    means = rng.uniform(40, 215, (_CLUSTERS, _D))
    own, near = rng.integers(0, _CLUSTERS, n_rows), rng.integers(0, _CLUSTERS, n_queries)
    rows, queries = (_bytes_around(rng, means[clusters]) for clusters in (own, near))
    tags = sparse_matrix(_tags(rng, own), n_columns=_VOCABULARY)
    asked = sparse_matrix([_asked(rng, tags) for _ in range(n_queries)], n_columns=_VOCABULARY)
    write_vectors(folder / _BASE, rows)
    write_vectors(folder / _QUERIES, queries)
    write_sparse(folder / _TAGS, tags)
    write_sparse(folder / _ASKED, asked)
    truth = true_rows(rows, tags, queries, asked)
    write_truth(folder / _TRUTH, truth, np.zeros(truth.shape, np.float32))


def _bytes_around(rng: np.random.Generator, means: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    parts = [
        np.clip(part + rng.normal(0, 45, part.shape), 0, 255).astype(np.uint8)
        for part in np.array_split(means, max(1, len(means) // 20_000))
    ]
    return np.concatenate(parts)


def _tags(rng: np.random.Generator, clusters: Int64Array) -> list[list[int]]:
    """By Zipf's law, the commonest at one row in eight; three in ten are moved by the row's cluster."""
    likely = 1 / (np.arange(_VOCABULARY) + 10)
    drawn = rng.choice(_VOCABULARY, size=(len(clusters), _TAGS_A_ROW), p=likely / likely.sum())
    moved = np.where(rng.random(drawn.shape) < 0.3, (drawn + 37 * (clusters[:, None] + 1)) % _VOCABULARY, drawn)
    return [sorted(set(row)) for row in moved.tolist()]


def _asked(rng: np.random.Generator, tags: SparseMatrix) -> list[int]:
    """One or two tags of some row, so that at least one row passes."""
    own = tags.row(int(rng.integers(0, tags.n_rows)))
    chosen: list[int] = rng.choice(own, size=min(len(own), int(rng.integers(1, 3))), replace=False).tolist()
    return chosen


def rows_with(rows_of_tag: SparseMatrix, wanted: npt.NDArray[np.int32]) -> Int64Array:
    """Ascending rows that have all of the wanted tags."""
    rows = rows_of_tag.row(int(wanted[0]))
    for tag in wanted[1:]:
        rows = np.intersect1d(rows, rows_of_tag.row(int(tag)), assume_unique=True)
    return rows.astype(np.int64)


def true_rows(
    rows: npt.NDArray[np.uint8], tags: SparseMatrix, queries: npt.NDArray[np.uint8], asked: SparseMatrix
) -> Int64Array:
    """int64 [B, 10], best first, ties to the smaller row, padded with -1."""
    as_float, found = rows.astype(np.float32), np.full((len(queries), K), -1, np.int64)
    rows_of_tag = tags.transposed()
    for place, query in enumerate(queries):
        passing = rows_with(rows_of_tag, asked.row(place))
        best = best_of(passing, scores_of(as_float[passing], query.astype(np.float32), "l2"), K)
        found[place, : len(best)] = best
        if place % 500 == 0:
            progress.print(f"  [dim]truth of {place:,} of {len(queries):,} queries[/dim]")
    return found


if __name__ == "__main__":
    sys.exit(main())
