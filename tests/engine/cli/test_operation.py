from __future__ import annotations

import json

from engine.errors import ReadOnly
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeServer


def test_a_compaction_is_followed_to_its_end(run: Run, server: FakeServer) -> None:
    told = run("collection", "compact", "jobs")
    assert told.exit_code == 0
    assert told.stdout == "compact-1 of jobs: done\n"


def test_a_compaction_that_is_not_waited_for_is_listed_shown_and_cancelled(run: Run, server: FakeServer) -> None:
    assert run("collection", "compact", "jobs", "--no-wait").stdout == "compact-1 of jobs: copying 25%\n"
    listed = run("operation", "list").stdout
    assert "compact-1" in listed
    assert "copying 25%" in listed
    assert json.loads(run("operation", "show", "compact-1", "--json").stdout)["collection"] == "jobs"
    assert "failed: the operation was cancelled" in run("operation", "cancel", "compact-1").stdout


def test_what_an_operation_fails_with_is_told_in_one_line(run: Run, server: FakeServer) -> None:
    server.operation_error = ReadOnly("copying live rows failed: No space left on device")
    told = run("collection", "compact", "jobs")
    assert told.exit_code == 1
    assert "No space left on device" in told.stderr
    assert "Traceback" not in told.stderr


def test_no_operations_and_unknown_ones_are_told(run: Run, server: FakeServer) -> None:
    assert "no operations" in run("operation", "list").stdout
    assert "compact-9" in run("operation", "show", "compact-9").stderr
    assert json.loads(run("operation", "list", "--json").stdout) == []
