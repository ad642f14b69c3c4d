"""A tower's weights as NumPy arrays under names that all model families share; knows no way to compute with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError
from engine.models.folder import BeyondTowers, DenseActivation, FolderSpec, Pooling, read_json
from engine.types import Float32Array

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """``weight`` [out, in] of a linear layer or [d] of a norm, and ``bias`` [out]; both float32."""

    weight: Float32Array
    bias: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """A post-norm transformer layer; ``qkv`` [3 d, d] has query, key and value one below the other."""

    qkv: Affine
    attention: Affine
    attention_norm: Affine
    up: Affine
    down: Affine
    output_norm: Affine


@dataclass(frozen=True, slots=True, eq=False)
class DenseWeights:
    affine: Affine
    activation: DenseActivation


@dataclass(frozen=True, slots=True, eq=False)
class TowerWeights:
    """``positions`` [P, d] has the type embedding folded in; ``attention_bias`` [heads, P, P] by relative position."""

    words: Float32Array
    positions: Float32Array
    norm: Affine
    layers: tuple[LayerWeights, ...]
    n_heads: int
    epsilon: float
    activation: str
    """``gelu``, ``gelu_tanh`` or ``relu``."""
    attention_bias: Float32Array | None
    poolings: tuple[Pooling, ...]
    dense: tuple[DenseWeights, ...]
    normalizes: bool

    @property
    def dimension(self) -> int:
        if self.dense:
            return len(self.dense[-1].affine.bias)
        d: int = self.words.shape[1]
        return len(self.poolings) * d

    @property
    def attention_share(self) -> float:
        """Multiplications of attention by those of the linear layers, for each token of the window's length."""
        layer = self.layers[0]
        linear = sum(one.weight.size for one in (layer.qkv, layer.attention, layer.up, layer.down))
        d: int = self.words.shape[1]
        return 2 * d / linear


@dataclass(frozen=True, slots=True)
class _Names:
    """Where a family keeps what; layer names are relative to ``layers``."""

    layers: str
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attention: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    output_norm: str = "output.LayerNorm"


_BERT = _Names("encoder.layer")
_DISTILBERT = _Names(
    "transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    output_norm="output_layer_norm",
)
_MPNET = _Names(
    "encoder.layer",
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attention="attention.attn.o",
    attention_norm="attention.LayerNorm",
)


def load_weights(spec: FolderSpec) -> TowerWeights:
    """Read the folder's weights.

    Raises:
        ConfigError: a weight is missing.
        BeyondTowers: the activation is not one that the towers compute.
    """
    tensors = _without_prefix(_tensors(spec.transformer), str(spec.config["model_type"]).replace("-", "_"))
    try:
        return _tower(spec, tensors)
    except KeyError as error:
        raise ConfigError(f"the weights in {spec.transformer} have no {error}") from None


def _tower(spec: FolderSpec, tensors: Mapping[str, Float32Array]) -> TowerWeights:
    config, family = spec.config, spec.config["model_type"]
    names = {"distilbert": _DISTILBERT, "mpnet": _MPNET}.get(family, _BERT)
    n_layers = int(config["n_layers" if family == "distilbert" else "num_hidden_layers"])
    n_heads = int(config["n_heads" if family == "distilbert" else "num_attention_heads"])
    return TowerWeights(
        words=tensors["embeddings.word_embeddings.weight"],
        positions=_positions(spec, tensors),
        norm=_affine(tensors, "embeddings.LayerNorm"),
        layers=tuple(_layer(tensors, names, f"{names.layers}.{number}") for number in range(n_layers)),
        n_heads=n_heads,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        activation=_activation(config),
        attention_bias=_attention_bias(spec, tensors) if family == "mpnet" else None,
        poolings=spec.poolings,
        dense=tuple(DenseWeights(_dense_affine(_tensors(one.folder)), one.activation) for one in spec.dense),
        normalizes=spec.normalizes,
    )


