"""Compares engine/v1 with what proto/ generates (`python -m checks.stubs`), or replaces it (`... write`)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checks.protoc import ROOT, ProtocFailed, run_protoc

STUBS = ROOT / "engine" / "v1"
PROTO = ROOT / "proto"
_PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")


def find_drift(*, proto: Path = PROTO, stubs: Path = STUBS) -> list[str]:
    """One line for each stub that is missing, left over or different."""
    with _generated(proto) as fresh:
        expected, found = _read(fresh), _read(stubs)
    names = sorted(expected.keys() | found.keys())
    return [f"{name}: {_verdict(name, expected, found)}" for name in names if expected.get(name) != found.get(name)]


def write() -> None:
    """Replace engine/v1's generated files; its __init__.py stays."""
    with _generated(PROTO) as fresh:
        for name in _read(STUBS):
            (STUBS / name).unlink()
        for name in _read(fresh):
            shutil.copy(fresh / name, STUBS / name)


@contextmanager
def _generated(proto: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        run_protoc(proto, [f"--{kind}={folder}" for kind in ("python_out", "pyi_out", "grpc_python_out")])
        yield Path(folder) / "engine" / "v1"


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for pattern in _PATTERNS for path in sorted(folder.glob(pattern))}


def _verdict(name: str, expected: dict[str, bytes], found: dict[str, bytes]) -> str:
    if name not in found:
        return "missing"
    return "differs from what proto/ generates" if name in expected else "no proto generates it"


def main() -> int:
    try:
        if sys.argv[1:] == ["write"]:
            write()
            return 0
        drift = find_drift()
    except ProtocFailed as error:
        drift = [str(error)]
    for line in drift:
        print(f"engine/v1: {line}")
    return 1 if drift else 0


if __name__ == "__main__":
    sys.exit(main())
