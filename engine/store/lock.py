"""One server per data directory: an advisory lock that dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from engine.errors import ConfigError
from engine.store.folders import make_folder

LOCK_NAME = "server.lock"


class DirectoryLock:
    """Holds ``directory`` until released; use it as a context manager or call release().

    Raises:
        ConfigError: another server holds the directory, or no lock file can be made in it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK_NAME
        try:
            make_folder(directory)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as fault:
            raise ConfigError(f"data directory {directory} cannot be locked: {fault}", directory=directory) from fault
        self._acquire()

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except OSError as fault:
            refusal = self._refusal(fault)
            os.close(self._descriptor)
            raise refusal from fault

    def _refusal(self, fault: OSError) -> ConfigError:
        directory = self._path.parent
        if not isinstance(fault, BlockingIOError):
            return ConfigError(f"data directory {directory} cannot be locked: {fault}", directory=directory)
        # The holder may have been stopped between taking the lock and writing its pid.
        pid = os.pread(self._descriptor, 32, 0).decode(errors="replace") or "unknown"
        message = (
            f"data directory {directory} is in use by another server, process {pid}: stop that, or use another folder"
        )
        return ConfigError(message, directory=directory, pid=pid)

    def release(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
