"""Training an IVF-PQ index with faiss: one long call that cannot yield, so it runs in a process of its own.

Where ``cuda`` is asked for and this faiss sees a GPU, the k-means of the lists runs there; codes are the CPU's.
No GPU has run it yet.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeAlias

import faiss
import numpy as np

from engine.backend.cpu_ivfpq import CODE_BITS, CpuIvfPq, faiss_metric, padded_dimension
from engine.errors import FailedPrecondition, InvalidArgument
from engine.types import Float32Array, Metric
from kernels.packed_lists import MOST_PARTS

TrainDevice: TypeAlias = Literal["cpu", "cuda"]

_TEMPORARY_BYTES = 256 << 20
"""Of a GPU's memory, which the server's rows and lists share."""

_log = logging.getLogger(__name__)


def allowed_code_bytes(dimension: int) -> tuple[int, ...]:
    """The code lengths, ascending, that an index of this dimension can have."""
    padded = padded_dimension(dimension)
    return tuple(parts // 2 for parts in range(2, min(padded, MOST_PARTS) + 1, 2) if padded % parts == 0)


def least_sample(nlist: int) -> int:
    """The rows without which so many lists cannot be trained."""
    return max(nlist, 1 << CODE_BITS)


def train_centroids(
    sample: Float32Array, *, nlist: int, metric: Metric, seed: int, threads: int = 1, device: TrainDevice = "cpu"
) -> Float32Array:
    """The centroids float32 [nlist, padded d] of inverted lists alone, to train several codes for.

    The same sample, seed, device and number of threads give the same centroids.

    Raises:
        FailedPrecondition: the sample has fewer rows than centroids to train.
    """
    _require_rows(len(sample), nlist)
    padded = _padded(sample)
    kind = faiss_metric(metric)
    quantizer = faiss.IndexFlat(padded.shape[1], kind)
    index = faiss.IndexIVFFlat(quantizer, padded.shape[1], nlist, kind)
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1
    faiss.omp_set_num_threads(threads)
    _train(index, padded, device)
    centroids: Float32Array = quantizer.reconstruct_n(0, nlist)
    return centroids


def train_ivfpq(
    sample: Float32Array,
    *,
    nlist: int,
    code_bytes: int,
    metric: Metric,
    seed: int,
    threads: int = 1,
    centroids: Float32Array | None = None,
) -> CpuIvfPq:
    """An empty index trained on float32 [n, d]: add rows to it in order, then save it.

    The same sample, seed and number of threads give the same index. ``centroids`` of ``train_centroids``, where given,
    are taken as they are, and the sample trains the code alone.

    Raises:
        InvalidArgument: the dimension does not allow ``code_bytes``.
        FailedPrecondition: the sample has fewer rows than centroids to train.
    """
    n, d = sample.shape
    if code_bytes not in allowed_code_bytes(d):
        raise InvalidArgument("code_bytes", f"{code_bytes} is none of {allowed_code_bytes(d)} for dimension {d}")
    _require_rows(n, nlist if centroids is None else 1)
    index = _untrained(padded_dimension(d), nlist, code_bytes, metric, seed)
    faiss.omp_set_num_threads(threads)
    if centroids is not None:
        index.quantizer.add(centroids)
    index.train(_padded(sample))
    return CpuIvfPq(index, threads=threads)


def _train(index: Any, sample: Float32Array, device: TrainDevice) -> None:
    """The centroids of a GPU's k-means become those of the CPU's quantiser."""
    if device == "cuda" and getattr(faiss, "get_num_gpus", int)() > 0:
        resources = faiss.StandardGpuResources()
        try:
            resources.setTempMemory(_TEMPORARY_BYTES)
            on_gpu = faiss.index_cpu_to_gpu(resources, 0, faiss.IndexFlat(index.d, index.metric_type))
            index.clustering_index = on_gpu
            index.train(sample)
            return
        except RuntimeError as error:
            _log.warning("k-means on the GPU failed, training on the CPU: %s", error)
        finally:
            index.clustering_index = None  # it is not the index's own
    index.train(sample)


def _require_rows(n: int, nlist: int) -> None:
    if n < least_sample(nlist):
        raise FailedPrecondition(f"{n} rows cannot train {nlist} lists: {least_sample(nlist)} are needed")


def _padded(sample: Float32Array) -> Float32Array:
    n, d = sample.shape
    padded = np.zeros((n, padded_dimension(d)), np.float32)
    padded[:, :d] = sample
    return padded


def _untrained(d: int, nlist: int, code_bytes: int, metric: Metric, seed: int) -> faiss.IndexIVFPQ:
    kind = faiss_metric(metric)
    quantizer = faiss.IndexFlat(d, kind)
    index = faiss.IndexIVFPQ(quantizer, d, nlist, 2 * code_bytes, CODE_BITS, kind)
    # Measured (docs/adr/0004-four-bit-codes.md): at equal time residuals find more by dot and less by l2.
    index.by_residual = kind != faiss.METRIC_L2
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = seed
        clustering.min_points_per_centroid = 1
    return index
