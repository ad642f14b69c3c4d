"""Where the GPU bench measures: our device and torch on one stream, a clock, and arrays of one made of the other's.

On the host both work in host memory, ours by the C++ shim of the tests: for trying the bench out, not for its figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.cache import cache_folder
from bench.gpu_rows import Made
from bench.measured import Samples, interleaved, seconds_of
from kernels import cuda as kernels
from kernels.arrays import Float32Array, Int64Array

_SCRUB_BYTES = 256 << 20
"""Written before each timed call: more than the second-level cache of any of these cards."""

_MOST_ROUNDS, _FEWEST_ROUNDS = 30, 3
_WORKING_BYTES = 1 << 30
"""Of a device for one search, as much as the engine's backend takes: more queries are searched in slices."""

_NUMPY = {torch.bfloat16: np.dtype(np.uint16), torch.float16: np.dtype(np.float16)}


class Clock(Protocol):
    """Seconds of one call, from an idle device to an idle device."""

    def seconds(self, call: Callable[[], object]) -> float: ...


class WallClock:
    """Where nothing runs on after a call returns."""

    def seconds(self, call: Callable[[], object]) -> float:
        return seconds_of(call)


class EventClock:
    """Events on the current stream around a call, launches from Python included; its data lie in no cache before."""

    def __init__(self) -> None:
        self._scrub = torch.empty(_SCRUB_BYTES, dtype=torch.uint8, device="cuda")

    def seconds(self, call: Callable[[], object]) -> float:
        self._scrub.zero_()
        torch.cuda.synchronize()
        event: Any = torch.cuda.Event  # torch's events and streams have no annotations
        began, ended = event(enable_timing=True), event(enable_timing=True)
        began.record()
        call()
        ended.record()
        torch.cuda.synchronize()
        return float(began.elapsed_time(ended)) / 1000


@dataclass(frozen=True, slots=True)
class Bed:
    """``where``: torch's name of the device; ``small``: everything at a size that the host can do in a second.

    ``name``: of the card, as results are filed under it; "host" on the host.
    """

    device: kernels.Device
    where: str
    name: str
    clock: Clock
    small: bool
    seconds: float = 5.0
    """That one comparison may take."""

    @property
    def is_host(self) -> bool:
        return self.where == "cpu"

    def sized(self, full: int, small: int) -> int:
        return small if self.small else full

    def timed(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, Samples]:
        """Seconds of each call, in turn, after two rounds of warming up; as many rounds as there is time for."""
        measures = {name: _measured(self.clock, call) for name, call in calls.items()}
        if self.small:
            return interleaved(measures, rounds=1, warm_up_rounds=0)
        for measure in measures.values():
            measure()  # whatever compiles or grows at its first call
        round_s = sum(measure() for measure in measures.values())
        rounds = min(_MOST_ROUNDS, max(_FEWEST_ROUNDS, math.floor(self.seconds / round_s)))
        return interleaved(measures, rounds=rounds, warm_up_rounds=0)

    # Ours

    def rows(self, made: Made, dtype: torch.dtype) -> kernels.DeviceRows:
        """The rows as our kernels store them, without a way through the host."""
        rows = kernels.DeviceRows(self.device, dtype=_NUMPY[dtype], dimension=made.dimension)
        assert rows.width == made.dimension, "rows without padding are copied as they are"
        for _, chunk in made.chunks():
            stored = chunk.to(dtype).contiguous()
            rows.append_on_device(stored.data_ptr(), len(stored))
        return rows

    def copied(self, tensor: Tensor) -> Any:
        """An array of our device with a tensor's values."""
        given = tensor.contiguous()
        taken = self.device.empty(tuple(given.shape), np.dtype(str(given.dtype).removeprefix("torch.")))
        self.device.copy(taken, 0, given.data_ptr(), given.numel() * given.element_size())
        return taken

    def addresses(self, masks: Sequence[int]) -> Any:
        """As ``kernels.put_masks`` gives them, of words that the device has already; 0 where every row passes."""
        return self.device.put(np.array(masks, np.uint64))

    def found(self, keys: Any) -> tuple[Int64Array, Float32Array]:
        """Rows and scores [B, k] in host memory, once they are there."""
        rows, scores = kernels.hits_of_keys(self.device, keys, keys.shape)
        return self.device.get(rows), self.device.get(scores)

    def scan(
        self,
        rows: kernels.DeviceRows,
        queries: Float32Array,
        masks: Sequence[int],
        *,
        k: int,
        end_row: int | None = None,
    ) -> Int64Array:
        """A whole exact search by dot product, ``masks`` as for ``addresses``: rows [B, k] in host memory."""
        end = rows.n_rows if end_row is None else end_row
        parts, size = [], queries_at_once(len(queries), end, k=k)
        for first in range(0, len(queries), size):
            part = slice(first, first + size)
            how: dict[str, Any] = {"metric": "dot", "k": k, "first_row": 0, "end_row": end}
            keys = kernels.masked_scan(self.device, rows, queries[part], self.addresses(masks[part]), **how)
            parts.append(self.found(keys)[0])
        return np.concatenate(parts)

    def gather(
        self, rows: kernels.DeviceRows, queries: Float32Array, listed: Sequence[Int64Array], *, k: int
    ) -> Int64Array:
        """A whole search of the rows that the host lists for each query: rows [B, k] in host memory."""
        keys = kernels.gather(self.device, rows, queries, listed, metric="dot", k=k, end_row=rows.n_rows)
        return self.found(keys)[0]


