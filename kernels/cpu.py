"""The kernels of ``kernels.reference`` on the CPU: the same names, arguments and answers, compiled by numba.

One search leaves the GIL once, whatever its size. Sums are taken in another order than in the reference, so scores
differ by rounding; on small integers they are equal. The threads are numba's: ``use_threads`` bounds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import cpu_coarse, cpu_exact, cpu_filters, cpu_ids, cpu_lists, cpu_postings
from kernels._cpu_threads import use_threads
from kernels.cpu_coarse import coarse_scan, quantise_into, quantise_rows, two_pass_scan
from kernels.cpu_exact import (
    gather,
    masked_scan,
    merge_topk,
    popcount,
    rescore,
    rows_of_mask,
    unit_queries,
)
from kernels.cpu_lists import fill_list_feature, nearest_lists, query_scales, scan_lists, search_lists, widen_extremes
from kernels.cpu_postings import find_terms, merge_postings, rows_with_all, score_rows

__all__ = [
    "coarse_scan",
    "fill_list_feature",
    "find_terms",
    "gather",
    "masked_scan",
    "merge_postings",
    "merge_topk",
    "nearest_lists",
    "popcount",
    "quantise_into",
    "quantise_rows",
    "query_scales",
    "rescore",
    "rows_of_mask",
    "rows_with_all",
    "scan_lists",
    "score_rows",
    "search_lists",
    "two_pass_scan",
    "unit_queries",
    "use_threads",
    "warm_up",
    "widen_extremes",
]


def warm_up(dtype: np.dtype[Any]) -> None:
    """Compile, or load from disk, all that searches of vectors stored as ``dtype`` need."""
    for part in (cpu_exact, cpu_coarse, cpu_lists):
        part.warm_up(dtype)
    cpu_filters.warm_up()
    cpu_ids.warm_up()
    cpu_postings.warm_up()
