"""What the storage below may raise, told as the engine's own errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import CorruptData, EngineError, ReadOnly, Unavailable

_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE_MASK = 0xFF


@contextmanager
def write_faults(what: str) -> Iterator[None]:
    """
    Raises:
        ReadOnly: the disk is full, read-only or failing; ``what`` did not happen.
        CorruptData: the database is not what was written.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as fault:
        raise _as_corrupt(fault, what) or ReadOnly(f"{what} failed: {fault}") from fault


@contextmanager
def read_faults(what: str) -> Iterator[None]:
    """
    Raises:
        Unavailable: the disk is failing or the store is closed.
        CorruptData: the database is not what was written.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as fault:
        raise _as_corrupt(fault, what) or Unavailable(f"{what} failed: {fault}") from fault


@contextmanager
def open_faults(what: str) -> Iterator[None]:
    """As read_faults, but a database without the tables or values it must have is corrupt too: for what is decoded."""
    try:
        with read_faults(what):
            yield
    except (Unavailable, LookupError, TypeError, ValueError) as fault:
        if _is_environment(fault.__cause__):
            raise
        raise CorruptData(f"{what} failed: {fault}") from fault


def _as_corrupt(fault: Exception, what: str) -> EngineError | None:
    if _primary_code(fault) in _CORRUPT_CODES:
        return CorruptData(f"{what} failed: {fault}")
    return None


def _is_environment(cause: BaseException | None) -> bool:
    return isinstance(cause, OSError) or _primary_code(cause) not in {None, sqlite3.SQLITE_ERROR}


def _primary_code(fault: BaseException | None) -> int | None:
    code: int | None = getattr(fault, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY_CODE_MASK
