"""The steps of a build, in the child process: sample, choose, train, add every row, tune, write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from engine.backend import open_backend
from engine.backend.cpu_ivfpq import CpuIvfPq
from engine.backend.faiss_build import allowed_code_bytes, train_centroids, train_ivfpq
from engine.backend.protocol import SEGMENT_ROWS, Backend, IvfPqIndex, Vectors
from engine.dtypes import StoredArray, numpy_dtype
from engine.errors import FailedPrecondition
from engine.files import file_sha256
from engine.index.build import BuildJob
from engine.index.choosing import Race, Shape, choose, draw_pilot, scaled
from engine.index.costs import Costs, measure_costs_on
from engine.index.drift import Drift
from engine.index.ivfpq import IvfPqImage, code_sizes, index_path, read_image, sample_rows, write_image
from engine.index.measuring import Subject, tune
from engine.index.queries import Queries, logged_queries, stand_ins
from engine.index.query_log import ENOUGH
from engine.index.taking import take
from engine.index.tuning import Tuning, aim
from engine.types import Float32Array, Int64Array

Report = Callable[[str, float], None]

_QUERIES = 512
"""Live rows that queries are made of; half of them tune."""
_QUERY_SHARE = 1 / 20
_ADD_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What the steps share. ``query_rows`` are in random order and no part of ``training_rows``."""

    job: BuildJob
    report: Report
    backend: Backend
    vectors: Vectors
    alive: npt.NDArray[np.bool_]
    live_rows: Int64Array
    query_rows: Int64Array
    training_rows: Int64Array
    costs: Costs


