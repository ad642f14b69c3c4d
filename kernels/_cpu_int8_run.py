"""Coarse scores of rows for one query from int8 codes, in explicit vector code: sixteen in a row, or any four.

Sixteen in a row are read row after row: where memory is read from four rows in turn it does not read ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

_NARROW = ir.VectorType(INT32, 4)


def dots_of(form: Form | None) -> Callable[..., None]:
    """dot_rows in one form; in the target's best where it is None."""

    def dot_rows(typing: Any, a: Any, b: Any, c: Any, d: Any, row_bytes: Any, query: Any, out: Any) -> Any:
        """Write the sums of products int32 [4] of the rows at addresses a, b, c and d with uint8 [row_bytes]."""
        return generated(7, types.void, _emit_dots, form)

    made: Callable[..., None] = intrinsic(dot_rows)
    return made


def _emit_dots(form: Form, builder: Any, a: Any, b: Any, c: Any, d: Any, row_bytes: Any, query: Any, out: Any) -> None:
    rows = (a, b, c, d)
    wide = _loop_totals(form, builder, INTS, rows, query, builder.lshr(row_bytes, ir.Constant(INT64, 6)))
    done = builder.and_(row_bytes, ir.Constant(INT64, -64))
    left = builder.lshr(builder.and_(row_bytes, ir.Constant(INT64, 63)), ir.Constant(INT64, 4))
    rest = [builder.add(address, done) for address in (*rows, query)]
    narrow = _loop_totals(form, builder, _NARROW, rest[:4], rest[4], left)
    totals = [
        builder.add(_folded(builder, builder.load(one)), builder.load(other))
        for one, other in zip(wide, narrow, strict=True)
    ]
    store(builder, _sums_of_four(builder, *totals), out, 0)


def _loop_totals(form: Form, builder: Any, kind: Any, rows: Any, query: Any, steps: Any) -> list[Any]:
    totals = [emit.alloca_once_value(builder, ir.Constant(kind, None)) for _ in rows]
    with emit.for_range(builder, steps) as loop:
        of_query = load(builder, query, kind, loop.index)
        for total, row in zip(totals, rows, strict=True):
            of_row = load(builder, row, kind, loop.index)
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
    return builder.add(*[_chosen(builder, one, other, lanes) for lanes in (first, second)])


def _chosen(builder: Any, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    """Some lanes of both vectors as one."""
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes)))


# Sixteen consecutive rows for one query


def run_of(form: Form | None) -> Callable[[int, int, int, int, int, int, int], int]:
    """score_run in one form; in the target's best where it is None."""

    def score_run(
        typing: Any, bases: Any, first: Any, row_bytes: Any, query: Any, terms: Any, lane: Any, scores: Any
    ) -> Any:
        """Score sixteen consecutive rows from position ``first``, with uint8 [row_bytes] at ``query``.

        ``bases``, ``terms``, ``lane``, ``scores`` and what is returned are as in score_sixteen.
        """
        return generated(7, types.int64, _emit_run, form)

    made: Callable[[int, int, int, int, int, int, int], int] = intrinsic(score_run)
    return made


def _emit_run(
    form: Form, builder: Any, bases: Any, first: Any, row_bytes: Any, query: Any, terms: Any, lane: Any, scores: Any
) -> Any:
    start = builder.add(load(builder, bases, INT64, ir.Constant(INT64, 0), align=8), builder.mul(first, row_bytes))
    fours = []
    for j in range(0, BLOCK_ROWS, 4):
        rows = [builder.add(start, builder.mul(row_bytes, ir.Constant(INT64, j + r))) for r in range(4)]
        fours.append(_quarters_of_four(builder, *[_row_total(form, builder, row, row_bytes, query) for row in rows]))
    return _emit_scores(builder, _sums_of_quarters(builder, *fours), bases, first, terms, lane, scores)


def _row_total(form: Form, builder: Any, row: Any, row_bytes: Any, query: Any) -> Any:
    """Sixteen lanes whose sum is that of the row's products."""
    (total,) = _loop_totals(form, builder, INTS, [row], query, builder.lshr(row_bytes, ir.Constant(INT64, 6)))
    done = builder.and_(row_bytes, ir.Constant(INT64, -64))
    left = builder.lshr(builder.and_(row_bytes, ir.Constant(INT64, 63)), ir.Constant(INT64, 4))
    with builder.if_then(builder.icmp_unsigned("!=", left, ir.Constant(INT64, 0)), likely=False):
        row_rest, query_rest = builder.add(row, done), builder.add(query, done)
        (narrow,) = _loop_totals(form, builder, _NARROW, [row_rest], query_rest, left)
        widened = _chosen(builder, builder.load(narrow), ir.Constant(_NARROW, None), (*range(4), *[4] * 12))
        builder.store(builder.add(builder.load(total), widened), total)
    return builder.load(total)


