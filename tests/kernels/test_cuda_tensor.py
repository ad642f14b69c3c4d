"""Scans on tensor cores: what they leave out cannot be among the best, whatever the numbers; and the answers are equal.

On a device of threads a multiplication takes its operands from the lanes that PTX says they are in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import _cuda_exact, reference
from kernels._cuda_device import Device
from kernels._cuda_exact import by_keys, by_tiles
from kernels._cuda_rows import DeviceRows, padded
from kernels._cuda_scan import Scan
from kernels._cuda_tensor import build_for, least_keys, near_tiles, suits_tensors
from kernels.arrays import SEGMENT_ROWS, Float32Array, Metric, StoredArray, Uint8Array
from kernels.cuda import put_masks
from kernels.reference_exact import widen
from tests.kernels.cases import in_segments, pack, stored
from tests.kernels.host_device import COMPILER, HostDevice, compiled_folder, mutated

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")

UNIT_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


@pytest.fixture(scope="module")
def host() -> HostDevice:
    return HostDevice(compiled_folder(), many_threads=64)


class Searched:
    """Rows and queries of one scan. ``masks``: None where every row passes."""

    def __init__(
        self,
        device: Device,
        vectors: StoredArray,
        queries: Float32Array,
        masks: Sequence[Uint8Array | None],
        *,
        first_row: int = 0,
        end_row: int | None = None,
        metric: Metric = "dot",
    ) -> None:
        self.device, self.vectors, self.queries, self.masks = device, vectors, queries, masks
        self.first_row, self.end_row = first_row, len(vectors) if end_row is None else end_row
        room = min(len(vectors), SEGMENT_ROWS)
        rows = DeviceRows(device, dtype=vectors.dtype, dimension=vectors.shape[1], most_rows=room)
        rows.append(vectors)
        at, self._kept = put_masks(device, masks, end_row=self.end_row)
        asked = device.put(padded(queries, rows.width))
        self.scan = Scan(device, rows, asked, at, len(queries), first_row, self.end_row, metric)

    def equals_the_reference(self, k: int) -> None:
        keywords: dict[str, Any] = {"k": k, "metric": "dot", "first_row": self.first_row, "end_row": self.end_row}
        every = pack(np.ones(self.end_row, np.bool_))
        masks = [every if mask is None else mask for mask in self.masks]
        keys = by_tiles(self.scan, k)
        found = _cuda_exact.hits_of_keys(self.device, keys, keys.shape)
        expected = reference.masked_scan(in_segments(self.vectors), self.queries, masks, **keywords)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(self.device.get(one), other)

    def equals_a_scan_by_keys(self, k: int) -> None:
        """Bit for bit, which float32 sums of any numbers do where they are taken in the same order."""
        found, expected = (self.device.get(way(self.scan, k)) for way in (by_tiles, by_keys))
        np.testing.assert_array_equal(found, expected)

    def bounds_hold(self) -> None:
        """Of every tile, and they are not so wide as to say nothing."""
        keys, slacks, lengths = (self.device.get(one) for one in least_keys(self.scan))
        vectors, queries = widen(self.vectors).astype(np.float64), self.queries.astype(np.float64)
        scores = np.where(self._wanted(), queries @ vectors.T, -np.inf)
        for tile in range(self.scan.n_tiles):
            first = (self.scan.first_tile + tile) * 128
            best = scores[:, first : first + 128].max(axis=1)
            there = best > -np.inf
            np.testing.assert_array_equal(keys[:, tile] != 0, there)
            least = scores_of(keys[:, tile])[there]
            length = lengths[np.arange(len(queries)) // 512, tile]
            longest = np.linalg.norm(vectors[first : min(first + 128, self.end_row)], axis=1).max()
            np.testing.assert_allclose(length[there], longest, rtol=2e-3)
            assert (length[there] >= longest).all()
            reach = 2 * (slacks * length)[there]
            assert (least <= best[there]).all()
            assert (best[there] <= least + reach).all()

    def finds_near(self, n_near: int, *, k: int) -> None:
        """So many tiles for each query."""
        ends = self.device.get(near_tiles(self.scan, k=k)[1]).astype(np.int64)
        assert (ends - np.arange(len(ends)) * self.scan.n_tiles).tolist() == [n_near] * len(ends)

    def slacks_are_as_stated(self, dtype: str) -> None:
        slacks = self.device.get(least_keys(self.scan)[1])
        queries = self.queries.astype(np.float64)
        lengths = np.linalg.norm(queries, axis=1)
        units = 2.0 ** np.floor(np.log2(np.abs(queries).max(axis=1)))[:, None]
        lost = np.linalg.norm(queries - rounded(queries / units, dtype) * units, axis=1)
        steps, slabs = build_for(self.scan.rows)
        expected = lost + (32 * steps * slabs + 16) * 2.0**-22 * lengths
        assert (slacks >= expected).all()
        assert (slacks <= 1.002 * expected).all()
        assert (lost <= UNIT_ROUNDING[dtype] * lengths).all()

    def _wanted(self) -> np.ndarray:
        wanted = np.zeros((len(self.queries), len(self.vectors)), np.bool_)
        for one, mask in zip(wanted, self.masks, strict=True):
            passing = np.ones(len(self.vectors)) if mask is None else np.unpackbits(mask, bitorder="little")
            one[self.first_row : self.end_row] = passing[self.first_row : self.end_row]
        return wanted


def scores_of(keys: np.ndarray) -> np.ndarray:
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ordered >> 31, ordered & np.uint32(0x7FFFFFFF), ~ordered).astype(np.uint32)
    return bits.view(np.float32)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """To the nearest, ties to even."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float64)
    mantissas, exponents = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissas, 8)), exponents - 8)


