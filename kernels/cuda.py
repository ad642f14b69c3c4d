"""The kernels of ``kernels.reference`` on a GPU: the same names and answers, over rows and lists that lie on a device.

Searches are started and may run on; what they return lies on the device, as keys (``common.cuh``) until
``hits_of_keys`` makes rows and scores of them. Sums are taken in another order than in the reference, so scores differ
by rounding; on small integers they are equal. Lists are scanned as ``reference.scan_lists_in_waves`` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels._cuda_device import Device, DeviceFailed
from kernels._cuda_driver import CudaDevice, NoDevice
from kernels._cuda_exact import gather, hits_of_keys, masked_scan, rescored
from kernels._cuda_exact import working_bytes as scan_bytes
from kernels._cuda_filters import filter_rows
from kernels._cuda_fusion import DeviceFeatures, DeviceFusion, extra_bytes, put_fusion
from kernels._cuda_lists import DeviceLists, best_candidates, bytes_of, probed, scan_lists, search_lists
from kernels._cuda_lists import working_bytes as list_bytes
from kernels._cuda_rows import DeviceRows
from kernels.arrays import Uint8Array

__all__ = [
    "Device",
    "DeviceFailed",
    "DeviceFeatures",
    "DeviceFusion",
    "DeviceLists",
    "DeviceRows",
    "NoDevice",
    "best_candidates",
    "bytes_of",
    "extra_bytes",
    "filter_rows",
    "gather",
    "hits_of_keys",
    "list_bytes",
    "masked_scan",
    "open_device",
    "probed",
    "put_fusion",
    "put_masks",
    "rescored",
    "scan_bytes",
    "scan_lists",
    "search_lists",
]


def open_device(folder: Path | None = None) -> CudaDevice:
    """The first GPU; ``folder`` keeps what is compiled.

    Raises:
        NoDevice: there is none that can be used; the message says why.
    """
    return CudaDevice(folder)


def put_masks(device: Device, masks: Sequence[Uint8Array | None], *, end_row: int) -> tuple[Any, list[Any]]:
    """Addresses uint64 [B] on the device of masks over rows [0, end_row), 0 where every row passes; and what must live
    as long. A mask that several queries share is copied once.
    """
    n_bytes = -(-end_row // 32) * 4
    copies: dict[int, Any] = {}
    for mask in masks:
        if mask is not None and id(mask) not in copies:
            wide = np.zeros(n_bytes, np.uint8)
            wide[: len(mask)] = mask[:n_bytes]
            copies[id(mask)] = device.put(wide)
    addresses = [0 if mask is None else device.address(copies[id(mask)]) for mask in masks]
    return device.put(np.array(addresses, np.uint64)), list(copies.values())
