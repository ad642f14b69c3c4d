"""The base install, as a ranking service gets it: a wheel in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(600)  # it downloads grpcio, numpy and protobuf

BASE = {"ebr-engine", "googleapis-common-protos", "grpcio", "grpcio-health-checking", "numpy", "pip", "protobuf"}
BROUGHT_ALONG = {"setuptools", "typing-extensions"}
OFFLINE = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "Temporary failure in name resolution")


@pytest.fixture(scope="module")
def base_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the base install; the wheel is built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("base")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("engine", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", source]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in OFFLINE):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return python


def _run(python: Path, code: str) -> str:
    """Run apart from this repository: isolated mode, and its own folder."""
    done = subprocess.run([python, "-I", "-c", code], cwd=python.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_base_install_is_the_client_and_nothing_more(base_python: Path) -> None:
    code = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    installed = {name.lower().replace("_", "-") for name in _run(base_python, code).split()}
    assert installed - BROUGHT_ALONG == BASE


def test_the_client_works_on_the_base_install(base_python: Path) -> None:
    code = "from engine.client import RetrievalClient; import engine; print(RetrievalClient is engine.RetrievalClient)"
    assert _run(base_python, code) == "True"


def test_the_client_can_be_made_and_closed_without_a_server(base_python: Path) -> None:
    code = "from engine import RetrievalClient\nwith RetrievalClient('127.0.0.1:1'): print('made')"
    assert _run(base_python, code) == "made"


def test_the_wheel_carries_its_version_and_its_files(base_python: Path) -> None:
    code = "import engine; print(engine.__version__, engine.__path__[0])"
    version, installed = _run(base_python, code).split()
    assert version == "0.1.0"
    demo = [f"demo_data/onet/{path.name}" for path in (ROOT / "engine/demo_data/onet").iterdir()]
    for name in (*demo, "v1/common_pb2.pyi", "py.typed"):
        assert (Path(installed) / name).is_file()


def test_the_base_install_s_command_says_which_extra_it_needs(base_python: Path) -> None:
    done = subprocess.run([base_python.parent / "ebr", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install '.[cpu,minilm]' in a clone" in done.stderr
    assert "Traceback" not in done.stderr
