from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = {
    "cupy",
    "faiss",
    "numba",
    "onnxruntime",
    "pyarrow",
    "pydantic",
    "rich",
    "sentence_transformers",
    "sqlite3",
    "tokenizers",
    "torch",
    "transformers",
    "typer",
}
CLIENT_ONLY = {
    "engine",
    "engine.client",
    "engine.convert",
    "engine.dtypes",
    "engine.convert_columns",
    "engine.errors",
    "engine.item_columns",
    "engine.ranking",
    "engine.scoring",
    "engine.selection",
    "engine.types",
    "engine.v1",
}


def _modules_after(statement: str) -> set[str]:
    """The names in sys.modules of a fresh interpreter that has run ``statement``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print('\\n'.join(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import engine", "import engine.client", "import kernels"])
def test_importing_the_package_loads_no_heavy_library(statement: str) -> None:
    assert not HEAVY & _modules_after(statement)


def test_importing_the_engine_does_not_even_load_grpc_or_numpy() -> None:
    assert not {"grpc", "google.protobuf", "numpy"} & _modules_after("import engine")


def test_the_client_loads_the_wire_and_the_nouns_and_nothing_else_of_ours() -> None:
    ours = {name for name in _modules_after("import engine.client") if name.partition(".")[0] in ("engine", "kernels")}
    assert {".".join(name.split(".")[:2]) for name in ours} <= CLIENT_ONLY
