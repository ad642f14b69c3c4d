"""What else the machine did, second by second, while something was measured: a pause of it is not the server's."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import cpu_ticks

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_IDLE = ("idle", "iowait", "steal")


@dataclass(frozen=True, slots=True)
class _Seen:
    """Ticks of the machine, and of this process with all that descend from it, dead ones included."""

    machine: Mapping[str, int]
    own: int


@dataclass(slots=True)
class SecondsWatch:
    """Use it in a with statement. Percentages are of all cores' time; own: this process, the servers, the loads."""

    others: list[int] = field(default_factory=list)
    steal: list[int] = field(default_factory=list)
    own_cpu_s: float = 0.0
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> SecondsWatch:
        self._thread = threading.Thread(target=self._watch, name="seconds-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        assert self._thread is not None
        self._thread.join()

    @property
    def second(self) -> int:
        """Of those told, the one that is now."""
        return len(self.others)

    def figures(self) -> dict[str, object]:
        return {"others_percent": self.others, "steal_percent": self.steal}

    def forget(self) -> None:
        """What has been seen so far was only made ready."""
        self.others, self.steal, self.own_cpu_s = [], [], 0.0

    def _watch(self) -> None:
        before = _seen()
        is_over = False
        while not is_over:
            is_over = self._end.wait(1.0)
            now = _seen()
            self._add(before, now)
            before = now

    def _add(self, before: _Seen, now: _Seen) -> None:
        ticks = {name: count - before.machine[name] for name, count in now.machine.items()}
        total = max(1, sum(ticks.values()))
        own = max(0, now.own - before.own)
        busy = total - sum(ticks[name] for name in _IDLE)
        self.others.append(round(100 * max(0, busy - own) / total))
        self.steal.append(round(100 * ticks["steal"] / total))
        self.own_cpu_s += own * _TICK_S


def _seen() -> _Seen:
    return _Seen(cpu_ticks(), _tree_ticks(os.getpid()))


def _tree_ticks(root: int) -> int:
    """Of the process and its descendants, with what their dead children used."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)):
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(int(one) for one in fields[11:15])
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(used.get(pid, 0) for pid in tree)


def _stat(entry: Path) -> list[str]:
    """The fields after the name; none where the process has just ended."""
    try:
        return (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []
