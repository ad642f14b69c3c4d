"""A cache for all benches that are run small, with the kernels that other tests compile too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    kernels = ROOT / ".numba-cache"
    kernels.mkdir(exist_ok=True)
    (folder / "kernel-cache").symlink_to(kernels, target_is_directory=True)
    return folder


@pytest.fixture
def bench_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the benches of a test find in the cache and leave there."""
    monkeypatch.setenv("EBR_BENCH_CACHE", str(cache_folder))
    return cache_folder
