"""A search of every kind, held to the definition: a card on which our kernels do not work is found out at the start."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.errors import ConfigError
from kernels import cuda as kernels
from kernels import reference
from kernels.fusion import FeatureStamps, Fusion, no_extremes
from kernels.packed_lists import PackedLists, fixed_limits

_ROWS, _D, _F = 300, 8, 3
_MANY = 16
"""Queries, for which a scan takes tensor cores."""

_TINY = 2.0**-15


def check(device: kernels.Device) -> None:
    """
    Raises:
        ConfigError: the device fails, has no memory or no compiler, or answers otherwise than ``kernels.reference``.
    """
    try:
        wrong = _wrong(device)
    except (RuntimeError, MemoryError, ImportError) as error:
        raise ConfigError(f"device cuda: {error}") from error
    if wrong:
        raise ConfigError(f"device cuda: {', '.join(wrong)} does not answer as the definition does; serve on the CPU")


def _wrong(device: kernels.Device) -> list[str]:
    """The kernels that are at fault."""
    rng = np.random.default_rng(0)
    stored = rng.integers(-3, 4, (_ROWS, _D)).astype(np.float16)
    queries = rng.integers(-3, 4, (2, _D)).astype(np.float32)
    masks = [np.packbits(rng.random(_ROWS) < share, bitorder="little") for share in (0.9, 0.3)]
    rows = kernels.DeviceRows(device, dtype=stored.dtype, dimension=_D, most_rows=_ROWS)
    rows.append(stored)
    at, kept = kernels.put_masks(device, masks, end_row=_ROWS)
    found: dict[str, tuple[Any, Any]] = {}
    # Of one query and one hit the tiles, of two queries and many hits the keys of all rows.
    for name, n, k in (("a scan by tiles", 1, 1), ("a scan by keys", 2, 40)):
        how: dict[str, Any] = {"metric": "dot", "k": k, "first_row": 0, "end_row": _ROWS}
        found[name] = (
            kernels.masked_scan(device, rows, queries[:n], at, **how),
            reference.masked_scan([stored], queries[:n], masks[:n], **how),
        )
    found["a scan on tensor cores"] = _on_tensor_cores(device, stored)
    listed = [np.arange(0, _ROWS, 3), np.arange(7)]
    how = {"metric": "dot", "k": 5, "end_row": _ROWS}
    found["a gather"] = (
        kernels.gather(device, rows, queries, listed, **how),
        reference.gather([stored], queries, listed, **how),
    )
    lists = _lists(rng)
    limits = fixed_limits(2, k=5, nprobe=3, depth=20)
    keys, _ = kernels.search_lists(
        device, kernels.DeviceLists(device, lists), rows, queries, queries, at, limits=limits, **how
    )
    (candidates, _), _ = reference.scan_lists_in_waves(lists, queries, masks, limits=limits)
    found["a scan of lists"] = (keys, reference.rescore([stored], queries, candidates, **how))
    found |= _fused(device, rows, stored, queries, masks, at)
    wrong = [name for name, (keys, expected) in found.items() if not _same(device, keys, expected)]
    del kept  # until here the device may have read them
    return wrong


def _fused(
    device: kernels.Device, rows: kernels.DeviceRows, stored: Any, queries: Any, masks: list[Any], at: Any
) -> dict[str, tuple[Any, Any]]:
    """What is found by fused scores and what should be."""
    rng = np.random.default_rng(2)
    features, extra = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((_ROWS, _F), _ROWS))
    weights = rng.integers(-2, 3, (2, _F)).astype(np.float32)
    fusion = Fusion(np.array([1, 2], np.float32), weights, [features], [None, extra])
    copied = kernels.DeviceFeatures(device, _F)
    copied.sync([features], FeatureStamps(_ROWS, [0]))
    on_device = kernels.put_fusion(device, fusion, copied, end_row=_ROWS)
    how: dict[str, Any] = {"metric": "dot", "k": 40, "first_row": 0, "end_row": _ROWS}
    scanned = kernels.masked_scan(device, rows, queries, at, fusion=on_device, **how)
    found = {"a fused scan": (scanned, reference.masked_scan([stored], queries, masks, fusion=fusion, **how))}
    lists, limits = _lists(rng), fixed_limits(2, k=5, nprobe=3, depth=20)
    extremes, numbers = no_extremes(lists.nlist, _F), np.zeros(_ROWS, np.int32)
    for number in range(lists.nlist):
        numbers[lists.listed(number)[1]] = number
    everything = np.packbits(np.ones(_ROWS, np.bool_), bitorder="little")
    reference.widen_extremes(extremes, numbers, [features], everything, first_row=0, end_row=_ROWS)
    bounded: dict[str, Any] = {"limits": limits, "extremes": extremes}
    how = {"metric": "dot", "k": 5, "end_row": _ROWS}
    copy = kernels.DeviceLists(device, lists)
    keys, _ = kernels.search_lists(device, copy, rows, queries, queries, at, fusion=on_device, **bounded, **how)
    (candidates, _), _ = reference.scan_lists_in_waves(lists, queries, masks, fusion=fusion, **bounded)
    found["a fused scan of lists"] = (keys, reference.rescore([stored], queries, candidates, fusion=fusion, **how))
    return found


def _on_tensor_cores(device: kernels.Device, stored: Any) -> tuple[Any, Any]:
    """What is found and what should be. Bounds of such a scan hold where subnormal values are not taken for zeros,
    which PTX leaves open: some of these rows' values are subnormal, others are not.
    """
    tiny = (stored * np.float16(_TINY)).astype(np.float16)
    queries = np.random.default_rng(1).integers(-3, 4, (_MANY, _D)).astype(np.float32)
    rows = kernels.DeviceRows(device, dtype=tiny.dtype, dimension=_D, most_rows=_ROWS)
    rows.append(tiny)
    at, kept = kernels.put_masks(device, [None] * _MANY, end_row=_ROWS)
    how: dict[str, Any] = {"metric": "dot", "k": 1, "first_row": 0, "end_row": _ROWS}
    keys = kernels.masked_scan(device, rows, queries, at, **how)
    device.get(keys)  # until here the device may read the masks
    del kept
    every = [np.packbits(np.ones(_ROWS, np.bool_), bitorder="little")] * _MANY
    return keys, reference.masked_scan([tiny], queries, every, **how)


def _lists(rng: np.random.Generator) -> PackedLists:
    codebook = rng.integers(-2, 3, (4, 16, 2)).astype(np.float32)
    lists = PackedLists(codebook, rng.integers(-2, 3, (5, _D)).astype(np.float32), "dot")
    codes = rng.integers(0, 256, (_ROWS, 2)).astype(np.uint8)
    lists.append(rng.integers(0, 5, _ROWS), codes, np.arange(_ROWS), np.zeros(_ROWS, np.float32))
    return lists


def _same(device: kernels.Device, keys: Any, expected: tuple[Any, Any]) -> bool:
    found = kernels.hits_of_keys(device, keys, keys.shape)
    return all(np.array_equal(device.get(one), other) for one, other in zip(found, expected, strict=True))
