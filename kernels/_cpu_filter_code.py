"""Row tests to instructions for ``kernels._cpu_filters``: a machine of tiles of bits on a stack.

An instruction is a row of int64: its operation, how its result meets the tile on top, whether it is inverted, and up
to six operands. Floats are operands by their bits, arrays by their addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels._cpu_addresses import whole_words
from kernels._cpu_int_sets import prepare
from kernels.arrays import Int64Array, Uint8Array
from kernels.filters import AtLeast, FloatBetween, HasBit, IntAmong, IntBetween, Inverse, Near, RowTest

BIT, INT_BETWEEN, FLOAT_BETWEEN, AMONG_FEW, AMONG_SPAN, AMONG_MANY, NEAR = range(7)
AND, OR, INVERT, SKIP_IF_NONE, SKIP_IF_ALL, ZEROS, TALLY, ENOUGH, STORE = range(7, 16)
PUSH, MEET, JOIN = range(3)
"""Of a leaf: its bits become the tile on top, or are ANDed or ORed into the one that is there."""

WIDTH = 9
_BYTES_READ = {BIT: 1 / 8, INT_BETWEEN: 8, FLOAT_BETWEEN: 8, AMONG_FEW: 12, AMONG_SPAN: 20, AMONG_MANY: 40, NEAR: 24}
"""Of a leaf for a row, or as many as take the time that it takes."""


@dataclass(slots=True)
class Code:
    """Instructions, how deep their stack is, what a row costs in bytes, and the arrays that they point into."""

    n_rows: int
    rows: list[list[int]] = field(default_factory=list)
    depth: int = 0
    bytes_a_row: float = 0.0
    kept: list[npt.NDArray[Any]] = field(default_factory=list)

    def emit(self, operation: int, *operands: int, mode: int = PUSH, flip: bool = False) -> int:
        """Returns where the instruction stands."""
        row = [operation, mode, -int(flip), *operands]
        self.rows.append(row + [0] * (WIDTH - len(row)))
        self.bytes_a_row += _BYTES_READ.get(operation, 0)
        return len(self.rows) - 1

    def address(self, array: npt.NDArray[Any]) -> int:
        self.kept.append(array)
        return int(array.ctypes.data)

    def mask(self, mask: Uint8Array) -> int:
        return self.address(whole_words(mask, self.n_rows))

    def values(self, values: npt.NDArray[Any]) -> int:
        """Whole words of rows are read: an array that ends within one is copied."""
        n = -(-self.n_rows // 64) * 64
        if len(values) < n or not values.flags.c_contiguous:
            whole = np.zeros(n, values.dtype)
            whole[: min(len(values), n)] = values[:n]
            values = whole
        return self.address(values)

    def array(self) -> Int64Array:
        return np.array(self.rows, np.int64).reshape(-1, WIDTH)


def assembled(tests: Sequence[RowTest], outs: Sequence[Uint8Array], n_rows: int) -> Code:
    """Code that writes the mask of each test to its place in ``outs``."""
    code = Code(n_rows)
    for test, out in zip(tests, outs, strict=True):
        _test(code, test, 0, PUSH, False)
        code.emit(STORE, code.address(out))
    return code


def _test(code: Code, test: RowTest, depth: int, mode: int, flip: bool) -> None:
    """``depth``: how many tiles lie on the stack so far."""
    match test:
        case Inverse(of):
            _test(code, of, depth, mode, not flip)
        case AtLeast():
            _combined(code, test, depth + (mode != PUSH), flip)
            if mode != PUSH:
                code.emit(AND if mode == MEET else OR)
        case _:
            code.depth = max(code.depth, depth + 1)
            _leaf(code, test, mode, flip)


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
        code.rows[place][3] = len(code.rows)


def _tally(code: Code, test: AtLeast, depth: int) -> None:
    """Counts in binary, one tile for each digit, so that a child is added to 64 counts by a few operations."""
    digits = len(test.children).bit_length()
    code.depth = max(code.depth, depth + digits + 1)
    code.emit(ZEROS, digits)
    for child in test.children:
        _test(code, child, depth + digits, PUSH, False)
        code.emit(TALLY, digits)
    code.emit(ENOUGH, digits, test.minimum)


def _leaf(code: Code, test: RowTest, mode: int, flip: bool) -> None:
    match test:
        case HasBit(mask):
            code.emit(BIT, code.mask(mask), mode=mode, flip=flip)
        case IntBetween(values, present, low, high):
            operands = (code.values(values), code.mask(present), low, _signed(high - low))
            code.emit(INT_BETWEEN, *operands, mode=mode, flip=flip)
        case FloatBetween(values, present, low, high):
            bounds = np.array([low, high], np.float64).view(np.int64).tolist()
            code.emit(FLOAT_BETWEEN, code.values(values), code.mask(present), *bounds, mode=mode, flip=flip)
        case IntAmong():
            code.emit(*_among(code, test), mode=mode, flip=flip)
        case Near(axes, present, center, square):
            numbers = np.array([*center, square], np.float64)
            places = [code.values(axis) for axis in axes]
            code.emit(NEAR, *places, code.mask(present), code.address(numbers), mode=mode, flip=flip)
        case _:
            raise AssertionError(test)


def _among(code: Code, test: IntAmong) -> tuple[int, ...]:
    values, present = code.values(test.values), code.mask(test.present)
    operations = {"few": AMONG_FEW, "span": AMONG_SPAN, "many": AMONG_MANY}
    form = prepare(test.members)
    return (
        operations[form.kind],
        values,
        present,
        code.address(form.table),
        form.size,
        form.first,
        code.address(form.sieve),
    )


def _signed(number: int) -> int:
    """The int64 with the bits of this uint64."""
    return number - (1 << 64) if number >= 1 << 63 else number
