"""The tower as an ONNX graph of fused operators, run by ONNX Runtime: float32 on a CPU, one call outside the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from engine.models.protocol import EncodeDevice
from engine.models.weights import Affine, LayerWeights, TowerWeights
from engine.types import Float32Array, Int64Array

_OPSET, _IR_VERSION = 20, 10  # the first with Gelu, and the IR that came with it
_FUSED = "com.microsoft"
_INLINE_NUMBERS = 64  # what shapes are inferred from is shorter, and must be inside the model


class OnnxTower:
    """Implements ``engine.models.protocol.Tower`` with at most ``threads`` threads a call.

    The threads sleep between operators' work instead of spinning: the search lane needs the cores too.
    """

    engine = "onnxruntime"
    device: EncodeDevice = "cpu"

    def __init__(self, weights: TowerWeights, threads: int) -> None:
        graph = _Graph()
        _write_tower(graph, weights)
        self._constants = graph.outside()  # the session reads them in place
        self._session = onnxruntime.InferenceSession(
            graph.model(weights.dimension).SerializeToString(),
            _options(threads, self._constants),
            providers=["CPUExecutionProvider"],
        )

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        outputs = self._session.run(["embeddings"], {"ids": ids, "lengths": lengths.astype(np.int32)})
        embeddings: Float32Array = outputs[0]
        return embeddings


def _options(threads: int, constants: dict[str, npt.NDArray[Any]]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # a plan for each shape, and shapes hardly repeat
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in constants.values()]
    options.add_external_initializers(list(constants), values)
    return options


class _Graph:
    """Nodes in the order they run, and the constants they read.

    The large ones stay outside the model: they are not copied, and the 2 GiB that a protobuf may have do not bind them.
    """

    def __init__(self) -> None:
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self._nodes: list[onnx.NodeProto] = []

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = f"c{len(self._constants)}"
        self._constants[name] = np.asarray(array, order="C")
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any) -> str:
        """Add a node; the name of what it gives."""
        output = output or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def outside(self) -> dict[str, npt.NDArray[Any]]:
        return {name: array for name, array in self._constants.items() if array.size > _INLINE_NUMBERS}

    def model(self, dimension: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            "tower",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "T"]),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
            ],
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["B", dimension])],
            [_initialiser(name, array) for name, array in self._constants.items()],
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _initialiser(name: str, array: npt.NDArray[Any]) -> TensorProto:
    """With its content, or declared as one whose content the session options bring."""
    if array.size <= _INLINE_NUMBERS:
        return numpy_helper.from_array(array, name)
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value="in-memory")
    return tensor


def _write_tower(graph: _Graph, weights: TowerWeights) -> None:
    zero, one, two = (graph.constant(np.array([number], np.int64)) for number in (0, 1, 2))
    n_tokens = graph.node("Slice", graph.node("Shape", "ids"), one, two)
    positions = graph.node("Slice", graph.constant(weights.positions), zero, n_tokens)
    words = graph.node("Gather", graph.constant(weights.words), "ids")
    hidden = _norm(graph, graph.node("Add", words, positions), weights.norm, weights.epsilon)
    bias = _attention_bias(graph, weights, zero, n_tokens)
    for layer in weights.layers:
        hidden = _layer(graph, hidden, layer, weights, bias)
    pooled = _pool(graph, hidden, weights, zero, one, n_tokens)
    for dense in weights.dense:
        pooled = graph.node("Add", _product(graph, pooled, dense.affine), graph.constant(dense.affine.bias))
        pooled = graph.node("Relu" if dense.activation == "ReLU" else dense.activation, pooled)
    if weights.normalizes:
        length = graph.node("ReduceL2", pooled, one, keepdims=1)
        pooled = graph.node("Div", pooled, graph.node("Max", length, graph.constant(np.array(1e-12, np.float32))))
    graph.node("Identity", pooled, output="embeddings")


def _attention_bias(graph: _Graph, weights: TowerWeights, zero: str, n_tokens: str) -> str:
    """[1, heads, T, T], or no name where the tower has none."""
    if weights.attention_bias is None:
        return ""
    table = graph.constant(weights.attention_bias[None])
    for axis in (2, 3):
        table = graph.node("Slice", table, zero, n_tokens, graph.constant(np.array([axis], np.int64)))
    return table


def _layer(graph: _Graph, hidden: str, layer: LayerWeights, weights: TowerWeights, bias: str) -> str:
    seen = graph.node(
        "Attention",
        *(hidden, _transposed(graph, layer.qkv), graph.constant(layer.qkv.bias), "lengths", "", bias),
        domain=_FUSED,
        num_heads=weights.n_heads,
    )
    hidden = _add_and_norm(graph, seen, layer.attention, hidden, layer.attention_norm, weights.epsilon)
    inner = _activate(graph, _product(graph, hidden, layer.up), layer.up, weights.activation)
    return _add_and_norm(graph, inner, layer.down, hidden, layer.output_norm, weights.epsilon)


def _activate(graph: _Graph, product: str, affine: Affine, activation: str) -> str:
    bias = graph.constant(affine.bias)
    if activation == "gelu":
        return graph.node("BiasGelu", product, bias, domain=_FUSED)
    if activation == "gelu_tanh":
        return graph.node("FastGelu", product, bias, domain=_FUSED)
    return graph.node("Relu", graph.node("Add", product, bias))


def _add_and_norm(graph: _Graph, x: str, affine: Affine, residual: str, norm: Affine, epsilon: float) -> str:
    scale, shift, bias = graph.constant(norm.weight), graph.constant(norm.bias), graph.constant(affine.bias)
    product = _product(graph, x, affine)
    return graph.node("SkipLayerNormalization", product, residual, scale, shift, bias, domain=_FUSED, epsilon=epsilon)


def _norm(graph: _Graph, x: str, norm: Affine, epsilon: float) -> str:
    scale, shift = graph.constant(norm.weight), graph.constant(norm.bias)
    return graph.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)


def _product(graph: _Graph, x: str, affine: Affine) -> str:
    return graph.node("MatMul", x, _transposed(graph, affine))


def _transposed(graph: _Graph, affine: Affine) -> str:
    return graph.constant(affine.weight.T)


# Pooling


def _pool(graph: _Graph, hidden: str, weights: TowerWeights, zero: str, one: str, n_tokens: str) -> str:
    """[B, d of all poolings]; keep [B, T, 1] is 1 for tokens that count and 0 for padding."""
    places = graph.node(
        "Range", graph.node("Squeeze", zero), graph.node("Squeeze", n_tokens), graph.node("Squeeze", one)
    )
    lengths = graph.node("Unsqueeze", graph.node("Cast", "lengths", to=TensorProto.INT64), one)
    is_kept = graph.node("Unsqueeze", graph.node("Less", places, lengths), graph.constant(np.array([2], np.int64)))
    kept = graph.node("Where", is_kept, hidden, graph.constant(np.array(0, np.float32)))
    count = graph.node("Cast", lengths, to=TensorProto.FLOAT)
    pooled = []
    for name in weights.poolings:
        if name == "cls":
            pooled.append(graph.node("Gather", hidden, graph.constant(np.array(0, np.int64)), axis=1))
        elif name == "max":
            reached = graph.node("Where", is_kept, hidden, graph.constant(np.array(-np.inf, np.float32)))
            pooled.append(graph.node("ReduceMax", reached, one, keepdims=0))
        else:
            total = graph.node("ReduceSum", kept, one, keepdims=0)
            pooled.append(graph.node("Div", total, count if name == "mean" else graph.node("Sqrt", count)))
    return graph.node("Concat", *pooled, axis=1)
