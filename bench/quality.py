"""Do the answers that are served equal those of exact float32 search: nDCG on judged sets, recall on unjudged ones; and
what terms find, alone and beside similarity.

Everything is searched over loopback. Vectors are made beforehand and cached; a sample of items and queries is text. The
weight of the lexical score was chosen on Cranfield and the alternate titles of O*NET, which ``--only choice`` shows;
scifact and O*NET's reported titles are reported alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench import datasets, recall
from bench.datasets import Judged, Rows
from bench.harness import SEED, Options, Report, run
from bench.metrics import mean_ndcg_at
from bench.serving import data_folder, load_items, served
from engine.client import RetrievalClient
from engine.models.protocol import Encoder
from engine.scoring import Mode, Scoring
from engine.types import Float32Array, Item, Schema, SearchParams, TextField

K = 10
BATCH = 64
_SETS = ("scifact", "onet", "choice", "jobs", "mnist784")
_BM25_OF_OTHERS = {"scifact": 0.695, "onet_reported": 0.512, "cranfield": 0.367}
"""nDCG@10 as the data sets' notes have it."""
_BM25_MARGIN, _HYBRID_GAIN = 0.01, 0.01
_WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
_ALTERNATE = 4000
_TEXT_FIELDS = (TextField("title", 0, analyser="english"), TextField("text", 1, analyser="english"))


def main(argv: Sequence[str] | None = None) -> int:
    return run("quality", _body, arguments=_arguments, argv=argv)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=_SETS, default=_SETS, help="the data sets to measure on")


def _body(options: Options, report: Report) -> None:
    encoder = datasets.minilm(threads=len(os.sched_getaffinity(0)))
    report.figure("encoder_version", encoder.version)
    report.figure("cores_kept_awake", True)
    if "scifact" in options.extra.only:
        _judge("scifact", datasets.scifact(options.data), encoder, options, report)
    if "onet" in options.extra.only:
        _judge("onet_reported", datasets.onet(options.data), encoder, options, report)
    if "choice" in options.extra.only:
        _show_choice(encoder, options, report)
    if "jobs" in options.extra.only:
        recall.measure(_jobs_task(encoder, options), options, report)
    if "mnist784" in options.extra.only:
        recall.measure(recall.mnist784(options), options, report)


def _jobs_task(encoder: Encoder, options: Options) -> recall.Task:
    """Postings by title and text, searched with alternate O*NET titles: what a job search is asked, never judged."""
    rows = list(datasets.read_jsonl(options.data / "jobs" / "corpus.jsonl.gz"))
    texts = [datasets.joined_text(row["title"], row["text"]) for row in rows]
    titles = list(datasets.onet(options.data, kind="alternate").queries.values())
    sample = np.random.default_rng(SEED).choice(len(titles), size=2048, replace=False)
    items = datasets.embeddings("jobs", encoder, texts, role="item")
    queries = datasets.embeddings("onet-alternate", encoder, [titles[i] for i in sample], role="query")
    return recall.jobs(items, queries)


# Judged sets


def _judge(name: str, judged: Judged, encoder: Encoder, options: Options, report: Report) -> None:
    texts = list(judged.queries.values())
    rows = Rows(
        datasets.embeddings(name, encoder, judged.joined, role="item"),
        datasets.embeddings(name, encoder, texts, role="query"),
    )
    exact = mean_ndcg_at(_exact_rankings(name, judged, rows), judged.relevance, K)
    sample = np.random.default_rng(SEED).choice(len(judged.ids), size=32, replace=False)
    with data_folder() as folder, served(folder) as running:
        client = running.client
        load_items(client, _schema(name), _items(judged, rows.items, as_text=set(sample.tolist())))
        _tell_item_texts(client, name, judged, rows.items, sample.tolist(), report)
        found = _served_rankings(client, name, judged, rows.queries)
        legs = {mode: _served_rankings(client, name, judged, rows.queries, mode=mode) for mode in ("lexical", "hybrid")}
        _tell_query_texts(client, name, texts, rows.queries, report)
    ours = mean_ndcg_at(found, judged.relevance, K)
    report.figure(f"{name}.queries", len(judged.queries))
    report.figure(f"{name}.exact_ndcg@{K}", exact)
    report.figure(f"{name}.served_ndcg@{K}", ours)
    report.at_most(f"{name}.ndcg_difference", abs(ours - exact), 0.005)
    lexical, hybrid = (mean_ndcg_at(legs[mode], judged.relevance, K) for mode in ("lexical", "hybrid"))
    report.figure(f"{name}.modes_ndcg@{K}", {"dense": ours, "lexical": lexical, "hybrid": hybrid})
    report.at_least(f"{name}.lexical_ndcg", lexical, _BM25_OF_OTHERS[name] - _BM25_MARGIN)
    report.at_least(f"{name}.hybrid_gain", hybrid - max(ours, lexical), _HYBRID_GAIN)


