"""Runs something in a fork of this process, which must have no other threads."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any


def in_fork(run: Callable[[], Any]) -> tuple[int, Any]:
    """The exit status of a fork that runs this, and what it returned, or the trace of what it raised."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        status, told = 0, None
        try:
            told = run()
        except BaseException:
            status, told = 1, traceback.format_exc()
        with os.fdopen(writes, "wb") as pipe:
            pickle.dump(told, pipe)
        os._exit(status)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), pickle.loads(content) if content else None
