"""What features add to the scores of lists, in units of similarity, in a device's memory for one scan of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels._cuda_device import AddGains, Device, FusedArguments
from kernels._cuda_fusion import DeviceFusion
from kernels.arrays import Float32Array
from kernels.fusion import ListExtremes
from kernels.packed_lists import PackedLists

_THREADS = 256


@dataclass(frozen=True, slots=True, eq=False)
class ListBounds:
    """On the device, float32 [B, nlist] each: ``bounds``, what features add at most; ``means``, on average; ``bases``,
    what rows of a list score at most but for their codes, once gains are added. ``most`` float32 [B]: the largest
    bounds. ``weights`` are what ``fused`` points to.
    """

    most: Float32Array
    fused: FusedArguments
    weights: Any
    bounds: Any
    means: Any
    bases: Any

    def add_gains(
        self, device: Device, lists: PackedLists, queries: Any, limits: Any, keys: Any, *, defines: Sequence[str]
    ) -> None:
        """Turn keys [B, nlist], in the order of the lists, of their centroids' scores into those that order them; see
        ``kernels.fusion.expected_gains``. Queries float32 [B, d] and ``limits`` as for ``scan_lists``.
        """
        arrays = (queries, limits, self.bounds, self.means, keys, self.bases)
        nlist, d = lists.centroids.shape
        device.launch(
            "add_gains",
            AddGains(*(device.address(one) for one in arrays), float(lists.unit), d, nlist, int(lists.is_l2)),
            source="lists.cu",
            defines=defines,
            grid=(len(self.most), 1),
            threads=_THREADS,
        )

    def addresses(self, device: Device) -> tuple[FusedArguments, int, int]:
        return self.fused, device.address(self.bounds), device.address(self.bases)


def put_bounds(device: Device, lists: PackedLists, fusion: DeviceFusion, extremes: ListExtremes) -> ListBounds:
    """``extremes``: of the rows of these lists."""
    in_similarity = fusion.host.in_similarity
    bounds, means = extremes.bounds(in_similarity), extremes.means(in_similarity)
    weights, bases = device.put(in_similarity), device.empty((len(bounds), lists.nlist), np.dtype(np.float32))
    features = fusion.features
    fused = FusedArguments(features.address, device.address(weights), 0, 0, features.n_features)
    return ListBounds(bounds.max(axis=1), fused, weights, device.put(bounds), device.put(means), bases)
