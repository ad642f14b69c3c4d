from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine.backend import open_backend
from engine.backend.protocol import SEGMENT_ROWS
from engine.dtypes import numpy_dtype, to_stored
from engine.errors import FailedPrecondition, TrainingFailed
from engine.index import build as parent_side
from engine.index import building
from engine.index.build import BuildJob, BuildProcess, Progress, remove_leftovers, start
from engine.index.building import Report, build, tune_again
from engine.index.costs import Costs, pack
from engine.index.ivfpq import image_ids, image_path, index_path, read_image
from engine.index.measuring import Subject
from engine.index.tuning import Band
from engine.types import Float32Array
from kernels.packed_lists import fixed_limits

N, D = 3000, 16


def rows_of(n: int = N) -> Float32Array:
    rng = np.random.default_rng(8)
    centres = rng.standard_normal((30, D))
    return (centres[rng.integers(0, 30, n)] + 0.4 * rng.standard_normal((n, D))).astype(np.float32)


def alive_flags(n: int = N) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(9).random(n) < 0.95


@pytest.fixture
def job(tmp_path: Path) -> BuildJob:
    path = tmp_path / "segment-000000.vec"
    stored = np.zeros((SEGMENT_ROWS, D), numpy_dtype("float16"))
    stored[:N] = to_stored(rows_of(), "float16")
    stored.tofile(path)
    return BuildJob(
        id="t1",
        folder=tmp_path,
        segments=(path,),
        n_rows=N,
        dimension=D,
        dtype="float16",
        metric="l2",
        sequence=12,
        recall_target=0.9,
        seed=4,
        threads=1,
        nlist=32,
        code_bytes=4,
        priority="normal",
    )


def wait_for(process: BuildProcess) -> list[Progress]:
    """Everything the child says until it ends."""
    heard = [process.progress]
    while not process.poll():
        if process.progress != heard[-1]:
            heard.append(process.progress)
        select.select([process._stdout], [], [], 1.0)
    return [*heard, process.progress]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"segment-000000.vec"}


def test_a_child_builds_an_image_that_finds_every_row_under_its_own_number(job: BuildJob) -> None:
    process = start(job, pack(alive_flags()))
    heard = wait_for(process)
    image = process.result()
    assert heard[-1] == Progress("tuning", 1.0)
    assert files(job.folder) == {"ivfpq-t1.faiss", "ivfpq-t1.json"}
    assert (image.nlist, image.code_bytes, image.n_rows, image.sequence) == (32, 4, N, 12)
    assert image.live_rows == int(alive_flags().sum())
    assert image_ids(job.folder) == ["t1"]
    assert image.to_json() == read_image(job.folder, "t1").to_json()

    index = open_backend("cpu", 1).load_ivfpq(index_path(job.folder, "t1"))
    assert (index.n_rows, index.nlist, index.code_bytes) == (N, 32, 4)
    n = len(rows_of())
    found = index.search(rows_of(), limits=fixed_limits(n, k=1, nprobe=32, depth=50), masks=[None] * n)
    assert np.mean([row in of_query for row, of_query in enumerate(found.rows)]) > 0.99

    setting = image.tuning.lookup(10, 1.0, 0.9)
    assert setting is not None
    assert setting.expected_recall > 0.85


def test_a_child_that_fails_leaves_nothing_and_its_one_line_is_the_message(job: BuildJob) -> None:
    process = start(replace(job, code_bytes=7), pack(alive_flags()))
    wait_for(process)
    with pytest.raises(TrainingFailed, match=r"t1 failed: InvalidArgument: code_bytes: 7 is none of"):
        process.result()
    assert files(job.folder) == set()


def test_a_child_that_was_killed_is_a_failure_too(job: BuildJob) -> None:
    process = start(job, pack(alive_flags()))
    os.kill(process.pid, signal.SIGKILL)
    wait_for(process)
    with pytest.raises(TrainingFailed, match="ended with -9 and without a word"):
        process.result()
    assert files(job.folder) == set()


def test_a_cancelled_build_ends_and_leaves_nothing(job: BuildJob) -> None:
    process = start(job, pack(alive_flags()))
    process.cancel()
    assert process._child.returncode is not None
    assert files(job.folder) == set()
    process.cancel()


