from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import gpu, gpu_imports
from bench.gpu_bed import packed, queries_at_once, short_name
from bench.gpu_report import Answered, Lines
from bench.gpu_rows import Made, exact_top, shuffled
from bench.machine import ROOT
from bench.measured import Samples, Target
from kernels.arrays import SEGMENT_ROWS
from tests.kernels.host_device import COMPILER

pytestmark = pytest.mark.timeout(300)  # the first run on a machine compiles the CPU's kernels, and the shim's

CACHE = ROOT / ".numba-cache" / "bench"
Line = dict[str, Any]


def lines_of(*parts: str) -> dict[str, list[Line]]:
    """In a process of its own: whether Triton interprets is settled when it is imported."""
    CACHE.mkdir(parents=True, exist_ok=True)
    compiled = CACHE / "kernel-cache"
    if not compiled.exists():
        compiled.symlink_to(CACHE.parent, target_is_directory=True)  # what the other tests have compiled
    command = [sys.executable, "-m", "bench.gpu", "--device", "host", *(f"--part={part}" for part in parts)]
    environment = {**os.environ, "EBR_BENCH_CACHE": str(CACHE)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {part: [line for line in found if line["part"] == part] for part in parts}


@pytest.fixture(scope="module")
def kernel_lines() -> dict[str, list[Line]]:
    """Of every part but the server's, in one process: most of its time goes to imports."""
    if COMPILER is None:
        pytest.skip("no C++ compiler, g++ or clang++, is installed")
    return lines_of("ceilings", "scan", "linr", "ivfpq", "live")


def is_measured(line: Line, *ways: str) -> None:
    """Everything a line promises, and of each way a speed beside its recall."""
    assert list(line) == [
        *("bench", "part", "device", "commit", "seed", "case", "figures", "targets", "since_start_s", "machine"),
    ]
    assert line["device"] == "host"
    for way in ways:
        told = line["figures"][way]
        assert told["ms"]["min"] <= told["ms"]["median"]
        assert told["qps"] > 0
        assert 0 <= told["recall"] <= 1


def test_ceilings_tell_memory_products_and_launches(kernel_lines: dict[str, list[Line]]) -> None:
    memory, square, scoring, launches = kernel_lines["ceilings"]
    assert memory["figures"].keys() >= {"read_gb_per_s", "copy_gb_per_s"}
    for line in (square, scoring):
        assert line["figures"].keys() == {"bf16_tera_ops_per_s", "int8_tera_ops_per_s"}
    assert launches["figures"].keys() == {"torch_us", "ours_us", "answered_us"}


def test_a_scan_is_held_against_bandwidth_and_against_torch(kernel_lines: dict[str, list[Line]]) -> None:
    alone, *batches = [line for line in kernel_lines["scan"] if "features" not in line["case"]]
    is_measured(alone, "scan", "keys")
    assert alone["figures"]["scan"]["recall"] >= 0.9
    assert alone["targets"].keys() == {"of_bandwidth"}
    for line in batches:
        is_measured(line, "scan", "gemm_topk", "gemm_topk_float32")
        assert line["figures"]["scan"]["recall"] >= 0.9
        assert line["targets"].keys() == {"times_gemm_topk"}


def test_fused_scores_are_found_by_scans_and_lists_beside_plain_ones(kernel_lines: dict[str, list[Line]]) -> None:
    for part, ways in (("scan", ("gemm_topk_float32",)), ("ivfpq", ("scan",))):
        found = [line for line in kernel_lines[part] if "features" in line["case"]]
        assert [line["case"]["batch"] for line in found] == [1, 4]
        for line in found:
            is_measured(line, "fused", "plain", *ways)
            assert line["figures"]["times_plain"] > 0
            exact = "fused" if part == "scan" else "scan"
            assert line["figures"][exact]["recall"] >= 0.9


def test_linr_s_case_has_its_searches_and_ours_and_what_the_planner_picks(kernel_lines: dict[str, list[Line]]) -> None:
    found = kernel_lines["linr"]
    assert [line["case"]["clauses"] for line in found] == [2, 2, 3, 3]
    for line in found:
        is_measured(line, "ours.scan", "ours.scan_ready", "ours.gather_ready", "v1.torch", "v2.torch")
        assert line["figures"]["pick"] in {"scan_ready", "gather_ready"}
        assert line["targets"].keys() == {"pick_over_best"}
        for way in ("ours.scan", "ours.scan_ready", "ours.gather_ready"):
            assert line["figures"][way]["recall"] >= 0.95
        assert "retrieve" in line["figures"]["left_out"]


def test_filtered_lists_have_a_plan_and_others_beside_it(kernel_lines: dict[str, list[Line]]) -> None:
    found = [line for line in kernel_lines["ivfpq"] if "features" not in line["case"]]
    assert [(line["case"]["rate"], line["case"]["batch"]) for line in found] == [(1, 1), (1, 4), (0.1, 1), (0.1, 4)]
    for line in found:
        filtered = line["case"]["rate"] < 1
        others = ("ours.gather", "masked_gemm_topk", "survivors") if filtered else ("gemm_topk",)
        is_measured(line, "ours.lists", "ours.scan", "faiss", *others)
        figures = line["figures"]
        assert figures["plan"].startswith("ours.")
        assert figures["plan_over_best"] >= 1
        assert figures["ours.scan"]["recall"] >= 0.9


def test_live_rows_are_searched_while_they_change_and_deletes_are_honoured(kernel_lines: dict[str, list[Line]]) -> None:
    rates, honoured = kernel_lines["live"]
    is_measured(rates, "quiet", "live")
    assert rates["targets"].keys() == {"live_over_quiet"}
    # So few rows may be searched before the first batch of upserts is due: 0 then.
    assert rates["figures"]["upserts_per_s"] >= 0
    assert rates["figures"]["live"]["recall"] >= 0.9
    assert honoured["figures"] == {"deleted_and_found": 0, "upserted_and_not_first": 0}


def test_the_whole_server_is_asked_in_every_way_and_tells_its_stages() -> None:
    found = {line["case"]["what"]: line for line in lines_of("e2e")["e2e"]}
    assert list(found) == ["text", "vector", "text_batch", "vector_batch", "text_stream", "vector_stream"]
    for what, line in found.items():
        is_measured(line)
        assert line["figures"].keys() >= {"qps", "p50_ms", "p99_ms", "recall"}
        assert line["figures"]["recall"] == 1
        assert "on the CPU" in line["case"]["encoder"]
        if not what.endswith("stream"):
            assert line["figures"]["stages_ms"].keys() == {"queue", "encode", "filter", "search", "fuse"}


def test_what_is_missing_is_told_and_the_status_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    gone = gpu_imports.library("no_such_library")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "0")  # which the host would set for whatever comes after
        patch.setitem(gpu_imports._OF_PARTS, "live", (gone,))
        assert gpu.main(["--check-imports", "--device", "host", "--part", "live", "--json"]) == gpu.CANNOT_RUN
        told = json.loads(capsys.readouterr().out)["live"]
        assert not told["can_run"]
        assert "no_such_library" in told["needs"]["no_such_library"]["missing"]
        assert gpu.main(["--device", "host", "--part", "live"]) == gpu.CANNOT_RUN


