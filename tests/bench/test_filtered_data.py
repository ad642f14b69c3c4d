from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import filtered_data
from bench.filtered_data import COLOUR, PLACE, SHUFFLED, UNFILTERED, Cell, FilteredSet, best_of, noisy_rows
from bench.metrics import recall_of_survivors
from engine.types import Metric


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBR_BENCH_CACHE", str(tmp_path / "cache"))


def _small(metric: Metric = "dot") -> FilteredSet:
    """Whole numbers, so that scores are exact and many tie."""
    rng = np.random.default_rng(5)
    items = rng.integers(-2, 3, (12_000, 8)).astype(np.float32)
    queries = rng.integers(-2, 3, (8, 8)).astype(np.float32)
    return filtered_data._synthetic("small", metric, items, queries, rates=(0.5, 0.1, 0.01))


def test_the_truth_is_what_a_plain_loop_finds() -> None:
    metrics: tuple[Metric, ...] = ("dot", "l2")
    for metric in metrics:
        made = _small(metric)
        for cell in made.predicates:
            truth = made.truth(cell)
            for place, query in enumerate(made.queries[:3]):
                mask = made.predicates[cell][place].mask(made.attributes)
                scores = made.items @ query if metric == "dot" else -((made.items - query) ** 2).sum(axis=1)
                ranked = sorted(np.flatnonzero(mask).tolist(), key=lambda row: (-scores[row], row))[:100]
                assert truth[place][truth[place] >= 0].tolist() == ranked, (metric, cell)


def test_the_same_seed_makes_the_same_set() -> None:
    first, second = _small(), _small()
    assert first.predicates == second.predicates
    for name in (SHUFFLED, PLACE):
        assert np.array_equal(first.attributes.ints[name], second.attributes.ints[name])
    codes = [one.attributes.keywords[COLOUR].codes for one in (first, second)]
    assert np.array_equal(*codes)


def test_each_query_has_a_filter_of_its_own_that_passes_about_its_rate() -> None:
    made = _small()
    for cell, predicates in made.predicates.items():
        shares = [predicate.mask(made.attributes).mean() for predicate in predicates]
        assert np.mean(shares) == pytest.approx(cell.rate, rel=0.1), cell
        if cell.kind == "independent":
            assert len(set(predicates)) == len(predicates)


def test_near_filters_pass_better_rows_than_far_ones() -> None:
    made = _small("l2")

    def best(kind: str) -> float:
        truth = made.truth(Cell(kind, 0.01))[:, 0]
        return float(((made.items[truth] - made.queries) ** 2).sum(axis=1).mean())

    assert best("near") < best("independent") < best("far")


def test_the_chain_of_clusters_numbers_every_row_once() -> None:
    made = _small()
    assert sorted(made.attributes.ints[PLACE].tolist()) == list(range(len(made.items)))


def test_noisy_rows_are_of_length_one_and_follow_from_their_seed() -> None:
    texts = np.random.default_rng(3).standard_normal((10, 16), dtype=np.float32)
    made = noisy_rows(texts, 35, noise=0.5, seed=1)
    assert np.array_equal(made, noisy_rows(texts, 35, noise=0.5, seed=1))
    assert not np.array_equal(made, noisy_rows(texts, 35, noise=0.5, seed=2))
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)


def test_skills_asked_for_pass_about_the_rate() -> None:
    rng = np.random.default_rng(2)
    lists = [tuple({f"s{code}" for code in (rng.zipf(1.3, 6) % 500).tolist()}) for _ in range(4000)]
    keywords = filtered_data.keyword_lists(lists)
    for predicate in filtered_data._any_skills(keywords, lists[:20], 0.01):
        (asked,) = predicate.keywords
        assert 0 < keywords.any_of(asked.values).mean() <= 0.011


def test_ties_go_to_the_smaller_row() -> None:
    assert best_of(np.array([3, 5, 8, 9]), np.array([1, 2, 2, 1], np.float32), 3).tolist() == [5, 8, 3]


def test_recall_is_of_the_survivors_there_are() -> None:
    true = np.array([[1, 2, -1], [-1, -1, -1]])
    assert recall_of_survivors(np.array([[2, -1, -1], [-1, -1, -1]]), true) == 0.75


def test_cells_are_named_by_kind_and_rate() -> None:
    assert Cell("near", 0.0001).name == "near 0.01%"
    assert Cell("near", 0.5).name == "near 50%"
    assert UNFILTERED.name == "unfiltered"
