"""Quantised scores of one block of rows in explicit vector code: table look-ups as byte shuffles, 16-bit sums.

``block_scores`` is the fastest of its forms that this machine has, ``plain_block_scores`` the one that any has;
``fused_block_scores`` adds a feature.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._cpu_jit import compiled_as_written
from kernels.packed_lists import BLOCK_ROWS

HALF = BLOCK_ROWS // 2
TABLE_BYTES = 128
"""Of two columns, which are four parts: each part's 16 entries twice, those of low halves before those of high ones."""

_emit: Any = cgutils
_config: Any = numba.config
_intrinsic: Any = intrinsic
_BYTE, _INT16, _INT32, _INT64, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES, _SHORTS = ir.VectorType(_BYTE, 64), ir.VectorType(_INT16, 32)
_HALF_FLOATS = ir.VectorType(_FLOAT, HALF)
_BYTES_OF_PAIR = 2 * BLOCK_ROWS

Shuffle = Callable[[Any, Any, Any], Any]


def _filled(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _lanes(builder: Any, vector: Any, first: int, count: int) -> Any:
    positions = ir.Constant(ir.VectorType(_INT32, count), list(range(first, first + count)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), positions)


def _joined(builder: Any, low: Any, high: Any) -> Any:
    count = low.type.count + high.type.count
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(_INT32, count), list(range(count))))


def _shuffle_512(builder: Any, table: Any, places: Any) -> Any:
    kind = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
    return builder.call(builder.module.declare_intrinsic("llvm.x86.avx512.pshuf.b.512", (), kind), [table, places])


def _shuffle_256(builder: Any, table: Any, places: Any) -> Any:
    half = ir.VectorType(_BYTE, 32)
    function = builder.module.declare_intrinsic("llvm.x86.avx2.pshuf.b", (), ir.FunctionType(half, [half, half]))
    low, high = (
        builder.call(function, [_lanes(builder, table, first, 32), _lanes(builder, places, first, 32)])
        for first in (0, 32)
    )
    return _joined(builder, low, high)


def _at(builder: Any, address: Any, kind: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [index], source_etype=kind)


def _emit_sums(builder: Any, shuffle: Shuffle, record: Any, n_pairs: Any, tables: Any) -> tuple[Any, Any]:
    """Sums <16 x i16> of table entries for slots 0 to 15 and for slots 16 to 31."""
    zero = ir.Constant(_SHORTS, None)
    every = _emit.alloca_once_value(builder, zero)
    odd = _emit.alloca_once_value(builder, zero)
    with _emit.for_range(builder, n_pairs) as loop:
        codes = builder.load(_at(builder, record, _BYTES, loop.index), align=1)
        low = builder.and_(codes, _filled(_BYTES, 15))
        shifted = builder.lshr(builder.bitcast(codes, _SHORTS), _filled(_SHORTS, 4))
        high = builder.and_(builder.bitcast(shifted, _BYTES), _filled(_BYTES, 15))
        first = builder.shl(loop.index, ir.Constant(_INT64, 1))
        for turn, places in enumerate((low, high)):
            table = builder.load(_at(builder, tables, _BYTES, builder.add(first, ir.Constant(_INT64, turn))), align=1)
            entries = builder.bitcast(shuffle(builder, table, places), _SHORTS)
            builder.store(builder.add(builder.load(every), entries), every)
            of_odd = builder.lshr(entries, _filled(_SHORTS, 8))
            builder.store(builder.add(builder.load(odd), of_odd), odd)
    of_odd = builder.load(odd)
    of_even = builder.sub(builder.load(every), builder.shl(of_odd, _filled(_SHORTS, 8)))
    sums = [builder.add(_lanes(builder, one, 0, HALF), _lanes(builder, one, HALF, HALF)) for one in (of_even, of_odd)]
    return sums[0], sums[1]


def _broadcast(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_HALF_FLOATS, ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(_INT32, HALF), None))


