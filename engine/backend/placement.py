"""What of a version lies on a device: a pure decision, and what it would be for a version that is not open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.backend.protocol import SEGMENT_ROWS
from engine.types import VectorDtype

Placement: TypeAlias = Literal["device", "lists", "host"]
"""Rows and lists on the device; lists alone, whose candidates the host rescores; or neither."""

FREE_SHARE = 0.8
"""Of the memory that is free at the start, for rows and lists unless someone says how much."""

_CHUNK_BYTES = 16
_BLOCK_ROWS, _CHUNK_BLOCKS = 32, 4096
_ROW_AND_TERM = 8
_SPAN = 1 << 40
"""More rows than anybody has."""


def placement(rows_bytes: int, list_bytes: int, budget: int) -> Placement:
    """Both where both fit, or lists alone, which are what most queries read; ``list_bytes`` of 0: there are none."""
    if rows_bytes + list_bytes <= budget:
        return "device"
    return "lists" if 0 < list_bytes <= budget else "host"


@dataclass(frozen=True, slots=True)
class ListShape:
    """What of trained lists decides how many bytes they take."""

    nlist: int
    code_bytes: int
    dimension: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes that ``n_rows`` rows take of a device, and up to how many rows all, then lists alone, would fit."""

    n_rows: int
    rows_bytes: int
    list_bytes: int
    placement: Placement
    fits_until: int
    lists_fit_until: int


def forecast(n_rows: int, *, dimension: int, dtype: VectorDtype, lists: ListShape | None, budget: int) -> Forecast:
    """For lists that grow with the rows and are not trained anew."""

    def of_lists(n: int) -> int:
        return 0 if lists is None else list_bytes(n, lists)

    def of_all(n: int) -> int:
        return row_bytes(n, dimension=dimension, dtype=dtype) + of_lists(n)

    now, listed = of_all(n_rows), of_lists(n_rows)
    return Forecast(
        n_rows,
        now - listed,
        listed,
        placement(now - listed, listed, budget),
        most_rows(of_all, budget),
        0 if lists is None else most_rows(of_lists, budget),
    )


def row_bytes(n_rows: int, *, dimension: int, dtype: VectorDtype) -> int:
    """Of whole segments, each row in whole chunks of 16 bytes."""
    of_row = dimension * (4 if dtype == "float32" else 2)
    return -(-n_rows // SEGMENT_ROWS) * SEGMENT_ROWS * (-(-of_row // _CHUNK_BYTES) * _CHUNK_BYTES)


def list_bytes(n_rows: int, lists: ListShape) -> int:
    """About: the last block of a list is taken to be half full."""
    n_blocks = n_rows // _BLOCK_ROWS + lists.nlist // 2 + 1
    record = _BLOCK_ROWS * (-(-lists.code_bytes // 2) * 2 + _ROW_AND_TERM)
    centroids = lists.nlist * (4 * lists.dimension + 16)
    return -(-n_blocks // _CHUNK_BLOCKS) * _CHUNK_BLOCKS * record + 4 * (2 * lists.nlist + 1 + n_blocks) + centroids


def most_rows(bytes_of: Callable[[int], int], budget: int) -> int:
    """The largest count whose bytes, which grow with it, are within the budget."""
    low, high = 0, _SPAN
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bytes_of(middle) <= budget else (low, middle)
    return low
