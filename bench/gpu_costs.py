"""What exact searches cost on this device, as the engine's planner asks: ``Costs`` from kernels alone."""

from __future__ import annotations

import numpy as np
import torch

from bench.gpu_bed import Bed, packed
from engine.index.costs import Costs
from kernels import cuda as kernels

_K = 10
_SPARSE = 8
_FREE = 1e-12
"""Seconds of what nobody has to do: a gather's rows are listed when its filter is made."""


def measured_costs(bed: Bed, rows: kernels.DeviceRows) -> Costs:
    """Of one query alone whose filter is ready: a line through few rows and all, dense and sparse masks."""
    n, few = rows.n_rows, max(1, rows.n_rows // 16)
    query = np.full((1, rows.dimension), 0.25, np.float32)
    everything = torch.ones(n, dtype=torch.bool, device=bed.where)
    some = torch.arange(n, device=bed.where) % _SPARSE == 0
    dense, sparse, nothing = (packed(one) for one in (everything, some, ~everything))
    listed = np.arange(0, n, _SPARSE)
    taken = bed.timed({
        "few": lambda: bed.scan(rows, query, [nothing.data_ptr()], k=_K, end_row=few),
        "none": lambda: bed.scan(rows, query, [nothing.data_ptr()], k=_K),
        "dense": lambda: bed.scan(rows, query, [dense.data_ptr()], k=_K),
        "sparse": lambda: bed.scan(rows, query, [sparse.data_ptr()], k=_K),
        "one": lambda: bed.gather(rows, query, [listed[:1]], k=_K),
        "gather": lambda: bed.gather(rows, query, [listed], k=_K),
    })  # fmt: skip
    s = {name: samples.median for name, samples in taken.items()}
    row = _rest(s["none"], s["few"]) / (n - few) if n > few else _FREE
    values, some_values = n * rows.dimension, len(listed) * rows.dimension
    of_dense = _rest(s["dense"], s["none"]) / values
    return Costs(
        scan_call=_rest(s["few"], row * few),
        scan_row=row,
        scan_value_dense=of_dense,
        scan_value_sparse=max(of_dense, _rest(s["sparse"], s["none"]) / some_values),
        gather_call=s["one"],
        gather_row=_FREE,
        gather_value=_rest(s["gather"], s["one"]) / some_values,
    )


def _rest(seconds: float, already: float) -> float:
    return max(seconds - already, _FREE)