def _show_choice(encoder: Encoder, options: Options, report: Report) -> None:
    """NDCG by the weight of the lexical score, on the sets that it was chosen on."""
    for name, judged in {
        "cranfield": datasets.cranfield(options.data),
        "onet_alternate": _some_of(datasets.onet(options.data, kind="alternate"), _ALTERNATE),
    }.items():
        texts = list(judged.queries.values())
        items = datasets.embeddings(name, encoder, judged.joined, role="item")
        queries = datasets.embeddings(name, encoder, texts, role="query")
        with data_folder() as folder, served(folder) as running:
            client = running.client
            load_items(client, _schema(name), _items(judged, items, as_text=set()))
            told = {
                mode: mean_ndcg_at(_served_rankings(client, name, judged, queries, mode=mode), judged.relevance, K)
                for mode in ("dense", "lexical")
            }
            for weight in _WEIGHTS:
                found = _served_rankings(client, name, judged, queries, mode="hybrid", lexical=weight)
                told[f"hybrid {weight:g}"] = mean_ndcg_at(found, judged.relevance, K)
        report.figure(f"{name}.choice_ndcg@{K}", told)
        if name in _BM25_OF_OTHERS:
            report.at_least(f"{name}.lexical_ndcg", told["lexical"], _BM25_OF_OTHERS[name] - _BM25_MARGIN)


def _some_of(judged: Judged, n: int) -> Judged:
    """With so many of its queries, drawn at random."""
    kept = sorted(np.random.default_rng(SEED).choice(len(judged.queries), size=n, replace=False).tolist())
    ids = list(judged.queries)
    queries = {ids[place]: judged.queries[ids[place]] for place in kept}
    return replace(judged, queries=queries, relevance={one: judged.relevance[one] for one in queries})


def _schema(name: str) -> Schema:
    return Schema(name, encoder="minilm", text_fields=_TEXT_FIELDS)


def _items(judged: Judged, vectors: Float32Array, *, as_text: set[int]) -> list[Item]:
    """Items with their vectors, those of the sample without: the server encodes them."""
    return [
        Item(id_, text={"title": title, "text": text}, vector=None if row in as_text else vectors[row])
        for row, (id_, title, text) in enumerate(zip(judged.ids, judged.titles, judged.texts, strict=True))
    ]


def _exact_rankings(name: str, judged: Judged, rows: Rows) -> dict[str, list[str]]:
    top = datasets.exact_top(name, rows, metric="dot", k=K)
    return {query: [judged.ids[row] for row in found] for query, found in zip(judged.queries, top, strict=True)}


def _served_rankings(
    client: RetrievalClient,
    name: str,
    judged: Judged,
    queries: Float32Array,
    *,
    mode: Mode = "dense",
    lexical: float | None = None,
) -> Mapping[str, Sequence[str]]:
    rankings: dict[str, Sequence[str]] = {}
    ids = list(judged.queries)
    scoring = None if lexical is None else Scoring(lexical=lexical)
    for first in range(0, len(ids), BATCH):
        params = [
            SearchParams(mode=mode, scoring=scoring, terms=judged.queries[one]) for one in ids[first : first + BATCH]
        ]
        result = client.search_batch(name, queries[first : first + BATCH], params=params)
        for place, query in enumerate(ids[first : first + BATCH]):
            rankings[query] = [str(one) for one in result.rows(place)[0]]
    return rankings


def _tell_item_texts(
    client: RetrievalClient, name: str, judged: Judged, vectors: Float32Array, sample: list[int], report: Report
) -> None:
    """Items that the server encoded have the vectors that were made here, but for their rounding to float16."""
    stored = client.get(name, [judged.ids[row] for row in sample], vectors=True)
    made = {judged.ids[row]: vectors[row] for row in sample}
    worst = max(_largest_difference(item.vectors, made[str(item.id)]) for item in stored)
    report.at_most(f"{name}.item_vector_difference", worst, 1e-3)


def _largest_difference(ours: Float32Array | None, theirs: Float32Array) -> float:
    assert ours is not None
    return float(np.abs(ours[0] - theirs).max())


def _tell_query_texts(
    client: RetrievalClient, name: str, texts: Sequence[str], queries: Float32Array, report: Report
) -> None:
    """A query as text has the hits of its vector."""
    sample = np.random.default_rng(SEED).choice(len(texts), size=BATCH, replace=False).tolist()
    by_text = client.search_batch(name, [texts[i] for i in sample])
    by_vector = client.search_batch(name, queries[sample])
    same = [by_text.rows(i)[0] == by_vector.rows(i)[0] for i in range(BATCH)]
    report.figure(f"{name}.same_hits_by_text", float(np.mean(same)))
    report.at_most(f"{name}.text_score_difference", float(np.abs(by_text.scores - by_vector.scores).max()), 1e-3)


if __name__ == "__main__":
    sys.exit(main())
