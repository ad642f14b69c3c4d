"""Arrays that are costly to make, kept between runs under a key of everything they depend on."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def cache_folder() -> Path:
    """EBR_BENCH_CACHE, or the platform's folder for caches."""
    if named := os.environ.get("EBR_BENCH_CACHE"):
        return Path(named)
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ["LOCALAPPDATA"])
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "ebr-engine" / "bench"


def content_key(*parts: str | bytes | npt.NDArray[Any] | Iterable[str]) -> str:
    """A hash of all parts, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            digest.update(len(piece).to_bytes(8, "little") + piece)
        digest.update(b"|")
    return digest.hexdigest()[:32]


def _pieces(part: str | bytes | npt.NDArray[Any] | Iterable[str]) -> Iterable[bytes]:
    if isinstance(part, str):
        return [part.encode()]
    if isinstance(part, bytes):
        return [part]
    if isinstance(part, np.ndarray):
        return [f"{part.dtype.str}{part.shape}".encode(), np.ascontiguousarray(part).tobytes()]
    return (one.encode() for one in part)


def cached_array(name: str, key: str, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The array made before under this name and key, or made now and kept."""
    path = cache_folder() / f"{name}-{key}.npy"
    if not path.is_file():
        from bench.harness import progress  # the folder alone is wanted where its library is not there too

        progress.print(f"  making {name}, which later runs find in the cache")
        _write(path, make())
    array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _write(path: Path, array: npt.NDArray[Any]) -> None:
    """Under another name first: a run that is killed leaves no half array behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as out:
        np.save(out, array)
    Path(out.name).replace(path)
