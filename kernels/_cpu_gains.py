"""What lists are expected to gain from features, for many queries at once: see ``kernels.fusion.expected_gains``."""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled_as_written
from kernels.arrays import Float32Array


@compiled_as_written
def add_gains(
    scores: Float32Array,
    bounds: Float32Array,
    means: Float32Array,
    ranges: Float32Array,
    keeps_bounds: bool,
    is_l2: bool,
    bases: Float32Array,
) -> None:
    """Add its gain to the score of each list, ``scores`` [B, >= nlist], and write what its rows score at most but for
    their codes to ``bases`` [B, nlist]: the score, none for l2, and the bound, where that is kept. ``bounds`` and
    ``means`` [B or 1, nlist]: those of all queries where there is one.
    """
    for query in range(ranges.size):
        place = query if bounds.shape[0] > 1 else 0
        is_ended, reach = bool(np.isfinite(ranges[query])), max(ranges[query], np.float32(0))
        square, half = reach * reach, reach * np.float32(0.5)
        for number in range(bounds.shape[1]):
            bound, mean, score = bounds[place, number], means[place, number], scores[query, number]
            base = np.float32(0) if is_l2 else score
            bases[query, number] = base + bound if keeps_bounds else base
            gain = bound
            if is_ended:
                spread = max(bound - mean, np.float32(0))
                gain = mean + (max(np.sqrt(square + spread * spread), spread + half) - reach)
            scores[query, number] = score + gain
