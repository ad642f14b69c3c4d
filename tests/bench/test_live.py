from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from bench import live, live_arrival, live_beside, live_freshness, live_load, live_recovery
from bench.harness import MISSED, NO_DATA
from bench.live_bed import DIMENSION, clustered
from bench.live_searches import Recall
from bench.live_watch import SecondsWatch
from bench.peers.process import missing

ROWS = 800


class Tiny(Protocol):
    def __call__(self, part: str, rows: int = ROWS) -> dict[str, Any]: ...


pytestmark = pytest.mark.timeout(600)  # a first server compiles its kernels


@pytest.fixture
def tiny(bench_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """Runs a part with few rows and short windows, and gives its line."""
    monkeypatch.setattr(live_freshness, "UPSERTS_PER_S", 100)
    monkeypatch.setattr(live_beside, "RATES", {100: 10, 500: 50})
    monkeypatch.setattr(live_recovery, "UPSERTS_PER_S", 100)

    def run(part: str, rows: int = ROWS) -> dict[str, Any]:
        out = tmp_path / f"{part}.jsonl"
        places = ["--data", str(tmp_path / "nowhere"), "--out", str(out)]
        pace = ["--rows", str(rows), "--seconds", "0.3", "--pairs", "1"]
        assert live.main(["--part", part, *pace, *places]) in {0, MISSED}
        line: dict[str, Any] = json.loads(out.read_text("utf-8").splitlines()[-1])
        assert line["bench"] == "live"
        figures: dict[str, Any] = line["figures"]
        assert (figures["part"], figures["vectors"]) == (part, "clusters")
        assert figures["server_cpu_s"] > 0
        seconds = figures["each_second"]
        assert len(seconds["others_percent"]) == len(seconds["steal_percent"]) > 0
        return line

    return run


def test_freshness_is_told_by_acknowledgements_and_by_searches_for_both_sizes_of_batch(tiny: Tiny) -> None:
    line = tiny("freshness")
    for batch in (10, 1):
        for way in ("searchable_ack", "committed_then_search"):
            told = line["figures"][f"batches_of_{batch}.{way}"]
            assert told["samples"] > 0
            assert 0 < told["p50"] <= told["p99"]
            assert {f"batches_of_{batch}.{way}.p50_ms", f"batches_of_{batch}.{way}.p99_ms"} <= set(line["targets"])
        assert line["targets"][f"batches_of_{batch}.found"]["value"] == 1


def test_searches_beside_upserts_are_held_against_quiet_windows_and_exact_answers(tiny: Tiny) -> None:
    line = tiny("beside")
    figures = line["figures"]
    assert figures["recall@10_of_float32"] > 0.9
    for per_s in (100, 500):
        for kind in ("quiet", "busy"):
            (window,) = figures[f"at_{per_s}_upserts.{kind}"]
            assert window["failed"] == 0
            assert window["calls"] > 0
            assert {"qps", "p99_ms", "client_cpu_share_of_a_core", "server_cpu_cores", "second"} <= set(window)
        assert len(figures[f"at_{per_s}_upserts.p99_over_quiet"]["pairs"]) == 1
        assert figures[f"at_{per_s}_upserts.recall"]["queries"] > 0
    assert set(line["targets"]) == {
        "at_100_upserts.p99_over_quiet",
        "at_100_upserts.recall@10",
        "at_500_upserts.recall@10",
    }


def test_the_newer_half_arrives_once_beside_searches_and_it_is_told_whether_lists_were_trained_anew(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_arrival, "postings", lambda options, n_rows: clustered(n_rows))
    line = tiny("arrival", 2 * ROWS - 2)  # it begins with those that the other tests have had trained
    figures = line["figures"]
    for name in ("acknowledged", "searchable"):
        told = figures[f"{name}_ms"]
        assert told["samples"] == (ROWS - 2) // 10
        assert 0 < told["p50"] <= told["p99"]
        searches = figures[f"{name}.searches_p99_ms"]
        assert len(searches["quiet and beside"]) == 1
        assert searches["failed"] == 0
        arrival = figures[f"{name}.0"]
        assert arrival["items"] == arrival["settled"]["rows_in_lists"] == ROWS + (ROWS - 2) // 10 * 10
        assert arrival["trained_anew"] == 0
        assert 0 <= arrival["drift_on_arrival"] < 0.1
        assert arrival["recall"]["queries"] >= 8
        for moment in ("before", "after"):
            assert arrival[moment]["recall@10"] > 0.8
            assert sum(arrival[moment]["strategies"].values()) == 256
    assert line["targets"]["recall@10.worst_arrival"]["value"] > 0.9
    assert set(line["targets"]) == {"p99_over_quiet", "recall@10.worst_arrival"}


def test_without_postings_nothing_arrives_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert live.main(["--part", "arrival", "--quick", "--data", str(tmp_path)]) == NO_DATA
    assert "there is no" in capsys.readouterr().err


def test_every_kind_of_upkeep_is_timed_beside_searches(tiny: Tiny) -> None:
    line = tiny("upkeep", 2 * ROWS)  # it begins with half of them, which the other tests have had trained
    for name in ("bulk", "folding", "snapshot", "training", "compaction"):
        assert line["figures"][f"{name}.seconds"] > 0
        assert line["figures"][f"{name}.p99_ms"]["failed"] == 0
        assert line["figures"][f"{name}.recall"]["queries"] > 0
        assert f"{name}.recall@10" in line["targets"]
        assert f"{name}.p99_over_quiet" in line["figures" if name == "bulk" else "targets"]


def test_starts_are_told_by_their_parts_whatever_came_before(tiny: Tiny) -> None:
    figures = tiny("recovery")["figures"]
    for name in ("stopped", "killed", "restored", "database"):
        told = figures[f"after.{name}"]
        assert told["starts"] == 1
        assert set(told["parts_s"]) == {"imports", "kernels", "model", "index"}
        assert told["serving_s"]["median"] > told["less_imports_and_kernels_s"] > 0
    assert figures["images_removed"] > 0
    assert figures["rows_at_the_end"] == ROWS
    assert figures["database.rows_per_s_of_index"] > 0


def test_loads_are_timed_beside_peers(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_load, "PEERS", {"faiss_flat": live_load.PEERS["faiss_flat"]})
    figures = tiny("load")["figures"]
    ours = ("stream.vectors", "columns.vectors", "ebr_load.items", "ebr_load_columns.items", "ebr_load_columns.vectors")
    for name in (*ours, "faiss_flat.vectors"):
        assert figures[f"{name}_per_s"] > 0


@pytest.mark.parametrize("name", ["lancedb", "milvus_lite"])
def test_a_database_takes_rows(name: str, tmp_path: Path) -> None:
    if why := missing(name):
        pytest.skip(why)
    np.save(tmp_path / "rows.npy", clustered(100).items)
    assert live_load.PEERS[name](tmp_path, 100) > 0


def test_bytes_are_told_before_and_after_deleting_and_compacting(tiny: Tiny) -> None:
    figures = tiny("bytes")["figures"]
    rows = [figures[f"{name}.rows"] for name in ("before", "half_deleted", "compacted")]
    items = [figures[f"{name}.items"] for name in ("before", "half_deleted", "compacted")]
    assert (rows, items) == ([ROWS, ROWS, ROWS // 2], [ROWS, ROWS // 2, ROWS // 2])
    for name in ("before", "half_deleted", "compacted", "compacted_and_started_again"):
        assert figures[f"{name}.memory_bytes_an_item"]["vectors"] >= 2 * DIMENSION
        assert figures[f"{name}.disk_bytes_an_item"]["all"] > 0
        assert set(figures[f"{name}.server_mib"]) == {"VmHWM", "RssAnon", "RssFile"}


def test_recall_may_miss_its_target_by_no_more_than_the_noise_of_its_sample() -> None:
    assert Recall([1.0] * 50).bound == 0.95
    assert 0.90 < Recall([1.0, 0.9] * 50).bound < 0.95


def test_a_watch_forgets_what_came_before() -> None:
    with SecondsWatch() as watch:
        watch.forget()
    assert len(watch.others) == len(watch.steal) == watch.second == 1
    assert watch.own_cpu_s >= 0


def test_clusters_are_the_same_each_time_and_of_length_1() -> None:
    one, other = clustered(64), clustered(64)
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(clustered(32).items, one.items[:32])
    np.testing.assert_allclose(np.linalg.norm(one.queries, axis=1), 1, rtol=1e-5)
    ids, vectors = one.fresh(32)
    assert len(set(ids.tolist())) == len(vectors) == 32
