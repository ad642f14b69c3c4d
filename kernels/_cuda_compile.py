"""Our CUDA sources compiled by NVRTC, which needs neither a toolkit nor a driver; what was compiled is kept on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kernels._cuda_device import DeviceFailed

SOURCES = Path(__file__).parent


class CompileFailed(DeviceFailed):
    """The message is the compiler's own."""


def compiled(source: str, defines: Sequence[str], *, architecture: str, folder: Path | None = None) -> bytes:
    """Machine code (a cubin) for ``sm_80`` or the like, from ``folder`` where it is kept there already.

    Raises:
        CompileFailed: the source is at fault, or the compiler does not know the architecture.
        ImportError: cuda-bindings is not installed.
    """
    kept = (
        None if folder is None else folder / f"{Path(source).stem}-{_key(source, tuple(defines), architecture)}.cubin"
    )
    if kept is not None and kept.is_file():
        return kept.read_bytes()
    code = _compile(source, defines, architecture)
    if kept is not None:
        _keep(kept, code)
    return code


@cache
def _headers() -> tuple[tuple[bytes, bytes], ...]:
    """(name, text) of each."""
    return tuple((one.name.encode(), one.read_bytes()) for one in sorted(SOURCES.glob("*.cuh")))


def _key(source: str, defines: tuple[str, ...], architecture: str) -> str:
    nvrtc = _nvrtc()
    version = nvrtc.nvrtcVersion()[1:]
    told = repr((version, architecture, defines, (SOURCES / source).read_bytes(), _headers()))
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def _compile(source: str, defines: Sequence[str], architecture: str) -> bytes:
    nvrtc = _nvrtc()
    names, texts = zip(*_headers(), strict=True)
    text = (SOURCES / source).read_bytes()
    _, program = nvrtc.nvrtcCreateProgram(text, source.encode(), len(names), list(texts), list(names))
    try:
        options = [f"-arch={architecture}".encode(), *(f"-D{one}".encode() for one in defines)]
        (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileFailed(f"{source} for {architecture}: {_log(nvrtc, program)}")
        _, size = nvrtc.nvrtcGetCUBINSize(program)
        code = bytearray(size)
        nvrtc.nvrtcGetCUBIN(program, code)
        return bytes(code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _log(nvrtc: Any, program: Any) -> str:
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    return log.decode("utf-8", "replace").strip("\0 \n")


def _keep(path: Path, code: bytes) -> None:
    """Written aside and renamed: another process may be at it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(code)
    Path(aside).replace(path)


def _nvrtc() -> Any:
    from cuda.bindings import nvrtc

    return nvrtc
