"""Row tests to instructions for ``kernels._cpu_filters``: a machine of tiles of bits on a stack.

An instruction is WIDTH int64: its operation, how its result meets the tile on top, whether it is inverted, and up
to six operands. Floats are operands by their bits, arrays by their addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels._cpu_addresses import array_address
from kernels._cpu_int_sets import prepare
from kernels.arrays import Int64Array, Uint8Array
from kernels.filters import AtLeast, FloatBetween, HasBit, IntAmong, IntBetween, Inverse, Near, RowTest

BIT, INT_BETWEEN, FLOAT_BETWEEN, AMONG_FEW, AMONG_SPAN, AMONG_MANY, NEAR = range(7)
AND, OR, INVERT, SKIP_IF_NONE, SKIP_IF_ALL, ZEROS, TALLY, ENOUGH, STORE = range(7, 16)
PUSH, MEET, JOIN = range(3)
"""Of a leaf: its bits become the tile on top, or are ANDed or ORed into the one that is there."""

WIDTH = 9


@dataclass(slots=True)
class Code:
    """Instructions, how deep their stack is, what a row costs in bytes, and the arrays that they point into.

    ``mask_size`` and ``values_size``: how many bytes of a mask and values of a column are read, in whole words of rows.
    """

    mask_size: int
    values_size: int
    numbers: list[int] = field(default_factory=list)
    depth: int = 0
    bytes_a_row: float = 0.0
    kept: list[npt.NDArray[Any]] = field(default_factory=list)

    def emit(self, operation: int, first: int = 0, second: int = 0) -> int:
        """Append what is no leaf; returns where in ``numbers`` its first operand stands."""
        at = len(self.numbers) + 3
        self.numbers += (operation, PUSH, 0, first, second, 0, 0, 0, 0)
        return at

    def address(self, array: npt.NDArray[Any], size: int = 0) -> int:
        """Of an array that is kept alive; of a copy with zeros after it where it ends before ``size``."""
        if array.size < size or not array.flags.c_contiguous:
            whole = np.zeros(max(size, array.size), array.dtype)
            whole[: array.size] = array
            array = whole
        self.kept.append(array)
        return array_address(array)

    def array(self) -> Int64Array:
        """[n instructions * WIDTH]: NumPy reads a flat list in a third of the time."""
        return np.array(self.numbers, np.int64)


def assembled(tests: Sequence[RowTest], outs: Sequence[Uint8Array], n_rows: int) -> Code:
    """Code that writes the mask of each test to its place in ``outs``, which the caller keeps alive."""
    n_words = -(-n_rows // 64)
    code = Code(8 * n_words, 64 * n_words)
    for test, out in zip(tests, outs, strict=True):
        emit_test(code, test)
        code.emit(STORE, array_address(out))
    return code


def emit_test(code: Code, test: RowTest) -> None:
    """Instructions that leave the test's bits on an empty stack."""
    _test(code, test, 0, PUSH, False)


def _test(code: Code, test: RowTest, depth: int, mode: int, flip: bool) -> None:
    """``depth``: how many tiles lie on the stack so far."""
    if isinstance(test, Inverse):
        _test(code, test.of, depth, mode, not flip)
    elif isinstance(test, AtLeast):
        _combined(code, test, depth + (mode != PUSH), flip)
        if mode != PUSH:
            code.emit(AND if mode == MEET else OR)
    else:
        code.depth = max(code.depth, depth + 1)
        _LEAVES[type(test)](code, test, mode, -flip)


def _combined(code: Code, test: AtLeast, depth: int, flip: bool) -> None:
    n = len(test.children)
    if test.minimum == n:
        _chain(code, test.children, depth, MEET, SKIP_IF_NONE)
    elif test.minimum == 1:
        _chain(code, test.children, depth, JOIN, SKIP_IF_ALL)
    else:
        _tally(code, test, depth)
    if flip:
        code.emit(INVERT)


def _chain(code: Code, children: Sequence[RowTest], depth: int, mode: int, skip: int) -> None:
    """Children one after another into one tile; the rest is skipped once no row of it can change."""
    _test(code, children[0], depth, PUSH, False)
    skips = []
    for child in children[1:]:
        skips.append(code.emit(skip))
        _test(code, child, depth, mode, False)
    for place in skips:
        code.numbers[place] = len(code.numbers) // WIDTH


def _tally(code: Code, test: AtLeast, depth: int) -> None:
    """Counts in binary, one tile for each digit, so that a child is added to 64 counts by a few operations."""
    digits = len(test.children).bit_length()
    code.depth = max(code.depth, depth + digits + 1)
    code.emit(ZEROS, digits)
    for child in test.children:
        _test(code, child, depth + digits, PUSH, False)
        code.emit(TALLY, digits)
    code.emit(ENOUGH, digits, test.minimum)


# Leaves: each appends one instruction. ``flip`` is -1, all bits set, where the rest is to pass.


def _has_bit(code: Code, test: HasBit, mode: int, flip: int) -> None:
    code.numbers += (BIT, mode, flip, code.address(test.mask, code.mask_size), 0, 0, 0, 0, 0)
    code.bytes_a_row += 1 / 8


def _int_between(code: Code, test: IntBetween, mode: int, flip: int) -> None:
    values, present = code.address(test.values, code.values_size), code.address(test.present, code.mask_size)
    code.numbers += (INT_BETWEEN, mode, flip, values, present, test.low, _signed(test.high - test.low), 0, 0)
    code.bytes_a_row += 8


def _float_between(code: Code, test: FloatBetween, mode: int, flip: int) -> None:
    values, present = code.address(test.values, code.values_size), code.address(test.present, code.mask_size)
    low, high = np.array([test.low, test.high], np.float64).view(np.int64).tolist()
    code.numbers += (FLOAT_BETWEEN, mode, flip, values, present, low, high, 0, 0)
    code.bytes_a_row += 8


def _near(code: Code, test: Near, mode: int, flip: int) -> None:
    x, y, z = (code.address(axis, code.values_size) for axis in test.axes)
    target = code.address(np.array([*test.center, test.square], np.float64))
    code.numbers += (NEAR, mode, flip, x, y, z, code.address(test.present, code.mask_size), target, 0)
    code.bytes_a_row += 24


def _among(code: Code, test: IntAmong, mode: int, flip: int) -> None:
    values, present, form = (
        code.address(test.values, code.values_size),
        code.address(test.present, code.mask_size),
        prepare(test.members),
    )
    operation, cost = _AMONG[form.kind]
    table, sieve = code.address(form.table), code.address(form.sieve)
    code.numbers += (operation, mode, flip, values, present, table, form.size, form.first, sieve)
    code.bytes_a_row += cost


_LEAVES: dict[type, Callable[[Code, Any, int, int], None]] = {
    HasBit: _has_bit,
    IntBetween: _int_between,
    FloatBetween: _float_between,
    Near: _near,
    IntAmong: _among,
}
_AMONG = {"few": (AMONG_FEW, 12), "span": (AMONG_SPAN, 20), "many": (AMONG_MANY, 40)}
"""The operation of each form, and how many bytes are read in the time that it takes for a row."""


def _signed(number: int) -> int:
    """The int64 with the bits of this uint64."""
    return number - (1 << 64) if number >= 1 << 63 else number
