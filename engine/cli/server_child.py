"""A server as a child process: started, watched, stopped; its log is told when it dies on its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from engine.errors import DeadlineExceeded, EngineError, Unavailable

if TYPE_CHECKING:
    from engine.client import RetrievalClient

_LOG_LINES = 15
_POLL_SECONDS = 1.0
_DRAIN_SECONDS = 5.0
_STOP_SECONDS = 30.0
_DYING_SECONDS = 0.5


class ServerChild:
    """`ebr serve` on a data directory, with its log in a file there. A context manager: leaving it stops the server."""

    def __init__(self, data_dir: Path, listen: str) -> None:
        self.log_path = data_dir / "server.log"
        self._command = [
            *(sys.executable, "-m", "engine.cli", "serve"),
            *("--data-dir", str(data_dir), "--listen", listen, "--drain-seconds", str(_DRAIN_SECONDS)),
        ]
        self._log: IO[bytes] | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerChild:
        self._log = self.log_path.open("wb")
        # A session of its own: Ctrl-C reaches us alone, and we stop it in our own time.
        self._child = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        assert self._log is not None
        self._child.terminate()
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._log.close()

    def wait_until_serving(self, client: RetrievalClient, collection: str = "", *, timeout_s: float) -> None:
        """Return when the server, or the collection, serves.

        Raises:
            Unavailable: it died; the message has the last lines of its log.
            DeadlineExceeded: it lives but did not serve within ``timeout_s``.
        """
        end = time.monotonic() + timeout_s
        while True:
            try:
                client.wait_until_serving(collection, timeout_s=_POLL_SECONDS)
            except DeadlineExceeded:
                self._raise_if_dead()
                if time.monotonic() > end:
                    raise
            else:
                self._raise_if_dead()
                return

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What fails in here because the server died says so."""
        try:
            yield
        except EngineError:
            # A dying process closes its port before it can be waited for.
            with suppress(subprocess.TimeoutExpired):
                assert self._child is not None
                self._child.wait(_DYING_SECONDS)
            self._raise_if_dead()
            raise

    def wait(self) -> None:
        """Return never, but by an exception.

        Raises:
            Unavailable: the server died.
        """
        assert self._child is not None
        self._child.wait()
        self._raise_if_dead()

    def _raise_if_dead(self) -> None:
        assert self._child is not None
        status = self._child.poll()
        if status is not None:
            raise Unavailable(
                f"the server ended with status {status}; the end of {self.log_path}:\n{self._last_lines()}",
                log=str(self.log_path),
            )

    def _last_lines(self) -> str:
        lines = self.log_path.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:]) or "(empty)"
