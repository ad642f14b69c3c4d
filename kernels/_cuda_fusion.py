"""What a score has beside similarity, in a device's memory: features that stay there, and what each search brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels._cuda_device import Device, FusedArguments
from kernels.arrays import SEGMENT_ROWS, Float32Array
from kernels.fusion import FeatureStamps, Fusion

_FLOAT32 = np.dtype(np.float32)

NOT_FUSED = FusedArguments()


class DeviceFeatures:
    """A copy of the features of one table, as they were at the last ``sync``."""

    def __init__(self, device: Device, n_features: int) -> None:
        self.n_features = n_features
        self._device = device
        self._segments: list[Any] = []
        self._copied: list[tuple[int, int]] = []
        self._table: Any = None

    @property
    def memory_bytes(self) -> int:
        return len(self._segments) * self._segment_bytes

    def bytes_of(self, n_rows: int) -> int:
        """What so many rows take, in whole segments."""
        return -(-n_rows // SEGMENT_ROWS) * self._segment_bytes

    def sync(self, features: Sequence[Float32Array], stamps: FeatureStamps) -> None:
        """Copy rows that are new, and the segments of which rows have changed; features as a ``Fusion`` has them."""
        for number, changes in enumerate(stamps.changes):
            filled = min(SEGMENT_ROWS, stamps.n_rows - number * SEGMENT_ROWS)
            if number == len(self._segments):
                self._add_segment()
            known, first = self._copied[number]
            first = first if known == changes else 0
            self._device.write(self._segments[number], first, features[number][first:filled])
            self._copied[number] = (changes, filled)

    @property
    def address(self) -> int:
        """Of the segments' addresses; 0 where there are none."""
        return 0 if self._table is None else self._device.address(self._table)

    @property
    def _segment_bytes(self) -> int:
        return SEGMENT_ROWS * self.n_features * _FLOAT32.itemsize

    def _add_segment(self) -> None:
        """All of it or, where memory runs out, nothing."""
        segments = [*self._segments, self._device.empty((SEGMENT_ROWS, self.n_features), _FLOAT32)]
        self._table = self._device.put(np.array([self._device.address(one) for one in segments], np.uint64))
        self._segments = segments
        self._copied.append((0, 0))


@dataclass(frozen=True, slots=True, eq=False)
class DeviceFusion:
    """A copy of ``host`` for one search; ``arrays`` must live until that has run."""

    host: Fusion
    features: DeviceFeatures
    arguments: FusedArguments
    arrays: tuple[Any, ...]


def put_fusion(device: Device, fusion: Fusion, features: DeviceFeatures, *, end_row: int) -> DeviceFusion:
    """``features``: those of the fusion, of rows [0, end_row) at least. An extra that several queries share is copied
    once.
    """
    n_features = fusion.weights.shape[1]
    assert features.n_features == n_features
    weights, scales = (device.put(np.ascontiguousarray(one, np.float32)) for one in (fusion.weights, fusion.scales))
    copies: dict[int, Any] = {}
    for extra in fusion.extras:
        if extra is not None and id(extra) not in copies:
            assert len(extra) >= end_row
            copies[id(extra)] = device.put(extra[:end_row])
    at = [0 if extra is None else device.address(copies[id(extra)]) for extra in fusion.extras]
    extras = device.put(np.array(at, np.uint64)) if copies else None
    given = (features.address, device.address(weights), device.address(scales), device.address(extras) if copies else 0)
    return DeviceFusion(
        fusion, features, FusedArguments(*given, n_features), (weights, scales, extras, *copies.values())
    )


def extra_bytes(fusion: Fusion | None, end_row: int) -> int:
    """What copies of its extras take of a device."""
    if fusion is None:
        return 0
    return len({id(extra) for extra in fusion.extras if extra is not None}) * end_row * _FLOAT32.itemsize
