from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.baselines import linr
from bench.baselines.linr import Clauses
from tests.conftest import ROOT

K = 7
HAS_TRITON = importlib.util.find_spec("triton") is not None
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class World:
    """Small integers, exact in float16; queries of which one finds fewer than k rows and one finds none."""

    def __init__(self, *, n: int = 300, d: int = 32, n_queries: int = 3) -> None:
        rng = np.random.default_rng(n)
        self.items = torch.from_numpy(rng.integers(-2, 3, (n, d)).astype(np.float16))
        self.queries = torch.from_numpy(rng.integers(-2, 3, (n_queries, d)).astype(np.float16))
        attributes = np.stack([rng.integers(0, 3, n), rng.integers(0, 5, n), rng.integers(0, 40, n)])
        self.clauses = Clauses(torch.from_numpy(attributes), (False, True, False))
        self.asked = torch.tensor([[0, 1, 2], [4, 0, 1], [3, 17, 99]])[:, :n_queries]

    def expected_scores(self) -> list[list[float]]:
        """Of each query's best, by the plainest of loops."""
        found = []
        for query, own in zip(self.queries.numpy().astype(int), self.asked.T.tolist(), strict=True):
            rows = [row for row in range(len(self.items)) if self._passes(row, own)]
            scores = sorted((int(self.items[row].numpy().astype(int) @ query) for row in rows), reverse=True)
            found.append([*map(float, scores[:K]), *[-np.inf] * (K - len(scores))])
        return found

    def _passes(self, row: int, own: list[int]) -> bool:
        has = self.clauses.attributes[:, row].tolist()
        return has[0] == own[0] and has[1] != own[1] and has[2] == own[2]

    def check(self, rows: torch.Tensor) -> None:
        for query, (found, expected) in enumerate(zip(rows.tolist(), self.expected_scores(), strict=True)):
            there = [row for row in found if row >= 0]
            assert len(set(there)) == len(there)
            assert all(self._passes(row, self.asked[:, query].tolist()) for row in there)
            scores = [float(self.items[row].float() @ self.queries[query].float()) for row in there]
            assert scores + [-np.inf] * (K - len(there)) == expected


@pytest.mark.parametrize("search", [linr.similarity_masking, linr.explicit_prefilter])
def test_searches_in_torch_equal_brute_force(search: Callable[..., torch.Tensor]) -> None:
    world = World()
    world.check(search(world.items, world.clauses, world.queries, world.asked, k=K))


def test_a_code_has_the_sign_of_each_value() -> None:
    codes = linr.sign_codes(torch.tensor([[1.0] * 31 + [-1.0] + [0.0] * 31 + [2.0]]))
    assert codes.tolist() == [[(1 << 31) - 1, -(1 << 31)]]


@pytest.mark.skipif(not IS_INTERPRETED, reason="run by the test below, in a process of its own")
@pytest.mark.parametrize(
    "name", ["similarity_masking", "merged_prefilter", "merged_prefilter_early_out", "quantised_filter"]
)
@pytest.mark.parametrize("n_queries", [1, 3])
def test_searches_in_triton_equal_brute_force(name: str, n_queries: int) -> None:
    from bench.baselines import linr_triton

    world = World(n_queries=n_queries)
    search, given = getattr(linr_triton, name), (world.clauses, world.queries, world.asked)
    if name != "quantised_filter":
        world.check(search(world.items, *given, k=K))
        return
    # With room for all that pass it is exact; with less the bits in common decide.
    codes, of_queries = linr.sign_codes(world.items), linr.sign_codes(world.queries)
    world.check(search(world.items, codes, world.clauses, world.queries, of_queries, world.asked, k=K, pool=200))


@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
@pytest.mark.skipif(IS_INTERPRETED, reason="this is that process")
def test_searches_in_triton_equal_brute_force_where_they_are_interpreted() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "triton_equal"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not HAS_TRITON or IS_INTERPRETED, reason="triton is not installed, or interprets")
@pytest.mark.parametrize("kernel", ["mask_scores", "filter_and_score", "filter_then_score", "count_matches"])
def test_every_kernel_compiles_for_the_cards_we_measure(
    kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from bench.baselines import linr_kernels

    function = getattr(linr_kernels, kernel)
    types = {"scores": "*fp16", "items": "*fp16", "vectors": "*fp16", "attributes": "*i64", "asked": "*i64", "n": "i32"}
    types |= {"matches": "*i16", "codes": "*i32", "query_codes": "*i32"}
    shape = {"B": 1, "together": 16, "n_clauses": 3, "reverse": 2, "block": 128, "D": 128, "n_words": 4}
    fixed = {(place,): shape[name] for place, name in enumerate(function.arg_names) if name in shape}
    signature = {name: types.get(name, "constexpr") for name in function.arg_names}
    done = triton.compile(ASTSource(function, signature, fixed), target=GPUTarget("cuda", 90, 32))
    assert done.asm["cubin"]