def _activation(config: Mapping[str, Any]) -> str:
    name = config.get("hidden_act", config.get("activation", "gelu"))
    if name not in _ACTIVATIONS:
        raise BeyondTowers(f"its activation {name!r} is not one of {sorted(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _positions(spec: FolderSpec, tensors: Mapping[str, Float32Array]) -> Float32Array:
    positions = tensors["embeddings.position_embeddings.weight"][spec.position_offset :]
    types = tensors.get("embeddings.token_type_embeddings.weight")
    return np.ascontiguousarray(positions if types is None else positions + types[0])


def _layer(tensors: Mapping[str, Float32Array], names: _Names, prefix: str) -> LayerWeights:
    query, key, value, attention, attention_norm, up, down, output_norm = (
        _affine(tensors, f"{prefix}.{name}")
        for name in (
            names.query,
            names.key,
            names.value,
            names.attention,
            names.attention_norm,
            names.up,
            names.down,
            names.output_norm,
        )
    )
    qkv = Affine(
        np.concatenate([query.weight, key.weight, value.weight]), np.concatenate([query.bias, key.bias, value.bias])
    )
    return LayerWeights(qkv, attention, attention_norm, up, down, output_norm)


def _affine(tensors: Mapping[str, Float32Array], name: str) -> Affine:
    """Older files call a norm's weight and bias gamma and beta."""
    if f"{name}.gamma" in tensors:
        return Affine(tensors[f"{name}.gamma"], tensors[f"{name}.beta"])
    return Affine(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _dense_affine(tensors: Mapping[str, Float32Array]) -> Affine:
    weight = tensors["linear.weight"]
    return Affine(weight, tensors.get("linear.bias", np.zeros(len(weight), np.float32)))


def _attention_bias(spec: FolderSpec, tensors: Mapping[str, Float32Array]) -> Float32Array:
    """[heads, P, P] of the shared table [buckets, heads]."""
    table = tensors["encoder.relative_attention_bias.weight"]
    places = np.arange(spec.max_tokens)
    buckets = _buckets(places[None, :] - places[:, None], len(table))
    return np.ascontiguousarray(table[buckets].transpose(2, 0, 1))


def _buckets(offsets: np.ndarray[Any, np.dtype[np.int64]], n_buckets: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Half of the buckets for each direction: one for each near offset, then in steps of the logarithm up to 128.

    Source: T5 (Raffel et al. 2020), as MPNet uses it.
    """
    half = n_buckets // 2
    near = half // 2
    distance = np.abs(offsets)
    log_ratio = np.log(np.maximum(distance, 1).astype(np.float32) / near) / np.log(128 / near)
    far = np.minimum(near + (log_ratio * (half - near)).astype(np.int64), half - 1)
    buckets: np.ndarray[Any, np.dtype[np.int64]] = np.where(distance < near, distance, far) + np.where(
        offsets > 0, half, 0
    )
    return buckets


# Files


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a module's weights.

    Raises:
        ConfigError: there are none.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return tuple(folder / name for name in sorted(set(read_json(index)["weight_map"].values())))
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return (folder / name,)
    raise ConfigError(f"{folder} has neither model.safetensors nor pytorch_model.bin")


def _tensors(folder: Path) -> dict[str, Float32Array]:
    tensors: dict[str, Float32Array] = {}
    for path in weight_files(folder):
        try:
            tensors |= _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"cannot read the weights {path}: {error}") from error
    return tensors


def _read_safetensors(path: Path) -> dict[str, Float32Array]:
    """Through NumPy where it has the dtypes, so that torch stays unloaded; through torch for bfloat16."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if {file.get_slice(name).get_dtype() for name in names} <= {"F16", "F32", "F64", "I64", "I32"}:
                return {name: np.asarray(file.get_tensor(name), np.float32) for name in names}
    except SafetensorError as error:
        raise ConfigError(f"cannot read the weights {path}: {error}") from error
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float().numpy() for name in file.keys()}  # noqa: SIM118  # not a mapping


def _read_torch(path: Path) -> dict[str, Float32Array]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.float().numpy() for name, tensor in state.items()}


def _without_prefix(tensors: Mapping[str, Float32Array], model_type: str) -> dict[str, Float32Array]:
    """Files saved with a head above the model have all its names below the family's."""
    prefix = "roberta." if model_type in ("xlm_roberta", "camembert") else f"{model_type}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
