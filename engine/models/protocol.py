"""What an encoder is to those who use one; knows no model, no library and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from engine.types import Float32Array, Int64Array, Metric

Role: TypeAlias = Literal["query", "item"]
"""Which side of the search a text is on; models with prompts put a different one before each."""

ComputeDtype: TypeAlias = Literal["float32", "bfloat16"]
EncodeDevice: TypeAlias = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids of a text's windows, special tokens in each, and how many of its tokens are in none of them."""

    windows: list[list[int]]
    truncated_tokens: int


class Encoder(Protocol):
    """Text to vector. ``tokenize`` may be called from any threads, ``forward`` from one at a time."""

    @property
    def version(self) -> str:
        """Equal for encoders that give equal vectors: a hash over the model's files and the compute dtype, whatever
        the device.
        """
        ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Of one window, special tokens included."""
        ...

    @property
    def metric(self) -> Metric:
        """What the model was trained for."""
        ...

    @property
    def engine(self) -> str:
        """What computes: ``onnxruntime``, ``torch-jit``, ``torch`` or ``sentence-transformers``."""
        ...

    @property
    def device(self) -> EncodeDevice:
        """Where; a GPU that fails gives way to the CPU."""
        ...

    def tokenize(self, texts: Sequence[str], *, role: Role = "item", chunks: int = 1) -> list[TokenizedText]:
        """Cut each text into at most ``chunks`` consecutive windows; every text has one, if only of special tokens."""
        ...

    def forward(self, windows: Sequence[Sequence[int]]) -> Float32Array:
        """float32 [n, d] of n windows, in their order; of length 1 if and only if the model normalises."""
        ...

    def estimate_seconds(self, lengths: Sequence[int]) -> float:
        """What windows of so many tokens add to a batch by the profile taken at load; additive over windows."""
        ...


class Tower(Protocol):
    """A whole forward pass as one call."""

    @property
    def engine(self) -> str:
        """As ``Encoder.engine``."""
        ...

    @property
    def device(self) -> EncodeDevice: ...

    def run(self, ids: Int64Array, lengths: Int64Array) -> Float32Array:
        """Embeddings [B, d] of ids [B, T] of which row b has ``lengths[b]`` that count."""
        ...
