"""A server whose device is one of contexts gives the answers of a server on the CPU, filters and updates included."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backend import open_backend
from engine.backend.cpu import CpuBackend
from engine.backend.cuda import CudaBackend
from engine.client import RetrievalClient
from engine.index.costs import Costs
from engine.pipeline import engine as engine_module
from engine.types import Filter, Item, Range, SearchParams, Strategy, Visibility
from tests.e2e.serving import a_client, serving, vector_schema
from tests.kernels.host_device import COMPILER, HostDevice, compiled_folder

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed"),
    pytest.mark.timeout(300),  # the first run on a machine compiles the CPU's kernels
]

N, D = 200, 8
FILTERS = [Filter(), Filter(must=(Range("rank", lt=20),)), Filter(must=(Range("rank", gte=N),))]


def answers(client: RetrievalClient) -> list[tuple[list[Any], list[float]]]:
    """Of exact searches one way and the other, before and after items change."""
    rng = np.random.default_rng(1)
    vectors = rng.integers(-4, 5, (N, D)).astype(np.float32)
    client.create_collection(vector_schema(dimension=D, metric="l2"))
    client.upsert("points", [Item(n, {}, {"rank": n}, vectors[n]) for n in range(N)], visibility=Visibility.SEARCHABLE)
    found = []
    for _ in range(2):
        for strategy in (Strategy.EXACT_SCAN, Strategy.GATHER):
            params = [SearchParams(k=5, filter=one, strategy=strategy) for one in FILTERS]
            result = client.search_batch("points", vectors[:3] + 1, params=params)
            found += [(list(result.rows(n)[0]), list(result.rows(n)[1])) for n in range(3)]
        client.delete("points", [0, 3, 7], visibility=Visibility.SEARCHABLE)
        client.upsert("points", [Item(N, {}, {"rank": 5}, vectors[1] + 1)], visibility=Visibility.SEARCHABLE)
    return found


def test_a_server_answers_as_one_on_the_cpu_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps(dict.fromkeys(asdict(Costs(*([1.0] * 7))), 1e-06)), "utf-8")
    with serving(tmp_path / "cpu", costs_file=costs) as server, a_client(server) as client:
        expected = answers(client)

    def on_contexts(*_: Any, **__: Any) -> CudaBackend:
        cpu = open_backend("cpu", threads=1)
        assert isinstance(cpu, CpuBackend)
        return CudaBackend(HostDevice(compiled_folder(), many_threads=64), cpu, memory_bytes=1 << 30)

    monkeypatch.setattr(engine_module, "open_backend", on_contexts)
    with serving(tmp_path / "cuda", costs_file=costs) as server, a_client(server) as client:
        assert client.server().device == "cuda"
        assert answers(client) == expected
        result = client.search("points", np.zeros(D, np.float32), params=SearchParams(k=1))
        assert result.explanation.device == "cuda"
