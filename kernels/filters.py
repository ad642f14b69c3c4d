"""What a filter asks of rows, as arrays: the vocabulary that every implementation of ``filter_rows`` reads.

All arrays of one test cover the same n rows from its first on. Masks are packed bits, least significant first; values
of rows without a value are there and mean nothing. Knows no attributes and no ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.arrays import Int64Array, Uint8Array

Float64Array: TypeAlias = npt.NDArray[np.float64]
Uint64Array: TypeAlias = npt.NDArray[np.uint64]


@dataclass(slots=True, eq=False)
class HasBit:
    """Rows whose bit is set."""

    mask: Uint8Array


@dataclass(slots=True, eq=False)
class IntBetween:
    """Rows with a value in [low, high], which is not empty."""

    values: Int64Array
    present: Uint8Array
    low: int
    high: int


@dataclass(slots=True, eq=False)
class FloatBetween:
    """Rows with a value in [low, high]; a NaN bound admits none."""

    values: Float64Array
    present: Uint8Array
    low: float
    high: float


@dataclass(slots=True, eq=False)
class IntSet:
    """``members``: int64, ascending, without repeats, at least one. ``prepared``: what an implementation made of them.

    Made once for a filter and kept with it, so that the look-up table is built once too.
    """

    members: Int64Array
    prepared: Any = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class IntAmong:
    """Rows with a value that is a member."""

    values: Int64Array
    present: Uint8Array
    members: IntSet


@dataclass(slots=True, eq=False)
class Near:
    """Rows whose point lies within a distance of ``center``, told as its square."""

    axes: tuple[Float64Array, Float64Array, Float64Array]
    present: Uint8Array
    center: tuple[float, float, float]
    square: float


@dataclass(slots=True, eq=False)
class Inverse:
    """Rows that fail the test."""

    of: RowTest


@dataclass(slots=True, eq=False)
class AtLeast:
    """Rows that pass ``minimum`` of the children, 1 <= minimum <= their number."""

    minimum: int
    children: Sequence[RowTest]


RowTest: TypeAlias = HasBit | IntBetween | FloatBetween | IntAmong | Near | Inverse | AtLeast
