"""`ebr verify`: whether what lies in a data directory is whole, and repairs where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from engine.cli import output, session
from engine.errors import CollectionNotFound, ConfigError

if TYPE_CHECKING:
    from engine.store import Fault, Repair, Verdict

app = typer.Typer(add_completion=False)

Report = Callable[[str, float], None]


@app.command()
def verify(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", envvar="EBR_DATA_DIR", metavar="DIR", help="Folder that no server uses now.")
    ] = Path("ebr-data"),
    collection: Annotated[
        str, typer.Option("--collection", "-c", metavar="NAME", help="This one alone; all unless given.")
    ] = "",
    snapshots: Annotated[bool, typer.Option("--snapshots/--no-snapshots", help="Verify snapshots too.")] = True,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what loses nothing that is not lost already; asks before.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Repair without asking.")] = False,
    as_json: session.JsonOption = False,
) -> None:
    """Read all of a data directory and tell what is sound and what is not; exit with 1 if something is not.

    Items that a repair has to take out are written to a file that `ebr load` reads.
    """
    with _held(data_dir):
        root = data_dir / "collections"
        names = _names(root, collection)
        verdicts = _collections(root, names)
        found = _snapshots(data_dir / "snapshots", collection) if snapshots else []
        stray = [] if collection else _stray(data_dir)
        repairs = _repaired(verdicts, found, stray, data_dir, yes=yes, as_json=as_json) if repair else []
    after = {one.verdict.collection: one.verdict for one in repairs}
    verdicts = [after.get(one.collection, one) for one in verdicts]
    _tell(verdicts, found, [] if repair and repairs else stray, repairs, as_json=as_json)
    if not all(one.is_sound for one in verdicts) or any(fault for _, fault in found):
        raise typer.Exit(1)


@contextmanager
def _held(data_dir: Path) -> Iterator[None]:
    """The directory, for as long as the block runs.

    Raises:
        ConfigError: a server uses it, or it is none.
    """
    from engine.store import DirectoryLock

    if not data_dir.is_dir():
        raise ConfigError(f"{data_dir} is no folder: --data-dir says where the server keeps its data")
    try:
        lock = DirectoryLock(data_dir)
    except ConfigError as error:
        raise ConfigError(f"{error.message}; stop the server first", directory=data_dir) from error
    with lock:
        yield


def _names(root: Path, collection: str) -> list[str]:
    from engine.store import list_collections

    names = list_collections(root)
    if collection and collection not in names:
        raise CollectionNotFound(collection)
    return [collection] if collection else names


def _collections(root: Path, names: list[str]) -> list[Verdict]:
    from engine.store import verify_collection

    verdicts = []
    for name in names:
        with _bar(name) as report:
            verdicts.append(verify_collection(root / name, read_image=_read_image, report=report))
    return verdicts


def _read_image(path: Path) -> None:
    from engine.index import ivfpq, row_image

    kind, _, name = path.stem.partition("-")
    if kind == "ivfpq":
        ivfpq.read_image(path.parent, name)
    elif name.isdecimal():
        row_image.load_image(path.parent, row_image.read_image(path.parent, int(name)))


def _snapshots(root: Path, collection: str) -> list[tuple[Path, Fault | None]]:
    from engine.store import list_collections, verify_snapshots

    found: list[tuple[Path, Fault | None]] = []
    for name in [collection] if collection else list_collections(root):
        with _bar(f"snapshots of {name}") as report:
            found += verify_snapshots(root / name, report=report)
    return found


def _stray(data_dir: Path) -> list[Path]:
    from engine.store import leftovers

    roots = [data_dir / "collections", *(data_dir / "snapshots").glob("*")]
    return [path for root in roots for path in leftovers(root)]


def _repaired(
    verdicts: list[Verdict],
    snapshots: list[tuple[Path, Fault | None]],
    stray: list[Path],
    data_dir: Path,
    *,
    yes: bool,
    as_json: bool,
) -> list[Repair]:
    """Each collection that can be, once that is agreed to; nothing where it is not."""
    from engine.store import can_repair, remove, repair_collection

    able = [one for one in verdicts if can_repair(one)]
    if not (able or stray) or not _agreed(able, stray, yes=yes, as_json=as_json):
        return []
    for path in stray:
        remove(path)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return [
        repair_collection(one, beside=data_dir, stamp=stamp, read_image=_read_image, record=output.item_record)
        for one in able
    ]


def _agreed(able: list[Verdict], stray: list[Path], *, yes: bool, as_json: bool) -> bool:
    for one in able:
        for fault in one.faults:
            if fault.is_of_ranker:
                continue
            session.err.print(Text(f"{one.collection}: {fault.kind}, {fault.found}; {fault.remedy}"), soft_wrap=True)
    for path in stray:
        session.err.print(Text(f"{path} is a leftover and will be removed"), soft_wrap=True)
    return yes or _confirmed()


def _confirmed() -> bool:
    try:
        return typer.confirm("Repair this? A copy of the folder, where there is room for one, is wise", err=True)
    except typer.Abort:
        session.err.print(Text("nobody answered: nothing was changed; --yes repairs without asking"))
        return False


@contextmanager
def _bar(what: str) -> Iterator[Report]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn())
    with Progress(*columns, console=session.err, transient=True) as progress:
        task = progress.add_task(f"verifying {what}", total=1.0, stage="")
        yield lambda stage, done: progress.update(task, completed=done, stage=stage)


def _tell(
    verdicts: list[Verdict],
    snapshots: list[tuple[Path, Fault | None]],
    stray: list[Path],
    repairs: list[Repair],
    *,
    as_json: bool,
) -> None:
    advice = {one.collection: _advice(one, snapshots) for one in verdicts}
    if as_json:
        output.print_json(_record(verdicts, snapshots, stray, repairs, advice))
        return
    for repair in repairs:
        for line in [*repair.done, *repair.lost]:
            session.out.print(Text(f"{repair.verdict.collection}: {line}"), soft_wrap=True)
    table = output.new_table("", "found", "", "what it means", "what to do")
    for one in verdicts:
        items = "" if one.items is None else f"{one.items:,} items"
        if one.is_sound:
            table.add_row(Text(one.collection), items, Text("sound", style="green"), "", "")
        for fault in one.faults:
            _add(table, one.collection, fault)
    for path, snapshot_fault in snapshots:
        name = f"{path.parent.name}, snapshot"
        if snapshot_fault is None:
            table.add_row(Text(name), Text(path.name), Text("sound", style="green"), "", "")
        else:
            _add(table, name, snapshot_fault)
    for path in stray:
        table.add_row(Text(path.name), "", Text("leftover", style="yellow"), "nothing is lost", "the next start")
    session.out.print(table)
    for line in filter(None, advice.values()):
        session.out.print(Text(line, style="red"), soft_wrap=True)


def _add(table: Any, whose: str, fault: Fault) -> None:
    style = "yellow" if fault.is_harmless else "bold red"
    found = Text(f"{fault.where}: {fault.found}")
    table.add_row(Text(whose), found, Text(fault.kind.value, style=style), Text(fault.means), Text(fault.remedy))


def _advice(verdict: Verdict, snapshots: list[tuple[Path, Fault | None]]) -> str:
    """What to do about a collection that cannot be repaired."""
    from engine.store import can_repair

    if verdict.is_sound or can_repair(verdict):
        return ""
    name = verdict.collection
    if all(one.is_of_ranker for one in verdict.faults):
        again = f"`ebr pipeline set {name} FOLDER` copies it anew"
        without = f"`ebr pipeline remove {name}` does without"
        return f"no repair gives {name} its ranker back: with the server running, {again}, and {without}"
    sound = [path.name for path, fault in snapshots if fault is None and path.parent.name == verdict.collection]
    if not sound:
        return f"{name} cannot be repaired, and no sound snapshot of it was found here"
    command = f"ebr snapshot restore {name} {max(sound)} --into {name}-restored"
    return f"{name} cannot be repaired; its newest sound snapshot is restored, with the server running, by `{command}`"


def _record(
    verdicts: list[Verdict],
    snapshots: list[tuple[Path, Fault | None]],
    stray: list[Path],
    repairs: list[Repair],
    advice: dict[str, str],
) -> dict[str, Any]:
    return {
        "collections": [one.to_json() | {"advice": advice[one.collection]} for one in verdicts],
        "snapshots": [
            {"collection": path.parent.name, "id": path.name, "fault": fault.to_json() if fault else None}
            for path, fault in snapshots
        ],
        "leftovers": [str(path) for path in stray],
        "repairs": [{"collection": one.verdict.collection, "done": one.done, "lost": one.lost} for one in repairs],
    }
