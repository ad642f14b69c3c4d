"""Building a tuned IVF-PQ image in a child process of idle priority: ``python -m engine.index.build JOB.json PARENT``.

The parent's side is ``start`` and ``BuildProcess``: no threads, the server polls. Knows nothing of collections.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

import engine
from engine.errors import TrainingFailed
from engine.index.ivfpq import IvfPqImage, read_image, remove_image
from engine.types import Float32Array, Int64Array, Metric, Uint8Array, VectorDtype

_STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class BuildJob:
    """What to build from rows [0, n_rows) of mapped segments, and where to put it.

    ``sequence`` is what the rows were read at. ``nlist`` and ``code_bytes`` are chosen by measurement unless given.
    ``device``: for k-means, where it is of use. ``image``: an image that is only to be tuned anew, rather than another
    to be built; with ``of``, the folder that it lies in, it is to be renumbered for these rows instead.
    """

    id: str
    folder: Path
    segments: tuple[Path, ...]
    n_rows: int
    dimension: int
    dtype: VectorDtype
    metric: Metric
    sequence: int
    recall_target: float
    seed: int
    threads: int
    device: Literal["cpu", "cuda"] = "cpu"
    nlist: int | None = None
    code_bytes: int | None = None
    priority: Literal["idle", "normal"] = "idle"
    image: str | None = None
    of: Path | None = None

    @property
    def alive_path(self) -> Path:
        """The mask of live rows, packed bits, for as long as the build runs."""
        return self._own("alive")

    @property
    def queries_path(self) -> Path:
        """Logged queries to tune with, where there are any: a NumPy file, float32 [q, d], in random order."""
        return self._own("queries")

    @property
    def numbers_path(self) -> Path:
        """What an image's rows become, -1 for those that leave it: a NumPy file, int64 [n]."""
        return self._own("numbers")

    @property
    def job_path(self) -> Path:
        return self._own("job")

    @property
    def errors_path(self) -> Path:
        """What the child wrote to stderr."""
        return self._own("errors")

    def to_json(self) -> dict[str, Any]:
        paths = {"folder": str(self.folder), "segments": [str(path) for path in self.segments]}
        return asdict(self) | paths | {"of": str(self.of) if self.of else None}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> BuildJob:
        """The inverse of ``to_json``."""
        paths = {"folder": Path(stored["folder"]), "segments": tuple(Path(one) for one in stored["segments"])}
        return cls(**(stored | paths | {"of": Path(stored["of"]) if stored["of"] else None}))

    def _own(self, suffix: str) -> Path:
        return self.folder / f"build-{self.id}.{suffix}"


@dataclass(frozen=True, slots=True)
class Progress:
    """``fraction`` is of the stage, 0 to 1; stages come in the order choosing, training, adding, tuning."""

    stage: str = "starting"
    fraction: float = 0.0


