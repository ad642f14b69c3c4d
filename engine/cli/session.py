"""What every command that talks to a server shares: how to reach it, and how errors are told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, ConsoleDimensions
from rich.text import Text

from engine.errors import (
    CollectionNotFound,
    DeadlineExceeded,
    Draining,
    EngineError,
    Loading,
    NoEncoder,
    QueueFull,
    Unavailable,
    UnknownAttribute,
)
from engine.types import Filter, ItemId, Schema

if TYPE_CHECKING:
    from engine.client import RetrievalClient

_NO_TERMINAL_WIDTH = 200
DEFAULT_TARGET = "127.0.0.1:50051"

TargetOption = Annotated[
    str, typer.Option("--target", envvar="EBR_TARGET", metavar="HOST:PORT", help="The server to talk to.")
]
CollectionOption = Annotated[str, typer.Option("--collection", "-c", metavar="NAME", help="The collection.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
FilterOption = Annotated[
    str,
    typer.Option(
        "--filter", "-f", metavar="FILTER", help="Only items that pass, e.g. 'remote = true and salary_min >= 90000'."
    ),
]


class _Output(Console):
    """Where it is no terminal as wide as most tables, so that a file or another command gets their texts whole."""

    @property  # type: ignore[misc]  # nobody sets it
    def size(self) -> ConsoleDimensions:
        own = super().size
        return own if self.is_terminal or "COLUMNS" in os.environ else ConsoleDimensions(_NO_TERMINAL_WIDTH, own.height)


out = _Output()
err = Console(stderr=True, highlight=False)

_HINTS: Sequence[tuple[type[EngineError], str]] = (
    (CollectionNotFound, "`ebr collection list` shows those there are; `ebr collection create SCHEMA.toml` makes one"),
    (Loading, "the server is still starting, which takes longest the first time: its log says when it serves"),
    (Draining, "the server is stopping: start it again with `ebr serve`"),
    (NoEncoder, "search it with --vector-file or --like"),
    (UnknownAttribute, "`ebr collection get NAME` shows the attributes there are"),
    (QueueFull, "the server has all it can do: try again in a moment"),
    (Unavailable, "the connection to the server broke: its log says why; start it again with `ebr serve`"),
    (DeadlineExceeded, "the server did not answer in time: try again, or see `ebr doctor`"),
)


def connect(target: str) -> RetrievalClient:
    """A client of the server at ``target``; the one place where commands get theirs from."""
    from engine.client import RetrievalClient

    return RetrievalClient(target)


def tell_error(error: EngineError) -> None:
    """One line on stderr, and below it what to do next where that is known."""
    tell_failure(error.message)
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")
    # One of ours that says where it looked has said all there is; one from the wire has no more than its message.
    is_told = isinstance(error, Unavailable) and error.metadata
    if hint and not is_told and "`ebr " not in error.message:
        err.print(Text(hint))


def tell_failure(message: str) -> None:
    err.print(Text(message, style="bold red"), soft_wrap=True)


def parse_filter_text(text: str, schema: Schema) -> Filter:
    """The filter of the command line's short form. Raises InvalidArgument where it is none."""
    if not text.strip():
        return Filter()
    from engine.filter_text import parse_filter

    return parse_filter(text, schema)


def parse_ids(texts: Sequence[str], schema: Schema, field: str = "id") -> list[ItemId]:
    """Ids as the collection has them. Raises InvalidArgument where one is none."""
    from engine.ingest.coerce import parse_id

    return [parse_id(text, schema, field) for text in texts]
