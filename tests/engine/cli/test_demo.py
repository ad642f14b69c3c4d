from __future__ import annotations

import socket
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from engine.cli import demo as demo_command
from engine.cli import session
from engine.client import SimilarTo
from engine.errors import ConfigError
from engine.types import Range
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeClient, FakeServer

CORPUS = Path(str(resources.files("engine"))) / "demo_data" / "onet"


class _NoChild:
    """Stands for a server process that is up."""

    def __init__(self, data_dir: Path, listen: str) -> None:
        self.listen = listen

    def __enter__(self) -> _NoChild:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def wait_until_serving(self, *_: Any, **__: Any) -> None:
        return None

    def watched(self) -> _NoChild:
        return self

    def wait(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _child(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> None:
    monkeypatch.setattr(demo_command, "ServerChild", _NoChild)
    monkeypatch.setattr(session, "connect", server.client)


def test_once_loads_and_searches_and_does_not_say_how_to_go_on(run: Run, server: FakeServer, tmp_path: Path) -> None:
    result = run("demo", "--once", "--data-dir", tmp_path)

    assert result.exit_code == 0, result.stderr
    assert len(server.items["occupations"]) == 1_016
    assert "1,016 occupations encoded and loaded" in result.stdout
    assert "grpcurl" not in result.stdout
    assert "without --once the server stays up" in result.stdout
    queries = [query for query, _ in server.searches]
    assert isinstance(queries[-1], SimilarTo)
    assert any(params.filter.must == (Range("job_zone", lte=2),) for _, params in server.searches)


def test_a_second_start_sends_nothing_again(run: Run, server: FakeServer, tmp_path: Path) -> None:
    run("demo", "--once", "--data-dir", tmp_path)
    server.batches.clear()

    result = run("demo", "--once", "--data-dir", tmp_path)

    assert "1,016 occupations are loaded already" in result.stdout
    assert server.batches == []


def test_a_demo_of_another_schema_is_told_with_its_folder(run: Run, server: FakeServer, tmp_path: Path) -> None:
    run("demo", "--once", "--data-dir", tmp_path)
    server.schemas["occupations"] = replace(server.schemas["occupations"], text_fields=())

    result = run("demo", "--once", "--data-dir", tmp_path)

    assert result.exit_code == 1
    assert f"{tmp_path} has another demo: schema: collection 'occupations' exists and differs" in result.stderr
    assert "remove the folder" in result.stderr


def test_the_demo_serves_until_it_is_interrupted(run: Run, tmp_path: Path) -> None:
    result = run("demo", "--data-dir", tmp_path)

    assert result.exit_code == 0
    assert "grpcurl" in result.stdout
    assert '-f "title contains nurse" --mode hybrid' in result.stdout
    assert "serving until Ctrl-C" in result.stdout
    assert "stopped" in result.stderr


def test_the_first_start_says_what_takes_long(run: Run, tmp_path: Path) -> None:
    first = run("demo", "--once", "--data-dir", tmp_path)
    (tmp_path / "kernel-cache").mkdir()
    second = run("demo", "--once", "--data-dir", tmp_path)

    assert "compiles the kernels" in first.stdout
    assert "compiles the kernels" not in second.stdout


def test_commands_are_told_as_this_shell_can_call_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["elsewhere/bin/ebr"])
    monkeypatch.setenv("PATH", str(tmp_path))
    apart = run("demo", "--data-dir", tmp_path).stdout
    (tmp_path / "ebr").touch(mode=0o755)
    on_path = run("demo", "--data-dir", tmp_path).stdout

    assert "  elsewhere/bin/ebr collection get occupations" in apart
    assert "  ebr collection get occupations" in on_path


def test_a_port_that_is_taken_is_told(run: Run, tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]

        result = run("demo", "--once", "--data-dir", tmp_path, "--port", port)

        with pytest.raises(ConfigError):
            demo_command._free_port([port])
        assert demo_command._free_port([port, 0]) != port

    assert result.exit_code == 1
    assert f"port {port} is taken" in result.stderr


def test_the_job_titles_are_real_ones() -> None:
    titles = demo_command._job_titles(CORPUS / "queries.jsonl.gz")

    assert len(set(titles)) == 3
    assert all(titles)


def test_the_client_of_these_tests_has_the_methods_of_the_real_one() -> None:
    from engine.client import RetrievalClient

    named = {name for name in vars(FakeClient) if not name.startswith("_")}

    assert named <= set(dir(RetrievalClient))
