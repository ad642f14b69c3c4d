"""What the collections of a data directory would take of a GPU, and for how long it will do: for `ebr doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.cli import probes
from engine.cli.output import size
from engine.cli.probes import Finding
from engine.errors import EngineError

_PLACED = {
    "device": "all of it fits",
    "lists": "lists alone fit, the CPU rescores",
    "host": "does not fit, searched on the CPU",
}


def device_budget(given: int | None) -> tuple[int, str] | None:
    """Bytes for rows and lists, and whose word that is; None where nobody says and there is no GPU."""
    if given is not None:
        return given, "device_memory_bytes"
    free = probes.free_gpu_bytes()
    if free is None:
        return None
    from engine.backend.placement import FREE_SHARE

    return int(free * FREE_SHARE), f"{FREE_SHARE:.0%} of what the GPU has free"


def forecasts(data_dir: Path, budget: int) -> list[dict[str, Any]]:
    """Of each collection on its own, as if the others were not there; ``error`` of one that cannot be read."""
    from engine.store import list_collections

    root = data_dir / "collections"
    return [{"collection": name} | _forecast(root / name, budget) for name in list_collections(root)]


def told(forecasts: list[dict[str, Any]], budget: int, whose: str) -> Iterator[Finding]:
    if forecasts:
        yield Finding("forecast", "GPU memory", f"{size(budget)} for rows and lists: {whose}")
    for one in forecasts:
        if "error" in one:
            yield Finding("forecast", one["collection"], one["error"], "note")
            continue
        lists = f", lists {size(one['list_bytes'])}" if one["list_bytes"] else ""
        now = f"{one['n_rows']:,} rows {size(one['rows_bytes'])}{lists}, working {size(one['working_bytes'])}"
        yield Finding("forecast", one["collection"], f"{now}; {_PLACED[one['placement']]}")
        until = f"all up to {one['fits_until']:,} rows"
        alone = f", lists alone up to {one['lists_fit_until']:,}" if one["list_bytes"] else ""
        yield Finding("forecast", f"{one['collection']} fits", until + alone)
    together = sum(one.get("rows_bytes", 0) + one.get("list_bytes", 0) for one in forecasts)
    if len(forecasts) > 1:
        yield Finding("forecast", "all together", size(together), "ok" if together <= budget else "note")


def _forecast(folder: Path, budget: int) -> dict[str, Any]:
    from engine.backend.cuda_slices import batch_bytes
    from engine.backend.placement import forecast
    from engine.store import glance

    try:
        version, n_rows = glance(folder)
    except EngineError as error:
        return {"error": error.message}
    lists = _newest_lists(folder / "versions" / version.id)
    found = forecast(n_rows, dimension=version.dimension, dtype=version.dtype, lists=lists, budget=budget)
    return asdict(found) | {"working_bytes": batch_bytes(n_rows)}


def _newest_lists(folder: Path) -> Any:
    from engine.backend.placement import ListShape
    from engine.index.ivfpq import image_ids, image_path

    for image_id in image_ids(folder):
        try:
            image = json.loads(image_path(folder, image_id).read_text("utf-8"))
            return ListShape(int(image["nlist"]), int(image["code_bytes"]), int(image["dimension"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
