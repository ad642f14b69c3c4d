"""Small ONNX models that tests rank by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def saved(path: Path, nodes: Sequence[onnx.NodeProto], **graph: object) -> Path:
    """A model of these nodes; see ``graph_of``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model_of(nodes, **graph), path)
    return path


def model_of(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Mapping[str, Sequence[int | str]],
    output: Sequence[int | str] = ("n",),
    constants: Mapping[str, np.ndarray] | None = None,
    domains: Sequence[str] = (),
    opset: int = OPSET,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "ranker",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("scores", kind, list(output))],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def linear(path: Path, weights: Sequence[float]) -> Path:
    """Scores are the weighted sum of the columns, summed in float32: [n] of [n, F]."""
    column = np.array(weights, np.float32)[:, None]
    nodes = [helper.make_node("MatMul", ["columns", "w"], ["product"]), _squeezed("product")]
    return saved(
        path,
        nodes,
        inputs={"columns": ("n", len(weights))},
        constants={"w": column, "one": np.array([1], np.int64)},
    )


def logarithm(path: Path, width: int = 1) -> Path:
    """Scores are the logarithm of the first column: NaN below 0."""
    start, end = np.array([0], np.int64), np.array([1], np.int64)
    nodes = [
        helper.make_node("Slice", ["columns", "start", "one", "one"], ["first"]),
        helper.make_node("Log", ["first"], ["product"]),
        _squeezed("product"),
    ]
    return saved(path, nodes, inputs={"columns": ("n", width)}, constants={"start": start, "one": end})


def lookup(path: Path, table: Sequence[float]) -> Path:
    """Scores are a table's at the place that the only column says; a place beyond it makes the run fail."""
    nodes = [
        helper.make_node("Cast", ["columns"], ["places"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "places"], ["product"]),
        _squeezed("product"),
    ]
    constants = {"table": np.array(table, np.float32), "one": np.array([1], np.int64)}
    return saved(path, nodes, inputs={"columns": ("n", 1)}, constants=constants)


def looping(path: Path, least: float = 0) -> Path:
    """Scores are the only column's values, each more by the rounds of a loop: as many as the largest of them says, or
    ``least`` where that is more.
    """
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
            helper.make_node("Add", ["sum", "step"], ["next_sum"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("still_goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_sum", TensorProto.FLOAT, ["n"]),
        ],
    )
    nodes = [
        helper.make_node("Squeeze", ["columns", "one"], ["values"]),
        helper.make_node("ReduceMax", ["values"], ["largest"], keepdims=0),
        helper.make_node("Max", ["largest", "least"], ["most"]),
        helper.make_node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Loop", ["rounds", "", "values"], ["scores"], body=graph),
    ]
    numbers = {"step": np.array([1], np.float32), "least": np.array(least, np.float32)}
    constants = {"one": np.array([1], np.int64), **numbers}
    return saved(path, nodes, inputs={"columns": ("n", 1)}, constants=constants)


def _squeezed(name: str) -> onnx.NodeProto:
    return helper.make_node("Squeeze", [name, "one"], ["scores"])
