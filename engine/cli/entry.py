"""Where the `ebr` script enters: on the base install, which lacks the command's libraries, it says what to install."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDED = ("typer", "rich", "pydantic_settings")


def main() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        only_client = f"ebr: this install is the client alone (no {', '.join(missing)})"
        sys.exit(f"{only_client}: for the command and the server, pip install '.[cpu,minilm]' in a clone")
    from engine.cli.main import main as run

    run()
