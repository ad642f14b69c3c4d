from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli import serve as serve_command
from engine.cli.logs import configure_logging
from engine.config import Settings, load_settings
from tests.conftest import ROOT
from tests.engine.cli.conftest import JOBS, Run
from tests.engine.cli.fake import FakeClient, FakeServer


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in ("engine", "kernels")}
    kept, level = root.handlers[:], root.level
    yield
    root.handlers[:] = kept
    root.setLevel(level)
    for name, one in levels.items():
        logging.getLogger(name).setLevel(one)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that servers were started with."""
    started: list[Settings] = []
    monkeypatch.setattr(serve_command, "run_server", started.append)
    return started


def test_flags_and_file_make_the_settings(run: Run, served: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "ebr.toml"
    config.write_text('listen = "127.0.0.1:1"\ndrain_seconds = 3', "utf-8")

    result = run("serve", "--config", config, "--listen", "127.0.0.1:2", "--encode-batch-ms", "7.5")

    assert result.exit_code == 0, result.stderr
    assert (served[0].listen, served[0].drain_seconds, served[0].encode_batch_ms) == ("127.0.0.1:2", 3.0, 7.5)


def test_a_port_that_is_taken_is_told_in_one_line_of_our_own(tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        listen = f"127.0.0.1:{one.getsockname()[1]}"
        command = [sys.executable, "-m", "engine.cli", "serve", "--data-dir", str(tmp_path), "--listen", listen]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)

    assert ended.returncode == 1
    told = f"cannot listen on {listen}: Address already in use; another address: --listen"
    assert [line for line in ended.stderr.splitlines() if " info " not in line] == [told]


def test_a_schema_that_cannot_be_read_stops_before_the_server_starts(run: Run, served: list[Settings]) -> None:
    result = run("serve", "--collection", "none.toml")

    assert result.exit_code == 1
    assert "none.toml" in result.stderr
    assert not served


def test_the_collections_of_the_command_line_are_made_where_they_are_absent(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeClient, "wait_until_serving", lambda *_, **__: None, raising=False)
    del server.schemas["jobs"]

    serve_command._create_absent("0.0.0.0:1", [JOBS])
    serve_command._create_absent("0.0.0.0:1", [JOBS])

    assert server.schemas == {"jobs": JOBS}


@pytest.mark.parametrize(
    ("listen", "target"),
    [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("127.0.0.1:2", "127.0.0.1:2"), ("host:3", "host:3")],
)
def test_a_client_on_this_machine_finds_the_server(listen: str, target: str) -> None:
    assert serve_command.local_target(listen) == target


def test_a_log_line_is_a_json_object_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings(flags={"log_format": "json", "log_level": "debug"}, environ={}))

    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("engine.x").exception("it is %s", "ä")
    logging.getLogger("other").info("not ours")

    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"]) == ("error", "engine.x", "it is ä")
    assert told["time"].endswith("Z")
    assert "ValueError: broken" in told["error"]


def test_a_log_line_is_text_else(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings(environ={}))

    logging.getLogger("engine.x").info("hello")
    logging.getLogger("engine.x").debug("too much")

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("Z info    engine.x: hello")
