"""Comparisons of 64 numbers at once to a word of bits, as vector instructions of whatever CPU compiles them.

LLVM has vectors of any width and splits them as the CPU needs, so one form serves AVX-512, AVX2 and NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_LANES = 8
_INT8, _INT32, _INT64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_DOUBLE = ir.DoubleType()
_intrinsic: Any = intrinsic


def _lanes(builder: Any, address: Any, index: Any, element: ir.Type) -> Any:
    """Lanes [index * 8, index * 8 + 8) of the array at an address, which is aligned to its elements alone."""
    vector = ir.VectorType(element, _LANES)
    place = builder.gep(builder.inttoptr(address, vector.as_pointer()), [index], source_etype=vector)
    loaded = builder.load(place)
    loaded.align = 8
    return loaded


def _spread(builder: Any, value: Any) -> Any:
    """The value in every lane."""
    nothing = ir.Constant(ir.VectorType(value.type, _LANES), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_INT32, _LANES), [0] * _LANES))


def _word_of(builder: Any, word: Any, flags_of: Callable[[Any], Any]) -> Any:
    """The flags of eight vectors, from vector ``8 * word`` on, as 64 bits."""
    first = builder.shl(word, ir.Constant(_INT64, 3))
    bits = ir.Constant(_INT64, 0)
    for step in range(8):
        flags = flags_of(builder.add(first, ir.Constant(_INT64, step)))
        byte = builder.zext(builder.bitcast(flags, _INT8), _INT64)
        bits = builder.or_(bits, builder.shl(byte, ir.Constant(_INT64, 8 * step)))
    return bits


def _ints_between(typing: Any, address: Any, word: Any, low: Any, span: Any) -> Any:
    """ints_between(address, word, low, span) -> uint64: which of int64 [64 * word, ...] are in [low, low + span]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lows, spans = _spread(builder, args[2]), _spread(builder, args[3])

        def flags_of(index: Any) -> Any:
            # What lies below wraps round to far above: one unsigned comparison tells both ends.
            return builder.icmp_unsigned("<=", builder.sub(_lanes(builder, args[0], index, _INT64), lows), spans)

        return _word_of(builder, args[1], flags_of)

    return types.uint64(types.int64, types.int64, types.int64, types.int64), generate


def _floats_between(typing: Any, address: Any, word: Any, low: Any, high: Any) -> Any:
    """floats_between(address, word, low, high) -> uint64: which of float64 [64 * word, ...] are in [low, high].

    The bounds are told by their bits, as int64.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lows, highs = (_spread(builder, builder.bitcast(bits, _DOUBLE)) for bits in args[2:])

        def flags_of(index: Any) -> Any:
            numbers = _lanes(builder, args[0], index, _DOUBLE)
            return builder.and_(builder.fcmp_ordered(">=", numbers, lows), builder.fcmp_ordered("<=", numbers, highs))

        return _word_of(builder, args[1], flags_of)

    return types.uint64(types.int64, types.int64, types.int64, types.int64), generate


def _loader(element: ir.Type, kind: Any) -> Callable[[Any, Any, Any], Any]:
    def load(typing: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], element.as_pointer())
            loaded = builder.load(builder.gep(pointer, [args[1]], source_etype=element))
            loaded.align = 1
            return loaded

        return kind(types.int64, types.int64), generate

    return load


def _store_word(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """store_word(address, index, value): word ``index`` of the mask at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _INT64.as_pointer())
        stored = builder.store(args[2], builder.gep(pointer, [args[1]], source_etype=_INT64))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint64), generate


ints_between: Callable[[int, int, int, int], int] = _intrinsic(_ints_between)
floats_between: Callable[[int, int, int, int], int] = _intrinsic(_floats_between)
load_int64: Callable[[int, int], int] = _intrinsic(_loader(_INT64, types.int64))
load_float64: Callable[[int, int], float] = _intrinsic(_loader(_DOUBLE, types.float64))
store_word: Callable[[int, int, Any], None] = _intrinsic(_store_word)
