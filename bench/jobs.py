"""A job search as a user makes it: postings loaded, text with a filter in, only postings that pass out, best first."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.table import Table

from bench import datasets
from bench.harness import Options, Report, progress, run, seconds_of
from bench.machine import ROOT
from bench.serving import data_folder, load_items, served, with_vectors
from engine.client import RetrievalClient
from engine.schema_file import read_schema
from engine.types import Filter, Float32Array, Hit, Item, Match, Range, Schema, SearchParams, Timestamp

QUERY = "remote senior python engineer"
SINCE = Timestamp(datasets.timestamp_micros("2025-06-01T00:00:00+00:00"))
FILTER = Filter(must=(Match("remote", any_of=(True,)), Range("published_at", gte=SINCE)))
K = 10


def main(argv: Sequence[str] | None = None) -> int:
    return run("jobs", _body, argv=argv)


def _body(options: Options, report: Report) -> None:
    schema, items = _collection(options)
    with data_folder() as folder, served(folder) as running:
        client = running.client
        report.figure("load_items_per_s", len(items) / seconds_of(lambda: load_items(client, schema, items)))
        result = client.search(
            schema.name,
            QUERY,
            params=SearchParams(k=K, filter=FILTER),
            attributes=("company", "remote", "published_at"),
            text_fields=("title",),
        )
        passing = client.count(schema.name, FILTER)
        _show(result.hits)
        report.figure("strategy", result.explanation.strategy.value)
        report.figure("selectivity", result.explanation.selectivity)
        report.figure("hits", len(result.hits))
        _check(result.hits, passing, items, report)
        if schema.chunk == 1:
            _check_best(client, schema, result.hits, items, report)


def _collection(options: Options) -> tuple[Schema, list[Item]]:
    """Quick: one embedding an item, from the cache. Else as the example has it, encoded by the server."""
    schema = read_schema(ROOT / "examples" / "jobs.toml")
    items = datasets.job_items(options.data, schema)
    if not options.quick:
        return schema, items
    encoder = datasets.minilm(threads=len(os.sched_getaffinity(0)))
    texts = [datasets.joined_text(item.text["title"], item.text["text"]) for item in items]
    return replace(schema, chunk=1), with_vectors(items, datasets.embeddings("jobs", encoder, texts, role="item"))


def _show(hits: Sequence[Hit]) -> None:
    table = Table("score", "title", "company", "remote", "published", title=f'"{QUERY}", remote, since 2025-06-01')
    for hit in hits:
        published = hit.attributes.get("published_at")
        day = str(np.datetime64(published.micros, "us"))[:10] if isinstance(published, Timestamp) else ""
        told = (str(hit.attributes.get(name, "")) for name in ("company", "remote"))
        table.add_row(f"{hit.score:.4f}", hit.text["title"], *told, day)
    progress.print(table)


def _passes(item: Item) -> bool:
    published = item.attributes.get("published_at")
    return item.attributes.get("remote") is True and isinstance(published, Timestamp) and published >= SINCE


def _check(hits: Sequence[Hit], counted: int, items: Sequence[Item], report: Report) -> None:
    """Against the filter as Python reads it, over the postings as they were sent."""
    passing = {item.id for item in items if _passes(item)}
    scores = [hit.score for hit in hits]
    report.figure("passing_postings", len(passing))
    report.at_least("counted_over_passing", counted / len(passing), 1.0)
    report.at_least("hits_found", len(hits), min(K, len(passing)))
    report.at_least("hits_that_pass", float(np.mean([hit.id in passing for hit in hits])), 1.0)
    report.at_least("best_first", float(scores == sorted(scores, reverse=True)), 1.0)


def _check_best(
    client: RetrievalClient, schema: Schema, hits: Sequence[Hit], items: Sequence[Item], report: Report
) -> None:
    """The hits are the best of what passes, by the float32 vectors that were sent."""
    passing = [item for item in items if _passes(item)]
    vectors: Float32Array = np.stack([item.vector for item in passing if item.vector is not None])
    query = client.encode(schema.name, [QUERY])[0]
    best = np.argsort(-(vectors @ query), kind="stable")[:K]
    found = {hit.id for hit in hits}
    report.at_least(f"recall@{K}_of_passing", float(np.mean([passing[i].id in found for i in best])), 0.9)


if __name__ == "__main__":
    sys.exit(main())
