"""`ebr operation`: what runs for long on a server, and following one to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from engine.cli import output, session

if TYPE_CHECKING:
    from engine.client import OperationStatus, RetrievalClient

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show and cancel what runs for long.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `ebr operation list` has it.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end, and tell how far it is.")]


@app.command("list")
def list_(as_json: session.JsonOption = False, target: session.TargetOption = session.DEFAULT_TARGET) -> None:
    """List the operations since the server started, of those that ended the latest."""
    with session.connect(target) as client:
        found = client.list_operations()
    if as_json:
        output.print_json([_record(one) for one in found])
        return
    table = output.new_table("name", "collection", "state")
    for one in found:
        table.add_row(one.name, one.collection, _state(one))
    session.out.print(table if found else Text("no operations since the server started"))


@app.command()
def show(
    name: NameArgument, as_json: session.JsonOption = False, target: session.TargetOption = session.DEFAULT_TARGET
) -> None:
    """Show an operation as it is now."""
    with session.connect(target) as client:
        _tell(client.operation(name), as_json=as_json)


@app.command()
def cancel(
    name: NameArgument, as_json: session.JsonOption = False, target: session.TargetOption = session.DEFAULT_TARGET
) -> None:
    """Ask an operation to end, without waiting for that; everything is left as it was before it."""
    with session.connect(target) as client:
        _tell(client.cancel_operation(name), as_json=as_json)


def follow(client: RetrievalClient, operation: OperationStatus, *, wait: bool, as_json: bool) -> None:
    """Show an operation that has begun; with ``wait`` its progress too, until its end.

    Raises:
        EngineError: what it failed with.
    """
    if wait:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=session.err, transient=True) as progress:
            bar = progress.add_task(operation.kind, total=1.0)
            operation = client.wait_for_operation(
                operation,
                told=lambda one: progress.update(bar, completed=one.progress, description=one.stage or one.kind),
            )
    _tell(operation, as_json=as_json)


def _tell(operation: OperationStatus, *, as_json: bool) -> None:
    if as_json:
        output.print_json(_record(operation))
    else:
        session.out.print(Text(f"{operation.name} of {operation.collection}: {_state(operation)}"))


def _state(operation: OperationStatus) -> str:
    if operation.error is not None:
        return f"failed: {operation.error.message}"
    if operation.is_done:
        return f"done, {operation.snapshot.id}" if operation.snapshot is not None else "done"
    return f"{operation.stage} {operation.progress:.0%}"


def _record(operation: OperationStatus) -> dict[str, Any]:
    """The whole reply, as protobuf's JSON with our field names."""
    from google.protobuf.json_format import MessageToDict

    record: dict[str, Any] = MessageToDict(operation.message, preserving_proto_field_name=True)
    return record
