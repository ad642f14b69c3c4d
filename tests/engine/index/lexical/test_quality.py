"""BM25 with default settings on judged collections, title and text of equal weight, beside what others report.

Others: nDCG@10 of .695 on scifact and .367 on cranfield. Nothing was chosen on scifact.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.datasets import Judged, cranfield, scifact
from bench.metrics import mean_ndcg_at
from engine.index.lexical import LexicalIndex
from engine.types import Schema, TextField

FIELDS = (TextField("title", analyser="english"), TextField("text", order=1, analyser="english"))
SCHEMA = Schema("judged", dimension=1, text_fields=FIELDS)


def ndcg(judged: Judged) -> float:
    index, n = LexicalIndex(SCHEMA), len(judged.ids)
    texts = [{"title": title, "text": text} for title, text in zip(judged.titles, judged.texts, strict=True)]
    index.append(range(n), [1] * n, texts)
    everything = np.packbits(np.ones(n, np.bool_), bitorder="little")
    rankings = {}
    for query, text in judged.queries.items():
        rows, scores = index.scores(index.weigh(text), everything)
        best = rows[np.argsort(-scores, kind="stable")[:10]]
        rankings[query] = [judged.ids[row] for row in best]
    return mean_ndcg_at(rankings, judged.relevance, 10)


def test_cranfield(data_dir: Path) -> None:
    assert ndcg(_or_skip(data_dir, "cranfield")) >= 0.357


def test_scifact(data_dir: Path) -> None:
    assert ndcg(_or_skip(data_dir, "scifact")) >= 0.685


def _or_skip(data_dir: Path, name: str) -> Judged:
    if not (data_dir / name).is_dir():
        pytest.skip(f"{data_dir} has no {name}")
    return {"cranfield": cranfield, "scifact": scifact}[name](data_dir)
