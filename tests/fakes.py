"""Stand-ins that tests inject through the engine's own seams."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from engine.models.protocol import EncodeDevice, Role, TokenizedText
from engine.types import Float32Array, Metric


class WordEncoder:
    """Texts become counts of hashed words, so that texts which share words are near. No torch, no files.

    ``gate`` holds every batch while it is clear; a text with the word ``explode`` makes its batch raise.
    """

    version = "words-1"
    engine = "words"
    device: EncodeDevice = "cpu"
    dimension = 64
    max_tokens = 16
    metric: Metric = "cosine"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.encoded: list[int] = []

    def tokenize(self, texts: Sequence[str], *, role: Role = "item", chunks: int = 1) -> list[TokenizedText]:
        return [self._tokenize(text, chunks) for text in texts]

    def forward(self, windows: Sequence[Sequence[int]]) -> Float32Array:
        self.running.set()
        self.gate.wait(20)
        self.encoded.append(len(windows))
        if any(_token("explode") in window for window in windows):
            raise RuntimeError("the model exploded")
        vectors = np.zeros((len(windows), self.dimension), np.float32)
        for row, window in enumerate(windows):
            np.add.at(vectors[row], [token % self.dimension for token in window], 1.0)
        return vectors

    def estimate_seconds(self, lengths: Sequence[int]) -> float:
        return 1e-4 * len(lengths)

    def _tokenize(self, text: str, chunks: int) -> TokenizedText:
        tokens = [_token(word) for word in text.lower().split()]
        size = self.max_tokens
        windows = [tokens[at : at + size] for at in range(0, max(len(tokens), 1), size)][:chunks]
        return TokenizedText(windows, max(0, len(tokens) - size * chunks))


def _token(word: str) -> int:
    return crc32(word.encode())