def queries_at_once(n_queries: int, n_rows: int, *, k: int) -> int:
    """Of so many queries as many as fit the working memory: what one takes depends on how many there are."""
    size = n_queries
    while size > 1 and kernels.scan_bytes(size, n_rows, k=k) > _WORKING_BYTES:
        size = -(-size // 2)
    return max(1, size)


def packed(passes: Tensor) -> Tensor:
    """Bools [n] as words of 32 bits, least significant first: int32, in whole words of 64 rows."""
    bits = torch.nn.functional.pad(passes, (0, -len(passes) % 64)).view(-1, 32).to(torch.int64)
    places = torch.arange(32, device=passes.device)
    words = (bits << places).sum(dim=1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def on_gpu(*, small: bool) -> Bed:
    """The first GPU; torch goes on in our stream, so that each sees what the other has done.

    Raises:
        NoDevice: there is none that can be used.
    """
    device = kernels.open_device(cache_folder() / "cuda")
    external: Any = torch.cuda.ExternalStream
    torch.cuda.set_stream(external(device.stream))
    torch.set_float32_matmul_precision("highest")  # truth is float32
    return Bed(device, "cuda", short_name(torch.cuda.get_device_name()), EventClock(), small)


def on_host() -> Bed:
    """What is compiled is kept, apart for each state of the sources."""
    from tests.kernels.host_device import HostDevice, compiled_folder

    return Bed(HostDevice(compiled_folder(), many_threads=64), "cpu", "host", WallClock(), small=True)


def short_name(card: str) -> str:
    """Of a card, for a file: "NVIDIA H100 80GB HBM3" is h100."""
    words = [word for word in card.lower().replace("-", " ").split() if word not in ("nvidia", "geforce", "tesla")]
    numbered = [word for word in words if any(letter.isdigit() for letter in word) and not word.endswith("gb")]
    return (numbered or words or ["gpu"])[0]


def gpu_facts() -> dict[str, Any]:
    """What torch says of the card."""
    facts = torch.cuda.get_device_properties(0)
    return {
        "gpu": facts.name,
        "gpu_memory_gib": round(facts.total_memory / 2**30, 1),
        "multiprocessors": facts.multi_processor_count,
        "cuda": torch.version.cuda,
    }


def _measured(clock: Clock, call: Callable[[], object]) -> Callable[[], float]:
    return lambda: clock.seconds(call)
