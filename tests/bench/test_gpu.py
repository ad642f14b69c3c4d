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
from bench.gpu_bed import packed, short_name
from bench.gpu_report import Answered, Lines
from bench.gpu_rows import Made, exact_top, shuffled
from bench.machine import ROOT
from bench.measured import Samples, Target
from kernels.arrays import SEGMENT_ROWS
from tests.kernels.host_device import COMPILER

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, is installed")


def lines_of(part: str, *more: str) -> list[dict[str, Any]]:
    """In a process of its own: whether Triton interprets is settled when it is imported."""
    command = [sys.executable, "-m", "bench.gpu", "--device", "host", "--part", part, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def is_measured(line: dict[str, Any], *ways: str) -> None:
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


@needs_compiler
def test_ceilings_tell_memory_products_and_launches() -> None:
    memory, square, scoring, launches = lines_of("ceilings")
    assert memory["figures"].keys() >= {"read_gb_per_s", "copy_gb_per_s"}
    for line in (square, scoring):
        assert line["figures"].keys() == {"bf16_tera_ops_per_s", "int8_tera_ops_per_s"}
    assert launches["figures"].keys() == {"torch_us", "ours_us", "answered_us"}


@needs_compiler
def test_a_scan_is_held_against_bandwidth_and_against_torch() -> None:
    alone, *batches = lines_of("scan")
    is_measured(alone, "scan", "keys")
    assert alone["figures"]["scan"]["recall"] >= 0.9
    assert alone["targets"].keys() == {"of_bandwidth"}
    for line in batches:
        is_measured(line, "scan", "gemm_topk", "gemm_topk_float32")
        assert line["figures"]["scan"]["recall"] >= 0.9
        assert line["targets"].keys() == {"times_gemm_topk"}


@needs_compiler
def test_linr_s_case_has_its_searches_and_ours_and_what_the_planner_picks() -> None:
    found = lines_of("linr")
    assert [line["case"]["clauses"] for line in found] == [2, 2, 3, 3]
    for line in found:
        is_measured(line, "ours.scan", "ours.scan_ready", "ours.gather_ready", "v1.torch", "v2.torch")
        assert line["figures"]["pick"] in {"scan_ready", "gather_ready"}
        assert line["targets"].keys() == {"pick_over_best"}
        for way in ("ours.scan", "ours.scan_ready", "ours.gather_ready"):
            assert line["figures"][way]["recall"] >= 0.95
        assert "retrieve" in line["figures"]["left_out"]


@needs_compiler
def test_filtered_lists_have_a_plan_and_others_beside_it() -> None:
    found = lines_of("ivfpq")
    assert [(line["case"]["rate"], line["case"]["batch"]) for line in found] == [(1, 1), (1, 4), (0.1, 1), (0.1, 4)]
    for line in found:
        filtered = line["case"]["rate"] < 1
        others = ("ours.gather", "masked_gemm_topk", "survivors") if filtered else ("gemm_topk",)
        is_measured(line, "ours.lists", "ours.scan", "faiss", *others)
        figures = line["figures"]
        assert figures["plan"].startswith("ours.")
        assert figures["plan_over_best"] >= 1
        assert figures["ours.scan"]["recall"] >= 0.9


def test_what_is_missing_is_told_and_the_status_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    gone = gpu_imports.library("no_such_library")
    with pytest.MonkeyPatch.context() as patch:
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
