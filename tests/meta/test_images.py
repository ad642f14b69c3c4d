"""The images: what can be told of them without building one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

IMAGES = ["Dockerfile", "Dockerfile.cuda"]


def stages(name: str) -> list[list[str]]:
    """The instructions of each stage, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text("utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM "):
            found.append([])
        if found:
            found[-1].append(line)
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_installs_as_make_does_and_its_last_stage_has_no_tools(name: str) -> None:
    build, final = stages(name)
    assert sum("make venv VENV=/usr/local/ebr" in line for line in build) == 1
    assert not any(re.search(r"\b(pip|make|gcc|g\+\+|build-essential|-dev)\b", line) for line in final)
    assert "COPY --from=build /usr/local/ebr /usr/local/ebr" in final


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_serves_as_a_user_of_its_own_and_tells_its_health(name: str) -> None:
    final = stages(name)[-1]
    assert "USER ebr" in final
    assert any(line.startswith("HEALTHCHECK") and '["ebr", "health", "--quiet"]' in line for line in final)
    assert 'ENTRYPOINT ["ebr", "serve"]' in final


def test_what_the_images_copy_is_all_that_make_venv_needs() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert {
        "Makefile",
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "NOTICE",
        "engine",
        "kernels",
    } == kept
    assert all((ROOT / name).exists() for name in kept)


def test_make_venv_installs_a_copy_with_the_extras_asked_for_and_says_where_it_needs_a_place() -> None:
    told = subprocess.run(
        ["make", "-n", "venv", "VENV=/nowhere", "EXTRAS=gpu,minilm"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "/nowhere/bin/python -m pip" in told
    assert "'.[gpu,minilm]'" in told
    assert " -e " not in told
    refused = subprocess.run(["make", "venv"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "VENV=DIR" in refused.stderr
    assert not Path("/nowhere").exists()
