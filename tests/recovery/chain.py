"""Kills one server after the other on one data directory, and keeps account of what was acknowledged."""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO

import numpy as np

from engine.index.costs import Costs
from engine.index.row_image import arrays_path, image_sequences
from tests.conftest import ROOT
from tests.recovery.activities import ACTIVITIES, SCHEMA, TASKS, Value, Write, first_writes, write_of
from tests.recovery.killed_server import Order

_START_SHARE = 0.15
"""Of kills that may come while the server is starting."""
_SWITCHED_SHARE = 0.6
"""Of kills during training that come just after other lists were switched in."""
_PATIENCE_SECONDS = 300.0
"""The first server on a machine compiles."""


@contextmanager
def nursery() -> Iterator[subprocess.Popen[bytes]]:
    """A process that forks servers."""
    command = [sys.executable, "-m", "tests.recovery.killed_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@dataclass
class Chain:
    """A data directory with what is known of it.

    ``kills`` by activity; ``writes`` that were acknowledged; ``with_lists``: servers that found lists when they began;
    ``with_all_changes``: those that found an image of rows and did again every change that the log had still.
    """

    folder: Path
    nursery: subprocess.Popen[bytes]
    seed: int
    changes_kept: int
    known: dict[int, Value] = field(default_factory=dict)
    in_flight: dict[int, Write] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    with_lists: int = 0
    with_all_changes: int = 0
    _next: int = 0
    _unread: bytes = b""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._costs = self.folder / "costs.json"
        self._costs.write_text(json.dumps({one.name: 1e-9 for one in fields(Costs)}))
        for write in first_writes():
            self.known |= write.effect

    def kill_one(self, activity: str) -> None:
        """Start a server, let it check what it finds and write for a while, then kill it."""
        pid = self._start(activity)
        is_early = bool(self.kills) and self._rng.random() < _START_SHARE
        if not is_early:
            self._settle(self._wait_for("sound"))
        if ACTIVITIES[activity].trains and not is_early and self._rng.random() < _SWITCHED_SHARE:
            self._listen_for("trained", activity)
            self._listen(float(self._rng.random()) * 0.05, activity)
        else:
            self._listen(float(self._rng.random()) * ACTIVITIES[activity].seconds, activity)
        self._kill(pid, activity)
        self.kills["starting" if is_early else activity] += 1

    def check(self) -> None:
        """What the last kill left."""
        pid = self._start("upserts")
        self._settle(self._wait_for("sound"))
        self._kill(pid, "upserts")

    def _start(self, activity: str) -> int:
        if self.changes_kept == 0 and self.kills.total() % 2:
            self._damage_newest_image()
        order_file = self.folder / "order"
        data_dir = self.folder / "data"
        in_flight = [*self.in_flight.values()]
        order = Order(data_dir, self._costs, activity, self.seed, self._next, self.known, in_flight, self.changes_kept)
        order_file.write_bytes(pickle.dumps(order))
        self._stdin.write(f"{order_file}\n".encode())
        self._stdin.flush()
        return int(self._wait_for("started")[1])

    def _damage_newest_image(self) -> None:
        """Where there is one before it, behind which the change log begins where it keeps no more than images need."""
        for folder in (self.folder / "data" / "collections" / SCHEMA.name / "versions").iterdir():
            sequences = image_sequences(folder)
            if len(sequences) > 1:
                arrays_path(folder, sequences[0]).write_bytes(b"damaged")

    def _kill(self, pid: int, activity: str) -> None:
        os.kill(pid, signal.SIGKILL)
        while (words := self._read(_PATIENCE_SECONDS)) != ["dead"]:
            self._hear(words, activity)

    def _listen(self, seconds: float, activity: str) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and (words := self._read(left)):
            self._hear(words, activity)

    def _listen_for(self, word: str, activity: str) -> None:
        while (words := self._read(_PATIENCE_SECONDS)) != [word]:
            assert words, f"nothing came while waiting for {word!r}"
            self._hear(words, activity)

    def _wait_for(self, word: str) -> list[str]:
        while (words := self._read(_PATIENCE_SECONDS))[0] != word:
            match words:
                case ["lists", are_there]:
                    self.with_lists += are_there == "True"
                case ["log", first, image]:
                    self.with_all_changes += int(first) == int(image) + 1 > 1
                case _:
                    raise AssertionError(" ".join(words))
        return words

    def _hear(self, words: list[str], activity: str) -> None:
        match words:
            case ["sent", number]:
                self.in_flight[int(number)] = write_of(ACTIVITIES[activity], self.seed, int(number))
                self._next = max(self._next, (int(number) // TASKS + 1) * TASKS)
            case ["acknowledged", number]:
                self.known |= self.in_flight.pop(int(number)).effect
                self.writes += 1
            case ["sound", *found]:
                self._settle(["sound", *found])
            case ["wrong", *_]:
                raise AssertionError(" ".join(words))

    def _settle(self, words: list[str]) -> None:
        """What was in flight was written or was not; from here on that must not change."""
        for number in map(int, words[1:]):
            self.known |= self.in_flight[number].effect
        self.in_flight.clear()

    def _read(self, seconds: float) -> list[str]:
        """The next line's words; none where nothing comes in time."""
        while b"\n" not in self._unread:
            if not select.select([self._stdout], [], [], seconds)[0]:
                return []
            chunk = os.read(self._stdout.fileno(), 65536)
            assert chunk, "the nursery has ended"
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode().split()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.nursery.stdin is not None
        return self.nursery.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self.nursery.stdout is not None
        return self.nursery.stdout
