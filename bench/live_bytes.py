"""What a row takes on disk and in memory: with its lists, after half of the rows are deleted, and after compaction.

The last segment is long and sparse when a server makes it; the copy that this begins with has its holes filled.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.live_bed import COLLECTION, Bed
from bench.serving import Running

_PARTS = ("vectors", "codes", "coarse_codes", "attributes", "rows")
_DELETED_AT_ONCE = 10_000
_RESIDENT = re.compile(r"^(RssAnon|RssFile|VmHWM):\s+(\d+) kB", re.MULTILINE)


def measure(bed: Bed) -> None:
    """Vectors are mapped from files: RssFile has what of them is in memory, which the system takes back at will."""
    with bed.folder() as folder:
        with bed.served(folder) as running:
            client = running.client
            _tell(bed, "before", running, folder)
            for first in range(0, len(bed.made.items), 2 * _DELETED_AT_ONCE):
                end = min(first + 2 * _DELETED_AT_ONCE, len(bed.made.items))
                client.delete(COLLECTION, list(range(first, end, 2)))
            _tell(bed, "half_deleted", running, folder)
            done = client.wait_for_operation(client.compact_collection(COLLECTION)).message
            compact_s = (done.ended_at.ToNanoseconds() - done.began_at.ToNanoseconds()) / 1e9
            bed.report.figure("compaction_s", compact_s)
            _tell(bed, "compacted", running, folder)
        with bed.served(folder) as running:
            running.client.search_batch(COLLECTION, bed.made.queries[:64])
            _tell(bed, "compacted_and_started_again", running, folder)


def _tell(bed: Bed, name: str, running: Running, folder: Path) -> None:
    told = running.client.get_collection(COLLECTION)
    use, items = told.message.versions[0].memory, max(1, told.items)
    disk = {kind: n_bytes / items for kind, n_bytes in _disk_bytes(folder).items()}
    resident = _RESIDENT.findall(Path(f"/proc/{running.pid}/status").read_text("ascii"))
    report = bed.report
    report.figure(f"{name}.items", told.items)
    report.figure(f"{name}.rows", use.row_count)
    report.figure(f"{name}.disk_bytes_an_item", {**disk, "all": sum(disk.values())})
    memory = {part: getattr(use, part) / items for part in _PARTS}
    report.figure(f"{name}.memory_bytes_an_item", {**memory, "all": sum(memory.values())})
    report.figure(f"{name}.server_mib", {kind: int(kib) / 1024 for kind, kib in resident})


def _disk_bytes(folder: Path) -> dict[str, int]:
    """Blocks taken, by what the files hold; snapshots and compiled kernels left out."""
    found: dict[str, int] = {}
    for at, _, names in os.walk(folder / "collections"):
        for path in (Path(at) / name for name in names):
            suffix = path.suffix.lstrip(".").partition("-")[0] or "other"
            found[suffix] = found.get(suffix, 0) + 512 * path.stat().st_blocks
    return found
