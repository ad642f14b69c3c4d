"""`ebr collection`: collections as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from engine.cli import operation, output, session
from engine.schema_file import read_schema
from engine.types import AttributeSpec, AttributeType, EmbeddingSpec, Schema

if TYPE_CHECKING:
    from engine.client import CollectionInfo, OperationStatus, VersionStatus

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Create, list, show, compact and delete collections; pause their upkeep.",
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The collection.")]
SomeNameArgument = Annotated[str, typer.Argument(metavar="[NAME]", help="The collection.", show_default=False)]


@app.command()
def create(
    schema: Annotated[Path, typer.Argument(metavar="SCHEMA.toml", help="What the collection holds.")],
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Create an empty collection."""
    wanted = read_schema(schema)
    with session.connect(target) as client:
        _show(client.create_collection(wanted), as_json=as_json)


@app.command("list")
def list_(as_json: session.JsonOption = False, target: session.TargetOption = session.DEFAULT_TARGET) -> None:
    """List the collections."""
    with session.connect(target) as client:
        found = client.list_collections()
    if as_json:
        output.print_json([_record(info) for info in found])
        return
    table = output.new_table("name", "items", "encoder", "d", "metric", "memory", "upkeep")
    for info in found:
        version = info.versions[0]
        table.add_row(
            info.schema.name,
            f"{info.items:,}",
            info.schema.encoder or "-",
            str(version.dimension),
            info.schema.metric,
            output.size(sum(_memory(version).values())),
            ", ".join(filter(None, (version.message.upkeep, _paused(info)))) or "-",
        )
    session.out.print(table if found else Text("no collections: create one with `ebr collection create SCHEMA.toml`"))


@app.command()
def get(
    name: NameArgument, as_json: session.JsonOption = False, target: session.TargetOption = session.DEFAULT_TARGET
) -> None:
    """Show a collection: its schema, its versions, and the memory a row takes by part."""
    with session.connect(target) as client:
        _show(client.get_collection(name), as_json=as_json)


@app.command()
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Delete a collection with all its items, at once and for good."""
    with session.connect(target) as client:
        info = client.get_collection(name)
        if not yes:
            typer.confirm(f"delete collection {name} with its {info.items:,} items?", abort=True)
        client.delete_collection(name)
    if as_json:
        output.print_json({"name": name, "items": info.items})
    else:
        session.out.print(Text(f"deleted {name} with {info.items:,} items"))


@app.command()
def compact(
    name: NameArgument,
    wait: operation.WaitOption = True,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Write a collection's rows anew without the dead ones, which gives back their memory and disk.

    Searches and writes go on meanwhile. A server also does this by itself (setting compact_dead_share).
    Before the new rows are switched in it waits for cursors of pages to lapse, cursor_lease_seconds at most.
    """
    with session.connect(target) as client:
        operation.follow(client, client.compact_collection(name), wait=wait, as_json=as_json)


