"""Which rows each query of a batch may find: those seen now, or at the moment of a cursor, that pass its filter.

A mask is evaluated once for each distinct filter of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.errors import CursorLapsed, UnknownAttribute
from engine.index.filters import FilterProgram
from engine.index.masks import RowMask
from engine.index.predicates import RowsOf
from engine.index.row_views import RowView, view_of
from engine.index.version_index import VersionIndex
from engine.pipeline.batch import Batch, CompiledParams, Mask
from engine.pipeline.cursors import Cursor
from engine.pipeline.fusing import Extra
from engine.types import Int64Array, ItemId
from kernels.cpu_filters import set_rows


def _view(batch: Batch, cursor: Cursor) -> RowView:
    """The rows of a cursor's moment.

    Raises:
        CursorLapsed: it is kept no longer.
    """
    index = batch.index
    if cursor.generation != index.version.generation:
        raise CursorLapsed(
            "params.cursor: rows were written anew since, without those that had died; ask for the first page again"
        )
    if not index.rows.shown.holds(cursor.position) or index.clock() >= cursor.expires_at:
        raise CursorLapsed("params.cursor: its lease has ended; ask for the first page again")
    key = (cursor.position, cursor.n_rows)
    if key not in batch.views:
        batch.views[key] = view_of(index.rows, cursor.position, cursor.n_rows)
    return batch.views[key]


def rows_of(batch: Batch, compiled: CompiledParams) -> RowsOf:
    """Which rows items have, or had at the moment of a cursor."""
    return batch.index.rows_of if compiled.cursor is None else _view(batch, compiled.cursor).rows_of


def _view_mask(batch: Batch, compiled: CompiledParams, cursor: Cursor) -> Mask:
    """The rows of a cursor's moment that pass, less the excluded items."""
    index, view = batch.index, _view(batch, cursor)
    of_columns, of_ids = compiled.program.parts()
    mask = view.seen
    if not of_columns.is_pass_all:
        mask = index.masks.mask(of_columns, index.columns).among(mask.bits)
    if not of_ids.is_pass_all:
        mask = mask.among(of_ids.evaluate(index.columns, view.rows_of))
    if len(compiled.params.exclude_ids):
        mask = mask.without(view.rows_of(compiled.params.exclude_ids))
    return Mask(mask, passes_all=False)


def shared_mask(batch: Batch, compiled: CompiledParams) -> Mask:
    """The mask of a filter, evaluated once for the batch, less the excluded items, looked up once where they are the
    same object.
    """
    if compiled.cursor is not None:
        return _view_mask(batch, compiled, compiled.cursor)
    program, excluded = compiled.program, compiled.params.exclude_ids
    mask = batch.masks.get(program.fingerprint)
    if mask is None:
        mask = batch.masks[program.fingerprint] = mask_of(batch.index, program)
    if not len(excluded):
        return mask
    key = (program.fingerprint, id(excluded))
    if key not in batch.reduced:
        batch.reduced[key] = _without(batch.index, mask, excluded)
    return batch.reduced[key]


def of_chosen(batch: Batch, compiled: CompiledParams, mask: Mask, extra: Extra | None) -> tuple[Mask, Extra | None]:
    """Without rows of embeddings that do not count, where each is a row; after what concerns items, all rows alike."""
    index, weights = batch.index, compiled.weights
    if weights is None or weights.all() or not index.schema.takes_maximum:
        return mask, extra
    key = (id(mask), weights.tobytes())
    if key not in batch.of_chosen:
        counts = np.append(weights > 0, False)  # which rows never written have by their -1
        bits = np.zeros_like(index.rows.alive)
        set_rows(bits, np.flatnonzero(counts[index.marked_rows()]))
        # With the mask that it is of, whose id is a key: another must not get it.
        batch.of_chosen[key] = mask, Mask(mask.of.among(bits), passes_all=False)
    _, chosen = batch.of_chosen[key]
    return chosen, None if extra is None else extra.among(chosen.bits)


def evaluate_filters(batch: Batch) -> None:
    """The masks of all filters of the batch at once, so that columns which several read are read once.

    Where one of them names an attribute that the index lacks, none is: each is told so when its own turn comes.
    """
    index = batch.index
    programs = {one.program.fingerprint: one.program for job in batch.jobs for one in job.compiled}
    parts = {key: program.parts() for key, program in programs.items()}
    wanted = [key for key, (of_columns, _) in parts.items() if not of_columns.is_pass_all]
    if len(wanted) < 2:
        return
    try:
        found = index.masks.masks([parts[key][0] for key in wanted], index.columns)
    except UnknownAttribute:
        return
    for key, mask in zip(wanted, found, strict=True):
        batch.masks[key] = _live(index, mask, parts[key][1])


def mask_of(index: VersionIndex, program: FilterProgram) -> Mask:
    rows = index.rows
    if program.is_pass_all:
        return Mask(RowMask(rows.alive, rows.n_alive), passes_all=rows.n_alive == rows.n_rows)
    of_columns, of_ids = program.parts()
    if of_columns.is_pass_all:
        return _live(index, RowMask(rows.alive, rows.n_alive), of_ids)
    return _live(index, index.masks.mask(of_columns, index.columns), of_ids)


def _live(index: VersionIndex, mask: RowMask, of_ids: FilterProgram) -> Mask:
    """What of a kept mask lives and has the ids that the filter names: both change without a column's doing."""
    if index.rows.n_alive < index.rows.n_rows:
        mask = mask.among(index.rows.alive)
    if not of_ids.is_pass_all:
        mask = mask.among(of_ids.evaluate(index.columns, index.rows_of))
    return Mask(mask, passes_all=False)


def _without(index: VersionIndex, mask: Mask, ids: Sequence[ItemId] | npt.NDArray[np.uint64]) -> Mask:
    return Mask(mask.of.without(index.rows.rows_of(ids)), passes_all=False)


def only_rows(index: VersionIndex, rows: Int64Array) -> Mask:
    """Some rows of a mask."""
    bits = np.zeros_like(index.rows.alive)
    set_rows(bits, rows)
    return Mask(RowMask(bits, len(rows)), passes_all=False)
