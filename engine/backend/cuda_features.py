"""Copies of features on a device: in what rows and lists leave of its memory, those used last."""

from __future__ import annotations

import weakref

from kernels import cuda as kernels
from kernels.fusion import FeatureStamps, Fusion


class FeatureCopies:
    """One for each table, known by its stamps, with which it goes; used by one thread at a time."""

    def __init__(self, device: kernels.Device) -> None:
        self._device = device
        self._copies: weakref.WeakKeyDictionary[FeatureStamps, kernels.DeviceFeatures] = weakref.WeakKeyDictionary()
        self._none = kernels.DeviceFeatures(device, 0)

    @property
    def memory_bytes(self) -> int:
        return sum(copy.memory_bytes for copy in self._copies.values())

    def of(self, fusion: Fusion, *, end_row: int, most_bytes: int) -> kernels.DeviceFeatures | None:
        """The features of rows [0, end_row) as they are now, within ``most_bytes`` of all copies together; None where
        they do not fit, whatever the device has left, or nobody may keep a copy.
        """
        if not fusion.weights.shape[1]:
            return self._none
        stamps = fusion.stamps
        if stamps is None or stamps.n_rows < end_row:
            return None
        copy = self._copies.pop(stamps, None) or kernels.DeviceFeatures(self._device, fusion.weights.shape[1])
        needed = copy.bytes_of(stamps.n_rows)
        if needed > most_bytes:
            return None
        self.shrink(most_bytes - needed)
        try:
            copy.sync(fusion.features, stamps)
        except MemoryError:
            return None
        self._copies[stamps] = copy  # last, so that it is dropped last
        return copy

    def shrink(self, most_bytes: int) -> None:
        """Drop those used longest ago until the others fit."""
        for stamps in list(self._copies):
            if self.memory_bytes <= most_bytes:
                return
            del self._copies[stamps]
