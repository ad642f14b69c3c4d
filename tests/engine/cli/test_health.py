from __future__ import annotations

import pytest

from engine.cli import session
from tests.engine.cli.conftest import Run


class _Client:
    """Of a server of which ``jobs`` alone serves."""

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def is_serving(self, collection: str = "") -> bool:
        return collection == "jobs"


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "connect", lambda _: _Client())


def test_health_is_told_in_a_word_and_by_the_exit_status(run: Run) -> None:
    whole, jobs, quiet = run("health"), run("health", "-c", "jobs"), run("health", "--quiet")
    assert (whole.exit_code, whole.stdout.strip()) == (1, "NOT SERVING")
    assert (jobs.exit_code, jobs.stdout.strip()) == (0, "SERVING")
    assert (quiet.exit_code, quiet.stdout) == (1, "")
