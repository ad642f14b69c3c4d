"""The tower in torch, traced into one call: computes on a GPU; on a CPU bfloat16, and float32 without ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from engine.models.protocol import ComputeDtype, EncodeDevice
from engine.models.weights import Affine, LayerWeights, TowerWeights
from engine.threads import size_torch
from engine.types import Float32Array, Int64Array

_log = logging.getLogger(__name__)

_DENSE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "Sigmoid": torch.sigmoid,
}


class TorchTower:
    """Implements ``engine.models.protocol.Tower``. In float32 on a CPU it reads ``weights`` in place: keep them as
    they are.
    """

    def __init__(self, weights: TowerWeights, compute_dtype: ComputeDtype, *, device: EncodeDevice = "cpu") -> None:
        size_torch()
        dtype = torch.float32 if compute_dtype == "float32" else torch.bfloat16
        if device == "cuda":
            require_float32()
        elif dtype is torch.bfloat16 and not has_bfloat16_instructions():
            _log.warning("this CPU has no bfloat16 instructions: bfloat16 will be several times slower than float32")
        module = TowerModule(weights, dtype).eval().to(device)
        traced = _traced(module, device)
        self.engine = "torch" if traced is None else "torch-jit"
        self.device = device
        self._forward: Callable[[Tensor, Tensor], Tensor] = module if traced is None else traced

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        is_fused = self.device == "cpu" or self.engine != "torch-jit"
        with torch.inference_mode(), nullcontext() if is_fused else unfused():
            return to_host(self._forward(to_device(ids, self.device), to_device(lengths, self.device)))


def unfused() -> AbstractContextManager[None]:
    """A GPU's fusers compile anew for each shape there is, and batches of texts have any."""
    return torch.jit.optimized_execution(False)  # type: ignore[attr-defined]


def require_float32() -> None:
    """Products of float32 are of float32, and not of TF32 with its 10 bits, whatever the environment says."""
    torch.set_float32_matmul_precision("highest")


def to_device(array: Int64Array, device: EncodeDevice) -> Tensor:
    """A GPU has its copy from pinned memory, which torch keeps from being used again before it is read."""
    given = torch.from_numpy(array)
    return given.pin_memory().to(device, non_blocking=True) if device == "cuda" else given


def to_host(embeddings: Tensor) -> Float32Array:
    """float32 [B, d], once they are computed."""
    if embeddings.is_cuda:
        pinned = torch.empty(embeddings.shape, dtype=embeddings.dtype, pin_memory=True)
        pinned.copy_(embeddings, non_blocking=True)
        torch.cuda.current_stream(embeddings.device).synchronize()
        embeddings = pinned
    copied: Float32Array = embeddings.numpy()
    return copied


def has_bfloat16_instructions() -> bool:
    """Of any kind; without them torch converts each number it reads, many times slower than float32."""
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


def _traced(module: nn.Module, device: EncodeDevice) -> Callable[[Tensor, Tensor], Tensor] | None:
    """One call that holds no GIL, or None where this torch has no TorchScript any more.

    TorchScript is deprecated, but nothing else in torch runs a whole forward outside the GIL without a compiler on the
    machine: docs/adr/0001-encoder-forward-outside-the-gil.md.
    """
    if not hasattr(torch.jit, "trace"):
        _log.warning("this torch has no TorchScript: a forward takes the GIL for each operator, and waits for each")
        return None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        frozen: Callable[[Tensor, Tensor], Tensor] = torch.jit.freeze(trace(module, device))
    return frozen


def trace(module: nn.Module, device: str) -> Any:
    """What a forward makes on its way is made on ``device`` ever after."""
    example = (torch.zeros((2, 3), dtype=torch.int64, device=device), torch.tensor([3, 2], device=device))
    return torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]


class TowerModule(nn.Module):
    """Transformer, pooling, Dense and normalisation in one; pooling and what follows are float32 in any dtype."""

    def __init__(self, weights: TowerWeights, dtype: torch.dtype) -> None:
        super().__init__()
        self.words = _constant(weights.words, dtype)
        self.positions = _constant(weights.positions, dtype)
        self.norm = _Norm(weights.norm, weights.epsilon, dtype)
        self.layers = nn.ModuleList(_Layer(one, weights, dtype) for one in weights.layers)
        bias = weights.attention_bias
        self.attention_bias = None if bias is None else _constant(bias, dtype)
        self.poolings = weights.poolings
        self.dense = nn.ModuleList(_Linear(one.affine, torch.float32) for one in weights.dense)
        self.activations = [_DENSE_ACTIVATIONS[one.activation] for one in weights.dense]
        self.normalizes = weights.normalizes

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        n_tokens = ids.shape[1]
        keep = torch.arange(n_tokens, device=ids.device)[None, :] < lengths[:, None]
        mask = torch.zeros(keep.shape, dtype=self.words.dtype, device=ids.device)
        mask = mask.masked_fill(~keep, float("-inf"))[:, None, None, :]
        if self.attention_bias is not None:
            mask = mask + self.attention_bias[:, :n_tokens, :n_tokens]
        hidden = self.norm(F.embedding(ids, self.words) + self.positions[:n_tokens])
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return self._finish(hidden.float(), keep[:, :, None])

    def _finish(self, hidden: Tensor, keep: Tensor) -> Tensor:
        pooled = torch.cat([_pool(name, hidden, keep) for name in self.poolings], dim=1)
        for dense, activation in zip(self.dense, self.activations, strict=True):
            pooled = activation(dense(pooled))
        return F.normalize(pooled, dim=1) if self.normalizes else pooled


def _pool(name: str, hidden: Tensor, keep: Tensor) -> Tensor:
    if name == "cls":
        return hidden[:, 0]
    if name == "max":
        return hidden.masked_fill(~keep, float("-inf")).amax(1)
    total, count = (hidden * keep).sum(1), keep.sum(1)
    return total / (count.sqrt() if name == "mean_sqrt_len_tokens" else count)


class _Layer(nn.Module):
    def __init__(self, layer: LayerWeights, tower: TowerWeights, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_heads = tower.n_heads
        self.activation = tower.activation
        self.qkv = _Linear(layer.qkv, dtype)
        self.attention = _Linear(layer.attention, dtype)
        self.attention_norm = _Norm(layer.attention_norm, tower.epsilon, dtype)
        self.up = _Linear(layer.up, dtype)
        self.down = _Linear(layer.down, dtype)
        self.output_norm = _Norm(layer.output_norm, tower.epsilon, dtype)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Of hidden [B, T, d]; mask is added to the scores and broadcasts to [B, heads, T, T]."""
        n, n_tokens, d = hidden.shape
        heads = self.qkv(hidden).view(n, n_tokens, 3, self.n_heads, d // self.n_heads).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).reshape(n, n_tokens, d)
        hidden = self.attention_norm(hidden + self.attention(seen))
        inner = _activate(self.activation, self.up(hidden))
        normed: Tensor = self.output_norm(hidden + self.down(inner))
        return normed


def _activate(name: str, x: Tensor) -> Tensor:
    if name == "relu":
        return F.relu(x)
    return F.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


class _Linear(nn.Module):
    def __init__(self, affine: Affine, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.bias = _constant(affine.weight, dtype), _constant(affine.bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _Norm(nn.Module):
    def __init__(self, affine: Affine, epsilon: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.bias = _constant(affine.weight, dtype), _constant(affine.bias, dtype)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


def _constant(array: Float32Array, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.require(array, requirements="W")).to(dtype), requires_grad=False)
