"""Values of the engine as JSON and as cells of a table, and the tables of a search. Knows nothing of servers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.cli.search_options import cursor_text
from engine.ingest.coerce import NAMED_VECTORS_FIELD
from engine.selection import FacetCounts
from engine.types import (
    AttributeValue,
    Explanation,
    GeoPoint,
    Hit,
    NextPage,
    Schema,
    SearchResult,
    StoredItem,
    Timestamp,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS_SHOWN = 4


def new_table(*headers: str) -> Table:
    return Table(*headers, header_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)


def plain(value: AttributeValue) -> Any:
    """The value as JSON has it: times in ISO 8601, points as lat and lon."""
    match value:
        case Timestamp(micros):
            return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")
        case GeoPoint(lat, lon):
            return {"lat": lat, "lon": lon}
        case tuple():
            return list(value)
    return value


def cell(value: AttributeValue | None) -> str:
    """The value in a table."""
    match value:
        case None:
            return ""
        case tuple():
            return ", ".join(value)
        case GeoPoint(lat, lon):
            return f"{lat:.4f},{lon:.4f}"
        case Timestamp():
            return str(plain(value))
    return str(plain(value))


def print_json(value: object) -> None:
    """To stdout, readable."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def json_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def item_record(item: StoredItem) -> dict[str, Any]:
    """The item as `ebr load` reads it: `_id`, then attributes and texts by name; vectors and times if it has any."""
    record: dict[str, Any] = {"_id": item.id}
    record |= {name: plain(value) for name, value in item.attributes.items()}
    record |= item.text
    for name, time in (("_visible_from", item.times.visible_from), ("_expires_at", item.times.expires_at)):
        if time is not None:
            record[name] = plain(time)
    if item.named_vectors:
        record[NAMED_VECTORS_FIELD] = {name: vector.tolist() for name, vector in item.named_vectors.items()}
    if item.vectors is not None:
        record["_vector"] = (
            np.squeeze(item.vectors, axis=0).tolist() if len(item.vectors) == 1 else item.vectors.tolist()
        )
    return record


def hit_record(hit: Hit) -> dict[str, Any]:
    attributes = {name: plain(value) for name, value in hit.attributes.items()}
    record: dict[str, Any] = {"id": hit.id, "score": hit.score, "attributes": attributes, "text": dict(hit.text)}
    if hit.vector is not None:
        record["vectors"] = hit.vector.tolist()
    if hit.legs:
        record["legs"] = [{**asdict(leg), "raw": None if math.isnan(leg.raw) else leg.raw} for leg in hit.legs]
    if hit.named_vectors:
        record["named_vectors"] = {name: vector.tolist() for name, vector in hit.named_vectors.items()}
    return record


def result_record(result: SearchResult) -> dict[str, Any]:
    explanation = asdict(result.explanation) | {"strategy": result.explanation.strategy.value}
    return {
        "hits": [hit_record(hit) for hit in result.hits],
        "facets": [_facet_record(one) for one in result.facets],
        "next_page": None if result.next_page is None else _next_page_record(result.next_page),
        "explanation": explanation,
    }


def _facet_record(facet: FacetCounts) -> dict[str, Any]:
    counts = [{"value": value, "items": n_items} for value, n_items in facet.counts]
    return {"attribute": facet.attribute, "counts": counts}


def _next_page_record(page: NextPage) -> dict[str, Any]:
    return {"cursor": cursor_text(page.cursor), "cursor_expires_at": plain(page.cursor_expires_at)}


def chosen_columns(schema: Schema, fields: Sequence[str]) -> list[str]:
    """Names to show of a hit: those asked for (with commas or one by one), else the first few of the schema."""
    texts = [one.name for one in sorted(schema.text_fields, key=lambda one: one.order)]
    every = [*texts, *(one.name for one in schema.attributes)]
    named = [name.strip() for one in fields for name in one.split(",") if name.strip()]
    if "*" in named:
        return list(dict.fromkeys(every))
    if named:
        return named
    stored = [one.name for one in schema.attributes if one.stored]
    return list(dict.fromkeys([*texts[:1], *stored]))[:_COLUMNS_SHOWN]


