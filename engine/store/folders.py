"""Folders of collections: made aside and renamed, renamed aside and removed, so that a crash leaves whole ones only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import CollectionExists, CollectionNotFound
from engine.store.faults import write_faults

DATABASE_NAME = "store.sqlite"
_MAKING = ".making"
_DELETING = ".deleting"


def list_collections(root: Path) -> list[str]:
    """Names of the collections under ``root``, sorted; none where the folder is not there yet."""
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def remove_leftovers(root: Path) -> list[str]:
    """Remove what crashes during create and delete have left; to be called before any collection is opened."""
    leftovers = [*root.glob(f".*{_MAKING}"), *root.glob(f".*{_DELETING}")]
    with write_faults("removing leftovers"):
        for leftover in leftovers:
            shutil.rmtree(leftover)
    return sorted(leftover.name for leftover in leftovers)


def delete_collection_folder(folder: Path) -> None:
    """
    Raises:
        CollectionNotFound: there is no such folder.
        ReadOnly: the disk refused; the collection is whole, or gone but for a leftover.
    """
    if not folder.is_dir():
        raise CollectionNotFound(folder.name)
    aside = _aside(folder, _DELETING)
    with write_faults(f"deleting {folder.name}"):
        _remove_if_there(aside)
        folder.rename(aside)
        sync_folder(folder.parent)
        shutil.rmtree(aside)


@contextmanager
def made_aside(folder: Path) -> Iterator[Path]:
    """A fresh folder to fill, which takes the name ``folder`` at the end of the block and not before.

    Raises:
        CollectionExists: ``folder`` is there already.
    """
    if folder.exists():
        raise CollectionExists(folder.name)
    aside = _aside(folder, _MAKING)
    make_folder(folder.parent)
    _remove_if_there(aside)
    aside.mkdir()
    try:
        yield aside
        _sync_tree(aside)
        aside.rename(folder)
        sync_folder(folder.parent)
    except Exception:
        withdraw(folder)
        raise


def withdraw(folder: Path) -> None:
    """Take back what was being made: a full disk must not be kept full by it, nor the name be taken.

    Where the disk refuses even this, the folder is left as it is.
    """
    aside = _aside(folder, _MAKING)
    with suppress(OSError):
        if folder.exists():
            folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder that survives power loss, and those above it."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(parent, name))
        sync_folder(Path(parent))


def _aside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}{suffix}")


def _remove_if_there(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
