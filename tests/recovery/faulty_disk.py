"""The preloaded disk that fails when told to (``faulty_disk.c``): how it is built, preloaded and told."""

from __future__ import annotations

import ctypes
import enum
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.recovery.power_cut import unsynced_inodes

SOURCE = Path(__file__).with_name("faulty_disk.c")
ENDED = 77
"""Exit status of a process that was ended at a call."""

_COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")


class Action(enum.IntEnum):
    """What becomes of the n-th call. A torn write writes half; END_AFTER tears a write too, and does other calls."""

    NOTHING = 0
    REFUSE = 1
    TEAR = 2
    END_BEFORE = 3
    END_AFTER = 4


class Kind(enum.IntFlag):
    """Of calls; LOOK opens for reading, OPEN for writing, MAKE makes folders."""

    LOOK = 1
    OPEN = 2
    WRITE = 4
    SYNC = 8
    TRUNCATE = 16
    RENAME = 32
    REMOVE = 64
    MAKE = 128


EVERY_KIND = Kind(0)
CHANGING = Kind(255) & ~Kind.LOOK
GROWING = Kind.OPEN | Kind.WRITE | Kind.SYNC | Kind.TRUNCATE | Kind.MAKE


def built_in(folder: Path) -> Path:
    """The library, compiled into ``folder``; skips where there is no C compiler."""
    if _COMPILER is None:
        pytest.skip("no C compiler (gcc, cc or clang): the faulty disk cannot be built")
    library = folder / "faulty_disk.so"
    command = [_COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl", "-pthread"], check=True)
    return library


def preloading(library: Path) -> dict[str, str]:
    """The environment of a process that is to have it."""
    return {**os.environ, "LD_PRELOAD": str(library), "PYTHONWARNINGS": "error"}


class FaultyDisk:
    """Tells the library of this process what to do with calls on files under ``root``."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        for name, result in (("faulty_call", ctypes.c_char_p), ("faulty_calls", ctypes.c_long)):
            getattr(self._library, name).restype = result
        self._library.faulty_writable_maps.restype = ctypes.c_long
        self._library.faulty_unsynced.argtypes = [ctypes.c_ulong]

    def watch(self, root: Path) -> None:
        self._library.faulty_root(os.fsencode(root))

    def arm(self, action: Action, nth: int, error: int = 0, *, lasts: bool = False, kinds: Kind = EVERY_KIND) -> None:
        """Count anew; ``lasts``: every call from the n-th on; ``kinds``: other calls are not counted."""
        self._library.faulty_arm(int(action), ctypes.c_long(nth), error, int(lasts), int(kinds))

    def disarm(self) -> None:
        self.arm(Action.NOTHING, 0)

    def keep_journal(self, folder: Path) -> None:
        """From here on what is not synced can be taken back; goes on with the journal of an earlier process."""
        folder.mkdir(exist_ok=True)
        known = unsynced_inodes(folder)
        self._library.faulty_journal(os.fsencode(folder))
        for inode in known:
            self._library.faulty_unsynced(inode)

    def end_journal(self) -> None:
        self._library.faulty_journal(None)

    @property
    def n_calls(self) -> int:
        return int(self._library.faulty_calls())

    @property
    def calls(self) -> list[str]:
        """Those counted since it was armed, as ``name path``."""
        return [self._library.faulty_call(ctypes.c_long(n)).decode() for n in range(1, self.n_calls + 1)]

    @property
    def writable_maps(self) -> int:
        """Shared writable maps of files under the root: what is written through them passes the library by."""
        return int(self._library.faulty_writable_maps())
