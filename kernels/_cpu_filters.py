"""Filters over tiles of rows: every condition of a tile is tested while its bits stay in the first-level cache.

A tile is 65,536 rows. Where no row of a tile, or of 256 rows, can change any more, its columns are not read.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels import _cpu_filter_code as op
from kernels._cpu_int_sets import among_few, among_many, among_span
from kernels._cpu_jit import compiled, compiled_parallel, inlined, int64, prefetch, word
from kernels._cpu_masks import clip
from kernels._cpu_vectors import floats_between, ints_between, load_float64, store_word
from kernels.arrays import Int64Array, Uint8Array
from kernels.filters import Uint64Array

TILE_WORDS = 1024
_HEAD = 1024
"""Of a column's values in the next tile, so many are fetched ahead; the CPU fetches the rest by itself once begun."""
_GROUP = 4
"""Words whose columns are read or passed over together: where few words are not wanted, to foresee them fails."""
_WIDTH = op.WIDTH
_NONE = np.uint64(0)
_ALL = ~np.uint64(0)
_BIT, _INT_BETWEEN, _FLOAT_BETWEEN = op.BIT, op.INT_BETWEEN, op.FLOAT_BETWEEN
_AMONG_FEW, _AMONG_SPAN, _NEAR = op.AMONG_FEW, op.AMONG_SPAN, op.NEAR
_AND, _INVERT, _SKIP_IF_NONE, _SKIP_IF_ALL, _STORE = op.AND, op.INVERT, op.SKIP_IF_NONE, op.SKIP_IF_ALL, op.STORE
_ZEROS, _TALLY, _ENOUGH = op.ZEROS, op.TALLY, op.ENOUGH
_PUSH, _MEET, _JOIN = op.PUSH, op.MEET, op.JOIN


