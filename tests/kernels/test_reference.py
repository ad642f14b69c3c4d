from __future__ import annotations

import numpy as np

from kernels import reference, reference_exact

VECTORS = np.array([[1, 0], [0, 2], [1, 1], [1, 0]], np.float16)
QUERY = np.array([[1, 0]], np.float32)


def test_larger_scores_come_first_and_ties_go_to_the_smaller_row() -> None:
    rows, scores = reference.masked_scan(
        [VECTORS], QUERY, [np.array([0b1111], np.uint8)], metric="dot", k=5, first_row=0, end_row=4
    )
    assert rows.tolist() == [[0, 2, 3, 1, -1]]
    assert scores.tolist() == [[1, 1, 1, 0, -np.inf]]


def test_l2_is_minus_the_squared_distance() -> None:
    rows, scores = reference.gather([VECTORS], QUERY, [np.array([1, 2])], metric="l2", k=2, end_row=4)
    assert rows.tolist() == [[2, 1]]
    assert scores.tolist() == [[-1, -5]]


def test_bits_count_from_the_least_significant_and_stop_at_end_row() -> None:
    mask = np.array([0b0000_0101, 0b1000_0000], np.uint8)
    assert reference.rows_of_mask(mask, end_row=16).tolist() == [0, 2, 15]
    assert reference.popcount(mask, end_row=15) == 2


def test_bfloat16_is_the_upper_half_of_a_float32() -> None:
    vectors = np.array([[0x3FC0]], np.uint16)
    _, scores = reference.rescore([vectors], np.ones((1, 1), np.float32), np.array([[0]]), metric="dot", k=1, end_row=1)
    assert scores.tolist() == [[1.5]]


def test_a_score_that_is_not_a_number_ranks_as_minus_infinity() -> None:
    rows, scores = reference_exact.select(np.array([4, 7]), np.array([np.nan, -5], np.float32), 3)
    assert rows.tolist() == [7, 4, -1]
    assert scores.tolist() == [-5, -np.inf, -np.inf]
