"""What the card allows: reading and copying memory, products of bf16 and int8, and what a launch costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.gpu_bed import Bed
from bench.gpu_report import Lines
from bench.measured import Samples
from kernels import cuda as kernels

_LAUNCHES = 200


def measure(bed: Bed, lines: Lines) -> None:
    """No search is timed here, so that nothing has a recall."""
    _memory(bed, lines)
    _products(bed, lines)
    _launches(bed, lines)


def readers(bed: Bed, n_bytes: int) -> dict[str, Callable[[], object]]:
    """Ways to read so many bytes once and write next to nothing: the fastest is what a scan is held against."""
    words = torch.ones(n_bytes // 4, dtype=torch.float32, device=bed.where)
    return {"sum": words.sum, "largest": words.max}


def fastest(taken: dict[str, Samples]) -> Samples:
    return min(taken.values(), key=lambda samples: samples.median)


def _memory(bed: Bed, lines: Lines) -> None:
    n_bytes = bed.sized(4 << 30, 1 << 20)
    taken = bed.timed(readers(bed, n_bytes))
    source = torch.ones(n_bytes // 8, dtype=torch.float32, device=bed.where)
    target = torch.empty_like(source)
    copied = bed.timed({"copy": lambda: target.copy_(source)})["copy"]
    rates = {f"{name}_gb_per_s": n_bytes / samples.median / 1e9 for name, samples in taken.items()}
    rates["copy_gb_per_s"] = n_bytes / copied.median / 1e9
    rates["read_gb_per_s"] = n_bytes / fastest(taken).median / 1e9
    lines.tell({"what": "memory", "bytes": n_bytes}, rates)


def _products(bed: Bed, lines: Lines) -> None:
    """Square ones, as fast as they come, and those of scoring: 1024 queries by many rows of 128 values."""
    side, rows, queries = bed.sized(8192, 64), bed.sized(1 << 20, 256), bed.sized(1024, 32)
    for what, shape in (("square", (side, side, side)), ("scoring", (queries, 128, rows))):
        taken = bed.timed({"bf16": _bf16(bed, *shape), "int8": _int8(bed, *shape)})
        m, d, n = shape
        rates = {f"{name}_tera_ops_per_s": 2 * m * d * n / one.median / 1e12 for name, one in taken.items()}
        lines.tell({"what": f"{what} product", "m": m, "k": d, "n": n}, rates)


def _bf16(bed: Bed, m: int, d: int, n: int) -> Callable[[], object]:
    one = torch.randn((m, d), device=bed.where).to(torch.bfloat16)
    other = torch.randn((n, d), device=bed.where).to(torch.bfloat16)
    out = torch.empty((m, n), dtype=torch.bfloat16, device=bed.where)
    return lambda: torch.mm(one, other.T, out=out)


def _int8(bed: Bed, m: int, d: int, n: int) -> Callable[[], object]:
    one, other = _bytes(bed, (m, d)), _bytes(bed, (n, d))
    return lambda: torch._int_mm(one, other.T)  # noqa: SLF001  the only int8 product that torch has


def _bytes(bed: Bed, shape: tuple[int, int]) -> Tensor:
    return torch.randint(-127, 128, shape, dtype=torch.int8, device=bed.where)


def _launches(bed: Bed, lines: Lines) -> None:
    """Microseconds of a launch among many, torch's and ours from Python, and of one with its answer on the host."""
    one = torch.zeros(1, device=bed.where)
    key = bed.device.put(np.zeros((1, 1), np.uint64))

    def ours() -> object:
        return kernels.hits_of_keys(bed.device, key, (1, 1))

    calls: dict[str, Callable[[], object]] = {
        "torch_us": lambda: [one.add_(1) for _ in range(_LAUNCHES)],
        "ours_us": lambda: [ours() for _ in range(_LAUNCHES)],
        "answered_us": lambda: [bed.found(key) for _ in range(_LAUNCHES)],
    }
    taken = bed.timed(calls)
    figures = {name: 1e6 * statistics.median(one.values) / _LAUNCHES for name, one in taken.items()}
    lines.tell({"what": "launches", "among": _LAUNCHES}, figures)