def _quarters_of_four(builder: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Four vectors of sixteen lanes as one: four lanes for each, with the same sum."""
    ab = _added(builder, a, b, (*range(8), *range(16, 24)), (*range(8, 16), *range(24, 32)))
    cd = _added(builder, c, d, (*range(8), *range(16, 24)), (*range(8, 16), *range(24, 32)))
    even = (*range(4), *range(8, 12), *range(16, 20), *range(24, 28))
    return _added(builder, ab, cd, even, tuple(lane + 4 for lane in even))


def _sums_of_quarters(builder: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sums of each four lanes of four vectors, in the order of vectors and lanes."""
    ab, cd = (_added(builder, x, y, _within((0, 1, 16, 17)), _within((2, 3, 18, 19))) for x, y in ((a, b), (c, d)))
    sums = _added(builder, ab, cd, _within((0, 2, 16, 18)), _within((1, 3, 17, 19)))
    return _chosen(builder, sums, sums, tuple(4 * lane + vector for vector in range(4) for lane in range(4)))


def _within(lanes: Sequence[int]) -> tuple[int, ...]:
    """The same choice in every four lanes of two vectors of sixteen."""
    return tuple(lane + quarter for quarter in range(0, 16, 4) for lane in lanes)


def _score_sixteen(typing: Any, totals: Any, bases: Any, first: Any, terms: Any, lane: Any, scores: Any) -> Any:
    """score_sixteen(totals, bases, first, terms, lane, scores) -> int64: score sixteen consecutive rows for one query.

    ``totals`` int32 [16] of rows from position ``first``; ``bases`` and ``terms`` as score_panel has them, and ``lane``
    the query's place in the panel. Writes ``scores`` float32 [16] and returns a bit for each that may pass the limit.
    """
    return generated(6, types.int64, _emit_sixteen, None)


def _emit_sixteen(
    form: Form, builder: Any, totals: Any, bases: Any, first: Any, terms: Any, lane: Any, scores: Any
) -> Any:
    return _emit_scores(builder, load(builder, totals, INTS), bases, first, terms, lane, scores)


def _emit_scores(builder: Any, totals: Any, bases: Any, first: Any, terms: Any, lane: Any, scores: Any) -> Any:
    offset = builder.mul(first, ir.Constant(INT64, 4))
    scale, row_sum, norm = (
        load(
            builder,
            builder.add(load(builder, bases, INT64, ir.Constant(INT64, i), align=8), offset),
            INTS if i == 2 else FLOATS,
        )
        for i in range(1, 4)
    )
    factor, constant, limits, weight = (
        splat(builder, load(builder, terms, FLOAT, builder.add(lane, ir.Constant(INT64, i * LANES))))
        for i in range(N_TERMS)
    )
    made = scored(builder, totals, (scale, row_sum, norm), (factor, constant, weight))
    store(builder, made, scores, 0)
    return builder.zext(may_enter(builder, made, limits), INT64)


def _scatter_four(typing: Any, source: Any, target: Any, places: Any) -> Any:
    """scatter_four(source, target, places): int32 ``source[i]`` to ``target[places[i]]`` for four i; addresses."""
    return generated(3, types.void, _emit_scatter, None)


def _emit_scatter(form: Form, builder: Any, source: Any, target: Any, places: Any) -> None:
    for i in range(4):
        place = load(builder, places, INT64, ir.Constant(INT64, i), align=8)
        value = load(builder, source, INT32, ir.Constant(INT64, i))
        store(builder, value, builder.add(target, builder.shl(place, ir.Constant(INT64, 2))), 0)


dot_rows: Callable[[int, int, int, int, int, int, int], None] = dots_of(None)
score_run: Callable[[int, int, int, int, int, int, int], int] = run_of(None)
score_sixteen: Callable[[int, int, int, int, int, int], int] = intrinsic(_score_sixteen)
scatter_four: Callable[[int, int, int], None] = intrinsic(_scatter_four)
