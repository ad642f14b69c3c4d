"""`ebr serve`: settings from file, environment and flags, then the server until SIGTERM."""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import PydanticUndefined

from engine import threads
from engine.cli import session
from engine.cli.logs import configure_logging
from engine.config import Settings, load_settings, parse_address
from engine.errors import CollectionExists, EngineError
from engine.schema_file import read_schema
from engine.types import Schema

app = typer.Typer(add_completion=False)
logger = logging.getLogger(__name__)

_START_SECONDS = 600.0


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting in place of its ``**flags``; the values stay strings, unchecked."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*own, *(_setting_parameter(name) for name in Settings.model_fields)]
    vars(command)["__signature__"] = signature.replace(parameters=parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return command


def _setting_parameter(name: str) -> inspect.Parameter:
    setting = Settings.model_fields[name]
    shown = "" if setting.default in (None, PydanticUndefined) else f" (default {setting.default})"
    option = typer.Option(
        f"--{name.replace('_', '-')}", metavar="VALUE", help=f"{setting.description}{shown}", show_default=False
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


@app.command()
@_with_settings
def serve(
    config: Annotated[
        Path | None, typer.Option("--config", envvar="EBR_CONFIG", metavar="FILE", help="TOML file of settings.")
    ] = None,
    collection: Annotated[
        list[Path] | None,
        typer.Option("--collection", metavar="SCHEMA.toml", help="Create this collection if absent; may be repeated."),
    ] = None,
    **flags: str | None,
) -> None:
    """Serve the collections of a data directory until SIGTERM.

    Settings may also stand in a TOML file under their names, or in the environment: listen as EBR_LISTEN.

    A flag wins over the environment, the environment over the file.
    """
    settings = load_settings(config, {name: value for name, value in flags.items() if value is not None})
    schemas = [read_schema(path) for path in collection or ()]
    configure_logging(settings)
    # What goes wrong there is told by our own errors; a line of its own beside them says less.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if schemas:
        threading.Thread(target=_create_absent, args=(settings.listen, schemas), daemon=True).start()
    run_server(settings)


def run_server(settings: Settings) -> None:
    """Size the thread pools, load the server's libraries, timed, and serve until SIGTERM."""
    threads.configure(settings.compute_threads, settings.data_dir / "kernel-cache")
    began = time.perf_counter()
    from engine.rpc import server

    server.serve(settings, import_seconds=time.perf_counter() - began)


def _create_absent(listen: str, schemas: Sequence[Schema]) -> None:
    """Runs beside the server, as any other client of it."""
    try:
        with session.connect(local_target(listen)) as client:
            client.wait_until_serving(timeout_s=_START_SECONDS)
            for schema in schemas:
                create_if_absent(client, schema)
    except EngineError as error:
        logger.error("the collections of the command line could not be created: %s", error)


def create_if_absent(client: Any, schema: Schema) -> bool:
    """Whether it was absent."""
    try:
        client.create_collection(schema)
    except CollectionExists:
        return False
    return True


def local_target(listen: str) -> str:
    """Where a client on this machine finds a server that listens on ``listen``."""
    host, port = parse_address(listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
