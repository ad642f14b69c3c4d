"""Snapshots on other disks and object stores, by fsspec: its only home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.errors import InvalidArgument, SnapshotNotFound, Unavailable
from engine.store.snapshots import MANIFEST, Manifest, Report, read_manifest


def check_address(url: str) -> None:
    """Raises InvalidArgument where it is no address that this install can write to, whatever there is of it."""
    _opened(url)


def copy_out(folder: Path, url: str, *, report: Report) -> str:
    """Copy a snapshot to a folder of its id below ``url``, its manifest last; where it now lies.

    Raises:
        InvalidArgument: no such kind of address.
        Unavailable: it cannot be written.
    """
    manifest = read_manifest(folder)
    files, root = _opened(url)
    target = f"{root.rstrip('/')}/{manifest.id}"
    with _faults(f"copying snapshot {manifest.id} to {url}"):
        for number, name in enumerate([*(file.path for file in manifest.files), MANIFEST]):
            report("copying", number / (len(manifest.files) + 1))
            files.makedirs(f"{target}/{name}".rpartition("/")[0], exist_ok=True)
            files.put_file(str(folder / name), f"{target}/{name}")
    return f"{url.rstrip('/')}/{manifest.id}"


@contextmanager
def fetched(url: str, beside: Path, *, report: Report) -> Iterator[tuple[Path, Manifest]]:
    """A copy of the snapshot at ``url``, in a folder next to ``beside`` for as long as the block runs.

    Raises:
        InvalidArgument: no such kind of address.
        SnapshotNotFound: there is no manifest there.
        Unavailable: it cannot be read.
    """
    files, root = _opened(url)
    beside.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=beside, prefix=".fetching-") as name:
        folder = Path(name)
        with _faults(f"reading the snapshot at {url}"):
            if not files.exists(f"{root.rstrip('/')}/{MANIFEST}"):
                raise SnapshotNotFound(url)
            files.get_file(f"{root.rstrip('/')}/{MANIFEST}", str(folder / MANIFEST))
            manifest = read_manifest(folder)
            for number, file in enumerate(manifest.files):
                report("fetching", number / len(manifest.files))
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
                files.get_file(f"{root.rstrip('/')}/{file.path}", str(folder / file.path))
        yield folder, manifest


def _opened(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        files, root = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InvalidArgument("url", f"{url!r}: {error}", value=url) from error
    return files, root


@contextmanager
def _faults(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise Unavailable(f"{what} failed: {fault}") from fault
