"""What exact searches cost on this machine, measured. Knows nothing of inverted lists or requests."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import SEGMENT_ROWS, Backend, Vectors
from engine.dtypes import to_stored
from engine.errors import ConfigError
from engine.types import Float32Array, Int64Array, Metric, Uint8Array, VectorDtype

_BEYOND_CACHE_BYTES = 32 << 20
"""Vectors to measure on: more than a core's caches hold, so that memory's speed shows."""

_OF_COLLECTION_BYTES = 256 << 20
"""Of vectors at hand as many: a gather waits for memory, and how long shows beyond the caches that cores share."""

_SPARSE = 1 / 8
_HARDLY_ANY = 4096
_EMPTY_SEGMENTS = (8, 64)
_ROUNDS = 5
_LEAST_SECONDS = 0.02
"""A call is measured for so long at least: short ones would all fall into one moment in which the core is not ours."""
_SHALLOW, _DEEP = 20, 1280
"""Rows by codes that a second pass rescores: few, and many."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of exact searches for one query alone: a call, a row of the mask, a value of a vector that is scored.

    A scan reads dense survivors faster than sparse ones; a gather first lists the mask's rows. A coarse scan reads the
    codes of all rows or of sparse survivors, whichever is faster; ``coarse_depth_row`` is what keeping one of the best
    and rescoring it adds. Infinite where it was never measured.
    """

    scan_call: float
    scan_row: float
    scan_value_dense: float
    scan_value_sparse: float
    gather_call: float
    gather_row: float
    gather_value: float
    coarse_call: float = math.inf
    coarse_value_dense: float = math.inf
    coarse_value_sparse: float = math.inf
    coarse_depth_row: float = math.inf

    def scan_seconds(self, n_rows: int, survivors: int, dimension: int) -> float:
        """An exact scan of ``n_rows`` rows of which ``survivors`` are wanted."""
        density = survivors / n_rows if n_rows else 1.0
        value = self.scan_value_sparse + (self.scan_value_dense - self.scan_value_sparse) * density
        return self.scan_call + n_rows * self.scan_row + survivors * dimension * value

    def gather_seconds(self, n_rows: int, survivors: int, dimension: int) -> float:
        """Listing ``survivors`` rows out of a mask over ``n_rows``, then scoring just those."""
        return self.gather_call + n_rows * self.gather_row + survivors * dimension * self.gather_value

    def coarse_seconds(self, n_rows: int, survivors: int, dimension: int, depth: int) -> float:
        """Both passes over ``n_rows`` rows of which ``survivors`` are wanted, the second over ``depth`` of them."""
        if math.isinf(self.coarse_call):
            return math.inf
        first = min(n_rows * self.coarse_value_dense, survivors * self.coarse_value_sparse)
        second = min(depth, survivors) * self.coarse_depth_row
        return self.coarse_call + n_rows * self.scan_row + dimension * first + second


def measure_costs(backend: Backend, *, dimension: int, dtype: VectorDtype, metric: Metric) -> Costs:
    """Costs for vectors of that shape, measured on made-up ones in some tenths of a second."""
    n_rows = max(1024, _BEYOND_CACHE_BYTES // (dimension * (4 if dtype == "float32" else 2)))
    # Of different lengths, for what is kept of many hits costs time where scores differ.
    lengths = np.random.default_rng(0).uniform(0.1, 1.0, (n_rows, 1)).astype(np.float32)
    one = np.full((1, dimension), 0.5, np.float32)
    segments = [to_stored(lengths[at : at + SEGMENT_ROWS] * one, dtype) for at in range(0, n_rows, SEGMENT_ROWS)]
    vectors = Vectors(segments, n_rows, dimension, dtype, metric)
    backend.warm_up(vectors)
    return measure_costs_on(backend, vectors)


def read_costs(path: Path) -> Costs:
    """Costs from a JSON object with every field of ``Costs``, in seconds.

    Raises:
        ConfigError: the file cannot be read, or lacks a field, or has one that is no positive number.
    """
    names = {field.name for field in fields(Costs)}
    try:
        stored = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the costs in {path}: {error}", costs_file=path) from error
    if not isinstance(stored, dict) or stored.keys() != names:
        raise ConfigError(f"{path}: the costs are an object of {', '.join(sorted(names))}", costs_file=path)
    for name, value in stored.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ConfigError(f"{path}: {name}: {value!r} is no positive number of seconds", costs_file=path)
    return Costs(**stored)


def measure_costs_on(backend: Backend, vectors: Vectors) -> Costs:
    """Costs measured on vectors at hand; the kernels must be warm."""
    n_rows = min(vectors.n_rows, max(1024, _OF_COLLECTION_BYTES // (vectors.dimension * 2)))
    query = np.full((1, vectors.dimension), 0.25, np.float32)
    scan = _scan_seconds(backend, vectors, query, n_rows)
    gather = _gather_seconds(backend, vectors, query, n_rows)
    coarse = _coarse_seconds(backend, vectors, query, row=scan[1])
    return Costs(*scan, *gather, *coarse)


def measured_seconds(
    call: Callable[[], object],
    *,
    rounds: int,
    least_seconds: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Least time of ``call`` over so many rounds, or more where they took less than ``least_seconds`` together:
    whatever else the machine does can only add to it.
    """
    least, total, done = math.inf, 0.0, 0
    while done < rounds or total < least_seconds:
        began = clock()
        call()
        seconds = clock() - began
        least, total, done = min(least, seconds), total + seconds, done + 1
    return least


