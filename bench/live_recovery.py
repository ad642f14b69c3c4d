"""Seconds from a server's start until it serves: after a stop, after SIGKILL, from a snapshot, from the database alone.

Kernels are compiled before, and the files are in the system's cache, as they are after most restarts.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import SEED
from bench.live_bed import COLLECTION, NEVER, Bed
from bench.live_writes import write, writes_of
from bench.serving import Running, data_folder
from engine.index.ivfpq import image_ids, remove_image

UPSERTS_PER_S = 1000
_MOST_ROUNDS = 3


@dataclass(slots=True)
class _Starts:
    """Of one kind: wall seconds, and the server's own account of them."""

    wall_s: list[float] = field(default_factory=list)
    parts_s: list[dict[str, float]] = field(default_factory=list)

    def median_of(self, part: str) -> float:
        return statistics.median(one[part] for one in self.parts_s)

    def figures(self) -> dict[str, object]:
        parts = {part: self.median_of(part) for part in self.parts_s[0]}
        compiled_or_imported = parts.get("imports", 0.0) + parts.get("kernels", 0.0)
        wall = statistics.median(self.wall_s)
        return {
            "serving_s": {"median": wall, "min": min(self.wall_s), "max": max(self.wall_s)},
            "less_imports_and_kernels_s": wall - compiled_or_imported,
            "parts_s": parts,
            "starts": len(self.wall_s),
        }


def measure(bed: Bed) -> None:
    report, n_rows = bed.report, len(bed.made.items)
    stopped, killed, restored, alone = (_Starts() for _ in range(4))
    with bed.folder() as folder, data_folder() as far, data_folder() as other:
        url = ""
        for _ in range(min(_MOST_ROUNDS, bed.pace.pairs)):
            with _started(bed, folder, stopped) as running:
                _write_and_kill(bed, running)
            with _started(bed, folder, killed) as running:
                url = url or _snapshot(bed, running, far)
        _restore(bed, other, url)
        with _started(bed, other, restored):
            pass
        report.figure("images_removed", _remove_images(folder))
        with _started(bed, folder, alone, train_at=NEVER) as running:
            report.figure("rows_at_the_end", running.client.get_collection(COLLECTION).items)
    for name, starts in {"stopped": stopped, "killed": killed, "restored": restored, "database": alone}.items():
        report.figure(f"after.{name}", starts.figures())
    report.figure("database.rows_per_s_of_index", n_rows / max(1e-9, alone.median_of("index")))


@contextmanager
def _started(bed: Bed, folder: Path, starts: _Starts, *, train_at: int | None = None) -> Iterator[Running]:
    """A server whose start is taken into the account."""
    began = time.perf_counter()
    with bed.served(folder, train_at=train_at) as running:
        starts.wall_s.append(time.perf_counter() - began)
        starts.parts_s.append(dict(running.client.server().start_seconds))
        yield running


def _write_and_kill(bed: Bed, running: Running) -> None:
    """In the middle of a stream of upserts, so that there is something that no index has."""
    ids, vectors = bed.made.fresh(min(UPSERTS_PER_S, len(bed.made.items)))
    writes = writes_of(running.client.target, ids, vectors, batch=10)
    written = write(writes, UPSERTS_PER_S, bed.pace.seconds, SEED)
    bed.report.figure("upserts_before_the_kill", written.accepted)
    os.kill(running.pid, signal.SIGKILL)


def _snapshot(bed: Bed, running: Running, far: Path) -> str:
    """The address of a copy."""
    client, began = running.client, time.perf_counter()
    done = client.wait_for_operation(client.create_snapshot(COLLECTION, to=far.as_uri()))
    bed.report.figure("snapshot_and_copy_s", time.perf_counter() - began)
    assert done.snapshot is not None
    bed.report.figure("snapshot_bytes", done.snapshot.size_bytes)
    return f"{far.as_uri()}/{done.snapshot.id}"


def _restore(bed: Bed, folder: Path, url: str) -> None:
    """Into another server's data directory, until searches are answered from it."""
    with bed.served(folder) as running:
        client, began = running.client, time.perf_counter()
        client.wait_for_operation(client.restore_snapshot(COLLECTION, url=url))
        client.wait_until_serving(COLLECTION)
        client.search_batch(COLLECTION, bed.made.queries[:1])
        bed.report.figure("restore_s", time.perf_counter() - began)


def _remove_images(folder: Path) -> int:
    """So that a start has the database and the vectors and nothing else; how many images went."""
    versions = [path for path in folder.glob("collections/*/versions/*") if path.is_dir()]
    lists = [(version, image_id) for version in versions for image_id in image_ids(version)]
    for version, image_id in lists:
        remove_image(version, image_id)
    rows = [path for version in versions for path in version.glob("rows-*")]
    for path in rows:
        path.unlink()
    return len(lists) + len(rows)