def _emit_block(builder: Any, shuffle: Shuffle, args: Any) -> Any:
    record, n_columns, tables, terms, features, weight, base, scale, limit, scores = args
    n_pairs = builder.lshr(n_columns, ir.Constant(_INT64, 1))
    passing = ir.Constant(_INT64, 0)
    for half, sums in enumerate(_emit_sums(builder, shuffle, record, n_pairs, tables)):
        place = ir.Constant(_INT64, half)
        wide = builder.uitofp(builder.zext(sums, ir.VectorType(_INT32, HALF)), _HALF_FLOATS)
        term = builder.load(_at(builder, terms, _HALF_FLOATS, place), align=4)
        fixed = builder.fadd(_broadcast(builder, base), term)
        if features is not None:
            feature = builder.load(_at(builder, features, _HALF_FLOATS, place), align=4)
            fixed = builder.fadd(fixed, builder.fmul(_broadcast(builder, weight), feature))
        score = builder.fadd(fixed, builder.fmul(_broadcast(builder, scale), wide))
        builder.store(score, _at(builder, scores, _HALF_FLOATS, place), align=4)
        good = builder.fcmp_ordered(">=", score, _broadcast(builder, limit))
        bits = builder.zext(builder.bitcast(good, _INT16), _INT64)
        passing = builder.or_(passing, builder.shl(bits, ir.Constant(_INT64, half * HALF)))
    return passing


