from __future__ import annotations

import pytest

from engine.cli import session
from engine.errors import CollectionNotFound
from tests.engine.cli.conftest import Run


class _Client:
    """Of a server of which ``jobs`` alone serves."""

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def is_serving(self, collection: str = "") -> bool:
        return collection == "jobs"

    def server(self) -> None: ...

    def get_collection(self, collection: str) -> None:
        if collection == "never":
            raise CollectionNotFound(collection)


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "connect", lambda _: _Client())


def test_health_is_told_in_a_word_and_by_the_exit_status(run: Run) -> None:
    whole, jobs, quiet = run("health"), run("health", "-c", "jobs"), run("health", "--quiet")
    assert (whole.exit_code, whole.stdout.strip()) == (1, "NOT SERVING")
    assert (jobs.exit_code, jobs.stdout.strip()) == (0, "SERVING")
    assert (quiet.exit_code, quiet.stdout) == (1, "")


def test_a_collection_that_does_not_exist_is_told_as_such(run: Run) -> None:
    never = run("health", "-c", "never")
    assert never.exit_code == 1
    assert "never" in never.stderr
    assert "NOT SERVING" not in never.stdout
