"""Filter programs as one launch of ``filters.cu``: the CPU's instructions over a device's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import _cpu_filter_code as op
from kernels._cuda_device import Device, FilterRows
from kernels.filters import RowTest

_THREADS = 128
_NAMES = (
    *("BIT", "INT_BETWEEN", "FLOAT_BETWEEN", "AMONG_FEW", "AMONG_SPAN", "NEAR", "AND", "OR", "INVERT"),
    *("SKIP_IF_NONE", "SKIP_IF_ALL", "ZEROS", "TALLY", "ENOUGH", "PUSH", "MEET", "WIDTH"),
)
DEFINES = tuple(f"{name}={getattr(op, name)}" for name in _NAMES)
DEEPEST = 64
"""Results that a row holds at a time: a bit each, in one number."""


@dataclass(slots=True)
class _DeviceCode(op.Code):
    """Arrays of the host, tables of sets and points, are copied to the device; others lie there already."""

    device: Device | None = None

    def address(self, array: Any, size: int = 0) -> int:
        assert self.device is not None
        if isinstance(array, np.ndarray):
            array = self.device.put(array)
        self.kept.append(array)
        return self.device.address(array)


def filter_rows(device: Device, tests: Sequence[RowTest], *, n_rows: int) -> list[Any]:
    """The mask of each test over rows [0, n_rows): uint32 of the device, in whole words of 64 rows."""
    n_words = -(-n_rows // 64)
    outs = [device.empty((2 * n_words,), np.dtype(np.uint32)) for _ in tests]
    if n_rows == 0:
        return outs
    code = _DeviceCode(8 * n_words, 64 * n_words, device=device)
    for test, out in zip(tests, outs, strict=True):
        op.emit_test(code, test)
        code.emit(op.STORE, device.address(out))
    assert code.depth <= DEEPEST
    numbers = device.put(code.array())
    device.launch(
        "filter_rows",
        FilterRows(device.address(numbers), len(code.numbers) // op.WIDTH, n_rows),
        source="filters.cu",
        defines=DEFINES,
        grid=(-(-64 * n_words // _THREADS), 1),
        threads=_THREADS,
    )
    return outs
