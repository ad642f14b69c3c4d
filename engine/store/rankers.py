"""Copies of rankers in a collection's folder, each under its fingerprint, whole or not at all. Knows no model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from engine.files import file_sha256
from engine.store.faults import write_faults
from engine.store.folders import made_aside

RANKERS = "rankers"


def ranker_folder(collection: Path, version: str) -> Path:
    return collection / RANKERS / version


def place_ranker(collection: Path, version: str, files: Mapping[str, Path]) -> Path:
    """Copy the files, by the names they are to have, unless the collection has them already, undamaged; where they lie.

    Raises:
        ReadOnly: the disk refused; nothing is left.
    """
    folder = ranker_folder(collection, version)
    with write_faults(f"copying ranker {version}"):
        if folder.is_dir():
            if all(_is_copy(folder / name, path) for name, path in files.items()):
                return folder
            shutil.rmtree(folder)
        with made_aside(folder) as aside:
            for name, path in files.items():
                shutil.copyfile(path, aside / name)
    return folder


def _is_copy(copy: Path, path: Path) -> bool:
    return copy.is_file() and file_sha256(copy) == file_sha256(path)


def ranker_files(collection: Path, version: str) -> list[Path]:
    return sorted(path for path in ranker_folder(collection, version).glob("*") if path.is_file())


def remove_other_rankers(collection: Path, version: str) -> None:
    """Those that no schema names; for when nobody reads them. What the disk keeps is tried again at the next start."""
    for folder in (collection / RANKERS).glob("*"):
        if folder.name != version:
            shutil.rmtree(folder, ignore_errors=True)