def test_the_job_survives_its_file(job: BuildJob) -> None:
    assert BuildJob.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_leftovers_of_a_dead_build_go_and_images_stay(job: BuildJob) -> None:
    for name in ("build-x.job", "build-x.alive", "ivfpq-x.faiss", "ivfpq-x.faiss.new", "ivfpq-y.faiss", "ivfpq-y.json"):
        (job.folder / name).touch()
    remove_leftovers(job.folder)
    assert files(job.folder) == {"ivfpq-y.faiss", "ivfpq-y.json"}


def test_the_shape_is_chosen_by_measurement_where_the_job_leaves_it_open(job: BuildJob) -> None:
    job.alive_path.write_bytes(pack(alive_flags()).tobytes())
    said: list[str] = []
    image = build(replace(job, nlist=None, code_bytes=None), lambda stage, fraction: said.append(stage))
    assert image.nlist == 64
    assert image.code_bytes in (1, 2, 4, 8)
    assert list(dict.fromkeys(said)) == ["choosing", "training", "adding", "tuning"]
    assert image_path(job.folder, "t1").exists()


def test_the_same_job_gives_the_same_lists(job: BuildJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "tune", lambda subject, costs, *, seed, report: [])
    job.alive_path.write_bytes(pack(alive_flags()).tobytes())
    first, second = (build(replace(job, id=name), lambda stage, fraction: None) for name in _same_mask(job, "a", "b"))
    assert first.index_sha256 == second.index_sha256


def test_lists_are_measured_again_with_the_rows_that_have_come_since(
    job: BuildJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[int, int]] = []

    def tune(subject: Subject, costs: Costs, *, seed: int, report: Report) -> list[Band]:
        measured.append((subject.ivfpq.n_rows, subject.vectors.n_rows))
        return []

    monkeypatch.setattr(building, "tune", tune)
    alive = alive_flags()
    job.alive_path.write_bytes(pack(alive).tobytes())
    first = build(replace(job, n_rows=N - 500), lambda stage, fraction: None)
    again = tune_again(replace(job, image=first.id), lambda stage, fraction: None)
    assert measured == [(N - 500, N - 500), (N, N)]
    assert (first.tuning.live_rows, again.tuning.live_rows) == (alive[: N - 500].sum(), alive.sum())
    assert (again.n_rows, again.index_sha256) == (first.n_rows, first.index_sha256)


def test_too_few_live_rows_are_refused(job: BuildJob) -> None:
    few = np.arange(N) < 30
    job.alive_path.write_bytes(pack(few).tobytes())
    with pytest.raises(FailedPrecondition, match="30 live rows are too few"):
        build(job, lambda stage, fraction: None)


def test_more_rows_than_the_segments_hold_are_refused(job: BuildJob) -> None:
    job.alive_path.write_bytes(pack(alive_flags()).tobytes())
    with pytest.raises(FailedPrecondition, match="n_rows: 70000"):
        build(replace(job, n_rows=70_000), lambda stage, fraction: None)


def test_importing_the_parent_s_side_loads_no_heavy_library() -> None:
    program = "import sys, engine.index.build; print(sorted({'faiss', 'numba', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_child_whose_parent_is_gone_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = parent_side._Reporter(os.getppid())
    reporter("adding", 0.5)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(SystemExit, match="is gone"):
        reporter("adding", 0.6)


STARTS_AND_WAITS = """
import json, signal, sys
from engine.index import build
print(build._spawn(build.BuildJob.from_json(json.loads(sys.argv[1]))).pid, flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_in_the_midst_of_a_long_step_ends_when_its_parent_is_killed(job: BuildJob) -> None:
    unread = image_path(job.folder, "old")
    os.mkfifo(unread)
    job = replace(job, image="old")
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS, json.dumps(job.to_json())], stdout=subprocess.PIPE
    )
    with parent, os.fdopen(os.pidfd_open(int(parent.stdout.readline())), "rb") as child:
        try:
            # The child has opened it, to read what nobody writes: it would wait for ever, and report nothing.
            with unread.open("wb"):
                parent.kill()
                ended, _, _ = select.select([child], [], [], 30)
                assert ended
        finally:
            parent.kill()
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.fileno(), signal.SIGKILL)


def _same_mask(job: BuildJob, *names: str) -> tuple[str, ...]:
    for name in names:
        replace(job, id=name).alive_path.write_bytes(job.alive_path.read_bytes())
    return names
