"""What a power cut takes: everything that ``faulty_disk.c`` has seen written or named and not synced."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Keeps = Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of a name in a folder; ``kept``: a link to what the name stood for before."""

    event: str
    path: Path
    new_path: Path | None
    kept: Path | None


def unsynced_inodes(journal: Path) -> set[int]:
    """Files that have been written since they were last synced."""
    unsynced: set[int] = set()
    for event, first, *_ in _lines(journal):
        if event == "written":
            unsynced.add(int(first))
        elif event == "synced":
            unsynced.discard(int(first))
    return unsynced


def cut_power(root: Path, journal: Path, *, keeps: Keeps = lambda _: False, keeps_names: bool = False) -> None:
    """Take back what was not synced under ``root``.

    A real cut may let any of it reach the disk: of files that ``keeps`` names, what was written stays, and with
    ``keeps_names`` so do new, changed and removed names.
    """
    if not keeps_names:
        for entry in reversed(unsettled(journal)):
            _undo(entry)
    paths = {path.stat().st_ino: path for path in root.rglob("*") if path.is_file()}
    for inode in unsynced_inodes(journal):
        if inode in paths and not keeps(paths[inode]):
            paths[inode].write_bytes((journal / str(inode)).read_bytes())


def unsettled(journal: Path) -> list[Entry]:
    """Changes of names whose folder was not synced since, in order, with their paths as they are now."""
    pending: list[Entry] = []
    for event, *fields in _lines(journal):
        if event in {"written", "synced"}:
            continue
        if event == "folder":
            pending = [entry for entry in pending if (entry.new_path or entry.path).parent != Path(fields[0])]
            continue
        path, new_path, kept = (Path(field) if field else None for field in (*fields, "", "")[:3])
        assert path is not None
        if event == "renamed" and new_path is not None:
            # What is pending below a folder goes with it; undoing the renaming, should it be pending too, comes first.
            pending = [_moved(entry, path, new_path) for entry in pending]
        pending.append(Entry(event, path, new_path, kept))
    return _as_undone(pending)


def _as_undone(pending: list[Entry]) -> list[Entry]:
    """Paths of each entry as they are once all later ones have been undone."""
    result: list[Entry] = []
    for place, entry in enumerate(pending):
        seen = entry
        for later in reversed(pending[place + 1 :]):
            if later.event == "renamed" and later.new_path is not None:
                seen = _moved(seen, later.new_path, later.path)
        result.append(seen)
    return result


def _moved(entry: Entry, old: Path, new: Path) -> Entry:
    new_path = entry.new_path and _under(entry.new_path, old, new)
    return Entry(entry.event, _under(entry.path, old, new), new_path, entry.kept)


def _under(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path != old and path.is_relative_to(old) else path


def _undo(entry: Entry) -> None:
    if entry.event == "made":
        entry.path.unlink(missing_ok=True)
    elif entry.event == "folder-made":
        shutil.rmtree(entry.path, ignore_errors=True)
    elif entry.event == "folder-removed":
        entry.path.mkdir()
    elif entry.event == "removed":
        _put_back(entry.kept, entry.path)
    elif entry.new_path is not None and entry.new_path.exists():
        entry.new_path.rename(entry.path)
        _put_back(entry.kept, entry.new_path)


def _put_back(kept: Path | None, path: Path) -> None:
    if kept is not None:
        path.hardlink_to(kept)


def _lines(journal: Path) -> Iterator[list[str]]:
    log = journal / "log"
    for line in log.read_text().splitlines() if log.exists() else ():
        yield line.split("\t")