def scratch_bytes(depth: int) -> int:
    """What one thread works in: a stack of so many tiles and one to spare; one of few sizes, to be used again."""
    return -(-(depth + 1) // 8) * 8 * TILE_WORDS * 8


@compiled
def run_serial(code: Int64Array, scratch: Uint8Array, n_rows: int) -> None:
    """Run instructions [n * WIDTH] over all rows; ``scratch`` is overwritten."""
    _run_words(code, scratch, 0, (n_rows + 63) >> 6, n_rows)


@compiled_parallel
def run_parallel(code: Int64Array, scratch: Uint8Array, n_rows: int, n_parts: int) -> None:
    """As ``run_serial``, in parts of whole tiles; each has its own part of ``scratch``."""
    n_words = (n_rows + 63) >> 6
    n_tiles = (n_words + TILE_WORDS - 1) // TILE_WORDS
    size = len(scratch) // n_parts
    for part in numba.prange(n_parts):
        first = int64(part) * n_tiles // n_parts * TILE_WORDS
        end = (int64(part) + 1) * n_tiles // n_parts * TILE_WORDS
        own = scratch[int64(part) * size : (int64(part) + 1) * size]
        _run_words(code, own, first, min(end, n_words), n_rows)


@compiled
def _run_words(numbers: Int64Array, scratch: Uint8Array, first_word: int, end_word: int, n_rows: int) -> None:
    code = numbers.reshape(-1, _WIDTH)
    stack = scratch.view(np.uint64).reshape(-1, TILE_WORDS)
    for first in range(first_word, end_word, TILE_WORDS):
        _run_tile(code, stack, first, min(TILE_WORDS, end_word - first), n_rows)


@compiled
def _run_tile(code: Int64Array, stack: Uint64Array, first: int, n: int, n_rows: int) -> None:
    top, at = -1, 0
    while at < len(code):
        operation = code[at, 0]
        if operation <= _NEAR:
            if code[at, 1] == _PUSH:
                top += 1
            _test_leaf(code[at], stack[top], first, n)
        elif operation == _SKIP_IF_NONE:
            at = code[at, 3] - 1 if _is_all(stack[top], n, _NONE) else at
        elif operation == _SKIP_IF_ALL:
            at = code[at, 3] - 1 if _is_all(stack[top], n, _ALL) else at
        elif operation == _STORE:
            _store_tile(code[at, 3], stack[top], first, n, n_rows)
            top -= 1
        else:
            top = _combine(operation, code[at, 3], code[at, 4], stack, top, n)
        at += 1


@compiled
def _store_tile(mask: int, tile: Uint64Array, first: int, n: int, n_rows: int) -> None:
    for w in range(n - 1):
        store_word(mask, first + w, tile[w])
    store_word(mask, first + n - 1, clip(tile[n - 1], first + n - 1, 0, n_rows))


@compiled
def _combine(operation: int, digits: int, minimum: int, stack: Uint64Array, top: int, n: int) -> int:
    """What needs no column; returns the new top of the stack."""
    if operation == _ZEROS:
        stack[top + 1 : top + 1 + digits, :n] = _NONE
        return top + digits
    if operation == _TALLY:
        _add_up(stack, top, digits, n)
        return top - 1
    if operation == _ENOUGH:
        _compare_counts(stack, top - digits + 1, digits, minimum, n)
        return top - digits + 1
    if operation == _INVERT:
        for w in range(n):
            stack[top, w] = ~stack[top, w]
        return top
    for w in range(n):
        one, other = stack[top - 1, w], stack[top, w]
        stack[top - 1, w] = one & other if operation == _AND else one | other
    return top - 1


@inlined
def _wanted(mode: int, before: np.uint64) -> np.uint64:
    """The rows of a word on which a leaf still has a say."""
    return _ALL if mode == _PUSH else before if mode == _MEET else ~before


@inlined
def _met(mode: int, before: np.uint64, found: np.uint64) -> np.uint64:
    return found if mode == _PUSH else before & found if mode == _MEET else before | found


@compiled
def _is_all(tile: Uint64Array, n: int, sought: np.uint64) -> bool:
    differing = _NONE
    for w in range(n):
        differing |= tile[w] ^ sought
    return bool(differing == _NONE)


@compiled
def _add_up(stack: Uint64Array, top: int, digits: int, n: int) -> None:
    """Add the tile on top to the counts beneath it, least significant digit first."""
    for w in range(n):
        carry = stack[top, w]
        for digit in range(top - digits, top):
            kept = stack[digit, w]
            stack[digit, w] = kept ^ carry
            carry &= kept


@compiled
def _compare_counts(stack: Uint64Array, lowest: int, digits: int, minimum: int, n: int) -> None:
    """The lowest tile of the counts becomes: at least ``minimum``."""
    for w in range(n):
        above, same = np.uint64(0), ~np.uint64(0)
        for digit in range(digits - 1, -1, -1):
            ones = stack[lowest + digit, w]
            if (minimum >> digit) & 1:
                same &= ones
            else:
                above |= same & ones
                same &= ~ones
        stack[lowest, w] = above | same


@compiled
def _test_leaf(op_row: Int64Array, tile: Uint64Array, first: int, n: int) -> None:
    """Let a leaf's bits meet those of the tile; columns are read where it has a say."""
    operation, mode, flip = op_row[0], op_row[1], np.uint64(op_row[2])
    if operation == _BIT:
        _fetch_words(op_row[3], first + n, n)
        for w in range(n):
            tile[w] = _met(mode, tile[w], word(op_row[3], first + w) ^ flip)
    elif operation == _INT_BETWEEN:
        _test_ints(op_row, tile, first, n)
    elif operation == _FLOAT_BETWEEN:
        _test_floats(op_row, tile, first, n)
    elif operation == _NEAR:
        for w in range(n):
            if _wanted(mode, tile[w]) != _NONE:
                bits = _near(op_row[3], op_row[4], op_row[5], op_row[7], first + w) & word(op_row[6], first + w)
                tile[w] = _met(mode, tile[w], bits ^ flip)
    else:
        _test_among(op_row, tile, first, n)


@compiled
def _test_ints(op_row: Int64Array, tile: Uint64Array, first: int, n: int) -> None:
    mode, flip, values, present = op_row[1], np.uint64(op_row[2]), op_row[3], op_row[4]
    _fetch_words(present, first + n, n)
    for start in range(0, n, _GROUP):
        end = min(start + _GROUP, n)
        if _any_wanted(mode, tile, start, end):
            for w in range(start, end):
                bits = ints_between(values, first + w, op_row[5], op_row[6]) & word(present, first + w)
                tile[w] = _met(mode, tile[w], bits ^ flip)
    _fetch_words(values, (first + n) << 6, _HEAD)


@compiled
def _test_floats(op_row: Int64Array, tile: Uint64Array, first: int, n: int) -> None:
    mode, flip, values, present = op_row[1], np.uint64(op_row[2]), op_row[3], op_row[4]
    _fetch_words(present, first + n, n)
    for start in range(0, n, _GROUP):
        end = min(start + _GROUP, n)
        if _any_wanted(mode, tile, start, end):
            for w in range(start, end):
                bits = floats_between(values, first + w, op_row[5], op_row[6]) & word(present, first + w)
                tile[w] = _met(mode, tile[w], bits ^ flip)
    _fetch_words(values, (first + n) << 6, _HEAD)


@inlined
def _any_wanted(mode: int, tile: Uint64Array, start: int, end: int) -> bool:
    found = _NONE
    for w in range(start, end):
        found |= _wanted(mode, tile[w])
    return bool(found != _NONE)


@inlined
def _fetch_words(address: int, first: int, n: int) -> None:
    """Have eight-byte words of the next tile fetched while others are worked on, lest that tile begin with a wait."""
    for w in range(first, first + n, 8):
        prefetch(address + 8 * w)


@compiled
def _test_among(op_row: Int64Array, tile: Uint64Array, first: int, n: int) -> None:
    mode, flip = op_row[1], np.uint64(op_row[2])
    values, present, table, size, lowest = op_row[3], op_row[4], op_row[5], op_row[6], op_row[7]
    for w in range(n):
        if _wanted(mode, tile[w]) == _NONE:
            continue
        if op_row[0] == _AMONG_FEW:
            bits = among_few(values, first + w, table, size)
        elif op_row[0] == _AMONG_SPAN:
            bits = among_span(values, first + w, table, size, lowest)
        else:
            bits = among_many(values, first + w, table, size, lowest, op_row[8])
        tile[w] = _met(mode, tile[w], (bits & word(present, first + w)) ^ flip)


@compiled
def _near(xs: int, ys: int, zs: int, target: int, w: int) -> np.uint64:
    """Which of the 64 points of word ``w`` lie near: ``target`` has three coordinates and the greatest square."""
    bits = np.uint64(0)
    for place in range(64):
        row = 64 * w + place
        x = load_float64(xs, row) - load_float64(target, 0)
        y = load_float64(ys, row) - load_float64(target, 1)
        z = load_float64(zs, row) - load_float64(target, 2)
        bits |= np.uint64(x * x + y * y + z * z <= load_float64(target, 3)) << np.uint64(place)
    return bits