@app.command()
def pause(
    name: SomeNameArgument = "",
    all_: Annotated[bool, typer.Option("--all", help="All collections, those made later too.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel what is under way instead of leaving it to end.")
    ] = False,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Pause the upkeep of a collection, or of all, until it is resumed or the server starts again.

    Nothing is trained, tuned, compacted, folded or coded meanwhile, and no row image written, unless it is asked for.
    Writes and searches go on, with the same answers.
    """
    _check_named(name, all_=all_)
    with session.connect(target) as client:
        running = client.pause_upkeep(name, cancel=cancel)
    if as_json:
        output.print_json({"collection": name, "operations": [one.name for one in running]})
    else:
        session.out.print(Text(f"paused upkeep of {name or 'all collections'}{_left(running, cancel=cancel)}"))


@app.command()
def resume(
    name: SomeNameArgument = "",
    all_: Annotated[bool, typer.Option("--all", help="All collections, however they were paused.")] = False,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Resume the upkeep of a collection, or of all."""
    _check_named(name, all_=all_)
    with session.connect(target) as client:
        client.resume_upkeep(name)
    if as_json:
        output.print_json({"collection": name})
    else:
        session.out.print(Text(f"resumed upkeep of {name or 'all collections'}"))


@app.command("add-attribute")
def add_attribute(
    name: NameArgument,
    attribute: Annotated[str, typer.Argument(metavar="ATTRIBUTE", help="The new attribute's name.")],
    type: Annotated[AttributeType, typer.Argument(metavar="TYPE", help="|".join(one.value for one in AttributeType))],
    stored: Annotated[bool, typer.Option("--stored/--not-stored", help="Return it with hits.")] = True,
    filterable: Annotated[bool, typer.Option("--filterable/--not-filterable", help="Let filters name it.")] = True,
    volatile: Annotated[bool, typer.Option("--volatile", help="A counter or score, changed in place.")] = False,
    as_json: session.JsonOption = False,
    target: session.TargetOption = session.DEFAULT_TARGET,
) -> None:
    """Add an attribute to a live collection: null for every item so far."""
    spec = AttributeSpec(attribute, type, stored=stored, filterable=filterable and not volatile, volatile=volatile)
    with session.connect(target) as client:
        _show(client.add_attribute(name, spec), as_json=as_json)


def _check_named(name: str, *, all_: bool) -> None:
    if bool(name) == all_:
        raise typer.BadParameter("give either NAME or --all")


def _left(running: list[OperationStatus], *, cancel: bool) -> str:
    if not running:
        return ""
    return f"; {'cancelled' if cancel else 'under way still'}: {', '.join(one.name for one in running)}"


def _paused(info: CollectionInfo) -> str:
    return "paused" if info.message.upkeep_paused else ""


def _show(info: CollectionInfo, *, as_json: bool) -> None:
    if as_json:
        output.print_json(_record(info))
        return
    session.out.print(output.pairs_table(info.schema.name, _facts(info)))
    session.out.print(_fields_table(info.schema))
    for version in info.versions:
        session.out.print(_memory_table(version))


def _facts(info: CollectionInfo) -> dict[str, object]:
    schema, version = info.schema, info.versions[0]
    facts: dict[str, object] = {
        "items": f"{info.items:,}",
        "ids": schema.id_type,
        "vectors": f"{version.dimension} x {schema.dtype}, {schema.metric}, up to {schema.rows_per_item} an item",
        **{f"embedding {one.name}": _embedding(one) for one in schema.embeddings},
        **({"embeddings make": f"their {schema.combine} similarity"} if schema.embeddings else {}),
        "encoder": schema.encoder or "none: callers bring the vectors",
        "version": f"{version.id}{' (active)' if version.active else ''}",
    }
    if version.encoder_version:
        facts["encoder version"] = version.encoder_version
        facts["tokens read"] = version.message.max_tokens
        facts["items truncated"] = f"{info.message.truncated_items:,} since the server started"
    if schema.analysed_fields:
        facts["terms"] = f"BM25 with k1 {schema.bm25_k1:g}, b {schema.bm25_b:g}"
    facts["written up to"] = f"{info.sequence:,}"
    facts["searchable up to"] = f"{info.searchable_sequence:,}"
    facts["index"] = _index(version)
    if info.message.upkeep_paused:
        facts["upkeep"] = f"paused: `ebr collection resume {info.schema.name}` lets it go on"
    return facts


def _embedding(one: EmbeddingSpec) -> str:
    read = f"of {', '.join(one.text_fields)}" if one.text_fields else "brought by callers"
    return f"{one.dimension} dimensions, weight {one.weight:g}, {read}"


def _index(version: VersionStatus) -> str:
    message = version.message
    upkeep = f", {message.upkeep} now" if message.upkeep else ""
    if not message.HasField("ivfpq"):
        return f"exact{upkeep}"
    lists = message.ivfpq
    return (
        f"IVF-PQ of {lists.nlist:,} lists x {lists.code_bytes} bytes a row, {lists.rows:,} rows in lists, "
        f"nprobe {lists.nprobe}, rescore {lists.rescore_depth}, recall {lists.expected_recall:.3f}, "
        f"drift {lists.drift:.3f}, imbalance {lists.imbalance:.2f}{upkeep}"
    )


def _fields_table(schema: Schema) -> Table:
    table = output.new_table("field", "type", "")
    for text in sorted(schema.text_fields, key=lambda one: one.order):
        told = [f"weight {text.weight:g}"] if schema.text_mode == "weighted" else []
        if text.analyser is not None:
            told.append(f"terms {text.analyser}, lexical weight {text.lexical_weight:g}")
        table.add_row(text.name, "text", ", ".join(told))
    for spec in schema.attributes:
        marks = {"volatile": spec.volatile, "not filterable": not spec.filterable, "not stored": not spec.stored}
        table.add_row(spec.name, spec.type.value, ", ".join(mark for mark, holds in marks.items() if holds))
    return table


def _memory(version: VersionStatus) -> dict[str, int]:
    memory = version.message.memory
    return {
        "vectors (mapped)": memory.vectors,
        "codes and lists": memory.codes,
        "coarse codes": memory.coarse_codes,
        "attributes": memory.attributes,
        "terms and postings": memory.lexical,
        "rows (ids, liveness)": memory.rows,
    }


def _memory_table(version: VersionStatus) -> Table:
    n_rows = version.message.memory.row_count
    table = output.new_table(f"memory of {version.id}", "bytes a row", "in all")
    parts = _memory(version)
    for part, n_bytes in {**parts, f"{n_rows:,} rows": sum(parts.values())}.items():
        table.add_row(part, f"{n_bytes / n_rows:.1f}" if n_rows else "-", output.size(n_bytes))
    return table


def _record(info: CollectionInfo) -> dict[str, Any]:
    """The whole reply, as protobuf's JSON with our field names."""
    from google.protobuf.json_format import MessageToDict

    record: dict[str, Any] = MessageToDict(info.message, preserving_proto_field_name=True)
    return record
