"""Sums of products of bytes, four at a time into each int32 lane, in the best form that the target has.

Rows are signed; queries are unsigned, as 128 more than their codes, for so the instructions of VNNI take them. What is
128 times the sum of the row's codes too much is taken off again before a score is made. Every form gives the same
integers: none saturates, and int32 holds them up to d = 65,000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

QUERY_OFFSET = 128
"""Added to each code of a query."""

_BYTE, _INT16, _INT32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)

Step = Callable[[Any, Any, Any, Any], Any]
"""step(builder, totals, queries, rows): totals with the four products of each lane added; all three <lanes x i32>."""


@dataclass(frozen=True, slots=True)
class Form:
    """A way to make the sums; ``n_rows``: of how many rows the totals fit in the registers at once."""

    step: Step
    n_rows: int


def form_for(features: str) -> Form:
    """The best of the forms for a target with these LLVM features, as in "+avx2,-avxvnni"."""
    has = set(features.split(","))
    if {"+avx512vnni", "+avx512vl"} <= has:
        return VNNI
    if "+avxvnni" in has:
        return AVX_VNNI
    return AVX2 if "+avx2" in has else PLAIN


def _vnni_step(widest: int) -> Step:
    def step(builder: Any, totals: Any, queries: Any, rows: Any) -> Any:
        return _in_parts(builder, (totals, queries, rows), widest, _dot_bytes)

    return step


def _dot_bytes(builder: Any, totals: Any, queries: Any, rows: Any) -> Any:
    kind = totals.type
    quads = ir.VectorType(_BYTE, 4 * kind.count)
    name = f"llvm.x86.avx512.vpdpbusd.{32 * kind.count}"
    function = builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind, quads, quads]))
    return builder.call(function, [totals, builder.bitcast(queries, quads), builder.bitcast(rows, quads)])


def _pairs_step(builder: Any, totals: Any, queries: Any, rows: Any) -> Any:
    return _in_parts(builder, (totals, queries, rows), 8, _dot_pairs)


def _dot_pairs(builder: Any, totals: Any, queries: Any, rows: Any) -> Any:
    """Bytes 0 and 2 of each lane as int16, then bytes 1 and 3: products of int16 are summed in int32 and fit."""
    even = builder.and_(queries, _all(queries.type, 0x00FF00FF))
    odd = builder.and_(_shifted(builder, builder.lshr, queries, 8), _all(queries.type, 0x00FF00FF))
    halves = builder.bitcast(rows, ir.VectorType(_INT16, 2 * rows.type.count))
    even_rows = _shifted(builder, builder.ashr, _shifted(builder, builder.shl, halves, 8), 8)
    odd_rows = _shifted(builder, builder.ashr, halves, 8)
    totals = builder.add(totals, _multiply_pairs(builder, even, even_rows))
    return builder.add(totals, _multiply_pairs(builder, odd, odd_rows))


def _multiply_pairs(builder: Any, queries: Any, rows: Any) -> Any:
    kind = queries.type
    name = "llvm.x86.avx2.pmadd.wd" if kind.count == 8 else "llvm.x86.sse2.pmadd.wd"
    function = builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [rows.type, rows.type]))
    return builder.call(function, [builder.bitcast(queries, rows.type), rows])


def _plain_step(builder: Any, totals: Any, queries: Any, rows: Any) -> Any:
    for place in range(4):
        of_query = builder.and_(_shifted(builder, builder.lshr, queries, 8 * place), _all(queries.type, 0xFF))
        of_row = _shifted(builder, builder.ashr, _shifted(builder, builder.shl, rows, 24 - 8 * place), 24)
        totals = builder.add(totals, builder.mul(of_query, of_row))
    return totals


def _in_parts(builder: Any, vectors: Sequence[Any], widest: int, function: Callable[..., Any]) -> Any:
    """``function`` of vectors of equal length, on parts of at most ``widest`` lanes."""
    lanes = vectors[0].type.count
    if lanes <= widest:
        return function(builder, *vectors)
    halves = [
        _in_parts(builder, [_lanes(builder, one, half) for one in vectors], widest, function)
        for half in (range(lanes // 2), range(lanes // 2, lanes))
    ]
    return builder.shuffle_vector(*halves, _indices(range(lanes)))


def _lanes(builder: Any, vector: Any, chosen: range) -> Any:
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), _indices(chosen))


def _indices(chosen: range) -> Any:
    return ir.Constant(ir.VectorType(_INT32, len(chosen)), list(chosen))


def _all(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _shifted(builder: Any, shift: Callable[[Any, Any], Any], vector: Any, bits: int) -> Any:
    return shift(vector, _all(vector.type, bits)) if bits else vector


VNNI = Form(_vnni_step(16), 16)
AVX_VNNI = Form(_vnni_step(8), 4)
AVX2 = Form(_pairs_step, 4)
PLAIN = Form(_plain_step, 4)
