"""LiNR's own case: 15.5M items with clauses, k = 2,000, where most filters pass a ninth of the items, or hardly any.

Source: arXiv 2407.13218, 5.3; their 4.8 and 14.6 ms (V1, V2 at batch 1) were measured on an A100.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.baselines import linr, retrieve_checkout
from bench.baselines.linr import Clauses
from bench.gpu_bed import Bed
from bench.gpu_costs import measured_costs
from bench.gpu_report import Answered, Lines, ways
from bench.gpu_rows import Made, exact_top
from bench.measured import SEED, Target
from bench.metrics import recall_of_survivors
from engine.index.costs import Costs
from kernels import cuda as kernels
from kernels.arrays import Int64Array
from kernels.filters import AtLeast, IntBetween, Inverse, RowTest

_VALUES = (9, 1000, 55)
"""Different attributes of each clause: a place that must be the query's, a company that must not, a title that must."""

_REVERSE = (False, True, False)
WITHIN = 1.10
COUNTED = 0.95
"""The least recall of a search of theirs that ours are compared with."""

Search = Callable[[], Int64Array]


def measure(bed: Bed, lines: Lines, *, n_rows: int, checkout: Path | None) -> None:
    world = _World(bed, Made(n_rows, bed.sized(128, 32), bed.where))
    costs = measured_costs(bed, world.rows)
    for n_clauses in (2, 3):
        for batch in (1, 4) if bed.small else (1, 16):
            _Case(world, n_clauses, batch).tell(lines, costs, checkout)