def test_what_is_optional_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu_imports._OF_PARTS, "live", (gpu_imports.library("no_such_library", is_optional=True),))
    monkeypatch.setattr(gpu_imports, "_HOST", ())
    assert gpu_imports.check(["live"], "host")["live"]["can_run"]


@pytest.mark.parametrize(
    ("card", "name"),
    [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA H200", "h200"), ("NVIDIA A100-SXM4-80GB", "a100"), ("", "gpu")],
)
def test_a_card_has_a_short_name(card: str, name: str) -> None:
    assert short_name(card) == name


def test_lines_are_kept_at_once_and_misses_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("scan", "h100", {"gpu": "a card"}, tmp_path / "h100-gpu.jsonl")
    answered = Answered(Samples((0.002, 0.001)), recall=0.5)
    lines.tell({"batch": 4}, {"scan": answered.figures(4)}, {"fast": Target(1.0, 2.0, is_floor=True)})
    kept = json.loads((tmp_path / "h100-gpu.jsonl").read_text("utf-8"))
    assert kept == json.loads(capsys.readouterr().out)
    assert kept["figures"]["scan"] == {
        "ms": {"median": 1.5, "min": 1.0, "max": 2.0},
        "qps": 2666.7,
        "recall": 0.5,
    }
    assert lines.missed == 1


def test_bits_are_packed_as_masks_are() -> None:
    flags = np.random.default_rng(0).random(150) < 0.5
    words = packed(torch.from_numpy(flags))
    found = np.unpackbits(words.numpy().view(np.uint8), bitorder="little")
    assert len(found) == 192
    assert found[:150].tolist() == flags.tolist()
    assert not found[150:].any()


def test_rows_are_made_the_same_each_time_and_truth_is_float32() -> None:
    made = Made(SEGMENT_ROWS + 300, 8, "cpu")
    rows = np.concatenate([chunk.numpy() for _, chunk in made.chunks()])
    assert made.stored(torch.float32).numpy().tolist() == rows.tolist()
    queries = made.queries(3)
    filters = shuffled(made.n_rows, 3, "cpu", rate=0.0001)
    found = exact_top(made, queries, k=10, passes=filters.passes)
    for query in range(3):
        own = filters.of(query).numpy()
        best = own[np.argsort(-(rows[own] @ queries[query].numpy()), kind="stable")][:10]
        assert found[query].tolist() == [*best.tolist(), *[-1] * (10 - len(best))]


def test_as_many_queries_are_searched_at_once_as_there_is_memory_for() -> None:
    assert queries_at_once(64, 1000, k=10) == 64
    assert 1 < queries_at_once(1024, 10_000_000, k=100) < 1024
    assert queries_at_once(8, 4_000_000_000, k=10) == 1
