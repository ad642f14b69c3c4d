"""Every call that a write makes on its files fails, is torn or is the last one: nothing acknowledged is lost by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.recovery.faulty_disk import preloading
from tests.recovery.scenarios import SCENARIOS

MEMORY = Path("/dev/shm")
"""Thousands of small folders come and go; what lasts is simulated, so nothing here needs a disk."""


def swept(library: Path, folder: Path, name: str, form: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.recovery.sweep", name, form],
        cwd=ROOT,
        env={**preloading(library), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", ["short", pytest.param("long", marks=pytest.mark.crash)])
@pytest.mark.parametrize("name", SCENARIOS)
def test_faults_and_power_cuts_lose_nothing_acknowledged_and_leave_nothing_half_there(
    faulty_library: Path, tmp_path: Path, name: str, form: str
) -> None:
    told = swept(faulty_library, MEMORY if os.access(MEMORY, os.W_OK) else tmp_path, name, form)
    if form == "long":
        sys.stdout.write(
            f"\n{name}: {len(told['calls'])} calls, {told['runs']} runs, {len(told['failures'])} failures\n"
        )
    assert told["failures"] == []
    assert len(told["calls"]) >= SCENARIOS[name].least_calls
    assert told["maps"] == 0, "something is written through a map, which no fault here reaches"
