from __future__ import annotations

from bench.filtered_cell import CellResult, Measured
from bench.filtered_data import UNFILTERED, Cell
from bench.filtered_targets import bounds
from bench.harness import Samples


def _measured(ready: float, whole: float, *, reached: bool = True) -> Measured:
    return Measured(0.96, "", reached, ready=Samples((ready,)), whole=Samples((whole,)))


def _result(rate: float, k: int = 10, **engines: Measured) -> CellResult:
    cell = UNFILTERED if rate == 1 else Cell("near", rate)
    return CellResult(cell, k, round(rate * 1_000_000), 0.97, 0.8, {"engine": _measured(100, 50), **engines})


def _told(result: CellResult) -> dict[str, tuple[float, float]]:
    return {one.name: (one.value, one.bound) for one in bounds(result)}


def test_few_survivors_are_held_against_the_gather() -> None:
    told = _told(_result(0.001, exact_gather=_measured(80, 25), faiss_ivf_flat=_measured(10, 5)))
    assert told == {"recall": (0.97, 0.95), "ready_over_gather": (1.25, 0.9), "whole_over_best": (2.0, 2.0)}


def test_a_faiss_setting_that_misses_the_recall_does_not_count() -> None:
    peers = {"faiss_ivf_flat": _measured(20, 10), "faiss_ivf_pq": _measured(999, 999, reached=False)}
    assert _told(_result(0.1, **peers))["ready_over_faiss"] == (5.0, 2.0)


def test_most_rows_passing_is_held_against_inverted_lists_only() -> None:
    told = _told(_result(0.5, faiss_ivf_flat=_measured(50, 10), usearch=_measured(900, 900)))
    assert told == {"recall": (0.97, 0.95), "over_faiss": (2.0, 0.9)}


def test_databases_are_held_against_everywhere_from_the_predicate_on() -> None:
    assert _told(_result(0.5, lancedb=_measured(1, 10)))["over_lancedb"] == (5.0, 1.0)
    assert _told(_result(1.0, milvus_lite=_measured(10, 1)))["over_milvus_lite"] == (10.0, 1.0)


def test_a_cell_with_fewer_than_ten_survivors_a_hit_is_for_recall_only() -> None:
    peers = {"exact_gather": _measured(80, 25)}
    assert set(_told(_result(0.00005, **peers))) == {"recall"}
    assert not _told(_result(0.0001, k=100, **peers))
