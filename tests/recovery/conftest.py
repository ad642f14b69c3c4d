"""How long the crash tests run and from which seed, and the disk that fails when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recovery.faulty_disk import built_in


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload, built once."""
    return built_in(tmp_path_factory.mktemp("faulty"))
