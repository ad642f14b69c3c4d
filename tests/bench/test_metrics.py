from __future__ import annotations

import math

import numpy as np
import pytest

from bench.metrics import mean_ndcg_at, ndcg_at, recall_at


def test_ndcg_of_a_ranking_worked_out_by_hand() -> None:
    # Gains 1, 0, 2 at ranks 1 to 3; ideal 2, 1.
    found = 1 / math.log2(2) + 2 / math.log2(4)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert ndcg_at(["b", "x", "a"], {"a": 2, "b": 1}, 10) == pytest.approx(found / ideal)


def test_ndcg_is_one_for_the_ideal_ranking_and_zero_for_none_of_it() -> None:
    relevance = {"a": 3.0, "b": 1.0}
    assert ndcg_at(["a", "b", "x"], relevance, 10) == pytest.approx(1.0)
    assert ndcg_at(["x", "y"], relevance, 10) == 0.0


def test_ndcg_counts_nothing_beyond_k() -> None:
    assert ndcg_at(["x", "y", "a"], {"a": 1}, 2) == 0.0


def test_the_ideal_ranking_is_cut_at_k_too() -> None:
    assert ndcg_at(["a"], {"a": 1, "b": 1, "c": 1}, 1) == pytest.approx(1.0)


def test_a_judged_query_without_a_ranking_counts_as_zero() -> None:
    assert mean_ndcg_at({"q": ["a"]}, {"q": {"a": 1}, "r": {"b": 1}}, 10) == pytest.approx(0.5)


def test_recall_is_the_share_of_the_true_rows_whatever_their_order() -> None:
    true = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 2, 1], [5, 6, 0, -1]])
    assert recall_at(found, true) == pytest.approx((1.0 + 0.5) / 2)


def test_recall_reads_no_more_rows_than_are_true() -> None:
    assert recall_at(np.array([[9, 8, 1, 2]]), np.array([[1, 2]])) == 0.0
