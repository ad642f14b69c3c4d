"""The definition of each kernel, in NumPy: slow, plain, and what every other implementation is tested against.

Shapes: n rows, d dimension, B queries, k hits, c candidates. Vectors lie in segments: C-contiguous arrays
[``SEGMENT_ROWS``, d] of float16, float32, or bfloat16 held as uint16; the last one may be shorter. A mask is packed
bits, least significant first, uint8; what lies beyond its last byte or at ``end_row`` and above is not set.

Every search returns (rows int64 [B, k], scores float32 [B, k]): larger scores first, ties to the smaller row, padded
with -1 and -inf. Scores are accumulated in float32 from the stored dtype; one that is not a number ranks as -inf.
"""

from __future__ import annotations

from kernels.reference_coarse import coarse_scan, quantise_into, quantise_rows, two_pass_scan
from kernels.reference_exact import (
    gather,
    masked_scan,
    merge_topk,
    popcount,
    rescore,
    rows_of_mask,
    unit_queries,
)
from kernels.reference_lists import (
    nearest_lists,
    query_scales,
    scan_lists,
    scan_lists_in_waves,
    search_lists,
    widen_extremes,
)
from kernels.reference_postings import find_terms, merge_postings, rows_with_all, score_rows

__all__ = [
    "coarse_scan",
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
    "scan_lists_in_waves",
    "score_rows",
    "search_lists",
    "two_pass_scan",
    "unit_queries",
    "widen_extremes",
]
