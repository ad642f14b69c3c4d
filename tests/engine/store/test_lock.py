from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.store import DirectoryLock


def test_a_second_server_is_refused_with_the_directory_and_the_pid(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path), pytest.raises(ConfigError) as refused:
        DirectoryLock(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert refused.value.metadata["pid"] == str(os.getpid())


def test_a_released_directory_can_be_locked_again(tmp_path: Path) -> None:
    directory = tmp_path / "new"
    DirectoryLock(directory).release()
    with DirectoryLock(directory):
        pass


def test_a_directory_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="file"):
        DirectoryLock(file / "directory")
