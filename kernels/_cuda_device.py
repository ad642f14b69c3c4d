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


class Device(Protocol):
    """Memory and launches of one stream. Arrays are whatever its library has; their addresses are what kernels take."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Memory of the device, not initialised."""
        ...

    def put(self, array: np.ndarray[Any, np.dtype[Any]]) -> Any:
        """A copy of host memory, C-contiguous."""
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
    _fields_ = [("vectors", ADDRESS), ("row_chunks", COUNT), ("width", COUNT)]


class TileBest(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("queries", ADDRESS),
        ("masks", ADDRESS),
        ("best", ADDRESS),
        ("n_queries", COUNT),
        ("first_row", COUNT),
        ("end_row", COUNT),
        ("first_tile", COUNT),
        ("n_tiles", COUNT),
    ]


class ScoreTiles(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("queries", ADDRESS),
        ("masks", ADDRESS),
        ("tiles", ADDRESS),
        ("keys", ADDRESS),
        ("n_chosen", COUNT),
        ("first_row", COUNT),
        ("end_row", COUNT),
    ]


class ScoreRows(ctypes.Structure):
    _fields_ = [
        ("stored", StoredArguments),
        ("queries", ADDRESS),
        ("rows", ADDRESS),
        ("starts", ADDRESS),
        ("keys", ADDRESS),
        ("end_row", COUNT),
    ]


class SelectBest(ctypes.Structure):
    _fields_ = [
        ("keys", ADDRESS),
        ("starts", ADDRESS),
        ("kept", ADDRESS),
        ("best", ADDRESS),
        ("k", COUNT),
        ("width", COUNT),
    ]


class FilterRows(ctypes.Structure):
    _fields_ = [("code", ADDRESS), ("n_instructions", COUNT), ("n_rows", COUNT)]


class HitsOfKeys(ctypes.Structure):
    _fields_ = [("keys", ADDRESS), ("rows", ADDRESS), ("scores", ADDRESS), ("n", LONG)]
