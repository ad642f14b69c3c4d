"""The faults and power cuts that every scenario is swept with, and how thoroughly."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from tests.recovery.faulty_disk import CHANGING, EVERY_KIND, GROWING, Action, Kind
from tests.recovery.power_cut import Keeps


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the n-th call, and to later ones where it ``lasts``."""

    name: str
    action: Action
    error: int = 0
    lasts: bool = False
    kinds: Kind = EVERY_KIND

    @property
    def ends(self) -> bool:
        return self.action in {Action.END_BEFORE, Action.END_AFTER}


FAULTS = (
    Fault("input/output error", Action.REFUSE, errno.EIO),
    Fault("torn, then an error", Action.TEAR, errno.EIO),
    Fault("full from here on", Action.REFUSE, errno.ENOSPC, lasts=True, kinds=GROWING),
    Fault("read-only from here on", Action.REFUSE, errno.EROFS, lasts=True, kinds=CHANGING),
    Fault("permission lost", Action.REFUSE, errno.EACCES, kinds=Kind.LOOK | Kind.OPEN),
    Fault("ended before", Action.END_BEFORE),
    Fault("ended after, or torn", Action.END_AFTER),
)

CUTS: dict[str, tuple[Keeps, bool]] = {
    "nothing unsynced lasts": (lambda path: False, False),
    "only the log lasts": (lambda path: path.name.endswith("-wal"), True),
    "only vectors last": (lambda path: path.suffix == ".vec", True),
    "contents last, names do not": (lambda path: True, False),
    "names last, contents do not": (lambda path: False, True),
    "only the database lasts": (lambda path: path.suffix == ".sqlite", True),
    "database and log last": (lambda path: path.suffix != ".vec", True),
}


@dataclass(frozen=True, slots=True)
class Form:
    """How thorough: one in ``every`` calls, and after each end these power cuts."""

    every: int
    cuts: tuple[str, ...]


FORMS = {"short": Form(8, ("nothing unsynced lasts", "only the log lasts")), "long": Form(1, tuple(CUTS))}
