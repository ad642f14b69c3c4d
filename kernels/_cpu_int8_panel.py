"""Coarse scores from int8 codes in explicit vector code: sixteen rows for sixteen queries, or many rows for one.

Sums of products are integers and so the same on every machine; each score is made of one by the same four operations
in float32, in the order of the reference, so that scores are the same too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._cpu_int8_dot import QUERY_OFFSET, Form, form_for

BLOCK_ROWS = 16
LANES = 16

_emit: Any = cgutils
_intrinsic: Any = intrinsic
_BYTE, _INT16, _INT32, _INT64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_FLOAT = ir.FloatType()
_INTS, _FLOATS = ir.VectorType(_INT32, LANES), ir.VectorType(_FLOAT, LANES)
_NARROW = ir.VectorType(_INT32, 4)
_ADDRESS = types.int64
_N_TERMS = 4


def _load(builder: Any, address: Any, kind: ir.Type, index: Any = None, *, align: int = 4) -> Any:
    """Element ``index`` of the array of ``kind`` at ``address``."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    if index is not None:
        pointer = builder.gep(pointer, [index], source_etype=kind)
    return builder.load(pointer, align=align)


def _store(builder: Any, value: Any, address: Any, offset: int, *, align: int = 4) -> None:
    moved = builder.add(address, ir.Constant(_INT64, offset))
    builder.store(value, builder.inttoptr(moved, value.type.as_pointer()), align=align)


