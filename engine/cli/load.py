"""`ebr load`: a file into a collection, with progress, and on from where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from engine.cli import output, session
from engine.cli.column_loading import ColumnLoader
from engine.cli.load_report import LoadRun, tell_counts, tell_fields
from engine.cli.load_state import LoadState, created, read_state, state_path, write_state
from engine.cli.loaders import make_column_loader, make_file_loader
from engine.cli.loading import Loader
from engine.errors import CollectionNotFound, EngineError, InvalidArgument, Loading
from engine.ingest.coerce import map_fields
from engine.ingest.column_files import VECTOR_SUFFIXES, VectorFile
from engine.ingest.readers import open_records
from engine.schema_file import read_schema
from engine.types import Schema

if TYPE_CHECKING:
    from engine.client import CollectionInfo, RetrievalClient

_START_SECONDS = 300.0
"""A first start compiles its kernels, which a busy machine takes minutes for."""

app = typer.Typer(add_completion=False)

_SEARCHABLE_WITHIN_SECONDS = 60.0


FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help=".jsonl, .csv (either with .gz), .parquet, .npy or .fbin.")
]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection; by the schema's name if not given.")
]
SchemaOption = Annotated[
    Path | None, typer.Option("--schema", metavar="SCHEMA.toml", help="Create the collection if absent.")
]
IdOption = Annotated[str, typer.Option("--id", metavar="FIELD", help="Field of the ids; _id or id if not given.")]
TextOption = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="NAME[=FIELD]", help="Text field to read, all of the schema's if not given."),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="ATTR=FIELD", help="Read an attribute from a field of another name."),
]
VectorOption = Annotated[
    str, typer.Option("--vector", metavar="FIELD", help="Field of the vectors, which spare the encoder.")
]
SeparatorOption = Annotated[
    str, typer.Option("--separator", metavar="TEXT", help="What stands between the values of a list in CSV.")
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch", min=1, metavar="N", help="Items a message; 256 unless given, 8192 of files read as columns."
    ),
]
FirstIdOption = Annotated[
    int | None, typer.Option("--first-id", min=0, metavar="N", help="Id of the first vector of .npy and .fbin, 0 else.")
]
IdsOption = Annotated[
    Path | None, typer.Option("--ids", metavar="IDS.npy", help="Ids of the vectors of .npy and .fbin, in their order.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--restart", help="Go on where a load of this file stopped, or begin again.")
]
AllowRefusedOption = Annotated[bool, typer.Option("--allow-refused", help="Exit with 0 although items were refused.")]
LoadJsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON record of what was done at the end, on standard output.")
]


@app.command()
def load(
    file: FileArgument,
    collection: CollectionOption = "",
    schema: SchemaOption = None,
    id: IdOption = "",
    text: TextOption = None,
    map: MapOption = None,
    vector: VectorOption = "",
    separator: SeparatorOption = "|",
    batch: BatchOption = None,
    first_id: FirstIdOption = None,
    ids: IdsOption = None,
    resume: ResumeOption = True,
    allow_refused: AllowRefusedOption = False,
    as_json: LoadJsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Load items from a file.

    Values are read as the schema has them: times in ISO 8601 or seconds since 1970, true and false, numbers, lists.

    Vectors alone (.npy of n by d numbers, .fbin), and .parquet with a vector
    (--vector) and neither text nor times, are read and written as columns,
    several times as fast.

    A load that was stopped goes on with the first row that the server has not acknowledged.

    The record of --json has the counts of the file so far (rows, accepted,
    refused with the first few reasons), the row that this run went on after,
    its seconds and rows a second, the last sequence, and whether the load is
    complete and searchable. A load that stops prints it too. Progress and
    messages go to standard error as ever.
    """
    is_vectors = file.suffix.lower() in VECTOR_SUFFIXES
    _refuse_options_of_others(is_vectors, {"--id": id, "--text": text, "--map": map, "--vector": vector}, first_id, ids)
    records = None if is_vectors else open_records(file)
    with session.connect(target) as client:
        info = _once_loaded(client, lambda: _collection(client, collection, schema))
        options = [id, vector, separator, *(text or ()), "--map", *(map or ())]
        if is_vectors:
            options += ["--first-id", str(first_id or 0), "--ids", str(ids or "")]
        kept_at = state_path(file, target=target, collection=info.schema.name, options=options)
        state = read_state(kept_at, info) if resume else LoadState(created=created(info))
        if records is None:
            vectors = VectorFile(file, info.schema, first_id=first_id or 0, ids=ids)
            loader: Loader | ColumnLoader = make_column_loader(client, info, vectors, state, batch)
        else:
            fields = map_fields(
                info.schema,
                id=id or None,
                texts=text or (),
                attributes=map or (),
                vector=vector or None,
                list_separator=None if records.has_types else separator,
            )
            loader = make_file_loader(client, info, records, file=file, fields=fields, state=state, batch_items=batch)
        run = LoadRun(info.schema.name, file, loader)
        try:
            _load(run, kept_at)
            run.is_searchable = wait_until_searchable(client, info.schema.name, loader.state.sequence)
        finally:
            if as_json:
                output.print_json(run.to_json())
    tell_counts(loader.state)
    if loader.state.refused and not allow_refused:
        raise typer.Exit(1)