class BuildProcess:
    """A build under way; used by one thread."""

    def __init__(self, job: BuildJob, child: subprocess.Popen[bytes]) -> None:
        self.job = job
        self.progress = Progress()
        self._child = child
        self._unread = b""
        os.set_blocking(self._stdout.fileno(), False)

    @property
    def pid(self) -> int:
        return self._child.pid

    def poll(self) -> bool:
        """Read what the child has said so far; True once it has ended."""
        ended = self._child.poll() is not None
        self._unread += self._stdout.read() or b""
        *lines, self._unread = self._unread.split(b"\n")
        if lines:
            self.progress = Progress(**json.loads(lines[-1]))
        return ended

    def result(self) -> IvfPqImage:
        """The image, once ``poll`` says that the child has ended.

        Raises:
            TrainingFailed: the child failed; the message is its own.
            CorruptData: what it left is not an image.
        """
        code = self._child.poll()
        assert code is not None, "the build is still under way"
        said = self.job.errors_path.read_text("utf-8", "replace").strip() if self.job.errors_path.exists() else ""
        self._clean_up()
        if code != 0:
            remove_image(self.job.folder, self.job.id)
            why = said.splitlines()[-1] if said else f"it ended with {code} and without a word"
            raise TrainingFailed(f"building index image {self.job.id} failed: {why}", id=self.job.id, exit_code=code)
        is_tuned = self.job.image is not None and self.job.of is None
        return read_image(self.job.folder, self.job.image if is_tuned and self.job.image else self.job.id)

    def cancel(self) -> None:
        """End the child, which blocks for a moment, and remove what it left; harmless once it has ended."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        remove_image(self.job.folder, self.job.id)
        self._clean_up()

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._child.stdout is not None
        return self._child.stdout

    def _clean_up(self) -> None:
        self._stdout.close()
        remove_leftovers(self.job.folder, self.job.id)


def start(job: BuildJob, alive: Uint8Array, logged: Float32Array | None = None) -> BuildProcess:
    """Start the child; ``alive`` is the packed mask of live rows, which may change as soon as this returns.

    ``logged``: live queries float32 [q, d] in random order, to tune with instead of stored rows.

    Raises:
        OSError: the folder cannot be written or no process started.
    """
    job.alive_path.write_bytes(alive.tobytes())
    if logged is not None:
        with job.queries_path.open("wb") as file:
            np.save(file, logged)
    return _spawn(job)


def write_numbers(job: BuildJob, live: Int64Array, *, n_rows: int) -> None:
    """Write what becomes of ``n_rows`` rows of which only those in ``live``, ascending, are kept; in any thread.

    Raises:
        OSError: the folder cannot be written.
    """
    numbers = np.full(n_rows, -1, np.int64)
    numbers[live] = np.arange(len(live))
    with job.numbers_path.open("wb") as file:
        np.save(file, numbers)


def start_renumbering(job: BuildJob) -> BuildProcess:
    """Start a child that gives an image's rows the numbers written before, and adds the rows that it lacks.

    Raises:
        OSError: the folder cannot be written or no process started.
    """
    return _spawn(job)


def _spawn(job: BuildJob) -> BuildProcess:
    job.job_path.write_text(json.dumps(job.to_json()), "utf-8")
    package_root = str(Path(engine.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    with job.errors_path.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "engine.index.build", str(job.job_path), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
        )
    return BuildProcess(job, child)


def remove_leftovers(folder: Path, build_id: str = "*") -> None:
    """Remove the working files of a build, or those of every build: of ones that a dead server left."""
    for pattern in (f"build-{build_id}.*", f"ivfpq-{build_id}.*.new"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    for path in folder.glob(f"ivfpq-{build_id}.faiss"):
        if not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)


def main(arguments: list[str]) -> None:
    """The child: one job, progress as JSON lines on stdout, one line on stderr where it fails."""
    sys.excepthook = _one_line
    job_file, parent = arguments
    _end_with_parent()
    job = BuildJob.from_json(json.loads(Path(job_file).read_text("utf-8")))
    if job.priority == "idle":
        os.nice(19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    from engine.index.building import build, renumber, tune_again

    work = build if job.image is None else tune_again if job.of is None else renumber
    report = _Reporter(int(parent))
    report("starting", 0.0)
    work(job, report)


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, in whatever call it is; of Linux alone.

    The kernel's parent is the thread that started this process, so it has to be one that lives as long as the server.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Reporter:
    """Tells the parent how far the build is, and ends the child where the parent is gone: before the kernel was told to
    end it too, or where no kernel does.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def __call__(self, stage: str, fraction: float) -> None:
        if os.getppid() != self._parent:
            raise SystemExit("the server that asked for this index is gone")
        sys.stdout.write(json.dumps({"stage": stage, "fraction": round(fraction, 3)}) + "\n")
        sys.stdout.flush()


def _one_line(kind: type[BaseException], error: BaseException, trace: object) -> None:
    del trace
    text = " ".join(str(error).split())
    sys.stderr.write(f"{kind.__name__}: {text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
