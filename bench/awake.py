"""Keeps the cores from sleeping while something short is measured, at no cost to anything that wants to run.

A core that sleeps takes long to wake, on a virtual machine up to a millisecond, and a call that passes through five
threads then costs more on an idle machine than on a busy one. One process a core spins at SCHED_IDLE, which yields at
once to every other. Where a benchmark uses this its report says so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_SPIN = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nparent = os.getppid()\n" + (
    "while os.getppid() == parent:\n for _ in range(1000000): pass\n"
)


@contextlib.contextmanager
def cores_awake() -> Iterator[None]:
    """Within this, no core sleeps; the processes end with it, or when their parent does."""
    spinning = [subprocess.Popen([sys.executable, "-S", "-c", _SPIN]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for child in spinning:
            child.kill()
            child.wait()
