"""Data directories that are costly to make, loaded and with their index trained, kept between runs.

The key is everything they depend on: the vectors, the schema, the settings, and the code that stores and trains.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cache import cache_folder, content_key
from bench.harness import progress, rounded
from bench.machine import ROOT
from bench.predicates import Attributes
from bench.serving import load_vectors, served, wait_until_settled
from engine.types import Float32Array, Schema

_CODE = ("engine/store", "engine/index", "engine/backend", "kernels")
_TRAIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A copy of the data directory for this run, and what was measured when it was made."""

    folder: Path
    made: Mapping[str, Any]


@contextlib.contextmanager
def prepared(
    schema: Schema,
    vectors: Float32Array,
    *,
    settings: Mapping[str, object],
    trained: bool,
    attributes: Attributes | None = None,
    kept_as: str | None = None,
) -> Iterator[Prepared]:
    """A data directory with the vectors as items 0 to n - 1.

    Args:
        trained: wait until there are inverted lists, not only until upkeep has nothing to do.
        attributes: of the rows; the schema declares them.
        kept_as: the schema's name unless given. Of one name the newest alone is kept.
    """
    columns = [] if attributes is None else attributes.columns()
    key = content_key(vectors, repr(schema), repr(sorted(settings.items())), str(trained), code_key(), *columns)
    name = f"{kept_as or schema.name}-{'trained' if trained else 'plain'}"
    kept = cache_folder() / f"{name}-{key}"
    if not kept.is_dir():
        _make(kept, schema, Loaded(vectors, attributes), settings, trained)
        for older in kept.parent.glob(f"{name}-*"):
            if older.is_dir() and older != kept:
                shutil.rmtree(older)
    with tempfile.TemporaryDirectory(prefix="ebr-bench-") as own:
        folder = Path(own) / "server"
        shutil.copytree(kept, folder, symlinks=True)
        yield Prepared(folder, json.loads((kept / "made.json").read_text("utf-8")))


def code_key() -> str:
    """A hash of the code that decides what a data directory holds."""
    files = sorted(path for part in _CODE for path in (ROOT / part).rglob("*.py"))
    return content_key(*(path.read_bytes() for path in files))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What items are made of."""

    vectors: Float32Array
    attributes: Attributes | None


def _make(kept: Path, schema: Schema, items: Loaded, settings: Mapping[str, object], trained: bool) -> None:
    progress.print(f"  loading and training {schema.name}, which later runs find in the cache")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="half-") as half:
        folder = Path(half) / "made"
        with served(folder, settings=settings) as running:
            began = time.perf_counter()
            load_vectors(running.client, schema, items.vectors, attributes=items.attributes)
            loaded = time.perf_counter()
            wait_until_settled(running.client, schema.name, trained=trained, seconds=_TRAIN_SECONDS)
            made = {
                "load_rows_per_s": rounded(len(items.vectors) / (loaded - began)),
                "upkeep_s": rounded(time.perf_counter() - loaded),
            }
        (folder / "made.json").write_text(json.dumps(made), "utf-8")
        folder.rename(kept)
