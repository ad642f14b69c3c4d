from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXT = {".cfg", ".cu", ".md", ".proto", ".py", ".pyi", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
# A path below a home or a scratch folder, or one with a drive letter.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:home|root|tmp|opt|work|Users|mnt|data)/[\w.-]+|\b[A-Z]:\\\\?\w")


def _tracked() -> Iterator[Path]:
    """Files that git has or would take."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file():
            yield ROOT / name


def test_no_file_speaks_of_one_machine_s_folders() -> None:
    found = []
    for path in _tracked():
        if path.suffix not in TEXT or path == Path(__file__) or "results" in path.parts:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if match := MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["open('/home/ann/x')", "see /tmp/run.log", "C:\\Users\\ann"])
def test_a_machine_s_path_is_recognised(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line", ["https://host/home/x", "../shared/data", "proto/engine/v1", "$HOME/data/x", "/usr/bin/env"]
)
def test_a_path_that_holds_anywhere_is_let_pass(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def test_no_tracked_file_is_larger_than_a_mebibyte() -> None:
    assert [path.name for path in _tracked() if path.stat().st_size > 2**20] == []


def test_every_test_folder_is_a_package_so_that_it_cannot_shadow_ours() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_our_kernels_has_no_version_that_could_be_taken_for_another_package_s() -> None:
    assert "__version__" not in (ROOT / "kernels" / "__init__.py").read_text()


def test_proto_holds_no_python() -> None:
    assert list((ROOT / "proto").rglob("*.py")) == []