def _once_loaded(client: RetrievalClient, ask: Callable[[], CollectionInfo]) -> CollectionInfo:
    """Ask again once a server that is still starting serves."""
    try:
        return ask()
    except Loading:
        session.err.print(Text("the server is still starting: waiting until it serves"))
        client.wait_until_serving(timeout_s=_START_SECONDS)
        return ask()


def _collection(client: RetrievalClient, name: str, schema_file: Path | None) -> CollectionInfo:
    """The collection, made from the schema file where it is absent."""
    if schema_file is None:
        if not name:
            raise typer.BadParameter("give --collection or --schema")
        return client.get_collection(name)
    schema = read_schema(schema_file)
    return open_collection(client, replace(schema, name=name) if name else schema)


def open_collection(client: RetrievalClient, schema: Schema) -> CollectionInfo:
    """The collection of that schema, made where it is absent.

    Raises:
        InvalidArgument: it is there with another schema.
    """
    try:
        info = client.get_collection(schema.name)
    except CollectionNotFound:
        session.err.print(Text(f"creating collection {schema.name}"))
        return client.create_collection(schema)
    lacks = [one.name for one in schema.attributes if info.schema.attribute(one.name) != one]
    if lacks or _vector_makers(schema) != _vector_makers(info.schema):
        what = f"attributes {', '.join(lacks)}" if lacks else "encoder, text fields or embeddings"
        raise InvalidArgument("schema", f"collection {schema.name!r} exists and differs in its {what}")
    return info


def _vector_makers(schema: Schema) -> tuple[object, ...]:
    """What vectors are made by; dimensions that only the encoder knows aside."""
    embeddings = [replace(one, dimension=None) for one in schema.embeddings]
    return schema.encoder, schema.text_fields, embeddings, schema.combine


def _refuse_options_of_others(
    is_vectors: bool, of_fields: Mapping[str, object], first_id: int | None, ids: Path | None
) -> None:
    if is_vectors:
        given = next((name for name, value in of_fields.items() if value), None)
        if given is not None:
            raise typer.BadParameter(f"{given} names a field, and a file of vectors has none")
        if first_id is not None and ids is not None:
            raise typer.BadParameter("--first-id and --ids both say what the ids are: give one of the two")
    elif first_id is not None or ids is not None:
        given = "--ids" if first_id is None else "--first-id"
        raise typer.BadParameter(f"{given} is for .npy and .fbin; --id names the field of the ids in other files")


def _load(run: LoadRun, kept_at: Path) -> None:
    loader = run.loader
    if loader.state.place:
        session.err.print(Text(f"going on after row {loader.state.place:,} (--restart begins again)"))

    def keep(state: LoadState) -> None:
        write_state(kept_at, state)

    try:
        load_with_progress(loader, keep)
    except (KeyboardInterrupt, EngineError):
        session.err.print(Text(f"stopped after row {loader.state.place:,}; the same command goes on from there"))
        raise
    finally:
        run.end()
    run.is_complete = True
    kept_at.unlink(missing_ok=True)
    tell_fields(loader)


def load_with_progress(loader: Loader | ColumnLoader, keep: Callable[[LoadState], None]) -> None:
    """Run the loader under a bar of rows, rate and time left; ``keep`` is called after each batch."""
    began, first = time.monotonic(), loader.state.place
    with _bar() as (progress, task):

        def show(state: LoadState) -> None:
            keep(state)
            rate = (state.place - first) / max(time.monotonic() - began, 1e-9)
            total = max(loader.expected_records(), state.place)
            progress.update(task, completed=state.place, total=total, of=f"{total:,}", rate=f"{rate:,.0f}")

        loader.run(show)


@contextmanager
def _bar() -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("loading"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.fields[of]} rows"),
        TextColumn("{task.fields[rate]} rows/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=session.err) as progress:
        yield progress, progress.add_task("load", total=None, rate="-", of="?")


def wait_until_searchable(client: RetrievalClient, collection: str, sequence: int) -> bool:
    """True once searches see every write up to ``sequence``; after a minute it is said that they do not yet."""
    end = time.monotonic() + _SEARCHABLE_WITHIN_SECONDS
    while client.get_collection(collection).searchable_sequence < sequence:
        if time.monotonic() > end:
            session.err.print(Text("written, but not all of it is searchable yet", style="yellow"))
            return False
        time.sleep(0.05)
    return True
