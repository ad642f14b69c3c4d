"""What a server holds in memory once it has encoded the demo corpus itself: its peak, and bytes a row by part."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench import datasets
from bench.harness import Options, Report, run, seconds_of
from bench.machine import ROOT
from bench.serving import data_folder, load_items, served
from engine.client import CollectionInfo
from engine.schema_file import read_schema
from engine.types import Item, Schema

_DEMO = ROOT / "engine" / "demo_data" / "onet"
_PARTS = ("vectors", "codes", "coarse_codes", "attributes", "lexical", "rows")
_MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    return run("memory", _body, argv=argv)


def _body(options: Options, report: Report) -> None:
    schema = read_schema(_DEMO / "schema.toml")
    items = _items(schema)
    with data_folder() as folder:
        with served(folder) as running:
            report.figure("peak_mib_empty", running.client.server().peak_memory_bytes / _MIB)
            taken = seconds_of(lambda: load_items(running.client, schema, items))
            report.figure("load_texts_per_s", len(items) / taken)
            report.figure("peak_mib_after_load", running.client.server().peak_memory_bytes / _MIB)
            _tell_rows(running.client.get_collection(schema.name), report)
        with served(folder) as running:
            running.client.search(schema.name, "nurse")
            told = running.client.server()
            report.figure("peak_mib_reopened", told.peak_memory_bytes / _MIB)
            report.figure("start_s", dict(told.start_seconds))


def _items(schema: Schema) -> list[Item]:
    rows = datasets.read_jsonl(_DEMO / "corpus.jsonl.gz")
    return [datasets.item_of(row, schema) for row in rows]


def _tell_rows(info: CollectionInfo, report: Report) -> None:
    """The embeddings are mapped from files: the system may drop them from memory, and reads them again."""
    use = info.message.versions[0].memory
    report.figure("rows", use.row_count)
    report.figure("bytes_a_row", {part: getattr(use, part) / use.row_count for part in _PARTS})


if __name__ == "__main__":
    sys.exit(main())
