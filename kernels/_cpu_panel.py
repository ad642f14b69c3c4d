"""Scores of six rows for sixteen queries at once, in explicit vector code: the inner block of a matrix product.

The queries lie across the lanes of a vector register and each row element is broadcast, so nothing is summed across
lanes at the end. Six by sixteen fills the registers of AVX2; a machine with wider or narrower vectors splits or joins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.arrays import Float32Array

PANEL_ROWS = 6
PANEL_QUERIES = 16

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, PANEL_QUERIES)
_emit: Any = cgutils
_intrinsic: Any = intrinsic
_FUSE = ("contract",)
_ELEMENT_BYTES = 4


def pack_queries(queries: Float32Array) -> Float32Array:
    """float32 [B, d] as panels [ceil(B / 16), d, 16], zeros in the lanes beyond B."""
    n_queries, d = queries.shape
    n_panels = -(-n_queries // PANEL_QUERIES)
    padded = np.zeros((n_panels * PANEL_QUERIES, d), np.float32)
    padded[:n_queries] = queries
    return np.ascontiguousarray(padded.reshape(n_panels, PANEL_QUERIES, d).transpose(0, 2, 1))


def _broadcast(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(ir.IntType(32), PANEL_QUERIES), None))


def _multiply_add(builder: Any, total: Any, element: Any, queries: Any) -> Any:
    return builder.fadd(total, builder.fmul(element, queries, flags=_FUSE), flags=_FUSE)


def _subtract_square(builder: Any, total: Any, element: Any, queries: Any) -> Any:
    difference = builder.fsub(element, queries)
    return builder.fsub(total, builder.fmul(difference, difference, flags=_FUSE), flags=_FUSE)


def _panel(step: Callable[[Any, Any, Any, Any], Any], n_rows: int) -> Any:
    """panel(tile, d, queries, scores, stride): sums of ``step`` over d for consecutive float32 rows [n_rows, d] at
    ``tile`` and a panel [d, 16] at ``queries``, stored at ``scores`` as 16 floats every ``stride``; addresses but for
    d and the stride.
    """

    def typed(typing: Any, tile: Any, d: Any, queries: Any, scores: Any, stride: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_panel(builder, step, n_rows, *args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), generate

    return intrinsic(typed)


def _emit_panel(
    builder: Any, step: Any, n_rows: int, tile: Any, d: Any, queries: Any, scores: Any, stride: Any
) -> None:
    zero = ir.Constant(_VECTOR, None)
    totals = [_emit.alloca_once_value(builder, zero) for _ in range(n_rows)]
    for total in totals:
        builder.store(zero, total)
    rows = [builder.add(tile, builder.mul(d, ir.Constant(d.type, r * _ELEMENT_BYTES))) for r in range(n_rows)]
    tops = [builder.inttoptr(row, _FLOAT.as_pointer()) for row in rows]
    lanes = builder.inttoptr(queries, _VECTOR.as_pointer())
    with _emit.for_range(builder, d) as loop:
        of_queries = builder.load(builder.gep(lanes, [loop.index], source_etype=_VECTOR), align=_ELEMENT_BYTES)
        for total, top in zip(totals, tops, strict=True):
            element = builder.load(builder.gep(top, [loop.index], source_etype=_FLOAT))
            builder.store(step(builder, builder.load(total), _broadcast(builder, element), of_queries), total)
    for r, total in enumerate(totals):
        place = builder.add(scores, builder.mul(stride, ir.Constant(stride.type, r * _ELEMENT_BYTES)))
        builder.store(builder.load(total), builder.inttoptr(place, _VECTOR.as_pointer()), align=_ELEMENT_BYTES)


def _row_panel(typing: Any, row: Any, d: Any, queries: Any, scores: Any) -> Any:
    """row_panel(row, d, queries, scores): as ``dot_panel`` for one row, d a multiple of 4: four sums side by side, for
    one would wait for itself.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        top, lanes = (builder.inttoptr(args[i], kind.as_pointer()) for i, kind in ((0, _FLOAT), (2, _VECTOR)))
        zero = ir.Constant(_VECTOR, None)
        totals = [_emit.alloca_once_value(builder, zero) for _ in range(_ROW_SUMS)]
        for total in totals:
            builder.store(zero, total)
        with _emit.for_range(builder, builder.udiv(args[1], ir.Constant(args[1].type, _ROW_SUMS))) as loop:
            first = builder.mul(loop.index, ir.Constant(args[1].type, _ROW_SUMS))
            for turn, total in enumerate(totals):
                at = builder.add(first, ir.Constant(args[1].type, turn))
                of_queries = builder.load(builder.gep(lanes, [at], source_etype=_VECTOR), align=_ELEMENT_BYTES)
                element = _broadcast(builder, builder.load(builder.gep(top, [at], source_etype=_FLOAT)))
                builder.store(_multiply_add(builder, builder.load(total), element, of_queries), total)
        low, high = (builder.fadd(*(builder.load(totals[i]) for i in pair)) for pair in ((0, 1), (2, 3)))
        out = builder.inttoptr(args[3], _VECTOR.as_pointer())
        builder.store(builder.fadd(low, high), out, align=_ELEMENT_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


_ROW_SUMS = 4
dot_panel: Callable[[int, int, int, int, int], None] = _panel(_multiply_add, PANEL_ROWS)
l2_panel: Callable[[int, int, int, int, int], None] = _panel(_subtract_square, PANEL_ROWS)
row_panel: Callable[[int, int, int, int], None] = _intrinsic(_row_panel)
