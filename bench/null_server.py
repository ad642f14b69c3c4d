"""`ebr serve` with a device that gives the same rows to every query: what all but encoding and searching costs.

Run as ``python -m bench.null_server``; settings come from the environment, as they do for ``ebr serve``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.backend.protocol import Backend, CoarseCodes, IvfPqIndex, Proven, TopK, Vectors
from engine.dtypes import StoredArray
from engine.errors import CorruptData
from engine.types import Float32Array, Int64Array, Metric, Uint8Array
from kernels.fusion import Fusion

PROGRAM = ("-m", "bench.null_server")


class NullBackend:
    """Rows 0, 1, 2 ... and scores that fall, whatever is asked."""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        return "cpu"

    @property
    def threads(self) -> int:
        return 1

    def when_lost(self, tell: Callable[[str], None]) -> None:
        """Never."""

    def unit_queries(self, queries: Float32Array, *, metric: Metric) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        return queries, np.ones(len(queries), np.bool_)

    def masked_scan(
        self,
        vectors: Vectors,
        queries: Float32Array,
        masks: Sequence[Uint8Array],
        *,
        k: int,
        first_row: int = 0,
        end_row: int | None = None,
        fusion: Fusion | None = None,
    ) -> TopK:
        return _same_rows(len(queries), k)

    def gather(
        self,
        vectors: Vectors,
        queries: Float32Array,
        rows: Sequence[Int64Array],
        *,
        k: int,
        fusion: Fusion | None = None,
    ) -> TopK:
        return _same_rows(len(queries), k)

    def merge_topk(self, parts: Sequence[TopK], *, k: int) -> TopK:
        return parts[0]

    def new_codes(self, dimension: int) -> CoarseCodes:
        return _NullCodes()

    def load_ivfpq(self, path: Path) -> IvfPqIndex:
        raise CorruptData(f"{path}: this device has no inverted lists")

    def warm_up(self, vectors: Vectors) -> None:
        """Nothing to compile."""


class _NullCodes:
    """Counts its rows and proves whatever is asked."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.memory_bytes = 0

    def add(self, vectors: StoredArray, alive: npt.NDArray[np.bool_]) -> None:
        self.n_rows += len(vectors)

    def search(
        self,
        vectors: Vectors,
        queries: Float32Array,
        masks: Sequence[Uint8Array],
        *,
        k: int,
        depth: int,
        first_row: int = 0,
    ) -> Proven:
        return Proven(_same_rows(len(queries), k), np.ones(len(queries), np.bool_))


def _same_rows(n_queries: int, k: int) -> TopK:
    rows = np.tile(np.arange(k, dtype=np.int64), (n_queries, 1))
    return TopK(rows, -rows.astype(np.float32))


def _open_null_backend(*_: object, **__: object) -> Backend:
    return NullBackend()


def main() -> None:
    from engine import threads
    from engine.config import load_settings

    settings = load_settings()
    threads.configure(None, settings.data_dir / "kernel-cache")
    from engine.pipeline import engine
    from engine.rpc.server import serve

    engine.open_backend = _open_null_backend  # type: ignore[attr-defined]  # replaced where it is used
    serve(settings)


if __name__ == "__main__":
    main()
