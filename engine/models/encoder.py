"""An encoder of tokenization and tower: sorts windows into padded batches and puts the embeddings back in order."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from engine.models.batches import pad, plan_batches
from engine.models.protocol import EncodeDevice, Role, TokenizedText, Tower
from engine.models.timing import measure
from engine.models.tokenization import Tokenization
from engine.types import Float32Array, Metric


class TowerEncoder:
    """Implements ``engine.models.protocol.Encoder``; takes the tower's profile when made, in well under a second.

    Args:
        attention_share: how much dearer a token is for each token of its window; 0 where that is not known.
    """

    def __init__(
        self,
        tower: Tower,
        tokenization: Tokenization,
        *,
        version: str,
        dimension: int,
        metric: Metric,
        attention_share: float,
    ) -> None:
        self.version = version
        self.dimension = dimension
        self.metric = metric
        self.max_tokens = tokenization.max_tokens
        self._tower = tower
        self._tokenization = tokenization
        self._attention_share = attention_share
        self._take_profile()

    @property
    def engine(self) -> str:
        return self._tower.engine

    @property
    def device(self) -> EncodeDevice:
        return self._tower.device

    def tokenize(self, texts: Sequence[str], *, role: Role = "item", chunks: int = 1) -> list[TokenizedText]:
        return self._tokenization.tokenize(texts, role=role, chunks=chunks)

    def forward(self, windows: Sequence[Sequence[int]]) -> Float32Array:
        embeddings = np.empty((len(windows), self.dimension), np.float32)
        for places in plan_batches([len(window) for window in windows], call_tokens=self._call_tokens()):
            embeddings[places] = self._tower.run(*pad([windows[place] for place in places]))
        if self._tower.device != self._profiled:
            self._take_profile()
        return embeddings

    def estimate_seconds(self, lengths: Sequence[int]) -> float:
        return self.profile.seconds(lengths)

    def _take_profile(self) -> None:
        """Again where another device takes over."""
        self.profile = measure(self._tower.run, max_tokens=self.max_tokens, attention_share=self._attention_share)
        self._profiled = self._tower.device

    def _call_tokens(self) -> float:
        """A call costs its own overhead, and a wait for the GIL behind whatever thread has it."""
        return (self.profile.call_s + sys.getswitchinterval()) / self.profile.token_s
