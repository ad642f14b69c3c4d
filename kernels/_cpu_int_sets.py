"""Sets of ints in the form in which rows are looked up fastest: compared, in bits over their span, or hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kernels._cpu_jit import compiled, word
from kernels._cpu_vectors import ints_between, load_int64
from kernels.arrays import Int64Array
from kernels.filters import IntSet

_COMPARED = 16
_SPAN = 1 << 21
"""Bits of a table that stays in the second-level cache."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """``few``: the members, ``size`` of them. ``span``: bits from ``first`` on, up to ``size`` beyond it.

    ``many``: a hash table of 2**(64 - size) places; those without a member hold ``first``, the first of all members,
    which so is found and ends every search.
    """

    kind: Literal["few", "span", "many"]
    table: npt.NDArray[Any]
    size: int
    first: int


def prepare(members: IntSet) -> Form:
    if not isinstance(members.prepared, Form):
        members.prepared = _form(members.members)
    return members.prepared


def _form(members: Int64Array) -> Form:
    first, span = int(members[0]), int(members[-1]) - int(members[0])
    if len(members) <= _COMPARED:
        return Form("few", members, len(members), first)
    if span < _SPAN:
        flags = np.zeros(-(-(span + 1) // 64) * 64, np.bool_)
        flags[members - first] = True
        return Form("span", np.packbits(flags, bitorder="little"), span, first)
    n_bits = (2 * len(members)).bit_length()
    table = np.full(1 << n_bits, first, np.int64)
    _fill(table, np.uint64(64 - n_bits), members)
    return Form("many", table, 64 - n_bits, first)


@compiled
def _fill(table: Int64Array, shift: np.uint64, members: Int64Array) -> None:
    last = len(table) - 1
    for place in range(1, len(members)):
        slot = np.int64((np.uint64(members[place]) * _GOLDEN) >> shift)
        while table[slot] != members[0]:
            slot = (slot + 1) & last
        table[slot] = members[place]


@compiled
def among_few(values: int, w: int, members: int, count: int) -> np.uint64:
    """Which of the 64 values of word ``w`` are among ``count`` members at an address."""
    bits = np.uint64(0)
    for place in range(count):
        bits |= ints_between(values, w, load_int64(members, place), 0)
    return bits


@compiled
def among_span(values: int, w: int, table: int, span: int, first: int) -> np.uint64:
    """Which of the 64 values of word ``w`` have their bit set in the table."""
    bits = np.uint64(0)
    for place in range(64):
        offset = np.uint64(load_int64(values, 64 * w + place) - first)
        if offset <= np.uint64(span):
            bits |= ((word(table, np.int64(offset >> np.uint64(6))) >> (offset & np.uint64(63))) & np.uint64(1)) << (
                np.uint64(place)
            )
    return bits


@compiled
def among_many(values: int, w: int, table: int, shift: int, first: int) -> np.uint64:
    """Which of the 64 values of word ``w`` are in the hash table."""
    bits = np.uint64(0)
    last = (1 << (64 - shift)) - 1
    for place in range(64):
        value = load_int64(values, 64 * w + place)
        slot = np.int64((np.uint64(value) * _GOLDEN) >> np.uint64(shift))
        found = load_int64(table, slot)
        while found != value and found != first:
            slot = (slot + 1) & last
            found = load_int64(table, slot)
        bits |= np.uint64(found == value) << np.uint64(place)
    return bits
