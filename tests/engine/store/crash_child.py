"""Commits items until it is killed, writing each acknowledged generation to its output.

Each item says three times which generation it is: in its text, its attributes and its vectors.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from engine.store import CollectionStore, StoreLimits, WriteRequest
from tests.engine.store.stores import upsert, vectors_of

ITEMS = 40
GROUP = 7


def main(folder: Path, first_generation: int) -> None:
    store = CollectionStore.open(folder, limits=StoreLimits(wal_bytes=100_000))
    for start in count(first_generation, GROUP):
        generations = range(start, start + GROUP)
        ops = [upsert(n % ITEMS, str(n), {"year": n}, vectors=vectors_of(n, n_rows=1 + n % 3)) for n in generations]
        store.commit([WriteRequest(ops[:3]), WriteRequest(ops[3:], durable=start % 5 == 0)])
        sys.stdout.write(f"{generations[-1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
