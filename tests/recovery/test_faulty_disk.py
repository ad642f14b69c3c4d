"""The instruments themselves: what the preloaded disk sees and does, and what a power cut takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.recovery.faulty_disk import ENDED, preloading

BEGIN = """
import errno, os, sys
from pathlib import Path
from tests.recovery.faulty_disk import Action, FaultyDisk, Kind
from tests.recovery.power_cut import cut_power
root = Path(sys.argv[1]) / "root"
journal = root.with_name("journal")
root.mkdir()
disk = FaultyDisk()
disk.watch(root)

def put(name, content, *, synced=False):
    with open(root / name, "wb", buffering=0) as file:
        file.write(content)
        if synced:
            os.fsync(file.fileno())

def sync_names(folder=root):
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

def found():
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

"""


Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(faulty_library: Path, tmp_path: Path) -> Run:
    def run_script(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", BEGIN + script, str(tmp_path)],
            cwd=ROOT,
            env=preloading(faulty_library),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    return run_script


HOLDS = {
    "the calls of SQLite are seen, those on its log among them": """
import sqlite3
connection = sqlite3.connect(root / "a.sqlite", isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = FULL")
disk.arm(Action.NOTHING, 0)
connection.execute("CREATE TABLE t (a)")
assert "write a.sqlite-wal" in disk.calls, disk.calls
assert "fdatasync a.sqlite-wal" in disk.calls, disk.calls
assert disk.writable_maps == 0
""",
    "a stream's writes are seen, as faiss makes them": """
import faiss, numpy
disk.arm(Action.REFUSE, 2, errno.ENOSPC)
try:
    faiss.write_index(faiss.IndexFlatL2(8), str(root / "lists"))
except RuntimeError:
    pass
else:
    raise AssertionError("it was written")
assert disk.calls[:2] == ["open lists", "fwrite lists"], disk.calls
""",
    "a map that writes is counted": """
import mmap
put("mapped", b"x" * 4096)
with open(root / "mapped", "r+b") as file:
    mmap.mmap(file.fileno(), 0).close()
assert disk.writable_maps == 1
""",
    "only the named call fails, and only under the root": """
disk.arm(Action.REFUSE, 3, errno.ENOSPC)
put("a", b"")
(root.parent / "elsewhere").write_bytes(b"x")
try:
    put("b", b"b")
except OSError as refusal:
    assert refusal.errno == errno.ENOSPC
else:
    raise AssertionError(disk.calls)
put("c", b"c")
assert found() == {"a": b"", "c": b"c"}, found()
""",
    "a fault may last, and concern some kinds of calls only": """
disk.arm(Action.REFUSE, 1, errno.EROFS, lasts=True, kinds=Kind.WRITE)
for name in ("a", "b"):
    try:
        put(name, b"x")
    except OSError as refusal:
        assert refusal.errno == errno.EROFS
    else:
        raise AssertionError("it was written")
disk.disarm()
put("c", b"c")
assert found() == {"a": b"", "b": b"", "c": b"c"}
""",
    "a torn write writes half": """
disk.arm(Action.TEAR, 1, errno.EIO, kinds=Kind.WRITE)
try:
    put("a", b"12345678")
except OSError as refusal:
    assert refusal.errno == errno.EIO
assert found() == {"a": b"1234"}
""",
    "a power cut takes what was not synced": """
put("old", b"old", synced=True)
disk.keep_journal(journal)
put("new", b"new", synced=True)
put("unsynced", b"unsynced")
put("old", b"changed")
sync_names()
disk.end_journal()
cut_power(root, journal)
assert found() == {"old": b"old", "new": b"new", "unsynced": b""}, found()
""",
    "a power cut takes names of folders that were not synced": """
put("gone", b"gone")
put("replaced", b"before")
disk.keep_journal(journal)
put("new", b"new", synced=True)
put("aside", b"after", synced=True)
os.rename(root / "aside", root / "replaced")
os.unlink(root / "gone")
os.mkdir(root / "folder")
put("folder/inside", b"x", synced=True)
disk.end_journal()
cut_power(root, journal)
assert found() == {"gone": b"gone", "replaced": b"before"}, found()
assert not (root / "folder").exists()
""",
    "a power cut leaves what was synced under the name it was given later": """
disk.keep_journal(journal)
os.mkdir(root / "aside")
put("aside/inside", b"x", synced=True)
put("aside/unsynced-name", b"x", synced=True)
os.rename(root / "aside", root / "folder")
sync_names()
disk.end_journal()
cut_power(root, journal)
assert (root / "folder").is_dir()
assert found() == {}, found()
""",
    "a power cut may let some of it reach the disk": """
put("log", b"", synced=True)
put("vectors", b"", synced=True)
disk.keep_journal(journal)
put("log", b"log")
put("vectors", b"vectors")
put("new", b"new")
disk.end_journal()
cut_power(root, journal, keeps=lambda path: path.name == "log", keeps_names=True)
assert found() == {"log": b"log", "vectors": b"", "new": b""}, found()
""",
    "a journal goes on in the next process": """
put("a", b"synced", synced=True)
disk.keep_journal(journal)
put("a", b"unsynced")
if os.fork() == 0:
    disk.keep_journal(journal)
    put("a", b"later")
    os._exit(0)
os.wait()
disk.end_journal()
cut_power(root, journal)
assert found() == {"a": b"synced"}, found()
""",
}


@pytest.mark.parametrize("what", HOLDS)
def test_it_holds_that(run: Run, what: str) -> None:
    done = run(HOLDS[what])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("action", "left"), [("END_BEFORE", b""), ("END_AFTER", b"1234")])
def test_the_process_ends_at_the_named_call(run: Run, tmp_path: Path, action: str, left: bytes) -> None:
    done = run(f"disk.arm(Action.{action}, 1, kinds=Kind.WRITE); put('a', b'12345678')")
    assert done.returncode == ENDED
    assert (tmp_path / "root" / "a").read_bytes() == left
