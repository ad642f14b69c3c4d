"""How the CPU kernels are compiled, and the few machine operations that numba lacks.

Compiled functions take raw addresses (int64) of vectors, because a version's segments are separate mappings. What lies
there is told by ``kind``, an array of any length whose dtype stands for the stored one: uint16 for float16, int16 for
bfloat16, float32 for itself. Nothing here checks an address: the wrappers in ``kernels.cpu`` do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

_REORDER = {"reassoc", "contract"}
"""Sums may be reordered and fused, so that loops vectorise; infinities and NaN keep their meaning: -inf is a score."""

_intrinsic: Any = intrinsic
_njit: Any = numba.njit
"""Untyped, for its option ``_nrt`` is numba's own: whether the references to arrays are counted.

Options that are not named are those of the function for which another is compiled first.
"""
_INT16, _INT32, _INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_FLOAT = ir.FloatType()


def compiled(function: Function) -> Function:
    """Machine code outside the GIL, kept on disk for the next start.

    It allocates nothing, and so counts no references: a count is a locked instruction whenever an array is looked up in
    a tuple, sliced or handed on, and threads that share the array wait for each other's.
    """
    return cast(Function, _njit(nogil=True, cache=True, fastmath=_REORDER, _nrt=False)(function))


def compiled_briefly(function: Function) -> Function:
    """As ``compiled``, but keeps the GIL: for what takes well less than a microsecond. Whoever gives it up beside a
    busy thread may wait hundreds of them until it is given back.
    """
    return cast(Function, _njit(nogil=False, cache=True, fastmath=_REORDER, _nrt=False)(function))


def compiled_allocating(function: Function) -> Function:
    """As ``compiled``, for what makes arrays: nothing but that, the work being done by a function it calls."""
    return cast(Function, _njit(nogil=True, cache=True, fastmath=_REORDER, _nrt=True)(function))


def compiled_as_written(function: Function) -> Function:
    """As ``compiled``, with every floating-point operation on its own and in its place, intrinsics' included."""
    return cast(Function, _njit(nogil=True, cache=True, fastmath=False, _nrt=False)(function))


def compiled_parallel_as_written(function: Function) -> Function:
    """``compiled_as_written``, with ``prange`` as in ``compiled_parallel``."""
    return cast(Function, _njit(nogil=True, cache=True, fastmath=False, parallel=True, _nrt=True)(function))


def inlined(function: Function) -> Function:
    """Part of its only caller: what is compiled apart is optimised again in each caller, and the callers' callers."""
    return cast(Function, _njit(nogil=True, fastmath=_REORDER, inline="always")(function))


def compiled_parallel(function: Function) -> Function:
    """As ``compiled``, with ``prange`` spread over numba's threads.

    Its index is unsigned and a literal 0 is of its own type: whoever passes either on as it is has the callee compiled
    once more, so both are made ``int64`` first.
    """
    return cast(Function, _njit(nogil=True, cache=True, fastmath=_REORDER, parallel=True, _nrt=True)(function))


def _widen(builder: Any, kind: Any, address: Any, index: Any) -> Any:
    if kind == types.float32:
        return builder.load(_element(builder, address, index, _FLOAT))
    bits = builder.load(_element(builder, address, index, _INT16))
    if kind == types.uint16:
        return builder.fpext(builder.bitcast(bits, ir.HalfType()), _FLOAT)
    return builder.bitcast(builder.shl(builder.zext(bits, _INT32), ir.Constant(_INT32, 16)), _FLOAT)


def _element(builder: Any, address: Any, index: Any, element: ir.Type) -> Any:
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index], source_etype=element)


def _load(typing: Any, kind: Any, address: Any, index: Any) -> Any:
    """load(kind, address, index) -> float32: element ``index`` of the stored vector at ``address``, widened."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _widen(builder, kind.dtype, args[1], args[2])

    return types.float32(kind, types.int64, types.int64), generate


def _store(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """store(address, index, value): float32 element ``index`` of the vector at ``address``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _element(builder, args[0], args[1], _FLOAT))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


def _word(typing: Any, address: Any, index: Any) -> Any:
    """word(address, index) -> uint64: 64 mask bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_element(builder, args[0], args[1], _INT64))

    return types.uint64(types.int64, types.int64), generate


def _store_word(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """store_word(address, index, value): 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _element(builder, args[0], args[1], _INT64))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint64), generate


def _count_ones(typing: Any, word: Any) -> Any:
    """count_ones(word) -> int64: how many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


def _lowest_one(typing: Any, word: Any) -> Any:
    """lowest_one(word) -> int64: the position of the least significant set bit of a word that has one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _bits_of_float(typing: Any, value: Any) -> Any:
    """bits_of_float(value) -> int64: a float32's bits, sign extended."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sext(builder.bitcast(args[0], _INT32), _INT64)

    return types.int64(types.float32), generate


def _float_of_bits(typing: Any, bits: Any) -> Any:
    """float_of_bits(bits) -> float32: of the low 32 bits of an int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.trunc(args[0], _INT32), _FLOAT)

    return types.float32(types.int64), generate


def _next_task(typing: Any, counter: Any) -> Any:
    """next_task(counter) -> int64: the int64 at address ``counter``, which becomes one more; no two threads get one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(_INT64, 1), "monotonic")

    return types.int64(types.int64), generate


def _prefetch(typing: Any, address: Any) -> Any:
    """prefetch(address): have the line at an address fetched into the second-level cache, from which more can be on
    their way at once than into the first; no fault where nothing lies there.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INT32, _INT32, _INT32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        to_read, to_second_level, of_data = (ir.Constant(_INT32, number) for number in (0, 2, 1))
        builder.call(function, [builder.inttoptr(args[0], pointer), to_read, to_second_level, of_data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


load: Callable[[Any, int, int], np.float32] = _intrinsic(_load)
store: Callable[[int, int, np.float32], None] = _intrinsic(_store)
word: Callable[[int, int], np.uint64] = _intrinsic(_word)
store_word: Callable[[int, int, Any], None] = _intrinsic(_store_word)
count_ones: Callable[[np.uint64], int] = _intrinsic(_count_ones)
lowest_one: Callable[[np.uint64], int] = _intrinsic(_lowest_one)
int64: Callable[[Any], int] = cast(Any, np.int64)
bits_of_float: Callable[[np.float32], int] = _intrinsic(_bits_of_float)
float_of_bits: Callable[[int], np.float32] = _intrinsic(_float_of_bits)
next_task: Callable[[int], int] = _intrinsic(_next_task)
prefetch: Callable[[int], None] = _intrinsic(_prefetch)