def pack(flags: npt.NDArray[np.bool_]) -> Uint8Array:
    """Bools [n] as packed bits, a multiple of 8 bytes."""
    bits = np.zeros(-(-len(flags) // 64) * 8, np.uint8)
    packed = np.packbits(flags, bitorder="little")
    bits[: len(packed)] = packed
    return bits


def _scan_seconds(
    backend: Backend, vectors: Vectors, query: Float32Array, n_rows: int
) -> tuple[float, float, float, float]:
    """(call, row, dense value, sparse value)."""

    def seconds(masks: Sequence[Uint8Array]) -> float:
        turns = cycle(masks)
        return _least(lambda: backend.masked_scan(vectors, query, [next(turns)], k=10, end_row=n_rows))

    masks = _disjoint_masks(n_rows)
    call, row = _empty_scan_seconds(backend, vectors, query)
    dense = _rest(seconds([np.full_like(masks[0], 255)]), call + row * n_rows) / n_rows
    sparse = _rest(seconds(masks), call + row * n_rows) / (n_rows * _SPARSE)
    return call, row, dense / vectors.dimension, max(sparse, dense) / vectors.dimension


def _empty_scan_seconds(backend: Backend, vectors: Vectors, query: Float32Array) -> tuple[float, float]:
    """(call with all its threads, row) of scans that no row passes, over segments that are never read or written."""
    segment = np.empty((SEGMENT_ROWS, vectors.dimension), vectors.segments[0].dtype)
    few, many = (
        Vectors([segment] * n, n * SEGMENT_ROWS, vectors.dimension, vectors.dtype, vectors.metric)
        for n in _EMPTY_SEGMENTS
    )
    mask = np.zeros(many.n_rows // 8, np.uint8)
    of_few = _least(lambda: backend.masked_scan(few, query, [mask], k=10))
    of_many = _least(lambda: backend.masked_scan(many, query, [mask], k=10))
    row = _rest(of_many, of_few) / (many.n_rows - few.n_rows)
    return _rest(of_few, row * few.n_rows), row


def _gather_seconds(backend: Backend, vectors: Vectors, query: Float32Array, n_rows: int) -> tuple[float, float, float]:
    """(call, row of the mask, value)."""
    masks = cycle(_disjoint_masks(n_rows))
    # Of hardly a row: what it takes to write a row down is part of what its values cost.
    hardly_any = pack(np.arange(n_rows) % _HARDLY_ANY == 0)
    listing = _least(lambda: _listed(hardly_any))
    first = cycle([_listed(next(masks))[:1] for _ in range(_ROUNDS)])
    call = _least(lambda: backend.gather(vectors, query, [next(first)], k=10))
    scored = _least(lambda: backend.gather(vectors, query, [_listed(next(masks))], k=10))
    return call, listing / n_rows, _rest(scored, call + listing) / (n_rows * _SPARSE * vectors.dimension)


def _coarse_seconds(
    backend: Backend, vectors: Vectors, query: Float32Array, *, row: float
) -> tuple[float, float, float, float]:
    """(call, dense value, sparse value, row of depth) of both passes over more codes than caches hold.

    Where there are too few rows for that, those of the first segment stand for all.
    """
    segment = vectors.segments[0][: min(len(vectors.segments[0]), vectors.n_rows)]
    wanted = max(1024, _BEYOND_CACHE_BYTES // vectors.dimension)
    n_segments = -(-wanted // SEGMENT_ROWS) if len(segment) == SEGMENT_ROWS else 1
    many = replace(vectors, segments=[segment] * n_segments, n_rows=n_segments * len(segment))
    codes, everything = backend.new_codes(vectors.dimension), np.ones(len(segment), np.bool_)

    def seconds(masks: Sequence[Uint8Array], depth: int = _SHALLOW) -> float:
        turns = cycle(masks)
        return _least(lambda: codes.search(many, query, [next(turns)], k=10, depth=depth))

    for _ in range(n_segments):
        codes.add(segment, everything)
    masks = _disjoint_masks(many.n_rows)
    nothing, full = np.zeros_like(masks[0]), np.full_like(masks[0], 255)
    of_nothing, of_all = seconds([nothing]), seconds([full])
    dense = _rest(of_all, of_nothing) / many.n_rows
    sparse = _rest(seconds(masks), of_nothing) / (many.n_rows * _SPARSE)
    deeper = _rest(seconds([full], _DEEP), of_all) / (_DEEP - _SHALLOW)
    call = _rest(of_nothing, row * many.n_rows)
    return call, dense / many.dimension, max(sparse, dense) / many.dimension, deeper


def _least(call: Callable[[], object]) -> float:
    return measured_seconds(call, rounds=_ROUNDS, least_seconds=_LEAST_SECONDS)


def _disjoint_masks(n_rows: int) -> list[Uint8Array]:
    """Random masks that share no row, so that none finds the rows of another in a cache."""
    owner = np.random.default_rng(0).integers(0, round(1 / _SPARSE), n_rows)
    return [pack(owner == one) for one in range(round(1 / _SPARSE))]


def _listed(mask: Uint8Array) -> Int64Array:
    from kernels.cpu import rows_of_mask  # whoever only reads costs does without a compiler

    return rows_of_mask(mask, end_row=8 * mask.size)


def _rest(seconds: float, already: float) -> float:
    """What is left of a measurement; never quite nothing, for no work is free."""
    return max(seconds - already, 1e-9)