def _splat(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(scalar.type, LANES)
    undefined = ir.Constant(kind, ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(_INTS, None))


def _score(builder: Any, totals: Any, row: tuple[Any, Any, Any], query: tuple[Any, Any, Any]) -> Any:
    """(sum of products * scale) * factor - norm * weight - constant, of (scale, sum, norm) and of
    (factor, constant, weight), each a vector.
    """
    scale, row_sum, norm = row
    factor, constant, weight = query
    products = builder.sub(totals, builder.mul(row_sum, ir.Constant(_INTS, [QUERY_OFFSET] * LANES)))
    scaled = builder.fmul(builder.fmul(builder.sitofp(products, _FLOATS), scale), factor)
    return builder.fsub(builder.fsub(scaled, builder.fmul(norm, weight)), constant)


def _may_enter(builder: Any, scores: Any, limits: Any) -> Any:
    """A bit for each lane whose score is not known to be at or below its limit."""
    return builder.bitcast(builder.fcmp_unordered(">", scores, limits), _INT16)


def _target_form(context: Any) -> Form:
    """By the features that code is made for, which are part of the key of numba's cache."""
    return form_for(context.codegen().magic_tuple()[2])


def _generated(arguments: int, result: Any, emit: Callable[..., Any], form: Form | None) -> Any:
    """An intrinsic of int64 arguments; ``emit`` gets the form, the builder and the arguments."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = emit(form or _target_form(context), builder, *args)
        return context.get_dummy_value() if value is None else value

    return result(*[_ADDRESS] * arguments), generate


# Sixteen rows for sixteen queries


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
        return _generated(7, types.void, _emit_panel, form)

    made: Callable[..., None] = _intrinsic(score_panel)
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
    of_row = [_load(builder, bases, _INT64, ir.Constant(_INT64, i), align=8) for i in range(4)]
    places = [_load(builder, positions, _INT64, ir.Constant(_INT64, r), align=8) for r in range(BLOCK_ROWS)]
    factor, constant, limits, weight = (
        _load(builder, terms, _FLOATS, ir.Constant(_INT64, i), align=4) for i in range(_N_TERMS)
    )
    for first in range(0, BLOCK_ROWS, form.n_rows):
        rows = [builder.add(of_row[0], builder.mul(place, row_bytes)) for place in places[first : first + form.n_rows]]
        totals = _panel_totals(form, builder, rows, row_bytes, panel)
        for r, total in enumerate(totals, first):
            row_terms = (
                _splat(builder, _load(builder, of_row[1], _FLOAT, places[r])),
                _splat(builder, _load(builder, of_row[2], _INT32, places[r])),
                _splat(builder, _load(builder, of_row[3], _FLOAT, places[r])),
            )
            made = _score(builder, builder.load(total), row_terms, (factor, constant, weight))
            _store(builder, made, scores, r * LANES * 4)
            _store(builder, _may_enter(builder, made, limits), entering, r * 2, align=2)


def _panel_totals(form: Form, builder: Any, rows: list[Any], row_bytes: Any, panel: Any) -> list[Any]:
    """Where the sums of some rows for the panel are, once the emitted loop is through."""
    totals = [_emit.alloca_once_value(builder, ir.Constant(_INTS, None)) for _ in rows]
    with _emit.for_range(builder, builder.lshr(row_bytes, ir.Constant(_INT64, 2))) as loop:
        queries = _load(builder, panel, _INTS, loop.index)
        for total, row in zip(totals, rows, strict=True):
            four = _splat(builder, _load(builder, row, _INT32, loop.index))
            builder.store(form.step(builder, builder.load(total), queries, four), total)
    return totals


# Rows for one query


def dots_of(form: Form | None) -> Callable[..., None]:
    """dot_rows in one form; in the target's best where it is None."""

    def dot_rows(typing: Any, a: Any, b: Any, c: Any, d: Any, row_bytes: Any, query: Any, out: Any) -> Any:
        """Write the sums of products int32 [4] of the rows at addresses a, b, c and d with uint8 [row_bytes]."""
        return _generated(7, types.void, _emit_dots, form)

    made: Callable[..., None] = _intrinsic(dot_rows)
    return made


def _emit_dots(form: Form, builder: Any, a: Any, b: Any, c: Any, d: Any, row_bytes: Any, query: Any, out: Any) -> None:
    rows = (a, b, c, d)
    wide = _loop_totals(form, builder, _INTS, rows, query, builder.lshr(row_bytes, ir.Constant(_INT64, 6)))
    done = builder.and_(row_bytes, ir.Constant(_INT64, -64))
    left = builder.lshr(builder.and_(row_bytes, ir.Constant(_INT64, 63)), ir.Constant(_INT64, 4))
    rest = [builder.add(address, done) for address in (*rows, query)]
    narrow = _loop_totals(form, builder, _NARROW, rest[:4], rest[4], left)
    totals = [
        builder.add(_folded(builder, builder.load(one)), builder.load(other))
        for one, other in zip(wide, narrow, strict=True)
    ]
    _store(builder, _sums_of_four(builder, *totals), out, 0)


def _loop_totals(form: Form, builder: Any, kind: Any, rows: Any, query: Any, steps: Any) -> list[Any]:
    totals = [_emit.alloca_once_value(builder, ir.Constant(kind, None)) for _ in rows]
    with _emit.for_range(builder, steps) as loop:
        of_query = _load(builder, query, kind, loop.index)
        for total, row in zip(totals, rows, strict=True):
            of_row = _load(builder, row, kind, loop.index)
            builder.store(form.step(builder, builder.load(total), of_query, of_row), total)
    return totals


def _folded(builder: Any, vector: Any) -> Any:
    """Sixteen lanes as four with the same sum."""
    eight = _added(builder, vector, vector, range(8), range(8, 16))
    return _added(builder, eight, eight, range(4), range(4, 8))


def _sums_of_four(builder: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sums of four vectors of four lanes, as one vector: half of each goes beside half of another, twice."""
    ab = _added(builder, a, b, (0, 4, 1, 5), (2, 6, 3, 7))
    cd = _added(builder, c, d, (0, 4, 1, 5), (2, 6, 3, 7))
    return _added(builder, ab, cd, (0, 1, 4, 5), (2, 3, 6, 7))


def _added(builder: Any, one: Any, other: Any, first: Sequence[int], second: Sequence[int]) -> Any:
    """Two choices of the lanes of both vectors, added."""
    chosen = [
        builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INT32, len(lanes)), list(lanes)))
        for lanes in (first, second)
    ]
    return builder.add(*chosen)


def _score_sixteen(typing: Any, totals: Any, bases: Any, first: Any, terms: Any, lane: Any, scores: Any) -> Any:
    """score_sixteen(totals, bases, first, terms, lane, scores) -> int64: score sixteen consecutive rows for one query.

    ``totals`` int32 [16] of rows from position ``first``; ``bases`` and ``terms`` as score_panel has them, and ``lane``
    the query's place in the panel. Writes ``scores`` float32 [16] and returns a bit for each that may pass the limit.
    """
    return _generated(6, types.int64, _emit_sixteen, None)


def _emit_sixteen(
    form: Form, builder: Any, totals: Any, bases: Any, first: Any, terms: Any, lane: Any, scores: Any
) -> Any:
    offset = builder.mul(first, ir.Constant(_INT64, 4))
    scale, row_sum, norm = (
        _load(
            builder,
            builder.add(_load(builder, bases, _INT64, ir.Constant(_INT64, i), align=8), offset),
            _INTS if i == 2 else _FLOATS,
        )
        for i in range(1, 4)
    )
    factor, constant, limits, weight = (
        _splat(builder, _load(builder, terms, _FLOAT, builder.add(lane, ir.Constant(_INT64, i * LANES))))
        for i in range(_N_TERMS)
    )
    made = _score(builder, _load(builder, totals, _INTS), (scale, row_sum, norm), (factor, constant, weight))
    _store(builder, made, scores, 0)
    return builder.zext(_may_enter(builder, made, limits), _INT64)


def _scatter_four(typing: Any, source: Any, target: Any, places: Any) -> Any:
    """scatter_four(source, target, places): int32 ``source[i]`` to ``target[places[i]]`` for four i; addresses."""
    return _generated(3, types.void, _emit_scatter, None)


def _emit_scatter(form: Form, builder: Any, source: Any, target: Any, places: Any) -> None:
    for i in range(4):
        place = _load(builder, places, _INT64, ir.Constant(_INT64, i), align=8)
        value = _load(builder, source, _INT32, ir.Constant(_INT64, i))
        _store(builder, value, builder.add(target, builder.shl(place, ir.Constant(_INT64, 2))), 0)


score_panel: Callable[[int, int, int, int, int, int, int], None] = panel_of(None)
dot_rows: Callable[[int, int, int, int, int, int, int], None] = dots_of(None)
score_sixteen: Callable[[int, int, int, int, int, int], int] = _intrinsic(_score_sixteen)
scatter_four: Callable[[int, int, int], None] = _intrinsic(_scatter_four)
