"""What a table of a TOML file may have: known keys with values of their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidArgument


def check_keys(table: Mapping[str, Any], keys: Mapping[str, type], field: str) -> None:
    """
    Raises:
        InvalidArgument: it is no table, has an unknown key, or a value of another type than the key's.
    """
    if not isinstance(table, Mapping):
        raise InvalidArgument(field, f"is {table!r}, not a table")
    for key, value in table.items():
        if key not in keys:
            raise InvalidArgument(f"{field}.{key}", f"is unknown; there are {', '.join(keys)}")
        wanted = keys[key]
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        if not fits or (isinstance(value, bool) and wanted is not bool):
            raise InvalidArgument(f"{field}.{key}", f"is {value!r}, not of type {wanted.__name__}")
