"""Filtered search of inverted lists: 10M clustered rows, a filter of its own for each query, at recall@10 of .95.

Ours are lists, scan and gather, and of these what was fastest for other queries. Beside them faiss, whose lists know no
filter, torch over the rows that pass, and a masked product with top-k; a way counts where it reaches the recall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.baselines.faiss_gpu import MOST, FaissLists, cpu_lists, gpu_lists
from bench.baselines.masked_topk import gemm_topk, masked_gemm_topk, survivors_topk
from bench.gpu_bed import Bed, packed
from bench.gpu_fused import measure_lists
from bench.gpu_lists import packed_lists, trained
from bench.gpu_report import Answered, Lines, ways
from bench.gpu_rows import Made, clustered, exact_top, shuffled
from bench.metrics import recall_of_survivors
from kernels import cuda as kernels
from kernels.arrays import Float32Array, Int64Array
from kernels.packed_lists import fixed_limits

K = 10
RECALL = 0.95
_MARGIN = 0.005
"""By which the recall on the tuning queries must lie above the one wanted."""

_CLUSTER_ROWS = 50_000
"""Of some twenty lists: with clusters as small as a list every query would be answered by one."""

_RATES = (1.0, 0.5, 0.1, 0.01, 0.001, 0.0001)
_TUNING = 64
_DEPTHS = (50, 100, 200, 400, 800)
_MOST_GATHERED = 20_000_000
_MOST_SURVIVORS = 300_000_000
"""Rows of all queries together: more would take seconds to list, or not fit."""

_SCORES_BYTES = 1 << 30
_LAST_START_S = 130.0

Search = Callable[[], Int64Array]


def measure(bed: Bed, lines: Lines, *, n_rows: int, rates: Sequence[float] | None = None) -> None:
    """``rates``: 1 where nothing is filtered."""
    d, clusters = bed.sized(128, 32), max(8, n_rows // _CLUSTER_ROWS)
    world = _World(bed, clustered(n_rows, d, bed.where, clusters=clusters))
    batches = (1, 4) if bed.small else (1, 64, 1024)
    for rate in rates or ((1.0, 0.1) if bed.small else _RATES):
        case = {"rows": n_rows, "dimension": d, "rate": rate, "k": K, "nlist": world.nlist, "clusters": clusters}
        if lines.seconds > _LAST_START_S:
            lines.tell(case, {"skipped": f"{_LAST_START_S:g} s are over: --rate {rate:g} measures it alone"})
            continue
        cell = _Rate(world, rate, most=max(batches))
        for batch in batches:
            cell.tell(lines, {**case, "batch": batch}, batch)
    if not rates and lines.seconds <= _LAST_START_S:
        measure_lists(bed, lines, world.made, world.rows, world.lists)


@dataclass(frozen=True, slots=True)
class _Way:
    """A search of given queries, and what one has to know of it."""

    search: Callable[[slice], Int64Array]
    note: str = ""


class _World:
    """The rows, ours and torch's, and their lists, ours and faiss's."""

    def __init__(self, bed: Bed, made: Made) -> None:
        self.bed, self.made = bed, made
        self.nlist = bed.sized(4096, 16)
        sample_rows = min(made.n_rows, 128 * self.nlist)
        coding = trained(made, nlist=self.nlist, n_parts=made.dimension // 2, sample_rows=sample_rows)
        self.lists = kernels.DeviceLists(bed.device, packed_lists(made, coding))
        self.rows = bed.rows(made, torch.bfloat16)
        self.stored = made.stored(torch.bfloat16)
        self.faiss, self.faiss_is = self._faiss(sample_rows)

    def _faiss(self, sample_rows: int) -> tuple[FaissLists | None, str]:
        """And what stands behind it, or why there is none."""
        how: dict[str, Any] = {"nlist": self.nlist, "sample_rows": sample_rows}
        try:
            if self.bed.is_host:
                return cpu_lists(self.made, self.stored, **how), "faiss on the CPU, in place of faiss on a GPU"
            code_bytes = self.made.dimension // 4
            return gpu_lists(self.made, self.stored, code_bytes=code_bytes, **how), "GpuIndexIVFPQ, rescored"
        except ImportError as error:
            return None, str(error)


class _Rate:
    """Everything at one pass rate: queries to measure with, then queries to tune with, and their filters."""

    def __init__(self, world: _World, rate: float, *, most: int) -> None:
        self.world, self.bed, self.rate, self.most = world, world.bed, rate, most
        self.n_tuning = self.bed.sized(_TUNING, 4)
        n = most + self.n_tuning
        self.vectors = world.made.queries(n)
        self.queries: Float32Array = self.vectors.cpu().numpy()
        self.filters = None if rate == 1 else shuffled(world.made.n_rows, n, self.bed.where, rate=rate)
        self._masks = self._words()
        self._addresses = [0] * n if self._masks is None else [mask.data_ptr() for mask in self._masks]
        passes = None if self.filters is None else self.filters.passes
        self.truth = exact_top(world.made, self.vectors, k=K, passes=passes)
        self.tuning = slice(most, n)
        self.left_out: dict[str, str] = {}
        self._listed: dict[int, Tensor] = {}
        self._on_host: dict[int, Int64Array] = {}
        self.ways = self._ways()

    def tell(self, lines: Lines, case: dict[str, Any], batch: int) -> None:
        ready = {name: way for name, way in self.ways.items() if self._has_room(name, batch)}
        reported, tuning = slice(0, batch), slice(self.most, self.most + min(batch, self.n_tuning))
        if "survivors" in ready or "ours.gather" in ready:
            self._list(tuning)
            self._list(reported)
        plan = self._plan(ready, tuning)
        taken = self.bed.timed({name: _call(way.search, reported) for name, way in ready.items()})
        answered = {
            name: Answered(taken[name], self._recall(way.search, reported), way.note) for name, way in ready.items()
        }
        others = {name: one for name, one in answered.items() if not name.startswith("ours.") and counts(one)}
        best = min(others, key=lambda name: others[name].seconds.median, default=None)
        figures: dict[str, object] = {"plan": plan, "best_other": best, "faiss_is": self.world.faiss_is}
        figures["plan_over_best"] = taken[plan].median / min(
            one.seconds.median
            for name, one in answered.items()
            if (name.startswith("ours.") and counts(one)) or name == plan
        )
        if best is not None:
            figures["times_best_other"] = others[best].seconds.median / taken[plan].median
        if "faiss" in answered and counts(answered["faiss"]):
            figures["times_faiss"] = taken["faiss"].median / taken[plan].median
        lines.tell(case, {**figures, "left_out": dict(self.left_out), **ways(answered, batch)})

    def _recall(self, search: Callable[[slice], Int64Array], part: slice) -> float:
        return recall_of_survivors(search(part), self.truth[part])

    def _plan(self, ready: dict[str, _Way], tuning: slice) -> str:
        """The fastest of ours for the tuning queries, among those that reach the recall there."""
        ours = {name: way for name, way in ready.items() if name.startswith("ours.")}
        reaching = {name: way for name, way in ours.items() if self._recall(way.search, tuning) >= RECALL}
        taken = self.bed.timed({name: _call(way.search, tuning) for name, way in (reaching or ours).items()})
        return min(taken, key=lambda name: taken[name].median)

    def _has_room(self, name: str, batch: int) -> bool:
        survivors = batch * self.rate * self.world.made.n_rows
        most = {"ours.gather": _MOST_GATHERED, "survivors": _MOST_SURVIVORS}.get(name)
        if most is None or survivors <= most:
            self.left_out.pop(name, None)
            return True
        self.left_out[name] = f"{survivors:,.0f} rows to list"
        return False

    # Ways

    def _ways(self) -> dict[str, _Way]:
        made = {"ours.lists": self._lists(), "ours.scan": _Way(self._scan)}
        if self.filters is None:
            made["gemm_topk"] = _Way(self._product)
        else:
            made |= {"ours.gather": _Way(self._gather), "masked_gemm_topk": _Way(self._product)}
            made["survivors"] = _Way(self._survivors, "torch in place of faiss over gathered survivors, listed before")
        if self.world.faiss is not None:
            made["faiss"] = self._faiss(self.world.faiss)
        return made

    def _words(self) -> Tensor | None:
        """The filters' masks, words [Q, w] of the device."""
        if self.filters is None:
            return None
        whole = self.world.made.n_rows
        alone = (self.filters.part(slice(query, query + 1)) for query in range(len(self.queries)))
        return torch.stack([packed(one.passes(0, whole)[0]) for one in alone])

    def _scan(self, part: slice) -> Int64Array:
        return self.bed.scan(self.world.rows, self.queries[part], self._addresses[part], k=K)

    def _gather(self, part: slice) -> Int64Array:
        listed = [self._on_host[query] for query in range(len(self.queries))[part]]
        return self.bed.gather(self.world.rows, self.queries[part], listed, k=K)

    def _survivors(self, part: slice) -> Int64Array:
        listed = [self._listed[query] for query in range(len(self.queries))[part]]
        return _host(survivors_topk(self.world.stored, self._asked(part), listed, k=K))

    def _list(self, part: slice) -> None:
        """The rows that pass, for ways that have them from before: on the device, and on the host for gathers."""
        assert self.filters is not None
        for query in range(len(self.queries))[part]:
            if query not in self._listed:
                self._listed[query] = self.filters.of(query)
            if query not in self._on_host and len(self._on_host) * self.filters.width < _MOST_GATHERED:
                self._on_host[query] = self._listed[query].cpu().numpy()

    def _product(self, part: slice) -> Int64Array:
        asked, stored = self._asked(part), self.world.stored
        how: dict[str, Any] = {"k": K, "chunk_rows": max(K, _SCORES_BYTES // (4 * len(asked)))}
        if self.filters is None:
            return _host(gemm_topk(stored, asked, **how))
        return _host(masked_gemm_topk(stored, asked, self.filters.part(part).passes, **how))

    def _asked(self, part: slice) -> Tensor:
        return self.vectors[part].to(torch.bfloat16)

    # Tuned

    def _lists(self) -> _Way:
        """The fewest lists that reach the recall at the greatest depth, then the least depth."""
        ladder = [2**step for step in range(1, self.world.nlist.bit_length()) if 2**step <= self.world.nlist]
        nprobe = self._least(ladder, lambda nprobe: self._probing(nprobe, _DEPTHS[-1]))
        depth = self._least(_DEPTHS, lambda depth: self._probing(nprobe, depth))
        return _Way(self._probing(nprobe, depth), f"nprobe {nprobe}, depth {depth}")

    def _least(self, ladder: Any, way: Callable[[int], Callable[[slice], Int64Array]]) -> int:
        """The first that reaches the recall for the tuning queries, else the last."""
        reaching = (one for one in ladder if self._recall(way(one), self.tuning) >= RECALL + _MARGIN)
        return int(next(reaching, ladder[-1]))

    def _probing(self, nprobe: int, depth: int) -> Callable[[slice], Int64Array]:
        bed, world = self.bed, self.world

        def search(part: slice) -> Int64Array:
            queries = self.queries[part]
            limits = fixed_limits(len(queries), k=K, nprobe=nprobe, depth=depth)
            given = (bed.device, world.lists, world.rows, queries, queries, bed.addresses(self._addresses[part]))
            keys, _ = kernels.search_lists(*given, limits=limits, metric="dot", k=K, end_row=world.made.n_rows)
            return bed.found(keys)[0]

        return search

    def _faiss(self, index: FaissLists) -> _Way:
        """As few lists as reach the recall when it finds as many as it can, then as few found as do."""
        most = min(MOST, self.world.made.n_rows)
        ladder = [2**step for step in range(self.world.nlist.bit_length()) if 2**step <= self.world.nlist]
        nprobe = self._least(ladder, lambda nprobe: self._filtered(index, nprobe, most))
        counts = [wanted for wanted in (32, 128, 512) if wanted < most] + [most]
        wanted = self._least(counts, lambda wanted: self._filtered(index, nprobe, wanted))
        return _Way(self._filtered(index, nprobe, wanted), f"nprobe {nprobe}, {wanted} found and filtered")

    def _filtered(self, index: FaissLists, nprobe: int, wanted: int) -> Callable[[slice], Int64Array]:
        def search(part: slice) -> Int64Array:
            passes = None if self.filters is None else self.filters.part(part).of_rows
            return _host(index.filtered(self.queries[part], passes, k=K, wanted=wanted, nprobe=nprobe))

        return search


def counts(answered: Answered) -> bool:
    return answered.recall >= RECALL


def _call(search: Callable[[slice], Int64Array], part: slice) -> Search:
    return lambda: search(part)


def _host(rows: Tensor) -> Int64Array:
    found: Int64Array = rows.cpu().numpy()
    return found
