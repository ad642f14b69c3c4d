"""`ebr health`: whether a server serves, for scripts and containers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from engine.cli import session

app = typer.Typer(add_completion=False)


@app.command()
def health(
    collection: Annotated[
        str,
        typer.Option("--collection", "-c", metavar="NAME", help="Of one collection; of the whole server if not given."),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Ask `grpc.health.v1`; exit with 0 where it is SERVING and with 1 otherwise, or where nobody answers."""
    with session.connect(target) as client:
        is_serving = client.is_serving(collection)
        if not (is_serving or quiet):
            # Where nobody answers, or there is no such collection, that is told instead.
            client.server()
            if collection:
                client.get_collection(collection)
    if not quiet:
        session.out.print(Text("SERVING" if is_serving else "NOT SERVING", style="green" if is_serving else "bold red"))
    if not is_serving:
        raise typer.Exit(1)
