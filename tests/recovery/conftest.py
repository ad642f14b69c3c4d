"""How long the crash tests run and from which seed, and the disk that fails when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recovery.faulty_disk import built_in


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="of the moments of kills and of what is written")
    parser.addoption("--kills", type=int, default=300, help="how many servers the long form kills")


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload, built once."""
    return built_in(tmp_path_factory.mktemp("faulty"))