def integers(rng: np.random.Generator, n: int, d: int) -> Float32Array:
    return rng.integers(-3, 4, (n, d)).astype(np.float32)


def of_values(rng: np.random.Generator, n: int, d: int) -> Float32Array:
    """That bfloat16 and float16 can hold."""
    return (rng.integers(-127, 128, (n, d)) / 128).astype(np.float32)


def masks_for(rng: np.random.Generator, n: int, n_queries: int) -> list[Uint8Array | None]:
    shares = rng.choice([0.9, 0.3, 0.02, 0.0, 2.0], n_queries)
    return [None if share > 1 else pack(rng.random(n) < share) for share in shares]


def of_integers(device: Device, dtype: str, *, n: int = 300, d: int = 20, n_queries: int = 17, **ends: int) -> Searched:
    rng = np.random.default_rng(n + d)
    vectors, queries = stored(integers(rng, n, d), dtype), integers(rng, n_queries, d)
    return Searched(device, vectors, queries, masks_for(rng, n, n_queries), **ends)


def of_floats(device: Device, dtype: str, *, n: int = 300, d: int = 20, n_queries: int = 17, **ends: int) -> Searched:
    rng = np.random.default_rng(n + d)
    vectors, queries = stored(of_values(rng, n, d), dtype), rng.normal(size=(n_queries, d)).astype(np.float32)
    return Searched(device, vectors, queries, masks_for(rng, n, n_queries), **ends)


def of_subnormals(device: Device) -> Searched:
    """And of values just above: multiplications that took the former for zeros would be told by the latter."""
    rng = np.random.default_rng(2)
    vectors = (integers(rng, 300, 40) * 2.0**-15).astype(np.float16)
    return Searched(device, vectors, integers(rng, 16, 40), [None] * 16)


SHAPES = [("float16", 3, 17), ("float16", 128, 16), ("float16", 384, 17), ("bfloat16", 16, 33), ("bfloat16", 200, 70)]


@pytest.mark.parametrize(("dtype", "d", "n_queries"), SHAPES)
def test_a_scan_on_tensor_cores_equals_the_reference(host: HostDevice, dtype: str, d: int, n_queries: int) -> None:
    of_integers(host, dtype, d=d, n_queries=n_queries, first_row=37, end_row=291).equals_the_reference(2)


@pytest.mark.parametrize(("n", "first_row", "end_row"), [(128, 0, 128), (40, 0, 1), (300, 31, 33), (300, 128, 256)])
def test_borders_of_tiles_and_words(host: HostDevice, n: int, first_row: int, end_row: int) -> None:
    searched = of_integers(host, "float16", n=n, first_row=first_row, end_row=end_row)
    searched.equals_the_reference(3)
    searched.bounds_hold()


