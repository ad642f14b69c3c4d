"""Coarse scores of sixteen rows for sixteen queries from int8 codes, in explicit vector code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from kernels._cpu_int8_dot import Form
from kernels._cpu_int8_emit import (
    BLOCK_ROWS,
    FLOAT,
    FLOATS,
    INT32,
    INT64,
    INTS,
    LANES,
    N_TERMS,
    emit,
    generated,
    intrinsic,
    load,
    may_enter,
    scored,
    splat,
    store,
)


def panel_of(form: Form | None) -> Callable[..., None]:
    """score_panel in one form; in the target's best where it is None."""

    def score_panel(
        typing: Any, positions: Any, bases: Any, row_bytes: Any, panel: Any, terms: Any, scores: Any, entering: Any
    ) -> Any:
        """Score sixteen rows for a panel of sixteen queries.

        All are addresses but ``row_bytes``. ``positions`` int64 [16]: of the rows, counted from ``bases`` int64 [4],
        which are the addresses of codes, scales, sums and norms; ``panel`` uint8 [row_bytes / 4, 16, 4];
        ``terms`` float32 [4, 16]: factor, constant, limit and weight of each query. ``scores`` float32 [16, 16] and
        ``entering`` uint16 [16] are written: a bit for each query whose limit the row may pass.
        """
        return generated(7, types.void, _emit_panel, form)

    made: Callable[..., None] = intrinsic(score_panel)
    return made


def _emit_panel(
    form: Form,
    builder: Any,
    positions: Any,
    bases: Any,
    row_bytes: Any,
    panel: Any,
    terms: Any,
    scores: Any,
    entering: Any,
) -> None:
    of_row = [load(builder, bases, INT64, ir.Constant(INT64, i), align=8) for i in range(4)]
    places = [load(builder, positions, INT64, ir.Constant(INT64, r), align=8) for r in range(BLOCK_ROWS)]
    factor, constant, limits, weight = (
        load(builder, terms, FLOATS, ir.Constant(INT64, i), align=4) for i in range(N_TERMS)
    )
    for first in range(0, BLOCK_ROWS, form.n_rows):
        rows = [builder.add(of_row[0], builder.mul(place, row_bytes)) for place in places[first : first + form.n_rows]]
        totals = _panel_totals(form, builder, rows, row_bytes, panel)
        for r, total in enumerate(totals, first):
            row_terms = (
                splat(builder, load(builder, of_row[1], FLOAT, places[r])),
                splat(builder, load(builder, of_row[2], INT32, places[r])),
                splat(builder, load(builder, of_row[3], FLOAT, places[r])),
            )
            made = scored(builder, builder.load(total), row_terms, (factor, constant, weight))
            store(builder, made, scores, r * LANES * 4)
            store(builder, may_enter(builder, made, limits), entering, r * 2, align=2)


def _panel_totals(form: Form, builder: Any, rows: list[Any], row_bytes: Any, panel: Any) -> list[Any]:
    """Where the sums of some rows for the panel are, once the emitted loop is through."""
    totals = [emit.alloca_once_value(builder, ir.Constant(INTS, None)) for _ in rows]
    with emit.for_range(builder, builder.lshr(row_bytes, ir.Constant(INT64, 2))) as loop:
        queries = load(builder, panel, INTS, loop.index)
        for total, row in zip(totals, rows, strict=True):
            four = splat(builder, load(builder, row, INT32, loop.index))
            builder.store(form.step(builder, builder.load(total), queries, four), total)
    return totals


score_panel: Callable[[int, int, int, int, int, int, int], None] = panel_of(None)
