"""`ebr get | delete | count | export`: items by id and by filter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.text import Text

from engine.cli import output, session
from engine.errors import ItemNotFound
from engine.types import ItemId, StoredItem, Visibility

app = typer.Typer(add_completion=False)

IdsArgument = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of items.")]


@app.command()
def get(
    ids: IdsArgument,
    collection: session.CollectionOption,
    vectors: Annotated[bool, typer.Option("--vectors", help="With the vectors as stored.")] = False,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Show items by id; exit with 1 if one does not exist."""
    with session.connect(target) as client:
        wanted = session.parse_ids(ids, client.get_collection(collection).schema)
        found = client.get(collection, wanted, vectors=vectors)
    if as_json:
        output.print_json([output.item_record(item) | {"_sequence": item.sequence} for item in found])
    else:
        for item in found:
            session.out.print(output.pairs_table(str(item.id), _facts(item)))
    missing = _missing(wanted, found)
    if missing:
        raise ItemNotFound(missing[0] if len(missing) == 1 else missing)


def _facts(item: StoredItem) -> dict[str, object]:
    facts: dict[str, object] = dict(item.text)
    facts |= {name: output.cell(value) for name, value in item.attributes.items()}
    if item.vectors is not None:
        facts["vectors"] = item.vectors
    facts |= {f"vector {name}": vector for name, vector in item.named_vectors.items()}
    return facts | {"sequence": item.sequence}


def _missing(wanted: list[ItemId], found: list[StoredItem]) -> list[ItemId]:
    there = {item.id for item in found}
    return [one for one in wanted if one not in there]


@app.command()
def delete(
    ids: IdsArgument,
    collection: session.CollectionOption,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Delete items by id; ids that do not exist are no error. No search finds them once this returns."""
    with session.connect(target) as client:
        wanted = session.parse_ids(ids, client.get_collection(collection).schema)
        result = client.delete(collection, wanted, visibility=Visibility.SEARCHABLE)
    if as_json:
        output.print_json({"deleted": result.deleted, "sequence": result.sequence})
    else:
        session.out.print(Text(f"deleted {result.deleted:,} of {len(wanted):,} items"))


@app.command()
def count(
    collection: session.CollectionOption,
    filter: session.FilterOption = "",
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Count the items that pass a filter, exactly."""
    with session.connect(target) as client:
        tree = session.parse_filter_text(filter, client.get_collection(collection).schema)
        counted = client.count(collection, tree)
    if as_json:
        output.print_json({"count": counted})
    else:
        session.out.print(Text(f"{counted:,}"))


@app.command()
def export(
    collection: session.CollectionOption,
    filter: session.FilterOption = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write here instead of to stdout.")
    ] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With the vectors as stored (_vector or _named_vectors).")
    ] = False,
    page: Annotated[int, typer.Option("--page", min=1, metavar="N", help="Items fetched at a time.")] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the count as JSON, on stderr.")] = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Write items as JSON lines that `ebr load` reads, in the order of their ids.

    An attribute that has the name of a text field is left out: the text has its place.
    """
    written = 0
    with session.connect(target) as client, _opened(out) as stream:
        tree = session.parse_filter_text(filter, client.get_collection(collection).schema)
        for item in client.scroll(collection, tree, page_size=page, vectors=vectors):
            stream.write(output.json_line(output.item_record(item)))
            written += 1
    told = f'{{"items": {written}}}' if as_json else f"{written:,} items"
    session.err.print(Text(told))


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[str] | Any]:
    if path is None:
        yield sys.stdout
        return
    with path.open("w", encoding="utf-8") as stream:
        yield stream
