"""What every test may ask for: the development data, and repeatable Hypothesis runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from engine import threads

ROOT = Path(__file__).parents[1]

# Before any test loads a library that has threads; kernels are compiled once, for the processes that tests start too.
threads.configure(None, ROOT / ".numba-cache")

# A console that is made while it is set keeps that width, whatever a test sets later; pytest-xdist sets it.
os.environ.pop("COLUMNS", None)

# The same examples each time, and no wall-clock limit per example: a busy machine is no failure.
settings.register_profile("ebr", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("ebr")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of development data sets, from EBR_DATA or beside the repository; skips where there is none."""
    folder = Path(os.environ.get("EBR_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no development data: set EBR_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def demo_dir() -> Path:
    """The demo corpus that ships with the engine."""
    return ROOT / "engine" / "demo_data" / "onet"
