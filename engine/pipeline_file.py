"""Pipelines in TOML: a table of a schema file, or a file of its own in the folder that has the model."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, InvalidArgument
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, QueryInput, RankInput, RankStage
from engine.table_keys import check_keys

PIPELINE_NAME = "pipeline.toml"
_PIPELINE_KEYS: Mapping[str, type] = {"retrieve": int, "rank": dict}
_RANK_KEYS: Mapping[str, type] = {"model": str, "deadline_share": float, "max_candidates": int, "input": list}
_INPUT_KEYS: Mapping[str, Mapping[str, type]] = {
    "leg": {"form": str, "missing": float},
    "number": {"missing": float},
    "keyword": {"vocabulary": list, "buckets": int},
    "query": {"size": int, "missing": list},
}


def read_pipeline(folder: Path) -> Pipeline:
    """That of a folder's ``pipeline.toml``; the model is the folder's own unless it names another path.

    Raises:
        ConfigError: the file cannot be read, or says what no pipeline has; the message names the field.
    """
    path = folder / PIPELINE_NAME
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        pipeline = pipeline_from_table(table, "pipeline", model=".")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except InvalidArgument as error:
        raise ConfigError(f"{path}: {error.message}", violations=error.violations) from error
    rank = pipeline.rank
    model = str((folder / Path(rank.model).expanduser()).resolve())
    stage = RankStage(model, rank.inputs, rank.deadline_share, rank.max_candidates)
    return Pipeline(pipeline.retrieve, stage)


def pipeline_from_table(table: Mapping[str, Any], field: str, *, model: str = "") -> Pipeline:
    """A parsed table as a pipeline, not yet held against a schema; ``model``: where the table names none.

    Raises:
        InvalidArgument: an unknown or missing key, or a value of another type than the key's.
    """
    check_keys(table, _PIPELINE_KEYS, field)
    for key in _PIPELINE_KEYS:
        if key not in table:
            raise InvalidArgument(f"{field}.{key}", "is missing")
    rank = table["rank"]
    check_keys(rank, _RANK_KEYS, f"{field}.rank")
    if not rank.get("model", model):
        raise InvalidArgument(f"{field}.rank.model", "is missing")
    inputs = [_input(one, f"{field}.rank.input[{i}]") for i, one in enumerate(rank.get("input", ()))]
    given = {key: rank[key] for key in ("deadline_share", "max_candidates") if key in rank}
    return Pipeline(table["retrieve"], RankStage(rank.get("model", model), tuple(inputs), **given))


def _input(table: Mapping[str, Any], field: str) -> RankInput:
    """The key that is no setting says which kind of input it is, and what it reads."""
    kinds = [key for key in _INPUT_KEYS if key in table] if isinstance(table, Mapping) else []
    if len(kinds) != 1:
        raise InvalidArgument(field, f"has {len(kinds)} of {', '.join(_INPUT_KEYS)}: give one, with what it reads")
    kind = kinds[0]
    check_keys(table, {kind: str, "name": str, **_INPUT_KEYS[kind]}, field)
    given: dict[str, Any] = {key: value for key, value in table.items() if key != kind}
    for key, wanted in (("vocabulary", str), ("missing", (int, float))):
        if isinstance(given.get(key), list):
            if not all(isinstance(one, wanted) and not isinstance(one, bool) for one in given[key]):
                raise InvalidArgument(f"{field}.{key}", f"is {given[key]!r}, with one of another type")
            given[key] = tuple(given[key])
    match kind:
        case "leg":
            return LegInput(table[kind], **given)
        case "number":
            return NumberInput(table[kind], **given)
        case "keyword":
            return KeywordInput(table[kind], **given)
    return QueryInput(table[kind], **given)
