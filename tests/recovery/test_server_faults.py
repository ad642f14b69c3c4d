"""A disk that fails under a served collection: writes are refused with a reason, reads go on, it heals by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.client import RetrievalClient
from engine.errors import ConfigError
from engine.types import Visibility
from tests.conftest import ROOT
from tests.e2e.serving import a_client, serving, vector_schema
from tests.recovery.faulty_disk import preloading
from tests.recovery.faulty_server import FAULTS, POINT, Item

REASONS = {
    "a read-only file system": ("Read-only file system", "readonly database", "disk I/O error", "unable to open"),
    "a full disk": ("No space left", "database or disk is full"),
    "a disk that cannot sync": ("Input/output error", "disk I/O error"),
    "permission lost": ("Permission denied", "unable to open"),
}
GOES_ON = {"permission lost": {"upsert", "delete"}}
"""Files that are open already stay writable."""


@pytest.mark.parametrize("fault", FAULTS)
def test_writes_are_refused_with_a_reason_reads_go_on_and_the_next_write_works(
    faulty_library: Path, tmp_path: Path, fault: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.recovery.faulty_server", str(tmp_path), fault],
        cwd=ROOT,
        env=preloading(faulty_library) | {"PYTHONWARNINGS": "default"},
        stdout=subprocess.PIPE,
        check=True,
    )
    told = json.loads(done.stdout)
    goes_on = GOES_ON.get(fault, set())
    for call in ("upsert", "delete", "create"):
        answer = told["during"][call]
        if call in goes_on:
            assert answer == "done"
        else:
            assert answer.startswith("UNAVAILABLE READ_ONLY"), (call, answer)
            assert any(reason in answer for reason in REASONS[fault]), (call, answer)
    expected = ["[2]", "[2]"] if goes_on else ["[1]", "[1]"]
    assert [told["during"]["search"], told["during"]["get"]] == expected
    assert {told["after"][call] for call in ("upsert", "delete", "create")} == {"done"}
    assert (told["after"]["search"], told["after"]["get"], told["reopened"]) == ("[2]", "[2]", "[2]")


def test_a_second_server_on_the_same_directory_is_refused_and_the_first_serves_on(tmp_path: Path) -> None:
    with serving(tmp_path) as first, a_client(first) as client:
        client.create_collection(vector_schema())
        with pytest.raises(ConfigError, match="in use by another server"), serving(tmp_path):
            pass
        assert upserted(client) == 1
    with serving(tmp_path) as next_one, a_client(next_one) as client:
        assert client.count("points") == 1


def upserted(client: RetrievalClient) -> int:
    return client.upsert("points", [Item(1, {}, {}, POINT)], visibility=Visibility.SEARCHABLE).accepted