class Trainer:
    """Makes trained, empty indexes; lists of one number are trained once, whatever the code."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._centroids: dict[int, Float32Array] = {}

    def sample_rows(self, nlist: int) -> int:
        """Rows that so many lists are trained on."""
        return sample_rows(len(self._work.training_rows), nlist, self._work.job.dimension)

    def make(self, nlist: int, code_bytes: int) -> CpuIvfPq:
        job = self._work.job
        if nlist not in self._centroids:
            self._centroids[nlist] = train_centroids(
                self._sample(nlist),
                nlist=nlist,
                metric=job.metric,
                seed=job.seed,
                threads=job.threads,
                device=job.device,
            )
        return train_ivfpq(
            self._sample(1),
            nlist=nlist,
            code_bytes=code_bytes,
            metric=job.metric,
            seed=job.seed,
            threads=job.threads,
            centroids=self._centroids[nlist],
        )

    def _sample(self, nlist: int) -> Float32Array:
        return take(self._work.vectors, self._work.training_rows[: self.sample_rows(nlist)])


def build(job: BuildJob, report: Report) -> IvfPqImage:
    """Do the job and return what was written.

    Raises:
        FailedPrecondition: there are too few live rows to train on.
        InvalidArgument: the job's ``code_bytes`` does not divide the dimension.
    """
    began = time.perf_counter()
    report("choosing", 0.0)
    work = _prepare(job, report)
    trainer = Trainer(work)
    shape = _choose(work, trainer)
    report("training", 0.0)
    index = trainer.make(shape.nlist, shape.code_bytes)
    unseen = index.distances(take(work.vectors, work.query_rows))
    _add_all(work.vectors, index, report)
    path = index_path(job.folder, job.id)
    index.save(path)
    tuning = _tune(work, index)
    image = IvfPqImage(
        id=job.id,
        dimension=job.dimension,
        metric=job.metric,
        nlist=shape.nlist,
        code_bytes=shape.code_bytes,
        n_rows=job.n_rows,
        live_rows=len(work.live_rows),
        trained_rows=trainer.sample_rows(shape.nlist),
        sequence=job.sequence,
        seed=job.seed,
        index_sha256=file_sha256(path),
        build_seconds=time.perf_counter() - began,
        tuning=tuning,
        drift=Drift.from_unseen(unseen, live_rows=len(work.live_rows), sizes=index.sizes),
    )
    write_image(job.folder, image)
    return image


def tune_again(job: BuildJob, report: Report) -> IvfPqImage:
    """Measure an image anew, with the rows that came since in its lists too, and return what was written beside it.

    Raises:
        CorruptData: there is no such image.
    """
    assert job.image is not None
    image = read_image(job.folder, job.image)
    backend = open_backend("cpu", job.threads)
    index = backend.load_ivfpq(index_path(job.folder, image.id))
    work = _prepare(job, report)
    _add_all(work.vectors, index, report)
    tuned = replace(image, tuning=_tune(work, index))
    write_image(job.folder, tuned)
    return tuned


def renumber(job: BuildJob, report: Report) -> IvfPqImage:
    """An image for rows that were written anew: what it has of them gets their numbers, the others are added.

    Raises:
        CorruptData: there is no such image.
    """
    assert job.image is not None
    assert job.of is not None
    image = read_image(job.of, job.image)
    index = CpuIvfPq.load(index_path(job.of, image.id), threads=job.threads)
    report("renumbering", 0.0)
    index.renumber(np.load(job.numbers_path, allow_pickle=False))
    drift = _add_all(map_vectors(job), index, report, image.drift)
    path = index_path(job.folder, job.id)
    index.save(path)
    digest = file_sha256(path)
    renumbered = replace(image, id=job.id, n_rows=job.n_rows, sequence=job.sequence, index_sha256=digest, drift=drift)
    write_image(job.folder, renumbered)
    return renumbered


def map_vectors(job: BuildJob) -> Vectors:
    """The segments, mapped read-only."""
    dtype = numpy_dtype(job.dtype)
    shape = (SEGMENT_ROWS, job.dimension)
    segments: list[StoredArray] = [np.memmap(path, dtype, "r", shape=shape) for path in job.segments]
    if len(segments) * SEGMENT_ROWS < job.n_rows:
        raise FailedPrecondition(f"n_rows: {job.n_rows} is beyond the {len(segments)} segments given")
    return Vectors(segments, job.n_rows, job.dimension, job.dtype, job.metric)


def _prepare(job: BuildJob, report: Report) -> Work:
    vectors = map_vectors(job)
    bits = np.fromfile(job.alive_path, np.uint8)
    alive = np.unpackbits(bits, count=job.n_rows, bitorder="little").astype(np.bool_)
    live_rows = np.flatnonzero(alive)
    n_queries = min(_QUERIES, int(len(live_rows) * _QUERY_SHARE)) // 2 * 2
    if n_queries < 2:
        raise FailedPrecondition(f"{len(live_rows)} live rows are too few to tune an index with")
    shuffled = np.random.default_rng(job.seed).permutation(live_rows)
    backend = open_backend("cpu", job.threads)
    backend.warm_up(vectors)
    return Work(
        job,
        report,
        backend,
        vectors,
        alive,
        live_rows,
        query_rows=shuffled[:n_queries],
        training_rows=shuffled[n_queries:],
        costs=measure_costs_on(backend, vectors),
    )


def _choose(work: Work, trainer: Trainer) -> Shape:
    """What the job says, where it says all; else what wins on a pilot, scaled to all rows."""
    job = work.job
    if job.nlist is not None and job.code_bytes is not None:
        return Shape(job.nlist, job.code_bytes)
    pilot = draw_pilot(work.vectors, work.live_rows, work.query_rows, np.random.default_rng(job.seed))
    race = Race(
        work.backend,
        pilot,
        work.costs,
        trainer.make,
        recall_target=aim(job.recall_target, is_provisional=True),
        report=partial(work.report, "choosing"),
    )
    sizes = code_sizes(job.dimension, allowed_code_bytes(job.dimension))
    is_part = len(pilot.rows) < len(work.live_rows)
    shape = choose(race, len(pilot.rows), sizes, nlist=job.nlist, code_bytes=job.code_bytes, is_part=is_part)
    if job.nlist is not None:
        return shape
    return Shape(scaled(shape.nlist, len(pilot.rows), len(work.live_rows)), shape.code_bytes)


def _add_all(vectors: Vectors, index: IvfPqIndex, report: Report, drift: Drift | None = None) -> Drift | None:
    """The rows it lacks, in order, dead ones too, for row r of the index must be row r of the version; the drift, where
    one is given, with them.
    """
    n_rows = vectors.n_rows
    for first in range(index.n_rows, n_rows, _ADD_ROWS):
        distances = index.add(take(vectors, np.arange(first, min(first + _ADD_ROWS, n_rows))))
        drift = drift.after(distances) if drift else None
        report("adding", min(first + _ADD_ROWS, n_rows) / n_rows)
    return drift


def _tune(work: Work, index: IvfPqIndex) -> Tuning:
    work.report("tuning", 0.0)
    logged = _logged_queries(work.job)
    asked = _stand_ins(work) if logged is None else logged_queries(logged)
    subject = Subject(work.backend, work.vectors, index, work.alive, asked)
    bands = tune(subject, work.costs, seed=work.job.seed, report=partial(work.report, "tuning"))
    work.report("tuning", 1.0)
    n_logged = 0 if logged is None else len(logged)
    return Tuning(bands, work.costs, logged_queries=n_logged, live_rows=len(work.live_rows))


def _stand_ins(work: Work) -> Queries:
    rng = np.random.default_rng(work.job.seed)
    return stand_ins(work.vectors, work.query_rows, among=work.live_rows, rng=rng)


def _logged_queries(job: BuildJob) -> Float32Array | None:
    """Live queries float32 [q, d], where there are enough of them."""
    if not job.queries_path.exists():
        return None
    logged: Float32Array = np.load(job.queries_path, allow_pickle=False)
    return logged if len(logged) >= ENOUGH else None
