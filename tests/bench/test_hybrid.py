from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bench import hybrid
from bench.harness import NO_DATA
from bench.load import Load

TITLES = ("nurse", "welder", "data engineer", "teacher", "truck driver", "cook", "carpenter", "chemist")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of the data sets' layout with a few lines in each."""
    folder = tmp_path / "data"

    def write(name: str, lines: list[dict[str, Any]]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)

    write("skill2vec/corpus.jsonl.gz", [{"skills": [one, "SQL"]} for one in TITLES] + [{"skills": []}])
    write("jobs/corpus.jsonl.gz", [{"title": one.title(), "text": f"We want a {one}."} for one in TITLES])
    write("onet/corpus.jsonl.gz", [{"_id": "o1", "title": "All", "text": "Everything."}])
    queries = [{"_id": f"q{n}", "text": one, "kind": "alternate"} for n, one in enumerate(TITLES)]
    write("onet/queries.jsonl.gz", queries)
    with gzip.open(folder / "onet/qrels.tsv.gz", "wt", encoding="utf-8") as out:
        out.write("query-id\tcorpus-id\tscore\n")
        out.writelines(f"{line['_id']}\to1\t1\n" for line in queries)
    return folder


@pytest.mark.timeout(600)  # a first server compiles its kernels
@pytest.mark.usefixtures("bench_cache")
def test_each_mode_is_told_by_its_rate_and_its_latency_at_half_of_it(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hybrid, "_N_QUERIES", len(TITLES))
    out = tmp_path / "hybrid.jsonl"
    pace = ["--seconds", "0.2", "--rounds", "2", "--data", str(data)]
    assert hybrid.main([*pace, "--out", str(out)]) == 0
    figures = json.loads(out.read_text("utf-8"))["figures"]
    assert figures["items"] == {"skill lists": len(TITLES), "postings": len(TITLES)}  # none of the empty list
    assert figures["queries"]["n"] == len(TITLES)
    for mode in ("dense", "lexical", "hybrid"):
        told = figures[mode]
        assert told["failed"] == 0
        assert told["qps"] > 0
        assert 0 < told["p50_ms_at_half"] <= told["p99_ms_at_half"]
        assert len(told["qps_each"]) == len(told["p99_ms_each"]) == 2


def test_without_the_data_sets_nothing_is_measured(tmp_path: Path) -> None:
    assert hybrid.main(["--data", str(tmp_path)]) == NO_DATA


def test_a_mode_is_told_by_the_medians_of_its_windows_and_all_failures() -> None:
    def window(latency_s: float, failed: int) -> Load:
        return Load((latency_s,) * 10, failed, 2.0, 0.1, 8)

    told = hybrid._told([window(0.01, 0), window(0.02, 1)], [window(0.001, 2), window(0.003, 0), window(0.009, 0)])
    assert told["qps"] == 40
    assert told["p50_ms_at_half"] == told["p99_ms_at_half"] == pytest.approx(3)
    assert told["p99_ms_each"] == [1, 3, 9]
    assert told["failed"] == 3
