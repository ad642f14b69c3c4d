"""The machine a figure was measured on, and the commit: facts for a report, without names or paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LIBRARIES = (
    *("numpy", "torch", "faiss-cpu", "numba", "onnxruntime", "grpcio", "protobuf"),
    *("cupy-cuda13x", "cuda-bindings", "triton", "faiss-gpu"),
)


class MachineWatch:
    """The machine's facts, with what happened on it since this object was made."""

    def __init__(self) -> None:
        self._ticks = cpu_ticks()
        self._own_s = _own_cpu_s()

    def facts(self) -> dict[str, Any]:
        """Neither names nor paths. Shares are of all cores' time: ``steal_share`` went to other virtual machines,
        ``others_share`` to other programs of this one (children still running count as others).
        """
        ticks = {name: now - self._ticks[name] for name, now in cpu_ticks().items()}
        total = max(1, sum(ticks.values()))
        busy_s = (total - ticks["idle"] - ticks["iowait"] - ticks["steal"]) / os.sysconf("SC_CLK_TCK")
        total_s = total / os.sysconf("SC_CLK_TCK")
        return {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": _rounded(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "steal_share": _rounded(ticks["steal"] / total),
            "others_share": _rounded(max(0.0, busy_s - (_own_cpu_s() - self._own_s)) / total_s),
            "python": platform.python_version(),
            "libraries": library_versions(),
        }


def cpu_ticks() -> dict[str, int]:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    fields = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]
    return dict(zip(names, map(int, fields), strict=False))


def _own_cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def library_versions(names: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the working tree, with "-dirty" where it has changes; "unknown" outside a repository."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return "unknown"
    return head + ("-dirty" if _git("status", "--porcelain", "--", "engine", "kernels", "bench") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _rounded(share: float) -> float:
    return round(share, 4)