class _World:
    """Items with their attributes, ours and torch's."""

    def __init__(self, bed: Bed, made: Made) -> None:
        self.bed, self.made = bed, made
        self.k = bed.sized(2000, 50)
        self.pool = max(self.k, made.n_rows * 400_000 // 15_500_000)
        self.rows = bed.rows(made, torch.float16)
        self.items = made.stored(torch.float16)
        self.codes = linr.sign_codes_of(made.chunks(), made.dimension)
        self.attributes = _drawn(made.n_rows, bed.where, seed=SEED)
        self.columns = [bed.copied(column) for column in self.attributes]
        self.present = bed.copied(torch.full((-(-made.n_rows // 64) * 2,), -1, dtype=torch.int32, device=bed.where))


def _drawn(n: int, where: str, *, seed: int) -> Tensor:
    """int64 [3, n]."""
    generator = torch.Generator(where).manual_seed(seed)
    columns = [torch.randint(values, (n,), generator=generator, device=where) for values in _VALUES]
    return torch.stack(columns)


class _Case:
    """So many clauses, so many queries."""

    def __init__(self, world: _World, n_clauses: int, batch: int) -> None:
        self.world, self.bed = world, world.bed
        self.clauses = Clauses(world.attributes[:n_clauses].contiguous(), _REVERSE[:n_clauses])
        self.asked = _drawn(batch, self.bed.where, seed=SEED + 1)[:n_clauses].contiguous()
        self.vectors = world.made.queries(batch)
        self.queries = self.vectors.to(torch.float16)
        self.on_host = self.vectors.cpu().numpy()
        self.left_out: dict[str, str] = {}
        passing = self.clauses.passes(self.asked, 0, world.made.n_rows)
        self.listed = [own.nonzero().squeeze(1).cpu().numpy() for own in passing]
        self.tests = [self._test(query) for query in range(batch)]
        self.masks = kernels.filter_rows(self.bed.device, self.tests, n_rows=world.made.n_rows)

    def tell(self, lines: Lines, costs: Costs, checkout: Path | None) -> None:
        searches = {**self._ours(), **self._theirs(), **self._reproduced(checkout)}
        taken = self.bed.timed(searches)
        truth = exact_top(self.world.made, self.vectors, k=self.world.k, passes=self._passes)
        answered = {
            name: Answered(taken[name], recall_of_survivors(search(), truth)) for name, search in searches.items()
        }
        batch, survivors = len(self.queries), sum(map(len, self.listed)) // len(self.listed)
        ours = {name: taken[f"ours.{name}"].median for name in ("scan_ready", "gather_ready")}
        pick = self._pick(costs, survivors)
        regret = ours[pick] / min(ours.values())
        theirs = min(
            one.seconds.median
            for name, one in answered.items()
            if not name.startswith("ours.") and one.recall >= COUNTED
        )
        case = {"rows": self.world.made.n_rows, "dimension": self.world.made.dimension, "batch": batch}
        case |= {"k": self.world.k, "clauses": len(self.clauses.is_reverse), "survivors": survivors}
        figures = {
            "pick": pick,
            "pick_over_best": regret,
            "theirs_over_scan": theirs / taken["ours.scan"].median,
            "theirs_over_pick": theirs / ours[pick],
            "left_out": self.left_out,
            **ways(answered, batch),
        }
        lines.tell(case, figures, {"pick_over_best": Target(regret, WITHIN, is_floor=False)})

    def _passes(self, first: int, end: int) -> Tensor:
        return self.clauses.passes(self.asked, first, end)

    def _pick(self, costs: Costs, survivors: int) -> str:
        """What the planner would do for one query alone: it asks no other."""
        n, d = self.world.made.n_rows, self.world.made.dimension
        scan, gather = costs.scan_seconds(n, survivors, d), costs.gather_seconds(n, survivors, d)
        return "scan_ready" if scan <= gather else "gather_ready"

    def _test(self, query: int) -> RowTest:
        children: list[RowTest] = []
        wanted = self.asked[:, query].tolist()
        for column, value, is_reverse in zip(self.world.columns, wanted, self.clauses.is_reverse, strict=False):
            equal = IntBetween(column, self.world.present, value, value)
            children.append(Inverse(equal) if is_reverse else equal)
        return AtLeast(len(children), children)

    # Searches, whole: from queries to rows in host memory

    def _ours(self) -> dict[str, Search]:
        """``scan`` makes its filters too, as theirs do; the others have them from before, as the engine keeps them."""
        bed, rows, k = self.bed, self.world.rows, self.world.k
        ready = [bed.device.address(mask) for mask in self.masks]

        def filtered() -> Int64Array:
            masks = kernels.filter_rows(bed.device, self.tests, n_rows=rows.n_rows)
            return bed.scan(rows, self.on_host, [bed.device.address(mask) for mask in masks], k=k)

        return {
            "ours.scan": filtered,
            "ours.scan_ready": lambda: bed.scan(rows, self.on_host, ready, k=k),
            "ours.gather_ready": lambda: bed.gather(rows, self.on_host, self.listed, k=k),
        }

    def _theirs(self) -> dict[str, Search]:
        searches: dict[str, Any] = {"v1.torch": linr.similarity_masking, "v2.torch": linr.explicit_prefilter}
        if importlib.util.find_spec("triton") is None:
            self.left_out["triton"] = "triton is not installed"
            return {name: self._given(search) for name, search in searches.items()}
        from bench.baselines import linr_triton as merged

        searches |= {"v1.triton": merged.similarity_masking, "v2.triton": merged.merged_prefilter}
        searches |= {"v2.triton_early_out": merged.merged_prefilter_early_out}
        made = {name: self._given(search) for name, search in searches.items()}
        return {**made, "v3.triton": self._quantised(merged.quantised_filter)}

    def _given(self, search: Callable[..., Tensor]) -> Search:
        given = (self.world.items, self.clauses, self.queries, self.asked)
        return lambda: _host(search(*given, k=self.world.k))

    def _quantised(self, search: Callable[..., Tensor]) -> Search:
        world, codes = self.world, linr.sign_codes(self.vectors)
        given = (world.items, world.codes, self.clauses, self.queries, codes, self.asked)
        return lambda: _host(search(*given, k=world.k, pool=world.pool))

    def _reproduced(self, checkout: Path | None) -> dict[str, Search]:
        """Where it fails at its first search, too, the reason is told in the line."""
        if checkout is None:
            self.left_out["retrieve"] = "no --retrieve-checkout"
            return {}
        try:
            made = retrieve_checkout.searches(
                checkout, self.world.items, self.clauses, k=self.world.k, pool=self.world.pool
            )
            searches = {f"retrieve.{name}": self._asked_of(search) for name, search in made.items()}
            for search in searches.values():
                search()
        except RuntimeError as error:  # NoCheckout among them
            self.left_out["retrieve"] = str(error)
            return {}
        return searches

    def _asked_of(self, search: retrieve_checkout.Search) -> Search:
        return lambda: _host(search(self.queries, self.asked))


def _host(rows: Tensor) -> Int64Array:
    found: Int64Array = rows.cpu().numpy()
    return found
