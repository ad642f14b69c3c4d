"""Rankers of collections: opened from where a caller says they are, or from a collection's own copies."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError, EngineError
from engine.pipeline.rank import Ranking
from engine.pipeline.rank_lane import RankLane
from engine.ranking import Pipeline
from engine.store import CollectionStore

if TYPE_CHECKING:
    from engine.models.ranker import Ranker

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedRanker:
    """A pipeline with what the server adds to it, its ranker, and the files to be copied, by name."""

    pipeline: Pipeline
    ranker: Ranker
    files: Mapping[str, Path]


def open_source(pipeline: Pipeline) -> OpenedRanker:
    """Load, verify and time the model that a pipeline names; blocks.

    Raises:
        InvalidArgument: there is none, it is not safe to load, or it does not fit the pipeline's inputs.
        ConfigError: ONNX Runtime is not installed.
    """
    _require_onnx()
    from engine.models.ranker import MODEL_NAME, Ranker, hashes_of, model_files, ranker_version

    files = model_files(pipeline.rank.model)
    hashes = hashes_of(files)
    known = replace(pipeline, ranker_version=ranker_version(pipeline.rank.inputs, hashes), files=hashes)
    return OpenedRanker(known, Ranker(files[MODEL_NAME], known), files)


def load_ranking(store: CollectionStore, lane: RankLane) -> Ranking | None:
    """A stored collection's pipeline with its ranker; without one, and a warning, where that cannot be loaded: the
    collection serves all the same, in the fused order. None where the schema has no pipeline.
    """
    pipeline = store.schema.pipeline
    if pipeline is None:
        return None
    folder = store.ranker_folder(pipeline.ranker_version)
    try:
        _require_onnx()
        from engine.models.ranker import MODEL_NAME, Ranker, verify_ranker

        verify_ranker(folder, pipeline)
        return Ranking(pipeline, Ranker(folder / MODEL_NAME, pipeline), lane=lane)
    except EngineError as error:
        logger.warning(
            "collection %s: its ranker %s cannot be loaded, hits stay in the fused order: %s",
            store.schema.name,
            pipeline.ranker_version,
            error,
        )
        return Ranking(pipeline, None, lane=lane, error=error.message)


def _require_onnx() -> None:
    """Loaded when the first pipeline is: servers without one do not wait for it."""
    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"{name} is not installed, and rankers need it: pip install 'ebr-engine[cpu]'")
