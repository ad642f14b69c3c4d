from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from bench.harness import MISSED, NO_DATA, Options, Report, Samples, interleaved, percentiles, run
from bench.machine import ROOT, MachineWatch


def _body(options: Options, report: Report) -> None:
    report.figure("qps", Samples((3.0, 1.0, 2.0)))
    report.figure("nested", {"p50_ms": 1.23456789, "rows": 5, "names": ["a"]})
    report.at_least("fast_enough", 2.0, 1.5)
    report.at_most("small_enough", 1.0, 2.0)


def _missing(options: Options, report: Report) -> None:
    report.at_least("fast_enough", 1.0, 1.5)


def _line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    line: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


def test_the_last_line_is_one_json_object_of_the_promised_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("toy", _body, argv=["--quick"]) == 0
    line = _line(capsys)
    assert list(line) == ["bench", "commit", "machine", "figures", "targets"]
    assert line["bench"] == "toy"
    assert isinstance(line["figures"], dict)
    assert line["figures"]["qps"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert line["figures"]["nested"] == {"p50_ms": 1.2346, "rows": 5, "names": ["a"]}
    assert line["targets"] == {
        "fast_enough": {"value": 2.0, "target": ">= 1.5", "ok": True},
        "small_enough": {"value": 1.0, "target": "<= 2", "ok": True},
    }


def test_a_missed_target_has_an_exit_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("toy", _missing, argv=[]) == MISSED
    assert _line(capsys)["targets"] == {"fast_enough": {"value": 1.0, "target": ">= 1.5", "ok": False}}


def test_a_data_set_that_is_not_there_is_told_and_no_missed_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(options: Options, report: Report) -> None:
        (options.data / "scifact").open()

    assert run("toy", body, argv=["--data", str(tmp_path)]) == NO_DATA
    assert "scifact" in capsys.readouterr().err.replace("\n", "")


def test_a_file_missing_elsewhere_is_a_fault_of_the_bench(tmp_path: Path) -> None:
    def body(options: Options, report: Report) -> None:
        (tmp_path / "elsewhere").open()

    with pytest.raises(FileNotFoundError):
        run("toy", body, argv=["--data", str(tmp_path / "data")])


def test_out_appends_the_same_line_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "toy.jsonl"
    for _ in range(2):
        run("toy", _body, argv=["--out", str(out)])
    lines = out.read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1]) == _line(capsys)


def test_the_machine_is_told_without_names_and_paths() -> None:
    facts = MachineWatch().facts()
    told = json.dumps(facts)
    assert socket.gethostname() not in told
    assert "/" not in told
    assert str(ROOT) not in told
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert {"cpu", "memory_gib", "steal_share", "others_share", "python", "libraries"} <= set(facts)


def test_variants_are_measured_in_turn_and_warm_up_is_thrown_away() -> None:
    order: list[str] = []

    def measure(name: str, values: list[float]) -> float:
        order.append(name)
        return values.pop(0)

    first, second = [100.0, 1.0, 3.0], [200.0, 5.0, 4.0]
    found = interleaved({"a": lambda: measure("a", first), "b": lambda: measure("b", second)}, rounds=2)
    assert order == ["a", "b"] * 3
    assert found == {"a": Samples((1.0, 3.0)), "b": Samples((5.0, 4.0))}
    assert found["a"].median == 2.0
    assert found["b"].minimum == 4.0


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentiles(values) == {"p50": 50.0, "p90": 90.0, "p99": 99.0}
    assert percentiles([7.0, 9.0], (50, 99)) == {"p50": 7.0, "p99": 9.0}
