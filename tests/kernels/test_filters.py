from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from kernels import cpu_filters, reference_filters
from kernels._cpu_threads import all_threads
from kernels.arrays import Uint8Array
from kernels.filters import AtLeast, FloatBetween, HasBit, IntAmong, IntBetween, IntSet, Inverse, Near, RowTest

INTS = [-(2**63), -(2**63) + 1, -7, -1, 0, 1, 2, 3, 2**40, 2**63 - 2, 2**63 - 1]
FLOATS = [-np.inf, -1e300, -1.0, -0.0, 0.0, 1e-300, 1.0, np.inf]
BITS = st.sampled_from([0, 1, 2, 3])


class World:
    """Columns of n rows, drawn from a few values so that every bound is met."""

    def __init__(self, n_rows: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.n_rows = n_rows
        self.ints = rng.choice(np.array(INTS, np.int64), n_rows)
        self.floats = rng.choice(np.array(FLOATS), n_rows)
        self.axes = tuple(rng.integers(-2, 3, n_rows).astype(np.float64) for _ in range(3))
        self.masks = [self.packed(rng.random(n_rows) < share) for share in (0.0, 0.1, 0.9, 1.0)]

    @staticmethod
    def packed(flags: np.ndarray) -> Uint8Array:
        padded = np.zeros(-(-len(flags) // 64) * 64, np.bool_)
        padded[: len(flags)] = flags
        return np.packbits(padded, bitorder="little")


def leaf(world: World, kind: int, mask: int, numbers: tuple[int, int], many: list[int]) -> RowTest:
    present = world.masks[mask]
    low, high = sorted(numbers)
    match kind:
        case 0:
            return HasBit(present)
        case 1:
            return IntBetween(world.ints, present, INTS[low], INTS[high])
        case 2:
            bounds = (FLOATS[numbers[0] % 8], FLOATS[numbers[1] % 8])
            return FloatBetween(world.floats, present, *(bounds if low else (np.nan, 0.0)))
        case 3:
            return IntAmong(world.ints, present, IntSet(np.unique(np.array([INTS[low], INTS[high]], np.int64))))
        case 4:
            return IntAmong(world.ints, present, IntSet(np.unique(np.array([*range(-20, 20), *many], np.int64))))
        case 5:
            return IntAmong(world.ints, present, IntSet(np.unique(np.array([*INTS, *range(60, 90), *many], np.int64))))
        case _:
            return Near(world.axes, present, (0.0, 1.0, -1.0), float(low))


LEAVES = st.tuples(
    st.integers(0, 6), BITS, st.tuples(st.integers(0, 10), st.integers(0, 10)), st.lists(st.integers(-99, 99))
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner), st.tuples(st.integers(1, 5), st.lists(inner, min_size=1, max_size=5))
    ),
    max_leaves=8,
)


def built(world: World, drawn: object) -> RowTest:
    match drawn:
        case ("not", inner):
            return Inverse(built(world, inner))
        case (int(minimum), list(children)):
            tests = tuple(built(world, child) for child in children)
            return AtLeast(min(minimum, len(tests)), tests)
    return leaf(world, *drawn)


@given(
    st.one_of(st.integers(1, 9000), st.integers(32_000, 70_000)),
    st.integers(0, 99),
    st.lists(TREES, min_size=1, max_size=3),
    st.sampled_from([nullcontext, all_threads]),
)
def test_filters_on_the_cpu_equal_the_reference(n_rows: int, seed: int, drawn: list[object], spread: object) -> None:
    world = World(n_rows, seed)
    tests = [built(world, one) for one in drawn]
    with spread():
        found = cpu_filters.filter_rows(tests, n_rows=n_rows)
    for one, expected in zip(found, reference_filters.filter_rows(tests, n_rows=n_rows), strict=True):
        np.testing.assert_array_equal(one, expected)


def test_a_filter_over_no_rows_has_an_empty_mask() -> None:
    (mask,) = cpu_filters.filter_rows([HasBit(np.zeros(0, np.uint8))], n_rows=0)
    assert mask.size == 0


@given(st.lists(st.integers(0, 639)), st.integers(0, 99))
def test_setting_clearing_and_taking_bits_equal_the_reference(chosen: list[int], seed: int) -> None:
    rows = np.array(chosen, np.int64)
    mask = np.random.default_rng(seed).integers(0, 256, 80).astype(np.uint8)
    np.testing.assert_array_equal(cpu_filters.take_rows(mask, rows), reference_filters.take_rows(mask, rows))
    for name in ("set_rows", "clear_rows"):
        ours, expected = mask.copy(), mask.copy()
        assert getattr(cpu_filters, name)(ours, rows) == getattr(reference_filters, name)(expected, rows)
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(cpu_filters.segment_counts(mask), reference_filters.segment_counts(mask))
    ours, count = cpu_filters.intersection(mask, mask[::-1].copy())
    expected, n = reference_filters.intersection(mask, mask[::-1].copy())
    np.testing.assert_array_equal(ours, expected)
    assert count == n


@given(st.lists(st.integers(0, 700)), st.sampled_from([0, 64]), st.integers(0, 640))
def test_a_mask_of_rows_has_those_that_lie_in_it_and_equals_the_reference(
    chosen: list[int], first_row: int, n_rows: int
) -> None:
    rows = np.array(chosen, np.int64)
    found = cpu_filters.mask_of_rows(rows, first_row=first_row, n_rows=n_rows)
    np.testing.assert_array_equal(found, reference_filters.mask_of_rows(rows, first_row=first_row, n_rows=n_rows))


@pytest.mark.parametrize("share", [0.0001, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("n_rows", [1000, 65_536, 300_000])
def test_compressed_bitmaps_unpack_to_their_rows(share: float, runs: bool, n_rows: int) -> None:
    rows = np.flatnonzero(np.random.default_rng(5).random(n_rows) < share)
    rows = rows[(rows % 7919) < 4000] if runs else rows
    bitmap = BitMap(rows.astype(np.uint32))
    if runs:
        bitmap.run_optimize()
    mask = np.zeros(-(-n_rows // 64) * 8, np.uint8)
    cpu_filters.unpack_roaring(bitmap.serialize(), mask)
    assert np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist() == rows.tolist()
