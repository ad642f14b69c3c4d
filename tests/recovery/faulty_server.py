"""A served collection on a disk that fails: what its clients are told. To be started with the faulty disk preloaded.

``python -m tests.recovery.faulty_server FOLDER FAULT`` prints what each call was answered, as JSON.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.client import RetrievalClient
from engine.errors import EngineError
from engine.types import Item, Visibility
from tests.e2e.serving import a_client, serving, vector_schema
from tests.recovery.faulty_disk import CHANGING, GROWING, Action, FaultyDisk, Kind

POINT = np.array([1, 2, 3, 4], np.float32)
FAULTS: dict[str, tuple[int, Kind]] = {
    "a read-only file system": (errno.EROFS, CHANGING),
    "a full disk": (errno.ENOSPC, GROWING),
    "a disk that cannot sync": (errno.EIO, Kind.SYNC),
    "permission lost": (errno.EACCES, Kind.LOOK | Kind.OPEN | Kind.RENAME | Kind.REMOVE | Kind.MAKE),
}


def _told(call: Callable[[], object]) -> str:
    try:
        call()
    except EngineError as error:
        return f"{error.code} {error.reason}: {error}"
    return "done"


def _calls(client: RetrievalClient) -> dict[str, str]:
    def upsert() -> None:
        client.upsert("points", [Item(2, {}, {}, POINT)], visibility=Visibility.SEARCHABLE)

    return {
        "upsert": _told(upsert),
        "delete": _told(lambda: client.delete("points", [1], visibility=Visibility.DURABLE)),
        "create": _told(lambda: client.create_collection(vector_schema("others"))),
        "search": str([hit.id for hit in client.search("points", POINT).hits]),
        "get": str([item.id for item in client.get("points", [1, 2])]),
    }


def main(folder: Path, fault: str) -> None:
    error, kinds = FAULTS[fault]
    disk = FaultyDisk()
    disk.watch(folder)
    with serving(folder / "data") as running, a_client(running) as client:
        client.create_collection(vector_schema())
        client.upsert("points", [Item(1, {}, {}, POINT)], visibility=Visibility.SEARCHABLE)
        disk.arm(Action.REFUSE, 1, error, lasts=True, kinds=kinds)
        during = _calls(client)
        disk.disarm()
        after = _calls(client)
    with serving(folder / "data") as running, a_client(running) as client:
        reopened = str([hit.id for hit in client.search("points", POINT).hits])
    sys.stdout.write(json.dumps({"during": during, "after": after, "reopened": reopened}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
