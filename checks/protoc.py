"""Runs the pinned protobuf compiler of .venv-proto over proto/. Standard library only."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-proto" / "bin" / "python"
_GOOGLE_PROTOS = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


class ProtocFailed(Exception):
    """The compiler is missing or refused its input; the message says which."""


def run_protoc(proto_root: Path, arguments: Sequence[str]) -> None:
    """Compile every .proto under ``proto_root`` with the given output arguments.

    Raises:
        ProtocFailed: with the compiler's own words.
    """
    if not PYTHON.exists():
        raise ProtocFailed(".venv-proto is missing: `make stubs` and `make check` create it")
    google = _run([str(PYTHON), "-c", _GOOGLE_PROTOS]).strip()
    sources = sorted(str(path) for path in proto_root.rglob("*.proto"))
    _run([str(PYTHON), "-m", "grpc_tools.protoc", f"-I{proto_root}", f"-I{google}", *arguments, *sources])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProtocFailed(done.stderr.strip() or f"{command[0]} failed with {done.returncode}")
    return done.stdout
