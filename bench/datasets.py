"""The development data sets as the benches use them: texts, judgements, items and embeddings, in memory.

The folder's layout follows BEIR: corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv.gz.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.cache import cached_array, content_key
from bench.harness import SEED, progress
from engine.models.bundle import open_encoder
from engine.models.protocol import Encoder, Role
from engine.types import AttributeType, AttributeValue, Float32Array, Int64Array, Item, Schema, Timestamp

_PORTION = 512


@dataclass(frozen=True, slots=True)
class Judged:
    """A collection of texts with queries and what is relevant to each: {query id: {item id: gain}}."""

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]
    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, float]]

    @property
    def joined(self) -> list[str]:
        """Title and text as an item's two text fields are encoded."""
        return [joined_text(title, text) for title, text in zip(self.titles, self.texts, strict=True)]


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors to search and to search with: float32 [n, d] and [B, d]."""

    items: Float32Array
    queries: Float32Array


def joined_text(title: str, text: str) -> str:
    return "\n".join(part for one in (title, text) if (part := one.strip()))


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def read_relevance(path: Path) -> dict[str, dict[str, float]]:
    relevance: dict[str, dict[str, float]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            relevance.setdefault(row["query-id"], {})[row["corpus-id"]] = float(row["score"])
    return relevance


def scifact(data: Path) -> Judged:
    """Abstracts, and the claims of the training split."""
    return _judged(data / "scifact")


def cranfield(data: Path) -> Judged:
    """Abstracts on aerodynamics, and questions."""
    return _judged(data / "cranfield")


def onet(data: Path, *, kind: str = "reported") -> Judged:
    """Occupations, and the job titles of one kind: ``reported`` to measure with, ``alternate`` to train with."""
    return _judged(data / "onet", kind=kind)


def onet_titles(data: Path, n: int) -> list[str]:
    """Alternate titles, drawn at random."""
    every = list(onet(data, kind="alternate").queries.values())
    return [every[place] for place in np.random.default_rng(SEED).choice(len(every), size=n, replace=False)]


def _judged(folder: Path, *, kind: str | None = None) -> Judged:
    rows = list(read_jsonl(folder / "corpus.jsonl.gz"))
    relevance = read_relevance(folder / "qrels.tsv.gz")
    queries = {
        row["_id"]: row["text"]
        for row in read_jsonl(folder / "queries.jsonl.gz")
        if row["_id"] in relevance and (kind is None or row["kind"] == kind)
    }
    return Judged(
        [row["_id"] for row in rows],
        [row["title"] for row in rows],
        [row["text"] for row in rows],
        queries,
        {query: relevance[query] for query in queries},
    )


def job_items(data: Path, schema: Schema) -> list[Item]:
    """Postings with the attributes of the schema; what a posting lacks or has null is left out."""
    return [item_of(row, schema) for row in read_jsonl(data / "jobs" / "corpus.jsonl.gz")]


def item_of(row: Mapping[str, Any], schema: Schema) -> Item:
    """A line of a corpus as the schema has it."""
    attributes = {
        spec.name: _value(row[spec.name], spec.type) for spec in schema.attributes if row.get(spec.name) is not None
    }
    text = {field.name: row[field.name] for field in schema.text_fields}
    return Item(row["_id"], text=text, attributes=attributes)


def _value(value: Any, kind: AttributeType) -> AttributeValue:
    if kind is AttributeType.TIMESTAMP:
        return Timestamp(timestamp_micros(value))
    if kind is AttributeType.KEYWORD_LIST:
        return tuple(value)
    if kind is AttributeType.FLOAT:
        return float(value)
    return cast(AttributeValue, value)


def timestamp_micros(text: str) -> int:
    """Of an ISO 8601 time with an offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return round(moment.timestamp() * 1_000_000)


def mnist784(data: Path) -> Rows:
    """60,000 images to search, 10,000 to search with, values 0 to 255."""
    with np.load(data / "mnist784" / "mnist784_u8.npz") as arrays:
        return Rows(arrays["train"].astype(np.float32), arrays["test"].astype(np.float32))


# Embeddings and the truth


def minilm(*, threads: int) -> Encoder:
    return open_encoder("minilm", compute_dtype="float32", threads=threads)


def embeddings(name: str, encoder: Encoder, texts: Sequence[str], *, role: Role) -> Float32Array:
    """float32 [n, d], from the cache where these texts were encoded with this encoder before."""
    key = content_key(encoder.version, role, texts)
    return cached_array(f"{name}-{role}", key, lambda: encode(encoder, texts, role=role))


def encode(encoder: Encoder, texts: Sequence[str], *, role: Role) -> Float32Array:
    """float32 [n, d] of each text's first window, encoded in portions with the progress told."""
    parts = []
    for first in range(0, len(texts), _PORTION):
        tokenized = encoder.tokenize(list(texts[first : first + _PORTION]), role=role)
        parts.append(encoder.forward([one.windows[0] for one in tokenized]))
        progress.print(f"  [dim]{min(first + _PORTION, len(texts)):,} of {len(texts):,} texts encoded[/dim]")
    return np.concatenate(parts)


def exact_top(name: str, rows: Rows, *, metric: str, k: int) -> Int64Array:
    """The true best k rows int64 [B, k] by float32 vectors, ties to the smaller row; cached."""
    key = content_key(metric, str(k), rows.items, rows.queries)
    return cached_array(f"{name}-top{k}", key, lambda: _exact_top(rows, metric, k))


def _exact_top(rows: Rows, metric: str, k: int) -> Int64Array:
    return np.concatenate(
        [_best(_scores(rows.items, rows.queries[at : at + 256], metric), k) for at in range(0, len(rows.queries), 256)]
    )


def _scores(items: Float32Array, queries: Float32Array, metric: str) -> Float32Array:
    """Larger is better; l2 without the queries' own lengths, which change no order."""
    products: Float32Array = queries @ items.T
    if metric == "l2":
        products = 2 * products - np.einsum("nd,nd->n", items, items)
    return products


def _best(scores: Float32Array, k: int) -> Int64Array:
    found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    found.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    best: Int64Array = np.take_along_axis(found, order, axis=1)
    return best


def noisy_copies(vectors: Float32Array, n_rows: int, *, noise: float, seed: int) -> Float32Array:
    """float32 [n_rows, d] of length 1: the vectors over and over, each with Gaussian noise of that length in all."""
    rng = np.random.default_rng(seed)
    copies = vectors[np.arange(n_rows) % len(vectors)]
    scale = noise / np.sqrt(vectors.shape[1])
    copies = copies + scale * rng.standard_normal(copies.shape, dtype=np.float32)
    lengths: Float32Array = np.linalg.norm(copies, axis=1, keepdims=True)
    unit: Float32Array = (copies / lengths).astype(np.float32)
    return unit
