"""Sets of ints in the form in which rows are looked up fastest: compared, in bits over their span, or hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kernels._cpu_jit import compiled, int64, lowest_one, word
from kernels._cpu_vectors import ints_between, load_int64
from kernels.arrays import Int64Array, Uint8Array
from kernels.filters import IntSet

_COMPARED = 16
_SPAN = 1 << 21
"""Bits of a table that stays in the second-level cache."""

_NO_SIEVE = np.zeros(0, np.uint8)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """``few``: the members, ``size`` of them. ``span``: bits from ``first`` on, up to ``size`` beyond it.

    ``many``: a hash table of 2**(64 - size) places; those without a member hold ``first``, the first of all members,
    which so is found and ends every search. ``sieve``: one bit for each of eight times as many places, which at most
    one in 16 ints outside the set passes.
    """

    kind: Literal["few", "span", "many"]
    table: npt.NDArray[Any]
    size: int
    first: int
    sieve: Uint8Array


def prepare(members: IntSet) -> Form:
    if not isinstance(members.prepared, Form):
        members.prepared = _form(members.members)
    return members.prepared


def _form(members: Int64Array) -> Form:
    first, span = int(members[0]), int(members[-1]) - int(members[0])
    if len(members) <= _COMPARED:
        return Form("few", members, len(members), first, _NO_SIEVE)
    if span < _SPAN:
        flags = np.zeros(-(-(span + 1) // 64) * 64, np.bool_)
        flags[members - first] = True
        return Form("span", np.packbits(flags, bitorder="little"), span, first, _NO_SIEVE)
    n_bits = (2 * len(members)).bit_length()
    table, sieve = np.full(1 << n_bits, first, np.int64), np.zeros(1 << n_bits, np.uint8)
    _fill(table, sieve, np.uint64(64 - n_bits), members)
    return Form("many", table, 64 - n_bits, first, sieve)


@compiled
def _fill(table: Int64Array, sieve: Uint8Array, shift: np.uint64, members: Int64Array) -> None:
    last = len(table) - 1
    for place in range(len(members)):
        fine = (np.uint64(members[place]) * _GOLDEN) >> (shift - np.uint64(3))
        sieve[fine >> np.uint64(3)] |= np.uint8(1 << (fine & np.uint64(7)))
        slot = int64(fine >> np.uint64(3))
        if members[place] == members[0]:
            continue
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
            bits |= ((word(table, int64(offset >> np.uint64(6))) >> (offset & np.uint64(63))) & np.uint64(1)) << (
                np.uint64(place)
            )
    return bits


@compiled
def among_many(values: int, w: int, table: int, shift: int, first: int, sieve: int) -> np.uint64:
    """Which of the 64 values of word ``w`` are in the hash table; few others pass the sieve, without a branch."""
    passed = np.uint64(0)
    for place in range(64):
        fine = (np.uint64(load_int64(values, 64 * w + place)) * _GOLDEN) >> np.uint64(shift - 3)
        bit = (word(sieve, int64(fine >> np.uint64(6))) >> (fine & np.uint64(63))) & np.uint64(1)
        passed |= bit << np.uint64(place)
    bits, last = np.uint64(0), (1 << (64 - shift)) - 1
    while passed != 0:
        place = lowest_one(passed)
        passed &= passed - np.uint64(1)
        value = load_int64(values, 64 * w + place)
        slot = int64((np.uint64(value) * _GOLDEN) >> np.uint64(shift))
        found = load_int64(table, slot)
        while found != first:
            if found == value:
                break
            slot = (slot + 1) & last
            found = load_int64(table, slot)
        bits |= np.uint64(found == value) << np.uint64(place)
    return bits
