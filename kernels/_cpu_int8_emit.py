"""What the emitted code of int8 scores is made of: vectors, loads and stores, and the score of a sum of products.

Sums of products are integers and so the same on every machine; each score is made of one by the same four operations
in float32, in the order of the reference, so that scores are the same too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _numba_intrinsic

from kernels._cpu_int8_dot import QUERY_OFFSET, Form, form_for

BLOCK_ROWS = 16
LANES = 16
N_TERMS = 4
"""Of a query: factor, constant, limit and weight."""

emit: Any = cgutils
intrinsic: Any = _numba_intrinsic
INT16, INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOAT = ir.FloatType()
INTS, FLOATS = ir.VectorType(INT32, LANES), ir.VectorType(FLOAT, LANES)
_ADDRESS = types.int64


def load(builder: Any, address: Any, kind: ir.Type, index: Any = None, *, align: int = 4) -> Any:
    """Element ``index`` of the array of ``kind`` at ``address``."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    if index is not None:
        pointer = builder.gep(pointer, [index], source_etype=kind)
    return builder.load(pointer, align=align)


def store(builder: Any, value: Any, address: Any, offset: int, *, align: int = 4) -> None:
    moved = builder.add(address, ir.Constant(INT64, offset))
    builder.store(value, builder.inttoptr(moved, value.type.as_pointer()), align=align)


def splat(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(scalar.type, LANES)
    undefined = ir.Constant(kind, ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(INTS, None))


def scored(builder: Any, totals: Any, row: tuple[Any, Any, Any], query: tuple[Any, Any, Any]) -> Any:
    """(sum of products * scale) * factor - norm * weight - constant, of (scale, sum, norm) and of
    (factor, constant, weight), each a vector.
    """
    scale, row_sum, norm = row
    factor, constant, weight = query
    products = builder.sub(totals, builder.mul(row_sum, ir.Constant(INTS, [QUERY_OFFSET] * LANES)))
    scaled = builder.fmul(builder.fmul(builder.sitofp(products, FLOATS), scale), factor)
    return builder.fsub(builder.fsub(scaled, builder.fmul(norm, weight)), constant)


def may_enter(builder: Any, scores: Any, limits: Any) -> Any:
    """A bit for each lane whose score is not known to be at or below its limit."""
    return builder.bitcast(builder.fcmp_unordered(">", scores, limits), INT16)


def _target_form(context: Any) -> Form:
    """By the features that code is made for, which are part of the key of numba's cache."""
    return form_for(context.codegen().magic_tuple()[2])


def generated(arguments: int, result: Any, emit: Callable[..., Any], form: Form | None) -> Any:
    """An intrinsic of int64 arguments; ``emit`` gets the form, the builder and the arguments."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = emit(form or _target_form(context), builder, *args)
        return context.get_dummy_value() if value is None else value

    return result(*[_ADDRESS] * arguments), generate
