from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import rankers
from tests.engine.cli.conftest import Run
from tests.engine.cli.fake import FakeServer

DECLARED = """
retrieve = 100
[rank]
deadline_share = 0.25
[[rank.input]]
leg = "similarity"
[[rank.input]]
number = "pay"
missing = 3.0
[[rank.input]]
keyword = "company"
vocabulary = ["us", "them"]
[[rank.input]]
query = "user"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "200")
    rankers.linear(tmp_path / "model.onnx", (1, 2, 10, 20, 100))
    (tmp_path / "pipeline.toml").write_text(DECLARED)
    return tmp_path


def test_a_sound_ranker_is_told_with_its_inputs_scores_and_time(run: Run, folder: Path) -> None:
    told = run("pipeline", "check", folder)
    assert told.exit_code == 0
    for part in (
        "leg similarity, normalised",
        "keyword company, by vocabulary",
        "the query is refused",
        "500 at random",
    ):
        assert part in told.stdout
    assert "the model fits its declaration" in told.stdout
    record = json.loads(run("pipeline", "check", folder, "--json").stdout)
    assert record["wrong"] == []
    assert [one["columns"] for one in record["inputs"]] == [1, 1, 2, 1]
    assert record["p50_500_s"] > 0


def test_a_sample_is_what_is_scored(run: Run, folder: Path) -> None:
    sample = folder / "sample.jsonl"
    lines = [{"similarity": 0.5, "company": "them", "user": 1}, {"pay": 4, "company": ["us", "who"], "user": [2]}]
    sample.write_text("\n".join(map(json.dumps, lines)))
    record = json.loads(run("pipeline", "check", folder, "--sample", sample, "--json").stdout)
    assert record["candidates"] == 2
    assert record["scores"] == {"from": 0.5 + 6 + 20 + 100, "to": 8 + 10 + 200}
    assert record["inputs"][1] == {"name": "pay", "reads": "number pay", "columns": 1, "from": 3.0, "to": 4.0}


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"similarity": 1}', "line 1, user: is missing"),
        ('{"user": "x"}', "line 1, user: is 'x', not 1 numbers"),
        ('{"user": 1, "company": 4}', "neither a keyword nor a list"),
        ('{"user": 1, "usr": 1}', "has usr, which no input is called"),
        ("[1]", "is no JSON object"),
        ("{", "Expecting"),
        ("", "has no candidate"),
    ],
)
def test_a_sample_that_does_not_fit_is_told_with_its_line(run: Run, folder: Path, line: str, match: str) -> None:
    (folder / "s.jsonl").write_text(line)
    told = run("pipeline", "check", folder, "--sample", folder / "s.jsonl")
    assert told.exit_code == 1
    assert match in told.stderr


def test_what_is_wrong_with_a_model_is_told_and_the_exit_status_says_so(run: Run, folder: Path) -> None:
    rankers.linear(folder / "model.onnx", (1, 2))
    told = run("pipeline", "check", folder)
    assert told.exit_code == 1
    assert "not [n, 5] with any number of n" in told.stderr
    rankers.logarithm(folder / "model.onnx", 5)
    record = json.loads(run("pipeline", "check", folder, "--json").stdout)
    assert "scores are NaN or infinite" in record["wrong"][0]
    rankers.linear(folder / "model.onnx", (0,) * 5)
    assert "the model ranks nothing" in run("pipeline", "check", folder).stderr
    (folder / "pipeline.toml").write_text(DECLARED.replace("retrieve = 100", "retrieve = 5000"))
    assert "5000 is beyond the limit of 1000" in run("pipeline", "check", folder).stderr
    (folder / "pipeline.toml").unlink()
    assert "cannot read" in run("pipeline", "check", folder).stderr


def test_a_pipeline_is_set_shown_and_removed(run: Run, server: FakeServer, folder: Path) -> None:
    assert "ebr pipeline set jobs FOLDER" in run("pipeline", "show", "jobs").stdout
    assert "0123456789abcdef" in run("pipeline", "set", "jobs", folder).stdout
    kept = server.schemas["jobs"].pipeline
    assert kept is not None
    assert kept.rank.model == str(folder)
    record = json.loads(run("pipeline", "show", "jobs", "--json").stdout)
    assert record["pipeline"]["retrieve"] == 100
    assert record["pipeline"]["rank"]["deadline_share"] == 0.25
    assert run("pipeline", "remove", "jobs").stdout == "removed the pipeline of jobs\n"
    assert run("pipeline", "remove", "jobs").exit_code == 1
