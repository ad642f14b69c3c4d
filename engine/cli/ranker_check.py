"""Whether a pipeline's model is what its declaration says, by running it over a sample or over random candidates."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError, EngineError, InvalidArgument
from engine.index.hashed import Buckets, KeywordPlaces, Vocabulary
from engine.limits import Limits
from engine.models.ranker import Ranker
from engine.pipeline.rankers import open_source
from engine.ranking import KeywordInput, Pipeline, QueryInput, RankInput, name_of, width_of
from engine.rankings import check_declaration
from engine.types import Float32Array, Int64Array

_CANDIDATES = 500
_ROUNDS = 21
_SEED = 5


@dataclass(slots=True)
class Verdict:
    """``seen``: least and most of each input's columns; ``scores``: of the finite scores; ``wrong``: in sentences."""

    candidates: int = 0
    is_sample: bool = False
    version: str = ""
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    scores: tuple[float, float] | None = None
    p50_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


def check_ranker(pipeline: Pipeline, sample: Path | None) -> Verdict:
    """What is wrong with the model is told, what is wrong with the sample's file is raised.

    Raises:
        ConfigError: the sample cannot be read.
    """
    verdict = Verdict()
    try:
        check_declaration(pipeline, Limits(), "pipeline")
    except EngineError as error:
        verdict.wrong.append(error.message)
        return verdict
    inputs = pipeline.rank.inputs
    columns = _random(inputs) if sample is None else _read(sample, inputs)
    verdict.candidates, verdict.is_sample = len(columns), sample is not None
    ends = np.cumsum([width_of(one) for one in inputs])[:-1]
    for one, part in zip(inputs, np.split(columns, ends, axis=1), strict=True):
        verdict.seen[name_of(one)] = float(part.min()), float(part.max())
    try:
        opened = open_source(pipeline)
    except EngineError as error:
        verdict.wrong.append(error.message)
        return verdict
    verdict.version = opened.pipeline.ranker_version
    _run(verdict, opened.ranker, columns)
    return verdict


def _run(verdict: Verdict, ranker: Ranker, columns: Float32Array) -> None:
    try:
        scores = ranker.score(columns)
        verdict.p50_s = _p50(ranker, np.resize(columns, (_CANDIDATES, columns.shape[1])))
    except Exception as error:  # noqa: BLE001  # whatever a model raises is what is wrong with it
        verdict.wrong.append(f"the model fails: {error}")
        return
    finite = scores[np.isfinite(scores)]
    if len(finite) < len(scores):
        n = len(scores) - len(finite)
        verdict.wrong.append(f"{n:,} of {len(scores):,} scores are NaN or infinite: such queries are not ranked")
    if len(finite):
        verdict.scores = float(finite.min()), float(finite.max())
        if len(finite) > 1 and verdict.scores[0] == verdict.scores[1]:
            verdict.wrong.append(f"every score is {verdict.scores[0]:g}: the model ranks nothing")


def _p50(ranker: Ranker, columns: Float32Array) -> float:
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        ranker.score(columns)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _random(inputs: Sequence[RankInput]) -> Float32Array:
    """Keywords are there or not, numbers are normal."""
    random = np.random.default_rng(_SEED)
    parts = [
        random.integers(0, 2, (_CANDIDATES, width_of(one)))
        if isinstance(one, KeywordInput)
        else random.standard_normal((_CANDIDATES, width_of(one)))
        for one in inputs
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _read(path: Path, inputs: Sequence[RankInput]) -> Float32Array:
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        rows = [_row(json.loads(line), inputs, number) for number, line in enumerate(lines, 1)]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, InvalidArgument) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not rows:
        raise ConfigError(f"{path} has no candidate")
    return np.stack(rows)


def _row(candidate: Any, inputs: Sequence[RankInput], number: int) -> Float32Array:
    if not isinstance(candidate, Mapping):
        raise InvalidArgument(f"line {number}", "is no JSON object")
    unknown = sorted(set(candidate) - {name_of(one) for one in inputs})
    if unknown:
        raise InvalidArgument(f"line {number}", f"has {', '.join(unknown)}, which no input is called")
    return np.concatenate([_values(candidate.get(name_of(one)), one, number) for one in inputs])


def _values(given: Any, one: RankInput, number: int) -> Float32Array:
    where = f"line {number}, {name_of(one)}"
    if isinstance(one, KeywordInput):
        words = [given] if isinstance(given, str) else given or []
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InvalidArgument(where, f"is {given!r}, neither a keyword nor a list of them")
        places = KeywordPlaces(Vocabulary(one.vocabulary) if one.vocabulary else Buckets(one.buckets))
        row: Int64Array = np.zeros(1, np.int64)
        for word in words:
            places.add(word, row)
        return places.of(row).reshape(-1)
    missing = one.missing if isinstance(one, QueryInput) else (one.missing,)
    if given is None and not missing:
        raise InvalidArgument(where, "is missing, and has no default")
    numbers = missing if given is None else given if isinstance(given, list) else [given]
    if len(numbers) == 1 and given is None:
        numbers = [*numbers] * width_of(one)
    fits = all(isinstance(value, int | float) and not isinstance(value, bool | str) for value in numbers)
    if not fits or len(numbers) != width_of(one):
        raise InvalidArgument(where, f"is {given!r}, not {width_of(one)} numbers")
    return np.array(numbers, np.float32)
