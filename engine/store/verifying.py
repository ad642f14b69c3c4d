"""Whether what lies in a data directory is whole: everything is read and held against everything else.

Reads only. Knows no index: whoever asks says how an image is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.files import file_sha256
from engine.ranking import Pipeline
from engine.store.collection_store import version_folder
from engine.store.damage import Fault, FaultKind
from engine.store.folders import DATABASE_NAME
from engine.store.inspecting import TROUBLE, Frame, integrity, opened, read_contents, read_frame, told
from engine.store.rankers import ranker_folder
from engine.store.row_checks import (
    check_counters,
    check_log,
    check_rows,
    check_segments,
    logged_spans,
    with_true_end,
)
from engine.store.snapshots import MANIFEST, Report, read_manifest, verify_snapshot
from engine.store.verdict import Verdict

ReadImage = Callable[[Path], object]
"""Reads the index image or row image that a JSON tells of; raises EngineError where it is not what was written."""

SALVAGING, SALVAGED = f"{DATABASE_NAME}.salvaging", f"{DATABASE_NAME}.salvaged"
"""A database that a repair is writing, and one that it has written whole."""


def quiet(stage: str, done: float) -> None:
    """A report to nobody."""


def verify_collection(folder: Path, *, read_image: ReadImage, report: Report = quiet) -> Verdict:
    """Everything that can be known of a collection that no server has open."""
    verdict = Verdict(folder.name, folder)
    report("database", 0.0)
    database = folder / DATABASE_NAME
    if not database.is_file():
        verdict.add(FaultKind.DATABASE_MISSING, DATABASE_NAME, f"{database} is no file")
        return verdict
    try:
        with opened(database) as connection:
            _verify_database(verdict, connection)
    except TROUBLE as error:
        verdict.add(FaultKind.DATABASE_UNREADABLE, DATABASE_NAME, told(error))
    if verdict.frame is not None:
        _verify_files(verdict, verdict.frame, read_image, report)
    return verdict


def verify_snapshots(root: Path, *, report: Report = quiet) -> Iterator[tuple[Path, Fault | None]]:
    """Of one collection's, the newest first: each folder, and what is wrong with it."""
    folders = [path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")]
    for folder in sorted(folders, reverse=True):
        yield folder, _snapshot_fault(folder, report)


def leftovers(root: Path) -> list[Path]:
    """Folders beside collections or snapshots that were being made, fetched or deleted when a server died."""
    patterns = (".*.making", ".*.deleting", ".fetching-*")
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def _snapshot_fault(folder: Path, report: Report) -> Fault | None:
    if not (folder / MANIFEST).is_file():
        return Fault(FaultKind.SNAPSHOT_HALF, folder.name, f"no {MANIFEST}")
    try:
        read_manifest(folder)
        verify_snapshot(folder, report=report)
        with opened(folder / DATABASE_NAME) as connection:
            # What was damaged when it was copied is a faithful copy all the same.
            found, frame = integrity(connection), read_frame(connection)
    except TROUBLE as error:
        return Fault(FaultKind.SNAPSHOT_DAMAGED, folder.name, told(error))
    wrong = found or (frame if isinstance(frame, Fault) else None)
    return wrong and Fault(FaultKind.SNAPSHOT_DAMAGED, folder.name, f"{wrong.kind}: {wrong.found}")


def _verify_database(verdict: Verdict, connection: sqlite3.Connection) -> None:
    damage = integrity(connection)
    frame = read_frame(connection)
    verdict.faults += [one for one in (damage, frame) if isinstance(one, Fault)]
    if damage is None:
        verdict.sound.append("database")
    if isinstance(frame, Fault):
        return
    absent = _absent_folder(verdict.folder, frame)
    if absent:
        verdict.add(FaultKind.VERSION_UNREADABLE, "versions", absent)
        return
    verdict.frame = frame
    verdict.sound.append("schema and version")
    try:
        verdict.contents = read_contents(connection, frame)
        verdict.items = len(verdict.contents.keys)
    except TROUBLE as error:
        if not verdict.has(FaultKind.DATABASE_DAMAGED):
            verdict.add(FaultKind.DATABASE_DAMAGED, DATABASE_NAME, told(error))


def _absent_folder(folder: Path, frame: Frame) -> str:
    """What is wrong with a version that names a folder which is not there, beside one that it does not name."""
    wanted = version_folder(folder, frame.version)
    others = [path.name for path in (folder / "versions").glob("*") if path.is_dir()]
    if frame.next_row == 0 or wanted.is_dir() or not others:
        return ""
    return f"its folder is {wanted.name}, and there is {', '.join(sorted(others))}"


def _verify_files(verdict: Verdict, frame: Frame, read_image: ReadImage, report: Report) -> None:
    report("rows", 0.0)
    before, contents = len(verdict.faults), verdict.contents
    if contents is not None:
        verdict.frame = frame = with_true_end(verdict, frame, contents)
        check_rows(verdict, frame, contents, report)
        check_counters(verdict, contents)
        check_log(verdict, frame, contents)
        if len(verdict.faults) == before:
            verdict.sound.append("items and rows")
        check_segments(verdict, frame, logged_spans(contents, frame))
    _verify_images(verdict, frame, read_image)
    if frame.schema.pipeline is not None:
        _verify_ranker(verdict, frame.schema.pipeline)
    _verify_leftovers(verdict, frame)


def _verify_images(verdict: Verdict, frame: Frame, read_image: ReadImage) -> None:
    folder = version_folder(verdict.folder, frame.version)
    told_of = [*folder.glob("ivfpq-*.json"), *folder.glob("rows-*.json")]
    stems = {path.stem for path in told_of}
    for path in sorted(told_of):
        try:
            read_image(path)
        except TROUBLE as error:
            verdict.add(FaultKind.IMAGE_DAMAGED, path.stem, told(error))
            verdict.images += sorted(folder.glob(f"{path.stem}.*"))
    if stems and not verdict.images:
        verdict.sound.append("images")
    files = [*folder.glob("ivfpq-*.faiss"), *folder.glob("rows-*.image")]
    verdict.leftovers += sorted(path for path in files if path.stem not in stems)


def _verify_ranker(verdict: Verdict, pipeline: Pipeline) -> None:
    """The copies of the model's files, by the sums that the pipeline has of them."""
    before, folder = len(verdict.faults), ranker_folder(verdict.folder, pipeline.ranker_version)
    for name, digest in pipeline.files.items():
        path = folder / name
        where = str(path.relative_to(verdict.folder))
        if not path.is_file():
            verdict.add(FaultKind.RANKER_MISSING, where, f"{path} is no file")
            continue
        try:
            found = file_sha256(path)
        except OSError as error:
            verdict.add(FaultKind.RANKER_DAMAGED, where, told(error))
            continue
        if found != digest:
            verdict.add(FaultKind.RANKER_DAMAGED, where, f"sha256 {found}, not {digest}")
    if len(verdict.faults) == before:
        verdict.sound.append("ranker")


def _verify_leftovers(verdict: Verdict, frame: Frame) -> None:
    kept = version_folder(verdict.folder, frame.version)
    others = [path for path in kept.parent.glob("*") if path != kept and path.name.split(".")[0] == frame.version.id]
    working = [*kept.glob("*.new"), *kept.glob("build-*.*"), *verdict.folder.glob(SALVAGING)]
    verdict.leftovers += sorted([*others, *working])
    for path in verdict.leftovers:
        verdict.add(FaultKind.LEFTOVER, path.name, "nobody uses it")
