"""Which loader a file has, within the limits that the server publishes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.column_loading import ColumnLoader
from engine.cli.load_state import LoadState
from engine.cli.loading import Loader, LoadPlan
from engine.ingest.coerce import FieldMap
from engine.ingest.column_files import ColumnFile
from engine.ingest.parquet_columns import open_parquet_columns
from engine.ingest.readers import RecordFile
from engine.limits import MIB, Limits

if TYPE_CHECKING:
    from engine.client import CollectionInfo, RetrievalClient

_BATCH_ITEMS = 256
_BATCH_BYTES = 4 * MIB
_COLUMNS_BYTES = 8 * MIB
_COLUMNS_ITEMS = 8192


def make_loader(
    client: RetrievalClient,
    info: CollectionInfo,
    records: RecordFile,
    *,
    fields: FieldMap,
    state: LoadState,
    batch_items: int | None = None,
) -> Loader:
    """A loader within the limits that the server publishes."""
    limits = _limits(client)
    plan = LoadPlan(
        collection=info.schema.name,
        schema=info.schema,
        dimension=info.versions[0].dimension,
        fields=fields,
        limits=limits,
        batch_items=min(batch_items or _BATCH_ITEMS, limits.upsert_items),
        batch_bytes=min(_BATCH_BYTES, limits.message_bytes // 4),
    )
    return Loader(client, records, plan, state)


def make_column_loader(
    client: RetrievalClient, info: CollectionInfo, records: ColumnFile, state: LoadState, batch_items: int | None
) -> ColumnLoader:
    """The same of a file read as columns."""
    limits = _limits(client)
    batch_bytes = min(_COLUMNS_BYTES, limits.message_bytes // 4)
    rows = min(batch_items or _COLUMNS_ITEMS, limits.upsert_items)
    return ColumnLoader(client, records, info.schema.name, state, rows=rows, batch_bytes=batch_bytes)


def make_file_loader(
    client: RetrievalClient,
    info: CollectionInfo,
    records: RecordFile,
    *,
    file: Path,
    fields: FieldMap,
    state: LoadState,
    batch_items: int | None,
) -> Loader | ColumnLoader:
    """A loader of columns where the file is one that can be written as such, else of its records."""
    if file.suffix.lower() == ".parquet":
        columns = open_parquet_columns(file, info.schema, info.versions[0].dimension, fields, _limits(client))
        if columns is not None:
            return make_column_loader(client, info, columns, state, batch_items)
    return make_loader(client, info, records, fields=fields, state=state, batch_items=batch_items)


def _limits(client: RetrievalClient) -> Limits:
    """Those of the server that a load has to keep."""
    published = client.server().limits
    return Limits(
        text_bytes=published.text_bytes,
        item_bytes=published.item_bytes,
        upsert_items=published.upsert_items,
        message_bytes=published.message_bytes,
    )
