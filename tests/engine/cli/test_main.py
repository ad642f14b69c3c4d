from __future__ import annotations

import subprocess
import sys

import pytest

import engine
from engine.cli import session
from engine.cli.main import LazyGroup
from engine.config import Settings
from engine.errors import Unavailable
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeServer

COMMANDS = ("serve", "demo", "load", "search", "collection", "get", "delete", "count", "export", "doctor")


def test_the_help_lists_every_command_and_loads_none_of_them(run: Run) -> None:
    result = run("--help")

    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)


def test_the_version_is_told_without_a_command(run: Run) -> None:
    result = run("--version")

    assert (result.exit_code, result.stdout) == (0, f"{engine.__version__}\n")


def test_the_help_needs_no_heavy_library() -> None:
    script = (
        "import sys\n"
        "from engine.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'pydantic', 'numpy', 'grpc', 'torch', 'faiss', 'numba', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_and_an_example_of_its_options(run: Run, command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "--help" in result.output


def test_the_help_of_serve_shows_every_setting_with_its_default(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    shown = run("serve", "--help").output

    for name, setting in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        if setting.default:
            assert f"(default {setting.default})" in shown or setting.default_factory or setting.default is None
    assert "milliseconds" in shown


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    assert run("sarch").exit_code == 2


def test_a_server_that_does_not_answer_is_told_in_one_line(run: Run, server: FakeServer) -> None:
    server.is_reachable = False

    result = run("count", "-c", "jobs", "--target", "localhost:1")

    assert result.exit_code == 1
    assert result.stderr == "no server answers at localhost:1: start one with `ebr serve`\n"


def test_a_connection_that_breaks_has_its_hint_and_a_server_that_was_never_there_has_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session.tell_error(Unavailable("the stream was reset"))
    session.tell_error(Unavailable("no host is found at nowhere:1", target="nowhere:1"))

    told = capsys.readouterr().err
    assert told.count("the connection to the server broke") == 1
    assert told.endswith("no host is found at nowhere:1\n")


def test_the_target_may_come_from_the_environment(
    run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.is_reachable = False
    monkeypatch.setenv("EBR_TARGET", "elsewhere:7")

    assert "elsewhere:7" in run("count", "-c", "jobs").stderr


def test_an_error_comes_with_what_to_do_next(run: Run, server: FakeServer) -> None:
    result = run("count", "-c", "none")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "no collection named 'none'"
    assert "ebr collection list" in result.stderr


@pytest.mark.usefixtures("server")
def test_a_setting_that_is_unusable_is_told_in_one_line(run: Run) -> None:
    result = run("serve", "--recall-target", "2")

    assert result.exit_code == 1
    assert result.stderr.startswith("recall_target: ")
    assert "from the command line" in result.stderr


def test_the_group_knows_only_its_own_commands() -> None:
    assert LazyGroup(name="x").get_command(None, "none") is None
