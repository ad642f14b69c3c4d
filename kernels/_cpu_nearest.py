"""The order in which a query takes lists: by the scores of their centroids, found as far as it is asked for.

The centroids are scored sixteen by sixteen for all queries of a call. A query then brings them in order stage by
stage, each of several times as many lists as the one before: the greatest score of each group of sixteen tells a bound
above which there are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels._cpu_jit import compiled_as_written, compiled_parallel, count_ones, int64, lowest_one
from kernels._cpu_panel import PANEL_ROWS, dot_panel, row_panel
from kernels._cpu_reservoir import key_of, least_key, partition, row_of, score_of, sort_keys
from kernels._cpu_shuffle import float_at
from kernels.arrays import Float32Array, Int64Array
from kernels.packed_lists import PANEL_LISTS

FIRST_STAGE = 48
GROWTH = 4
"""Each stage has so many times the lists of the one before."""

LAST = np.float32(np.finfo(np.float32).min)
"""No list scores less, but for what fills the last group."""

_FLOAT_BYTES = 4
_STRIP_PANELS = 8
"""Panels that all queries are scored with before the next ones: few enough to stay in the second-level cache."""

_intrinsic: Any = intrinsic
_FLOAT = ir.FloatType()
_GROUP = ir.VectorType(_FLOAT, PANEL_LISTS)
_INT16, _INT32, _INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


class Order(NamedTuple):
    """One thread's working memory: keys of lists int64 [nlist, to whole groups], of groups int64 [groups]."""

    keys: Int64Array
    groups: Int64Array


def _group(builder: Any, scores: Any, group: Any) -> Any:
    pointer = builder.inttoptr(scores, _GROUP.as_pointer())
    return builder.load(builder.gep(pointer, [group], source_etype=_GROUP), align=_FLOAT_BYTES)


def _greatest(typing: Any, scores: Any, group: Any) -> Any:
    """greatest(scores, group) -> float32: of the 16 scores of a group, none of them NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _group(builder, *args)
        half = PANEL_LISTS // 2
        while half:
            places = [(lane + half) % PANEL_LISTS for lane in range(PANEL_LISTS)]
            mask = ir.Constant(ir.VectorType(_INT32, PANEL_LISTS), places)
            others = builder.shuffle_vector(values, values, mask)
            values = builder.select(builder.fcmp_ordered(">", values, others), values, others)
            half //= 2
        return builder.extract_element(values, ir.Constant(_INT32, 0))

    return types.float32(types.int64, types.int64), generate


def _between(typing: Any, scores: Any, group: Any, low: Any, high: Any) -> Any:
    """between(scores, group, low, high) -> uint64: bits of a group's scores in [low, high)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = _group(builder, args[0], args[1])
        nothing = ir.Constant(_GROUP, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(_INT32, PANEL_LISTS), None)
        low, high = (
            builder.shuffle_vector(builder.insert_element(nothing, one, ir.Constant(_INT32, 0)), nothing, everywhere)
            for one in args[2:]
        )
        inside = builder.and_(builder.fcmp_ordered(">=", values, low), builder.fcmp_ordered("<", values, high))
        return builder.zext(builder.bitcast(inside, _INT16), _INT64)

    return types.uint64(types.int64, types.int64, types.float32, types.float32), generate


greatest: Callable[[int, int], np.float32] = _intrinsic(_greatest)
between: Callable[[int, int, np.float32, np.float32], np.uint64] = _intrinsic(_between)


def with_ones(queries: Float32Array, d: int) -> Float32Array:
    """Queries float32 [B, < d] with a 1 for the centroids' terms, then zeros to [B to whole tiles, d]."""
    n, width = queries.shape
    tiles = np.zeros((n if n == 1 else -(-n // PANEL_ROWS) * PANEL_ROWS, d), np.float32)
    tiles[:n, :width], tiles[:n, width] = queries, 1
    return tiles


@compiled_as_written
def score_centroids_serial(panels: Float32Array, queries: Float32Array, scores: Float32Array) -> None:
    """Fill scores [B to whole tiles, panels * 16] on the calling thread.

    A query alone is summed in another order than one of several: its last bit may differ.
    """
    _score_panels(panels, queries, scores, int64(0), int64(panels.shape[0]))


@compiled_parallel
def score_centroids_parallel(panels: Float32Array, queries: Float32Array, scores: Float32Array) -> None:
    n_strips = (panels.shape[0] + _STRIP_PANELS - 1) // _STRIP_PANELS
    for strip in numba.prange(n_strips):
        first = int64(strip) * _STRIP_PANELS
        _score_panels(panels, queries, scores, first, min(first + _STRIP_PANELS, int64(panels.shape[0])))


@compiled_as_written
def _score_panels(panels: Float32Array, queries: Float32Array, scores: Float32Array, first: int, end: int) -> None:
    n, d = queries.shape
    width = scores.shape[1]
    for strip in range(first, end, _STRIP_PANELS):
        for tile in range(0, n, PANEL_ROWS):
            for number in range(strip, min(strip + _STRIP_PANELS, end)):
                panel = panels.ctypes.data + _FLOAT_BYTES * PANEL_LISTS * d * number
                out = scores.ctypes.data + _FLOAT_BYTES * (tile * width + PANEL_LISTS * number)
                rows = queries.ctypes.data + _FLOAT_BYTES * d * tile
                if n == 1:
                    row_panel(rows, d, panel, out)
                else:
                    dot_panel(rows, d, panel, out, width)


@compiled_as_written
def note_groups(scores: int, order: Order) -> None:
    """Note the greatest score of each group; ``scores``: the query's, an address."""
    for group in range(order.groups.size):
        order.groups[group] = key_of(greatest(scores, group), group)


@compiled_as_written
def count_from(scores: int, n_groups: int, least: np.float32) -> int:
    """How many scores are not below ``least``, and not infinite."""
    count = int64(0)
    for group in range(n_groups):
        count += count_ones(between(scores, group, least, np.float32(np.inf)))
    return count


@compiled_as_written
def next_stage(scores: int, order: Order, wanted: int, above: np.float32) -> tuple[int, np.float32]:
    """Put lists that score less than ``above`` in order, the best one's key last: ``wanted`` of them at least, and all
    that score no less than those; or all there are. Returns how many, and the ``above`` of the next stage, which is
    ``LAST`` where there is none.
    """
    n_groups = order.groups.size
    least = LAST
    if wanted < n_groups:
        partition(order.groups, n_groups, wanted)
        least = max(LAST, score_of(least_key(order.groups, wanted)))
    count = 0
    for place in range(n_groups):
        if score_of(order.groups[place]) < least:
            continue
        group = row_of(order.groups[place])
        bits = between(scores, group, least, above)
        while bits != 0:
            number = group * PANEL_LISTS + lowest_one(bits)
            order.keys[count] = key_of(float_at(scores, number), number)
            count += 1
            bits &= bits - np.uint64(1)
    sort_keys(order.keys, count)
    return count, least
