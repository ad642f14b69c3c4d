from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.plot_filtered import Fixed, fixed, latest, main, points


def _engine(qps: float) -> dict[str, Any]:
    rates = {"median": qps, "min": qps, "max": qps}
    return {"recall": 0.97, "setting": "", "reached": True, "ready_qps": rates, "whole_qps": rates}


def _cell(survivors: int, fixed_recall: float) -> dict[str, Any]:
    return {
        "survivors": survivors,
        "counts_for_speed": survivors >= 100,
        "default_recall": 0.98,
        "fixed_nprobe_recall": fixed_recall,
        "engines": {"engine": _engine(2000.0), "faiss_ivf_flat": _engine(900.0)},
    }


def _line() -> dict[str, Any]:
    figures: dict[str, Any] = {"minilm.rows": {"n": 1_000_000, "d": 128}}
    figures["minilm.unfiltered.k10"] = _cell(1_000_000, 0.95)
    for percent, survivors in (("50%", 500_000), ("1%", 10_000), ("0.01%", 100)):
        figures[f"minilm.near {percent}.k10"] = _cell(survivors, 0.7)
    return {"figures": figures, "machine": {"cpu": "a CPU", "cores": 2}}


def test_cells_become_points_by_kind_and_rate() -> None:
    found = points(_line()["figures"], "minilm", 10)
    rates = [(one.kind, one.rate) for one in found if one.engine == "engine"]
    assert rates == [("near", 0.5), ("near", 0.01), ("near", pytest.approx(0.0001)), ("unfiltered", 1.0)]
    assert fixed(_line()["figures"], "minilm", 10)[0] == Fixed("near", 0.5, 0.98, 0.7)


def test_the_last_line_of_a_set_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    results, picture = tmp_path / "filtered.jsonl", tmp_path / "filtered.png"
    other: dict[str, Any] = {"figures": {"skills.rows": {}}}
    results.write_text("\n".join(json.dumps(line) for line in (_line(), other)) + "\n", "utf-8")
    assert main([str(results), str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in capsys.readouterr().out


def test_a_set_that_was_not_measured_has_no_line() -> None:
    assert latest([json.dumps(_line())], "mnist784") is None
