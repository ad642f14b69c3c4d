"""Rankers are what they are declared to be, or refused with the reason; nothing of them reads or runs anything else."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engine.errors import InvalidArgument
from engine.models.ranker import MODEL_NAME, Ranker, hashes_of, model_files, ranker_version, verify_ranker
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, RankInput, RankStage
from tests import rankers

INPUTS: tuple[RankInput, ...] = (LegInput("similarity"), KeywordInput("country", buckets=2))


def pipeline(model: Path, inputs: tuple[RankInput, ...] = INPUTS) -> Pipeline:
    return Pipeline(10, RankStage(str(model), inputs))


def opened(model: Path, inputs: tuple[RankInput, ...] = INPUTS) -> Ranker:
    return Ranker(model_files(str(model))[MODEL_NAME], pipeline(model, inputs))


def test_a_model_of_one_input_scores_all_columns(tmp_path: Path) -> None:
    ranker = opened(rankers.linear(tmp_path / "m.onnx", [2, -1, 0.5]))
    columns = np.random.default_rng(3).standard_normal((7, 3)).astype(np.float32)
    np.testing.assert_allclose(ranker.score(columns), columns @ [2, -1, 0.5], rtol=1e-5)
    assert ranker.profile.seconds(500) > 0


def test_a_model_may_have_an_input_for_each_that_is_declared_in_any_order(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["country", "axis"], ["total"], keepdims=1),
        helper.make_node("Sub", ["similarity", "total"], ["scores"]),
    ]
    graph = {"inputs": {"country": ("n", 2), "similarity": ("n", 1)}, "output": ("n", 1)}
    path = rankers.saved(tmp_path / MODEL_NAME, nodes, constants={"axis": np.array([1], np.int64)}, **graph)
    ranker = opened(tmp_path)
    assert path.is_file()
    assert not ranker.reads_one_array
    assert ranker.score(np.array([[5, 1, 1], [1, 0, 0]], np.float32)).tolist() == [3, 1]


def refused(model: Path, match: str, inputs: tuple[RankInput, ...] = INPUTS) -> None:
    with pytest.raises(InvalidArgument, match=match) as told:
        opened(model, inputs)
    assert told.value.field == "pipeline.rank.model"


def test_a_model_that_does_not_fit_its_declaration_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    same = [helper.make_node("Identity", ["columns"], ["scores"])]
    path = tmp_path / "m.onnx"
    rankers.linear(path, [1, 1])
    refused(path, r"'columns' is of shape \['n', 2\], not \[n, 3\]")
    rankers.saved(path, same, inputs={"columns": (8, 3)}, output=(8, 3))
    refused(path, "any number of n")
    rankers.saved(path, same, inputs={"columns": ("n", 3)}, output=("n", 3))
    refused(path, r"output 'scores' is of shape \['n', 3\]")
    rankers.saved(path, same, inputs={"columns": ("n", 3)}, output=("n", 3), kind=TensorProto.DOUBLE)
    refused(path, r"tensor\(double\), not a tensor of float32")
    sums = [helper.make_node("Add", ["a", "b"], ["scores"])]
    rankers.saved(path, sums, inputs={"a": ("n", 1), "b": ("n", 1)}, output=("n", 1))
    refused(path, "has inputs a, b; declared are similarity, country")
    sums = [
        helper.make_node("ReduceSum", ["columns", "axis"], ["totals"], keepdims=0),
        helper.make_node("Slice", ["totals", "start", "end"], ["scores"]),
    ]
    constants = {name: np.array([place], np.int64) for name, place in {"axis": 1, "start": 0, "end": 9}.items()}
    rankers.saved(path, sums, inputs={"columns": ("n", 3)}, output=("m",), constants=constants)
    refused(path, "does not score 512 candidates")


def test_a_model_that_hangs_is_refused_when_its_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.models.ranker._LONGEST_TIMING_S", 0.2)
    path = rankers.looping(tmp_path / "m.onnx", least=1e15)
    refused(path, r"does not score 1 candidates of zeros within 0.2 seconds", (LegInput("similarity"),))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.onnx", "cannot be read")
    refused(tmp_path, "cannot be read")
    (tmp_path / "m.onnx").write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    refused(tmp_path / "m.onnx", "no ONNX model|cannot be loaded|has inputs")


def test_operators_that_are_not_onnx_s_own_and_unknown_opsets_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Run", ["columns"], ["scores"], domain="my.ops")]
    path = rankers.saved(tmp_path / "m.onnx", nodes, inputs={"columns": ("n", 3)}, domains=["my.ops"])
    refused(path, "operators of 'my.ops'")
    same = [helper.make_node("Identity", ["columns"], ["scores"])]
    rankers.saved(path, same, inputs={"columns": ("n", 3)}, opset=6)
    refused(path, "opset 6, known are 7 to")


def with_external_data(folder: Path, location: str) -> Path:
    """A linear model whose weights lie in another file, as its graph says."""
    model = onnx.load(rankers.linear(folder / MODEL_NAME, [1, 2, 3]))
    weights = next(one for one in model.graph.initializer if one.name == "w")
    (folder / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        weights.external_data.add(key=key, value=value)
    (folder / MODEL_NAME).write_bytes(model.SerializeToString())
    return folder


def test_external_data_beside_the_model_are_its_own_and_no_others_are_read(tmp_path: Path) -> None:
    folder = with_external_data(tmp_path / "a", "weights.bin")
    assert sorted(model_files(str(folder))) == [MODEL_NAME, "weights.bin"]
    assert opened(folder).score(np.eye(3, dtype=np.float32)).tolist() == [1, 2, 3]
    for location in ("../a/weights.bin", str(folder / "weights.bin"), "sub/weights.bin", "..", ""):
        refused(with_external_data(tmp_path / "b", location), "no file beside it")
    linked = with_external_data(tmp_path / "c", "link.bin")
    (linked / "link.bin").symlink_to(folder / "weights.bin")
    refused(linked, "a link")


def test_a_version_follows_from_the_files_and_the_inputs_and_not_from_where_they_lie(tmp_path: Path) -> None:
    one, other = rankers.linear(tmp_path / "a" / "m.onnx", [1, 2, 3]), rankers.linear(tmp_path / "b.onnx", [1, 2, 3])
    changed = rankers.linear(tmp_path / "c.onnx", [1, 2, 4])

    def version(path: Path, inputs: tuple[RankInput, ...] = INPUTS) -> str:
        return ranker_version(inputs, hashes_of(model_files(str(path))))

    assert version(one) == version(other)
    assert len({version(one), version(changed), version(one, INPUTS[::-1])}) == 3
    assert version(one, (LegInput("x"),)) != version(one, (NumberInput("x"),))


def test_copies_that_changed_are_found_out(tmp_path: Path) -> None:
    rankers.linear(tmp_path / MODEL_NAME, [1, 2, 3])
    known = replace(pipeline(tmp_path), files=hashes_of(model_files(str(tmp_path))))
    verify_ranker(tmp_path, known)
    rankers.linear(tmp_path / MODEL_NAME, [1, 2, 4])
    with pytest.raises(InvalidArgument, match="has sha256"):
        verify_ranker(tmp_path, known)
    (tmp_path / MODEL_NAME).unlink()
    with pytest.raises(InvalidArgument, match="cannot be read"):
        verify_ranker(tmp_path, known)
