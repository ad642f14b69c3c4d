"""A server whose GPU fails: who was being answered is told so, health says so, and the CPU goes on, or nobody does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine.backend import open_backend
from engine.backend.cpu import CpuBackend
from engine.backend.cuda import CudaBackend
from engine.client import RetrievalClient
from engine.errors import DeviceLost
from engine.index.costs import Costs
from engine.pipeline import engine as engine_module
from engine.types import Filter, Item, Range, SearchParams, Strategy, Visibility
from tests.e2e.serving import Serving, a_client, serving, vector_schema, wait_for
from tests.kernels.host_device import COMPILER, Dying, compiled_folder

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed"),
    pytest.mark.timeout(300),  # the first run on a machine compiles the CPU's kernels
]

N, D = 200, 8
PARAMS = SearchParams(k=5, filter=Filter(must=(Range("rank", lt=150),)), strategy=Strategy.EXACT_SCAN)


@contextmanager
def failing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device_lost: Literal["cpu", "fail"], **settings: Any
) -> Iterator[tuple[Serving, RetrievalClient, Dying]]:
    """A server with 200 points on a device that fails when it is told to."""
    device = Dying(compiled_folder(), many_threads=64)

    def on_contexts(*_: Any, **given: Any) -> CudaBackend:
        cpu = open_backend("cpu", threads=1)
        assert isinstance(cpu, CpuBackend)
        return CudaBackend(device, cpu, memory_bytes=1 << 30, device_lost=given["device_lost"])

    monkeypatch.setattr(engine_module, "open_backend", on_contexts)
    with serving(folder / "served", device_lost=device_lost, **settings) as server, a_client(server) as client:
        vectors = np.random.default_rng(1).integers(-4, 5, (N, D)).astype(np.float32)
        client.create_collection(vector_schema(dimension=D))
        items = [Item(n, {}, {"rank": n}, vectors[n]) for n in range(N)]
        client.upsert("points", items, visibility=Visibility.SEARCHABLE)
        yield server, client, device


def is_serving(server: Serving, name: str) -> bool:
    with grpc.insecure_channel(server.target) as channel:
        asked = health_pb2.HealthCheckRequest(service=name)
        status = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10).status
    return bool(status == health_pb2.HealthCheckResponse.SERVING)


def lost_gauge(server: Serving) -> float | None:
    return server.server.metrics.registry.get_sample_value("ebr_device_lost")


def given_costs(folder: Path) -> Path:
    costs = folder / "costs.json"
    costs.write_text(json.dumps(dict.fromkeys(asdict(Costs(*([1.0] * 7))), 1e-06)), "utf-8")
    return costs


def found(client: RetrievalClient) -> list[Any]:
    result = client.search_batch("points", np.ones((3, D), np.float32) * [[1], [2], [3]], params=PARAMS)
    return [(list(ids), list(scores)) for ids, scores in (result.rows(n) for n in range(3))]


def test_the_cpu_goes_on_with_the_same_answers_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(tmp_path, monkeypatch, "cpu", costs_file=given_costs(tmp_path)) as (server, client, device):
        expected = found(client)
        assert (client.server().device, lost_gauge(server)) == ("cuda", 0)
        with caplog.at_level(logging.ERROR, logger="engine.pipeline.device_loss"):
            device.launches_left = 1
            with pytest.raises(DeviceLost, match="illegal memory access"):
                found(client)
            wait_for(lambda: is_serving(server, "points") and is_serving(server, ""))
        assert caplog.text.count("the CPU goes on") == 1
        assert found(client) == expected
        result = client.search("points", np.zeros(D, np.float32), params=PARAMS)
        assert (result.explanation.device, client.server().device, lost_gauge(server)) == ("cpu", "cpu", 1)
        client.upsert("points", [Item(N, {}, {"rank": 0}, np.ones(D, np.float32))], visibility=Visibility.SEARCHABLE)
        assert found(client)[0][0][0] == N


def test_a_device_that_fails_while_collections_are_opened_leaves_them_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = given_costs(tmp_path)
    with failing(tmp_path, monkeypatch, "cpu", costs_file=costs) as (_, client, _):
        expected = found(client)
    device = Dying(compiled_folder(), many_threads=64)

    def fails_after_the_start(*_: Any, **__: Any) -> CudaBackend:
        cpu = open_backend("cpu", threads=1)
        assert isinstance(cpu, CpuBackend)
        backend, before = CudaBackend(device, cpu, memory_bytes=1 << 30), device.launches_left
        backend.warm_up(engine_module._one_row("float16"))
        device.launches_left = before - device.launches_left
        return backend

    monkeypatch.setattr(engine_module, "open_backend", fails_after_the_start)
    with serving(tmp_path / "served", costs_file=costs) as server, a_client(server) as client:
        assert found(client) == expected
        assert (client.server().device, lost_gauge(server)) == ("cpu", 1)
        wait_for(lambda: is_serving(server, "points") and is_serving(server, ""))


def test_where_the_cpu_is_not_to_go_on_every_search_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = given_costs(tmp_path)
    with failing(tmp_path, monkeypatch, "fail", costs_file=costs) as (server, client, device):
        found(client)
        device.launches_left = 0
        for _ in range(2):
            with pytest.raises(DeviceLost):
                found(client)
        wait_for(lambda: not is_serving(server, "points") and not is_serving(server, ""))
        assert lost_gauge(server) == 1