def test_a_scan_of_several_segments_equals_the_reference(host: HostDevice) -> None:
    n = SEGMENT_ROWS + 140
    of_integers(host, "bfloat16", n=n, first_row=SEGMENT_ROWS - 140, end_row=n - 3).equals_the_reference(1)


@pytest.mark.parametrize(("dtype", "d", "n_queries"), [*SHAPES, ("float16", 20, 530), ("bfloat16", 128, 64)])
def test_no_tile_is_better_than_its_bounds(host: HostDevice, dtype: str, d: int, n_queries: int) -> None:
    of_floats(host, dtype, d=d, n_queries=n_queries, first_row=37, end_row=291).bounds_hold()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_slack_is_what_rounding_takes_and_what_sums_may_lose(host: HostDevice, dtype: str) -> None:
    of_floats(host, dtype).slacks_are_as_stated(dtype)


@pytest.mark.parametrize(
    ("dtype", "of_rows", "of_queries"),
    [
        ("float16", 1.0, 1e4),
        ("float16", 2.0**-20, 1e-6),
        ("float16", 2.0**15, 1e-30),
        ("bfloat16", 2.0**60, 1e4),
        ("bfloat16", 2.0**100, 1e30),
        ("bfloat16", 2.0**-100, 1e-6),
    ],
)
def test_answers_are_equal_bit_for_bit_at_any_scale(
    host: HostDevice, dtype: str, of_rows: float, of_queries: float
) -> None:
    rng = np.random.default_rng(3)
    vectors = stored((of_values(rng, 400, 20) * of_rows).astype(np.float32), dtype)
    queries = (rng.normal(size=(16, 20)) * of_queries).astype(np.float32)
    with np.errstate(over="ignore"):
        Searched(host, vectors, queries, masks_for(rng, 400, 16)).equals_a_scan_by_keys(2)


def test_bounds_hold_of_subnormal_values(host: HostDevice) -> None:
    subnormals(host)


def test_what_float16_cannot_tell_apart_is_told_apart(host: HostDevice) -> None:
    in_favour_of_the_second_tile(host).equals_the_reference(1)
    lost_by_rounding(host)


def in_favour_of_the_second_tile(device: Device) -> Searched:
    """By a part of the query that is lost when it is rounded: the first tile looks as good then, and comes before."""
    vectors = np.zeros((256, 8), np.float16)
    vectors[5, 1] = vectors[200, 0] = 1
    queries = np.zeros((16, 8), np.float32)
    queries[:, 0], queries[:, 1] = 1 + 2.0**-12, 1
    return Searched(device, vectors, queries, [None] * 16)


def test_of_equal_rows_those_that_come_first_are_found(host: HostDevice) -> None:
    rng = np.random.default_rng(5)
    vectors = np.repeat(of_values(rng, 1, 20), 520, axis=0).astype(np.float16)
    searched = Searched(host, vectors, rng.normal(size=(16, 20)).astype(np.float32), [None] * 16)
    found = by_tiles(searched.scan, 3)
    assert (np.uint64(0xFFFFFFFF) - (found & np.uint64(0xFFFFFFFF))).tolist() == [[0, 1, 2]] * 16


def test_a_query_of_zeros_does_not_make_every_tile_be_searched(host: HostDevice) -> None:
    zeros(host).equals_the_reference(2)
    ties(host)


def zeros(device: Device) -> Searched:
    return Searched(device, np.ones((300, 20), np.float16), np.zeros((16, 20), np.float32), [None] * 16)


def test_a_row_that_is_no_number_hides_no_other(host: HostDevice) -> None:
    rng = np.random.default_rng(6)
    vectors = of_values(rng, 400, 20).astype(np.float16)
    vectors[7, 3], vectors[140, 0], vectors[141, 1] = np.nan, np.inf, -np.inf
    Searched(host, vectors, rng.normal(size=(16, 20)).astype(np.float32), [None] * 16).equals_a_scan_by_keys(3)


def test_a_tile_of_which_no_query_wants_a_row_is_not_read(host: HostDevice) -> None:
    mask = np.ones(300, np.bool_)
    mask[128:256] = False
    vectors = integers(np.random.default_rng(7), 300, 20).astype(np.float16)
    searched = Searched(host, vectors, np.ones((16, 20), np.float32), [pack(mask)] * 16)
    lengths = host.get(least_keys(searched.scan)[2])
    assert np.isnan(lengths).tolist() == [[False, True, False]]  # memory is full of ones until it is written
    searched.equals_the_reference(2)


