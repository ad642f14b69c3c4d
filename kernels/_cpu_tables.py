"""A query's quantised table: dot products of each of its parts with 16 centroids, as bytes for ``_cpu_shuffle``.

In vector code that any machine has: the 16 centroids of a part lie across the lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._cpu_jit import bits_of_float, compiled_as_written, float_of_bits
from kernels._cpu_shuffle import TABLE_BYTES
from kernels.arrays import Float32Array, Uint8Array
from kernels.packed_lists import BLOCK_ROWS, CENTROIDS, MOST_STEPS

_emit: Any = cgutils
_intrinsic: Any = intrinsic
_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_PRODUCTS = ir.VectorType(_FLOAT, CENTROIDS)
_ENTRIES = ir.VectorType(ir.IntType(8), CENTROIDS)
_FUSE = ("contract",)


@compiled_as_written
def fill_tables(
    codebook: Float32Array, query: Float32Array, levels: int, products: Float32Array, tables: Uint8Array
) -> tuple[np.float32, np.float32]:
    """Fill the tables and return (scale, offset), as ``reference.quantised_tables`` has it, the scale NaN where there
    is none. ``codebook`` float32 [M, d / M, 16]; ``products`` float32 [M, 16] is working memory.
    """
    n_parts, width, _ = codebook.shape
    spread = offset = np.float32(0)
    is_finite = True
    for part in range(n_parts):
        mine = products.ctypes.data + 4 * CENTROIDS * part
        _multiply(
            codebook.ctypes.data + 4 * CENTROIDS * width * part, query.ctypes.data + 4 * width * part, width, mine
        )
        is_finite &= _is_finite(mine)
        least = _least(mine)
        offset += least
        spread = max(spread, _most(mine) - least)
    if not (is_finite and spread < np.inf):
        return np.float32(np.nan), offset
    steps = MOST_STEPS
    if spread > 0:
        steps = float_of_bits(bits_of_float(min(np.float32(levels) / spread, MOST_STEPS)) & 0x7F800000)
    for part in range(n_parts):
        place = (part >> 2) * TABLE_BYTES + (part & 1) * (TABLE_BYTES // 2) + ((part >> 1) & 1) * BLOCK_ROWS
        mine = products.ctypes.data + 4 * CENTROIDS * part
        _put_entries(mine, _least(mine), steps, tables.ctypes.data + place)
    return np.float32(1) / steps, offset


def _vector(builder: Any, address: Any, kind: Any = _PRODUCTS) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _broadcast(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_PRODUCTS, ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(_INT32, CENTROIDS), None))


def _filled(value: float) -> Any:
    return ir.Constant(_PRODUCTS, [value] * CENTROIDS)


def _emit_multiply(typing: Any, codebook: Any, query: Any, width: Any, products: Any) -> Any:
    """Products [16] of a part [width] of a query with centroids [width, 16]; all but the width are addresses."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        centroids, values, n_values, out = args
        total = _emit.alloca_once_value(builder, ir.Constant(_PRODUCTS, None))
        with _emit.for_range(builder, n_values) as loop:
            places = builder.gep(_vector(builder, centroids), [loop.index], source_etype=_PRODUCTS)
            value = builder.gep(builder.inttoptr(values, _FLOAT.as_pointer()), [loop.index], source_etype=_FLOAT)
            spread = _broadcast(builder, builder.load(value, align=4))
            product = builder.fmul(builder.load(places, align=4), spread, flags=_FUSE)
            builder.store(builder.fadd(builder.load(total), product, flags=_FUSE), total)
        builder.store(builder.load(total), _vector(builder, out), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


def _reduced(order: str) -> Any:
    """The product of 16 that stands before all others in ``order``, by halves."""

    def typed(typing: Any, products: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = builder.load(_vector(builder, args[0]), align=4)
            half = CENTROIDS // 2
            while half:
                places = [(lane + half) % CENTROIDS for lane in range(CENTROIDS)]
                mask = ir.Constant(ir.VectorType(_INT32, CENTROIDS), places)
                others = builder.shuffle_vector(values, values, mask)
                values = builder.select(builder.fcmp_ordered(order, values, others), values, others)
                half //= 2
            return builder.extract_element(values, ir.Constant(_INT32, 0))

        return types.float32(types.int64), generate

    return _intrinsic(typed)


def _emit_is_finite(typing: Any, products: Any) -> Any:
    """Whether all 16 products are finite."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = builder.load(_vector(builder, args[0]), align=4)
        no_nan = builder.fsub(values, values)
        is_zero = builder.fcmp_ordered("==", no_nan, ir.Constant(_PRODUCTS, None))
        lanes = ir.IntType(CENTROIDS)
        return builder.icmp_unsigned("==", builder.bitcast(is_zero, lanes), ir.Constant(lanes, -1))

    return types.boolean(types.int64), generate


def _emit_entries(typing: Any, products: Any, least: Any, steps: Any, table: Any) -> Any:
    """Write 16 entries, twice."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = builder.load(_vector(builder, args[0]), align=4)
        above = builder.fsub(values, _broadcast(builder, args[1]))
        entries = builder.fadd(builder.fmul(above, _broadcast(builder, args[2])), _filled(0.5))
        whole = builder.fptosi(entries, ir.VectorType(_INT32, CENTROIDS))
        out = _vector(builder, args[3], _ENTRIES)
        for copy in range(2):
            place = builder.gep(out, [ir.Constant(_INT64, copy)], source_etype=_ENTRIES)
            builder.store(builder.trunc(whole, _ENTRIES), place, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.float32, types.int64), generate


_multiply: Callable[[int, int, int, int], None] = _intrinsic(_emit_multiply)
_least: Callable[[int], np.float32] = _reduced("<")
_most: Callable[[int], np.float32] = _reduced(">")
_is_finite: Callable[[int], bool] = _intrinsic(_emit_is_finite)
_put_entries: Callable[[int, np.float32, np.float32, int], None] = _intrinsic(_emit_entries)
