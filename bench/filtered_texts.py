"""The texts behind the vectors of the filtered benches, with embeddings: each distinct text once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import datasets
from bench.datasets import read_jsonl
from engine.models.protocol import Encoder
from engine.types import Float32Array


@dataclass(frozen=True, slots=True)
class Skills:
    """Job postings as lists of skills, each skill once in a list, and their embeddings float32 [n, d]."""

    lists: Sequence[tuple[str, ...]]
    embeddings: Float32Array


def title_embeddings(data: Path, encoder: Encoder) -> Float32Array:
    """float32 [n, d] of job titles, occupations and their descriptions, and titles of abstracts: about 55,000."""
    return datasets.embeddings("short-texts", encoder, short_texts(data), role="item")


def short_texts(data: Path) -> list[str]:
    occupations = list(read_jsonl(data / "onet" / "corpus.jsonl.gz"))
    titles = [row["title"] for row in occupations]
    titles += [row["text"] for row in read_jsonl(data / "onet" / "queries.jsonl.gz")]
    titles += [row["title"] for row in read_jsonl(data / "jobs" / "corpus.jsonl.gz")]
    titles += [row["title"] for row in read_jsonl(data / "scifact" / "corpus.jsonl.gz")]
    titles += [row["text"] for row in occupations]
    stripped = (title.strip() for title in titles)
    return list(dict.fromkeys(text for text in stripped if text))


def skills(data: Path, encoder: Encoder) -> Skills:
    lists = skill_lists(data)
    texts = [", ".join(one) for one in lists]
    return Skills(lists, datasets.embeddings("skill-lists", encoder, texts, role="item"))


def skill_lists(data: Path) -> list[tuple[str, ...]]:
    """Skills are compared without regard to case."""
    rows = read_jsonl(data / "skill2vec" / "corpus.jsonl.gz")
    lists = (tuple(dict.fromkeys(skill.strip().lower() for skill in row["skills"])) for row in rows)
    return [tuple(skill for skill in one if skill) for one in lists]