def search_view(result: SearchResult, columns: Sequence[str], *, round_trip_s: float | None = None) -> RenderableType:
    """The hits as a table, and below it what was done to find them."""
    parts: list[RenderableType] = [hits_table(result.hits, columns) if result.hits else Text("no hits")]
    parts += map(facet_table, result.facets)
    parts.append(Text(strategy_line(result.explanation), style="dim"))
    parts.append(Text(times_line(result.explanation, round_trip_s), style="dim"))
    if result.explanation.truncated_tokens:
        left_out = result.explanation.truncated_tokens
        parts.append(Text(f"the query is longer than the encoder reads: {left_out} tokens left out", style="yellow"))
    return Group(*parts)


def hits_table(hits: Sequence[Hit], columns: Sequence[str]) -> Table:
    has_legs = any(hit.legs for hit in hits)
    table = new_table("#", "id", "score", *(("legs",) if has_legs else ()), *columns)
    for name in ("#", "score"):
        next(one for one in table.columns if one.header == name).justify = "right"
    for column in table.columns[:3]:
        column.no_wrap = True
    for rank, hit in enumerate(hits, 1):
        values = [_shortened(hit.text.get(name) or cell(hit.attributes.get(name))) for name in columns]
        legs = [legs_line(hit)] if has_legs else []
        table.add_row(str(rank), Text(str(hit.id)), f"{hit.score:.4f}", *legs, *values)
    return table


def facet_table(facet: FacetCounts) -> Table:
    """The values of an attribute and how many items have each."""
    table = new_table(facet.attribute, "items")
    table.columns[1].justify = "right"
    for value, n_items in facet.counts:
        table.add_row(_shortened(cell(value)), f"{n_items:,}")
    return table


def next_page_line(page: NextPage | None) -> Text:
    """How to go on; to be printed unbroken, for it is copied."""
    if page is None:
        return Text("no hits follow")
    return Text(f"the hits that follow, until {cell(page.cursor_expires_at)}: --cursor {cursor_text(page.cursor)}")


def legs_line(hit: Hit) -> str:
    """What the score adds up from: weight x value of each leg that counts."""
    return " + ".join(f"{leg.weight:g} x {leg.normalised:.3f} {leg.name}" for leg in hit.legs if leg.weight)


def _shortened(text: str) -> Text:
    """On one line. Said of the text and not of its column: a narrow terminal then takes the width from here."""
    return Text(" ".join(text[:400].split()), no_wrap=True, overflow="ellipsis")


def strategy_line(done: Explanation) -> str:
    """How the hits were found."""
    share = f"{done.selectivity:.2%} of items pass{'' if done.selectivity_exact else ' (estimated)'}"
    parts = [done.strategy.value, share]
    if done.nprobe:
        parts.append(f"nprobe {done.nprobe}, {done.lists_scanned:,} lists")
    parts.append(f"{done.rows_scanned:,} rows scanned")
    if done.rescored:
        parts.append(f"{done.rescored:,} rescored")
    if done.expected_recall < 1:
        provisional = " (provisional)" if done.expected_recall_provisional else ""
        parts.append(f"expected recall {done.expected_recall:.3f}{provisional}")
    if done.second_pass:
        parts.append("second pass")
    if done.ranked:
        parts.append(f"{done.candidates_ranked:,} ranked")
    elif done.rank_fallback:
        parts.append(f"not ranked ({done.rank_fallback.replace('_', ' ')})")
    if done.partial:
        parts.append("PARTIAL")
    return " · ".join([*parts, f"{done.device}, {done.score_dtype}"])


def times_line(done: Explanation, round_trip_s: float | None = None) -> str:
    """Milliseconds by stage."""
    stages = " · ".join(f"{stage} {milliseconds(seconds)}" for stage, seconds in asdict(done.times).items())
    return stages if round_trip_s is None else f"{stages} · round trip {milliseconds(round_trip_s)}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def explanation_table(done: Explanation) -> Table:
    """Every word of it."""
    table = new_table("what was done", "")
    for name, value in (asdict(done) | {"strategy": done.strategy.value}).items():
        if name != "times":
            table.add_row(name.replace("_", " "), Text(str(value)))
    return table


def pairs_table(title: str, pairs: Mapping[str, object] | Iterable[tuple[str, object]]) -> Table:
    """Two columns: names and values."""
    table = new_table(title, "")
    for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        table.add_row(name, Text(str(value)))
    return table


def size(n_bytes: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.2f} GiB"
