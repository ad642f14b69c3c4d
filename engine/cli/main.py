"""The `ebr` command and its subcommands, each imported only when it is called."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from engine.errors import EngineError


class _Command(NamedTuple):
    module: str
    help: str


_COMMANDS: Mapping[str, _Command] = {
    "serve": _Command("serve", "Serve the collections of a data directory until SIGTERM."),
    "demo": _Command("demo", "Start a server on a demo corpus, search it and show how."),
    "load": _Command("load", "Load items from a file: JSON lines, CSV or Parquet."),
    "search": _Command("search", "Find the items nearest to a text, a vector or an item."),
    "collection": _Command("collection", "Create, list, show, compact and delete collections."),
    "pipeline": _Command("pipeline", "Check rankers, and set, show and remove a collection's pipeline."),
    "snapshot": _Command("snapshot", "Create, list, restore and verify snapshots."),
    "verify": _Command("verify", "Tell what of a data directory is sound, and repair it."),
    "operation": _Command("operation", "List, show and cancel what runs for long."),
    "get": _Command("items", "Show items by id."),
    "delete": _Command("items", "Delete items by id."),
    "count": _Command("items", "Count the items that pass a filter."),
    "export": _Command("items", "Write items as JSON lines, in the order of their ids."),
    "health": _Command("health", "Tell whether a server serves, by its exit status too."),
    "doctor": _Command("doctor", "Tell what this machine has and lacks for serving."),
}


class LazyGroup(TyperGroup):
    """Imports a subcommand's module when it is called, none for the list of them; tells errors in one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        if ctx.meta.get(_LISTING):
            return TyperCommand(cmd_name, help=_COMMANDS[cmd_name].help)
        module = importlib.import_module(f"engine.cli.{_COMMANDS[cmd_name].module}")
        command = typer.main.get_command(module.app)
        if isinstance(command, TyperGroup) and cmd_name in command.commands:
            command = command.commands[cmd_name]
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.meta[_LISTING] = True
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        from engine.cli import session

        try:
            return super().invoke(ctx)
        except EngineError as error:
            session.tell_error(error)
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            is_of_file = error.filename is not None and error.strerror
            session.tell_failure(f"{error.filename}: {error.strerror}" if is_of_file else str(error))
            raise typer.Exit(1) from error


_LISTING = "engine.cli.listing"

app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


def _tell_version(asked: bool) -> None:
    """Where the option is read: what the group does itself comes after it has missed a command."""
    if asked:
        import engine

        typer.echo(engine.__version__)
        raise typer.Exit


@app.callback()
def ebr(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """Embedding-based retrieval: filtered nearest-neighbour search over live items."""


def main() -> None:
    """The console script."""
    app(prog_name="ebr")
