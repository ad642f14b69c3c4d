from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from kernels import cpu, reference
from kernels.arrays import Float32Array, Metric
from tests.kernels.cases import DTYPES, METRICS, in_segments, pack, stored

pytestmark = pytest.mark.timeout(600)
"""The first run on a machine compiles the kernels."""

ROUNDOFF = 2.0**-24
"""The relative error of one float32 operation."""

DIMENSIONS = (1, 3, 17, 100, 384, 784)


def terms(vectors: Float32Array, query: Float32Array, metric: Metric) -> npt.NDArray[np.float64]:
    """What a score sums, in float64 [n, d]."""
    wide, wide_query = vectors.astype(np.float64), query.astype(np.float64)
    return -((wide - wide_query) ** 2) if metric == "l2" else wide * wide_query


def assert_within_rounding(rows: npt.NDArray[np.int64], scores: Float32Array, summed: npt.NDArray[np.float64]) -> None:
    """Every score is off by at most (d + 2) roundings of its terms, and no better row was left out by more."""
    exact = summed.sum(axis=1)
    bound = (summed.shape[1] + 2) * ROUNDOFF * np.abs(summed).sum(axis=1) * 1.01
    assert (np.abs(scores - exact[rows]) <= bound[rows]).all()
    assert (np.diff(scores) <= 0).all()
    left_out = np.setdiff1d(np.arange(len(exact)), rows)
    assert (exact[left_out] - bound[left_out] <= scores[-1]).all()


def as_kept(vectors: Float32Array, dtype: str) -> Float32Array:
    """The float32 values that remain of vectors once stored."""
    if dtype == "bfloat16":
        return (stored(vectors, dtype).astype(np.uint32) << 16).view(np.float32)
    return vectors.astype(dtype).astype(np.float32)


@pytest.mark.parametrize("kernels", [cpu, reference])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_scores_of_floats_are_within_rounding_of_the_truth(
    kernels: ModuleType, metric: Metric, dtype: str, scale: float
) -> None:
    generator = np.random.default_rng(11)
    for d in DIMENSIONS:
        raw = (generator.uniform(-scale, scale, (150, d))).astype(np.float32)
        queries = generator.uniform(-scale, scale, (18, d)).astype(np.float32)
        masks = [pack(np.ones(150, np.bool_))] * 18
        keywords = {"metric": metric, "k": 7, "end_row": 150}
        segments = in_segments(stored(raw, dtype))
        found = kernels.masked_scan(segments, queries, masks, first_row=0, **keywords)
        alone = kernels.masked_scan(segments, queries[:1], masks[:1], first_row=0, **keywords)
        listed = kernels.gather(segments, queries[:1], [np.arange(150)], **keywords)
        for b in range(18):
            assert_within_rounding(found[0][b], found[1][b], terms(as_kept(raw, dtype), queries[b], metric))
        for rows, scores in (alone, listed):
            assert_within_rounding(rows[0], scores[0], terms(as_kept(raw, dtype), queries[0], metric))


def test_opposite_corners_of_large_values_do_not_overflow() -> None:
    segments = in_segments(np.full((2, 784), 1e4, np.float16))
    found = cpu.masked_scan(
        segments,
        np.full((1, 784), -1e4, np.float32),
        [np.array([3], np.uint8)],
        metric="l2",
        k=2,
        first_row=0,
        end_row=2,
    )
    np.testing.assert_allclose(found[1], [[-784 * 4e8] * 2], rtol=1e-6)
    assert found[0].tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_smallest_and_largest_stored_values_widen_exactly(dtype: str) -> None:
    values = {
        "float16": np.array([6e-8, -6e-8, 6.1e-5, 65504, -65504, 0], np.float32),
        "bfloat16": np.array([1e-38, -1e-38, 3.3e38, -3.3e38, 1, 0], np.float32),
        "float32": np.array([1e-38, -1e-38, 3.4e38, -3.4e38, 1, 0], np.float32),
    }[dtype]
    kept = as_kept(values[:, None], dtype)
    _, scores = cpu.rescore(
        in_segments(stored(values[:, None], dtype)),
        np.ones((1, 1), np.float32),
        np.arange(6)[None],
        metric="dot",
        k=6,
        end_row=6,
    )
    assert scores[0].tolist() == sorted(kept[:, 0].tolist(), reverse=True)