def test_tensor_cores_are_for_many_queries_of_halves_by_dot_product(host: HostDevice) -> None:
    def suits(dtype: str, n_queries: int, metric: Metric) -> bool:
        vectors = stored(np.zeros((1, 8), np.float32), dtype)
        queries = np.zeros((n_queries, 8), np.float32)
        return suits_tensors(Searched(host, vectors, queries, [None] * n_queries, metric=metric).scan)

    assert suits("float16", 16, "dot")
    assert suits("bfloat16", 16, "cosine")
    assert not suits("float16", 15, "dot")
    assert not suits("float32", 16, "dot")
    assert not suits("float16", 16, "l2")


def bounds(device: Device) -> None:
    of_floats(device, "float16", d=40, n_queries=70, first_row=37, end_row=291).bounds_hold()


def slacks(device: Device) -> None:
    of_floats(device, "float16").slacks_are_as_stated("float16")


def lost_by_rounding(device: Device) -> None:
    in_favour_of_the_second_tile(device).finds_near(2, k=1)


def ties(device: Device) -> None:
    zeros(device).finds_near(2, k=2)


def subnormals(device: Device) -> None:
    of_subnormals(device).bounds_hold()


def best_of_tiles(device: Device) -> None:
    zeros(device).equals_the_reference(2)


MUTATIONS: list[tuple[str, str, str, Callable[[Device], None]]] = [
    (
        "mma.cuh",
        "return KIND == FLOAT16 ?",
        "if (bits << 1 < 0x800u) return 0;\n    return KIND == FLOAT16 ?",
        subnormals,
    ),
    ("tensor.cu", "{one.x, other.x, one.y, other.y}", "{one.x, one.y, other.x, other.y}", bounds),
    (
        "tensor.cu",
        "{one.z, other.z, one.w, other.w}, {asked.z, asked.w}",
        "{one.z, other.z, one.w, other.w}, {asked.w, asked.z}",
        bounds,
    ),
    ("tensor.cu", "lane % 4 * 2 + i % 2", "lane % 4 + i % 2 * 4", bounds),
    ("tensor.cu", "of[eight / 2][i / 2][eight % 2 * 2 + i % 2]", "of[eight / 2][i / 2][eight % 2 + i % 2 * 2]", bounds),
    ("tensor.cu", "rows >> 8 * eight & 1u", "rows >> 4 * eight & 1u", bounds),
    (
        "tensor.cu",
        "distance = 4; distance < WARP_LANES; distance *= 2)\n                best",
        "distance = 8; distance < WARP_LANES; distance *= 2)\n                best",
        bounds,
    ),
    ("tensor.cu", "        wait_for_copies();\n", "", bounds),
    ("tensor.cu", "        __syncthreads();\n        next.stage", "        next.stage", bounds),
    (
        "tensor.cu",
        "            __syncthreads();\n            const unsigned query",
        "            const unsigned query",
        bounds,
    ),
    ("tensor.cu", "staged[1 - buffer]", "staged[buffer]", bounds),
    ("tensor.cu", "best * unit - reach", "best * unit + reach", bounds),
    ("tensor.cu", "squares[i] += values", "squares[i] = values", bounds),
    ("tensor.cu", "squared_error += error", "squared_error -= error", slacks),
    ("select.cu", "2 * given.slacks[query]", "0 * given.slacks[query]", lost_by_rounding),
    ("select.cu", "row_of(key)) >= kth", "row_of(key)) > kth", ties),
    (
        "exact.cu",
        "            best = key > best ? key : best;",
        "            best = key < best ? key : best;",
        best_of_tiles,
    ),
]


@pytest.mark.parametrize(("source", "old", "new", "seen_by"), MUTATIONS)
def test_a_fault_in_a_kernel_is_noticed(
    tmp_path: Path, source: str, old: str, new: str, seen_by: Callable[[Device], None]
) -> None:
    with pytest.raises(AssertionError):
        seen_by(mutated(tmp_path, source, old, new, many_threads=64))
