"""`ebr snapshot`: copies of a collection as of one moment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from engine.cli import operation, output, session

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Create, list, restore and verify snapshots.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The collection.")]


@app.command()
def create(
    name: NameArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="Also copy it to this folder or address, as s3://bucket/folder.")
    ] = "",
    wait: operation.WaitOption = True,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Write a consistent copy of a collection; searches and writes go on meanwhile.

    The server keeps as many as its setting snapshots_kept says.
    """
    with session.connect(target) as client:
        operation.follow(client, client.create_snapshot(name, to=to), wait=wait, as_json=as_json)


@app.command("list")
def list_(
    name: NameArgument, as_json: session.JsonOption = False, target: session.TargetOption = session.DEFAULT_TARGET
) -> None:
    """List the snapshots of a collection that the server keeps, the newest first."""
    with session.connect(target) as client:
        found = client.list_snapshots(name)
    if as_json:
        output.print_json([_record(one) for one in found])
        return
    table = output.new_table("snapshot", "items", "sequence", "size")
    for one in found:
        table.add_row(one.id, f"{one.items:,}", f"{one.sequence:,}", output.size(one.size_bytes))
    session.out.print(table if found else Text(f"no snapshots of {name}: `ebr snapshot create {name}` makes one"))


@app.command()
def restore(
    name: NameArgument,
    snapshot: Annotated[str, typer.Argument(metavar="[SNAPSHOT]", help="One that the server keeps.")] = "",
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Instead: the folder or address of a copy.")] = "",
    into: Annotated[str, typer.Option("--into", metavar="NAME", help="The collection made; NAME unless given.")] = "",
    wait: operation.WaitOption = True,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Make a collection of a snapshot, once every file of it is verified."""
    with session.connect(target) as client:
        begun = client.restore_snapshot(name, snapshot, url=url, into=into)
        operation.follow(client, begun, wait=wait, as_json=as_json)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The snapshot's own folder.")],
    as_json: session.JsonOption = False,
) -> None:
    """Read every file of a snapshot and hold it to its manifest; needs no server."""
    from engine.store import verify_snapshot

    manifest = verify_snapshot(folder)
    if as_json:
        output.print_json(manifest.to_json())
        return
    told = f"{manifest.items:,} items of {manifest.collection}, {len(manifest.files)} files"
    session.out.print(Text(f"{manifest.id} is sound: {told}, {output.size(manifest.n_bytes)}"))


def _record(message: Any) -> dict[str, Any]:
    """The reply's part, as protobuf's JSON with our field names."""
    from google.protobuf.json_format import MessageToDict

    record: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return record
