"""What our CUDA sources are told and what starts them, whether that is a GPU or a test's threads.

Every kernel takes one structure; those here have the fields of the sources' own, in their order. Knows no GPU library.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

ADDRESS = ctypes.c_void_p
COUNT = ctypes.c_uint32
LONG = ctypes.c_uint64

KEY = np.dtype(np.uint64)
"""A score and its row in one number: see ``common.cuh``."""


class DeviceFailed(RuntimeError):
    """The device refused for another reason than its memory, and is not to be asked again: what CUDA says of one call
    may be the fault of any before it.
    """


class Device(Protocol):
    """Memory and launches of one stream. Arrays are whatever its library has; their addresses are what kernels take.

    Raises:
        MemoryError: there is not enough of the device's.
        DeviceFailed: anything else.
    """

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Memory of the device, not initialised."""
        ...

    def put(self, array: np.ndarray[Any, np.dtype[Any]]) -> Any:
        """A copy of host memory, C-contiguous."""
        ...

    def write(self, array: Any, first: int, values: np.ndarray[Any, np.dtype[Any]]) -> None:
        """Copy host memory over the array from its place ``first`` on, counted along its first axis."""
        ...

    def copy(self, array: Any, first: int, address: int, n_bytes: int) -> None:
        """Copy the device's own memory from an address on over the array from its place ``first`` on, as ``write``
        counts it. What lies there may be changed once all that was started before has run.
        """
        ...

    def get(self, array: Any) -> np.ndarray[Any, np.dtype[Any]]:
        """A copy in host memory, once all that was started before has run."""
        ...

    def get_all(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, np.dtype[Any]]]:
        """As ``get`` of each, with one wait for all of them."""
        ...

    def address(self, array: Any) -> int: ...

    def launch(
        self,
        kernel: str,
        arguments: ctypes.Structure,
        *,
        source: str,
        defines: Sequence[str] = (),
        grid: tuple[int, int],
        threads: int,
    ) -> None:
        """Start a kernel of a source file, compiled with these macros; it may run on after this returns."""
        ...


class StoredArguments(ctypes.Structure):
    _fields_ = [("segments", ADDRESS), ("row_chunks", COUNT), ("width", COUNT)]


class FusedArguments(ctypes.Structure):
    """All zeros where scores are similarities alone."""

    _fields_ = [
        ("features", ADDRESS),
        ("weights", ADDRESS),
        ("scales", ADDRESS),
        ("extras", ADDRESS),
        ("n_features", COUNT),
    ]


class TileBest(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("fused", FusedArguments),
        ("queries", ADDRESS),
        ("masks", ADDRESS),
        ("best", ADDRESS),
        ("n_queries", COUNT),
        ("first_row", COUNT),
        ("end_row", COUNT),
        ("first_tile", COUNT),
        ("n_tiles", COUNT),
    ]


class ScoreAll(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("fused", FusedArguments),
        ("queries", ADDRESS),
        ("masks", ADDRESS),
        ("keys", ADDRESS),
        ("n_queries", COUNT),
        ("first_row", COUNT),
        ("end_row", COUNT),
    ]


class ScoreTiles(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("fused", FusedArguments),
        ("queries", ADDRESS),
        ("masks", ADDRESS),
        ("tiles", ADDRESS),
        ("keys", ADDRESS),
        ("n_chosen", COUNT),
        ("first_row", COUNT),
        ("end_row", COUNT),
    ]


class BestOfTiles(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("fused", FusedArguments),
        ("queries", ADDRESS),
        ("masks", ADDRESS),
        ("keys", ADDRESS),
        ("starts", ADDRESS),
        ("ends", ADDRESS),
        ("first_row", COUNT),
        ("end_row", COUNT),
    ]


class RoundQueries(ctypes.Structure):
    _fields_ = [
        ("queries", ADDRESS),
        ("rounded", ADDRESS),
        ("units", ADDRESS),
        ("slacks", ADDRESS),
        ("n_queries", COUNT),
        ("width", COUNT),
    ]


class TensorBest(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("rounded", ADDRESS),
        ("units", ADDRESS),
        ("slacks", ADDRESS),
        ("masks", ADDRESS),
        ("best", ADDRESS),
        ("lengths", ADDRESS),
        ("n_queries", COUNT),
        ("n_parts", COUNT),
        ("first_row", COUNT),
        ("end_row", COUNT),
        ("first_tile", COUNT),
        ("n_tiles", COUNT),
    ]


class NearTiles(ctypes.Structure):
    _fields_ = [
        ("keys", ADDRESS),
        ("slacks", ADDRESS),
        ("lengths", ADDRESS),
        ("ends", ADDRESS),
        ("n_tiles", COUNT),
        ("k", COUNT),
        ("part_queries", COUNT),
    ]


class ScoreRows(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("fused", FusedArguments),
        ("queries", ADDRESS),
        ("rows", ADDRESS),
        ("starts", ADDRESS),
        ("keys", ADDRESS),
        ("end_row", COUNT),
    ]


class ScoreKeys(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("fused", FusedArguments),
        ("queries", ADDRESS),
        ("keys", ADDRESS),
        ("width", COUNT),
        ("end_row", COUNT),
    ]


class SelectBest(ctypes.Structure):
    _fields_ = [
        ("keys", ADDRESS),
        ("starts", ADDRESS),
        ("ends", ADDRESS),
        ("kept", ADDRESS),
        ("best", ADDRESS),
        ("k", COUNT),
        ("width", COUNT),
    ]


class FilterRows(ctypes.Structure):
    _fields_ = [("code", ADDRESS), ("n_instructions", COUNT), ("n_rows", COUNT)]


class ScanLists(ctypes.Structure):
    _fields_ = [
        ("fused", FusedArguments),
        ("bounds", ADDRESS),
        ("bases", ADDRESS),
        ("queries", ADDRESS),
        ("codebook", ADDRESS),
        ("order", ADDRESS),
        ("chunks", ADDRESS),
        ("starts", ADDRESS),
        ("blocks", ADDRESS),
        ("sizes", ADDRESS),
        ("masks", ADDRESS),
        ("limits", ADDRESS),
        ("room", ADDRESS),
        ("found", ADDRESS),
        ("done", ADDRESS),
        ("unit", ctypes.c_float),
        ("n_parts", COUNT),
        ("width", COUNT),
        ("n_columns", COUNT),
        ("n_order", COUNT),
        ("capacity", COUNT),
        ("most_depth", COUNT),
        ("is_l2", COUNT),
        ("nlist", COUNT),
    ]


class AddGains(ctypes.Structure):
    _fields_ = [
        ("queries", ADDRESS),
        ("limits", ADDRESS),
        ("bounds", ADDRESS),
        ("means", ADDRESS),
        ("keys", ADDRESS),
        ("bases", ADDRESS),
        ("unit", ctypes.c_float),
        ("d", COUNT),
        ("nlist", COUNT),
        ("is_l2", COUNT),
    ]


class PutRecords(ctypes.Structure):
    _fields_ = [("records", ADDRESS), ("blocks", ADDRESS), ("chunks", ADDRESS), ("record_chunks", COUNT)]


class HitsOfKeys(ctypes.Structure):
    _fields_ = [("keys", ADDRESS), ("rows", ADDRESS), ("scores", ADDRESS), ("n", LONG)]
