"""Rows and columns kept as images beside the store, and read back: from an image and what was changed since, or from
the store alone.

While a collection is served the search lane gives slices of about 2 ms when it is idle; files are left to a thread.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ChangesGone, CorruptData
from engine.index.lexical import analysis_of, lexical_from
from engine.index.replay import replay
from engine.index.row_arrays import Capture
from engine.index.row_image import Origin, RowImage, image_sequences, load_image, name_image, read_image, write_arrays
from engine.index.rows import Rows
from engine.index.version_index import VersionIndex, new_columns
from engine.pipeline.operations import Report
from engine.pipeline.snapshots import in_thread
from engine.store import CollectionStore
from engine.store.faults import write_faults
from engine.types import ItemId

if TYPE_CHECKING:
    from engine.pipeline.collection import Collection

logger = logging.getLogger(__name__)

_READ_CHANGES = 4096


async def write_image(collection: Collection, report: Report) -> None:
    """Write an image of a collection that is served, beside searches and writes.

    Raises:
        ReadOnly: the disk refused; the images there were are there still.
    """
    try:
        # No change that the image has to be followed by is forgotten before it is there.
        sequence = await collection.lanes.commit.call(lambda: _keep_changes_from_now(collection.store))
        await collection.visible(sequence, None)
        await _write_image(collection, report)
    finally:
        keep_needed_changes(collection.store)


async def _write_image(collection: Collection, report: Report) -> None:
    lanes, index, store = collection.lanes, collection.index, collection.store
    folder = store.segments(index.version.id).folder
    origin, capture = await lanes.search.call(lambda: _captured(index))
    await in_thread(lambda told: capture.find_items(), report)
    report("gathering", 0.0)
    await lanes.search.call_idle(capture.step)
    image = await in_thread(lambda told: _written(folder, origin, capture, told), report)
    await lanes.commit.call(store.sync)
    await in_thread(lambda told: _named(folder, image), report)
    index.image_sequence = origin.sequence


def write_last_image(store: CollectionStore, index: VersionIndex) -> None:
    """Write an image of a collection that nobody searches or writes to any more.

    Raises:
        ReadOnly: the disk refused; the images there were are there still.
    """
    folder = store.segments(index.version.id).folder
    origin, capture = _captured(index)
    capture.find_items()
    while capture.step():
        pass
    image = _written(folder, origin, capture, lambda stage, done: None)
    store.sync()
    _named(folder, image)
    index.image_sequence = origin.sequence
    keep_needed_changes(store)


def recover_rows(store: CollectionStore, index: VersionIndex) -> None:
    """Give a new index all rows there are: from the newest image that fits, or else from the store alone.

    Raises:
        CorruptData: the store contradicts itself.
    """
    with _garbage_left_alone():
        _recover_rows(store, index)
    keep_needed_changes(store)


def keep_needed_changes(store: CollectionStore) -> None:
    """Have the change log kept back to the oldest image of the rows that are served, and no further."""
    store.keep_changes_after(_oldest_image(store))


def _keep_changes_from_now(store: CollectionStore) -> int:
    """In the commit lane's thread: the sequence number from which on an image may be taken."""
    oldest = _oldest_image(store)
    store.keep_changes_after(store.sequence if oldest is None else min(oldest, store.sequence))
    return store.sequence


def _oldest_image(store: CollectionStore) -> int | None:
    return min(image_sequences(store.segments(store.versions[0].id).folder), default=None)


def _recover_rows(store: CollectionStore, index: VersionIndex) -> None:
    for sequence in image_sequences(store.segments(index.version.id).folder):
        try:
            _recover_from_image(store, index, sequence)
            return
        except (ChangesGone, CorruptData) as error:
            logger.warning("collection %s: a row image is not used: %s", store.schema.name, error)
            index.start_from(Rows(index.schema.id_type), new_columns(index.schema), sequence=0)
    version = index.version.id
    index.recover(store.live_rows(version), n_rows=store.row_count(version), sequence=store.sequence)


def _recover_from_image(store: CollectionStore, index: VersionIndex, sequence: int) -> None:
    folder = store.segments(index.version.id).folder
    image = read_image(folder, sequence)
    _check_fits(image.origin, store, index)
    rows, columns, postings = load_image(folder, image)
    if index.lexical is not None:
        columns.lexical = lexical_from(postings, index.schema, image.origin.n_rows)
    for spec in index.schema.attributes[len(image.origin.attributes) :]:
        columns.add_attribute(spec)
    index.start_from(rows, columns, sequence=sequence)
    changed = _changed_since(store, sequence)
    ids = list(changed)
    chunks = (ids[first : first + _READ_CHANGES] for first in range(0, len(ids), _READ_CHANGES))
    live = (row for chunk in chunks for row in store.live_rows_of(chunk))
    replay(index, changed, live, n_rows=store.row_count(index.version.id), sequence=store.sequence)
    if index.rows.n_items != store.item_count:
        raise CorruptData(f"an image and {len(ids)} changed items give {index.rows.n_items} of {store.item_count}")
    index.image_sequence = sequence
    logger.info(
        "collection %s: %d items from the image of sequence %d and %d changed since",
        store.schema.name,
        index.rows.n_items,
        sequence,
        len(ids),
    )


def _check_fits(origin: Origin, store: CollectionStore, index: VersionIndex) -> None:
    """Only attributes can have come since."""
    version, schema = index.version, index.schema
    before = schema.attributes[: len(origin.attributes)]
    made_for = (origin.version, origin.generation, origin.id_type, origin.attributes)
    if made_for != (version.id, version.generation, schema.id_type, before):
        raise CorruptData(f"the image of sequence {origin.sequence} is of another version, generation or schema")
    if origin.analysis != analysis_of(schema):
        raise CorruptData(f"the image of sequence {origin.sequence} has texts as {origin.analysis!r} analyses them")
    if origin.sequence > store.sequence or origin.n_rows > store.row_count(version.id):
        raise CorruptData(
            f"the image of sequence {origin.sequence} is later than the store, which is at {store.sequence}"
        )


def _changed_since(store: CollectionStore, sequence: int) -> dict[ItemId, int]:
    """Items that were changed, each with the sequence number of its last change."""
    changed: dict[ItemId, int] = {}
    last, n_changes = sequence, 0
    while changes := store.changes_after(last, limit=_READ_CHANGES):
        n_changes += len(changes)
        changed |= {change.id: change.sequence for change in changes}
        last = changes[-1].sequence
    if sequence + n_changes != store.sequence:
        raise CorruptData(f"the change log has {n_changes} changes between {sequence} and {store.sequence}")
    return changed


def _captured(index: VersionIndex) -> tuple[Origin, Capture]:
    """In the search lane's thread."""
    version, schema = index.version, index.schema
    origin = Origin(
        index.sequence,
        version.id,
        version.generation,
        schema.id_type,
        index.rows.n_rows,
        schema.attributes,
        analysis_of(schema),
    )
    return origin, Capture(index.rows, index.columns)


def _written(folder: Path, origin: Origin, capture: Capture, report: Report) -> RowImage:
    with write_faults("writing a row image"):
        return write_arrays(folder, origin, capture.arrays, report=report)


def _named(folder: Path, image: RowImage) -> None:
    with write_faults("writing a row image"):
        name_image(folder, image)


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """Millions of objects are made, none of them in a cycle: looking for cycles would take a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
