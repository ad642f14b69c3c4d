from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.cli import main, session
from engine.types import AttributeSpec, AttributeType, Schema, TextField
from tests.engine.cli.fake import FakeServer

Run = Callable[..., Result]

JOBS = Schema(
    name="jobs",
    encoder="minilm",
    text_fields=(TextField("title"),),
    attributes=(
        AttributeSpec("company", AttributeType.KEYWORD),
        AttributeSpec("places", AttributeType.KEYWORD_LIST),
        AttributeSpec("remote", AttributeType.BOOL),
        AttributeSpec("published", AttributeType.TIMESTAMP),
        AttributeSpec("pay", AttributeType.FLOAT),
    ),
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeServer:
    """A server with an empty collection `jobs`, and a cache folder of its own."""
    one = FakeServer()
    one.client("").create_collection(JOBS)
    monkeypatch.setattr(session, "connect", one.client)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("EBR_TARGET", raising=False)
    return one


@pytest.fixture
def run() -> Run:
    """Runs `ebr` with the arguments given."""

    def run(*args: object) -> Result:
        return CliRunner().invoke(main.app, [str(one) for one in args], catch_exceptions=False)

    return run
