"""What each mode of retrieval costs: similarity, terms, and both, over 50,000 lists of skills and 5,983 job postings.

Queries are alternate O*NET titles with vectors made beforehand, eight to a call, over loopback: a closed loop tells how
many a second, an open one at half of that the latency. Modes take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence

from bench import datasets, filtered_texts
from bench.harness import SEED, Options, Report, run
from bench.load import Calls, Load, LoadProcess
from bench.serving import data_folder, load_items, served, wait_until_settled
from engine import convert
from engine.scoring import Mode
from engine.types import Float32Array, Item, Schema, SearchParams, TextField
from engine.v1 import retrieval_pb2

_COLLECTION = "hybrid"
_METHOD = "/engine.v1.RetrievalService/SearchBatch"
_BATCH, _CLIENTS, _N_QUERIES = 8, 4, 2048
_MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")


def main(argv: Sequence[str] | None = None) -> int:
    return run("hybrid", _body, arguments=_arguments, argv=argv)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help="of one window")
    parser.add_argument("--rounds", type=int)


def _body(options: Options, report: Report) -> None:
    seconds = options.extra.seconds or (1.0 if options.quick else 4.0)
    rounds = options.extra.rounds or (2 if options.quick else 5)
    items, vectors, titles = _made(options, report)
    schema = Schema(
        _COLLECTION,
        dimension=vectors.shape[1],
        text_fields=(TextField("title", analyser="english"), TextField("text", 1, analyser="english")),
    )
    with data_folder() as folder, served(folder) as running, LoadProcess() as load:
        load_items(running.client, schema, items)
        wait_until_settled(running.client, _COLLECTION, trained=False, seconds=900)
        calls = {mode: _calls(running.client.target, mode, vectors, titles) for mode in _MODES}
        closed: dict[str, list[Load]] = {mode: [] for mode in _MODES}
        opened: dict[str, list[Load]] = {mode: [] for mode in _MODES}
        for number in range(1 + rounds):
            for mode, own in calls.items():
                found = load.many_clients(own, _CLIENTS, seconds=seconds)
                if number:
                    closed[mode].append(found)
        for number in range(rounds):
            for mode, own in calls.items():
                rate = 0.5 * statistics.median(one.qps for one in closed[mode]) / _BATCH
                opened[mode].append(load.open_loop(own, rate, seconds=seconds, seed=SEED + number))
        for mode in _MODES:
            report.figure(mode, _told(closed[mode], opened[mode]))


def _made(options: Options, report: Report) -> tuple[list[Item], Float32Array, list[str]]:
    """Items with their vectors, and queries: vectors float32 [Q, d] and their titles."""
    encoder = datasets.minilm(threads=len(os.sched_getaffinity(0)))
    skills = filtered_texts.skills(options.data, encoder)
    postings = list(datasets.read_jsonl(options.data / "jobs" / "corpus.jsonl.gz"))
    joined = [datasets.joined_text(row["title"], row["text"]) for row in postings]
    of_jobs = datasets.embeddings("jobs", encoder, joined, role="item")
    items = [
        Item(f"s{row}", {"text": ", ".join(own)}, vector=skills.embeddings[row])
        for row, own in enumerate(skills.lists)
        if own
    ]
    items += [
        Item(f"j{row}", {"title": one["title"], "text": one["text"]}, vector=of_jobs[row])
        for row, one in enumerate(postings)
    ]
    titles = datasets.onet_titles(options.data, _N_QUERIES)
    vectors = datasets.embeddings("onet-alternate", encoder, titles, role="query")
    report.figure("items", {"skill lists": len(items) - len(postings), "postings": len(postings)})
    report.figure("queries", {"n": len(titles), "a call": _BATCH, "clients": _CLIENTS})
    return items, vectors, titles


def _calls(target: str, mode: Mode, vectors: Float32Array, titles: Sequence[str]) -> Calls:
    requests = []
    for first in range(0, len(titles), _BATCH):
        own = titles[first : first + _BATCH]
        request = retrieval_pb2.SearchBatchRequest(
            collection=_COLLECTION,
            vectors=convert.array_to_tensor(vectors[first : first + _BATCH]),
            params=[convert.params_to(SearchParams(mode=mode, terms=one)) for one in own],
        )
        requests.append(request.SerializeToString())
    return Calls(target, _METHOD, tuple(requests), _BATCH)


def _told(closed: Sequence[Load], opened: Sequence[Load]) -> Mapping[str, object]:
    p99 = [one.percentiles_ms()["p99"] for one in opened]
    return {
        "qps": statistics.median(one.qps for one in closed),
        "qps_each": [round(one.qps) for one in closed],
        "p50_ms_at_half": statistics.median(one.percentiles_ms()["p50"] for one in opened),
        "p99_ms_at_half": statistics.median(p99),
        "p99_ms_each": [round(one, 2) for one in p99],
        "failed": sum(one.failed for one in (*closed, *opened)),
    }


if __name__ == "__main__":
    sys.exit(main())
