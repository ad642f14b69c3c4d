"""The example trains a ranker on histories and serves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.rank_interactions.histories import Histories, read_histories
from examples.rank_interactions.train import run
from tests.e2e.serving import a_client, serving


@pytest.mark.timeout(300)
def test_the_ranker_of_the_example_is_trained_set_and_reported(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "interactions"
    if not folder.is_dir():
        pytest.skip("the data set interactions is not there")
    read = read_histories(folder, "beauty", users=600)
    assert isinstance(read, Histories)
    with serving(tmp_path / "data", min_rows_to_train=10**9) as running, a_client(running) as client:
        told = run(client, read, tmp_path / "ranker", name="beauty", users=150, n=40)
        assert client.get_collection("beauty").schema.pipeline is not None
    assert (tmp_path / "ranker" / "model.onnx").is_file()
    assert told["users"] == 150
    assert told["ranked"] == pytest.approx(told["ranked_here"], abs=0.01), "as served, so as trained"
    assert 0 < told["ranked"]["recall@10"] <= told["recall@40"]