def _shuffled(shuffle: Shuffle) -> Any:
    def typed(
        typing: Any,
        record: Any,
        n_columns: Any,
        tables: Any,
        terms: Any,
        base: Any,
        scale: Any,
        limit: Any,
        scores: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _emit_block(builder, shuffle, (*args[:4], None, None, *args[4:]))

        address, number = types.int64, types.float32
        return types.uint64(address, types.int64, address, address, number, number, number, address), generate

    return _intrinsic(typed)


def _fused_shuffled(shuffle: Shuffle) -> Any:
    def typed(
        typing: Any,
        record: Any,
        n_columns: Any,
        tables: Any,
        terms: Any,
        features: Any,
        weight: Any,
        base: Any,
        scale: Any,
        limit: Any,
        scores: Any,
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _emit_block(builder, shuffle, args)

        address, number = types.int64, types.float32
        told = (address, types.int64, address, address, address, number, number, number, number, address)
        return types.uint64(*told), generate

    return _intrinsic(typed)


def _typed_load(kind: Any, loaded: Any, returned: Any, extend: Callable[[Any, Any], Any]) -> Any:
    def typed(typing: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return extend(builder, builder.load(_at(builder, args[0], kind, args[1]), align=loaded))

        return returned(types.int64, types.int64), generate

    return _intrinsic(typed)


byte_at: Callable[[int, int], int] = _typed_load(_BYTE, 1, types.int64, lambda b, value: b.zext(value, _INT64))
int32_at: Callable[[int, int], int] = _typed_load(_INT32, 4, types.int64, lambda b, value: b.sext(value, _INT64))
float_at: Callable[[int, int], np.float32] = _typed_load(_FLOAT, 4, types.float32, lambda b, value: value)


def _store_float(typing: Any, address: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _at(builder, args[0], _FLOAT, args[1]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


_put_float: Callable[[int, int, np.float32], None] = _intrinsic(_store_float)


def _block_bits(typing: Any, rows: Any, mask: Any) -> Any:
    """block_bits(rows, mask) -> uint64: for each of 32 row numbers at an address, its bit of the mask at another."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers_of_half = ir.VectorType(_INT32, HALF)
        word = _INT32.as_pointer()
        words = ir.VectorType(word, HALF)
        kind = ir.FunctionType(numbers_of_half, [words, _INT32, ir.VectorType(ir.IntType(1), HALF), numbers_of_half])
        gather = _emit.get_or_insert_function(builder.module, kind, f"llvm.masked.gather.v{HALF}i32.v{HALF}p0")
        base = builder.inttoptr(args[1], word)
        bits = ir.Constant(_INT64, 0)
        for half in range(2):
            numbers = builder.load(_at(builder, args[0], numbers_of_half, ir.Constant(_INT64, half)), align=4)
            places = builder.gep(base, [builder.lshr(numbers, _filled(numbers_of_half, 5))], source_etype=_INT32)
            places.type = words
            every = ir.Constant(ir.VectorType(ir.IntType(1), HALF), [1] * HALF)
            found = builder.call(gather, [places, ir.Constant(_INT32, 4), every, ir.Constant(numbers_of_half, None)])
            shifted = builder.lshr(found, builder.and_(numbers, _filled(numbers_of_half, 31)))
            flags = builder.trunc(shifted, ir.VectorType(ir.IntType(1), HALF))
            of_half = builder.zext(builder.bitcast(flags, _INT16), _INT64)
            bits = builder.or_(bits, builder.shl(of_half, ir.Constant(_INT64, half * HALF)))
        return bits

    return types.uint64(types.int64, types.int64), generate


block_bits: Callable[[int, int], np.uint64] = _intrinsic(_block_bits)


@compiled_as_written
def plain_block_scores(
    record: int,
    n_columns: int,
    tables: int,
    terms: int,
    base: np.float32,
    scale: np.float32,
    limit: np.float32,
    scores: int,
) -> np.uint64:
    """Write 32 scores to ``scores``; bit s of what is returned says that the score of slot s is not below ``limit``.

    All but base, scale and limit are addresses and a number of columns. Padding columns need tables too.
    """
    passing = np.uint64(0)
    for slot in range(BLOCK_ROWS):
        fixed = base + float_at(terms, slot)
        passing |= _plain_score(record, n_columns, tables, slot, fixed, scale, limit, scores)
    return passing


@compiled_as_written
def plain_fused_block_scores(
    record: int,
    n_columns: int,
    tables: int,
    terms: int,
    features: int,
    weight: np.float32,
    base: np.float32,
    scale: np.float32,
    limit: np.float32,
    scores: int,
) -> np.uint64:
    """As ``plain_block_scores``, with ``weight`` times the feature of each slot; ``features``: the address of 32."""
    passing = np.uint64(0)
    for slot in range(BLOCK_ROWS):
        fixed = (base + float_at(terms, slot)) + weight * float_at(features, slot)
        passing |= _plain_score(record, n_columns, tables, slot, fixed, scale, limit, scores)
    return passing


@compiled_as_written
def _plain_score(
    record: int,
    n_columns: int,
    tables: int,
    slot: int,
    fixed: np.float32,
    scale: np.float32,
    limit: np.float32,
    scores: int,
) -> np.uint64:
    """Write the score of a slot; its bit where that is not below the limit."""
    place = 2 * slot if slot < HALF else 2 * (slot - HALF) + 1
    total = 0
    for column in range(n_columns):
        code = byte_at(record, column * BLOCK_ROWS + place)
        table = tables + (column >> 1) * TABLE_BYTES + (column & 1) * BLOCK_ROWS
        total += byte_at(table, code & 15) + byte_at(table + _BYTES_OF_PAIR, code >> 4)
    score = fixed + scale * np.float32(total)
    _put_float(scores, slot, score)
    return np.uint64(1) << np.uint64(slot) if score >= limit else np.uint64(0)


def _machine_features() -> frozenset[str]:
    """What the compiler may use: this machine's, or what numba's settings say instead."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    if _config.CPU_FEATURES is not None:
        told = str(_config.CPU_FEATURES).split(",")
        return frozenset(one[1:] for one in told if one.startswith("+"))
    if _config.CPU_NAME not in (None, "host"):
        return frozenset()
    try:
        return frozenset(name for name, has in binding.get_host_cpu_features().items() if has)
    except RuntimeError:
        return frozenset()


def _best_form() -> tuple[str, Any, Any]:
    features = _machine_features()
    if "avx512bw" in features:
        return "avx512", _shuffled(_shuffle_512), _fused_shuffled(_shuffle_512)
    if "avx2" in features:
        return "avx2", _shuffled(_shuffle_256), _fused_shuffled(_shuffle_256)
    return "plain", plain_block_scores, plain_fused_block_scores


FORM, block_scores, fused_block_scores = _best_form()
