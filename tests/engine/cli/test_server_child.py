from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from engine.cli.server_child import ServerChild
from engine.errors import DeadlineExceeded, Unavailable


class _Never:
    """A client whose server never serves."""

    def wait_until_serving(self, collection: str = "", *, timeout_s: float = 60.0) -> None:
        raise DeadlineExceeded("not yet")


class _Serving:
    def wait_until_serving(self, collection: str = "", *, timeout_s: float = 60.0) -> None:
        return None


def _child(tmp_path: Path, script: str) -> ServerChild:
    child = ServerChild(tmp_path, "127.0.0.1:1")
    child._command = [sys.executable, "-c", script]
    return child


def test_a_server_that_dies_at_its_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    script = "import sys; [print(f'line {i}', file=sys.stderr) for i in range(100)]; sys.exit(3)"

    with _child(tmp_path, script) as child, pytest.raises(Unavailable) as caught:
        child.wait_until_serving(_Never(), timeout_s=60)  # type: ignore[arg-type]

    assert "status 3" in caught.value.message
    assert caught.value.message.endswith("line 98\nline 99")
    assert "line 50" not in caught.value.message


def test_a_server_that_lives_but_does_not_serve_runs_into_the_time_given(tmp_path: Path) -> None:
    with _child(tmp_path, "import time; time.sleep(60)") as child, pytest.raises(DeadlineExceeded):
        child.wait_until_serving(_Never(), timeout_s=0)  # type: ignore[arg-type]


def test_what_fails_because_the_server_died_says_so(tmp_path: Path) -> None:
    with _child(tmp_path, "import sys; sys.exit('out of memory')") as child:
        child._child.wait()  # type: ignore[union-attr]
        with pytest.raises(Unavailable, match="out of memory"), child.watched():
            raise Unavailable("connection reset")


def test_leaving_stops_the_server(tmp_path: Path) -> None:
    with _child(tmp_path, "import time; time.sleep(60)") as child:
        child.wait_until_serving(_Serving(), timeout_s=60)  # type: ignore[arg-type]
        assert child._child is not None
        pid = child._child.pid

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
