"""How windows of different lengths are cut into padded batches: a pure decision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.types import Int64Array

PADDED_TOKENS = 2048
"""Of one batch at most. Time a token is the same from 256 on (bench/encoder.py), while memory grows with the batch."""


def plan_batches(lengths: Sequence[int], *, call_tokens: float) -> list[list[int]]:
    """The windows' places, each in one batch, shortest first.

    A batch goes on while the padding that the next window brings costs less than a call of its own would
    (``call_tokens``: what a call costs beside its tokens, in tokens), and while it holds ``PADDED_TOKENS``.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches: list[list[int]] = []
    for place in order:
        length = lengths[place]
        if batches:
            batch = batches[-1]
            padding = len(batch) * (length - lengths[batch[-1]])
            if padding <= call_tokens and (len(batch) + 1) * length <= PADDED_TOKENS:
                batch.append(place)
                continue
        batches.append([place])
    return batches


def pad(windows: Sequence[Sequence[int]]) -> tuple[Int64Array, Int64Array]:
    """Token ids [B, T] with zeros behind the shorter windows, and lengths [B]."""
    lengths = np.array([len(window) for window in windows], np.int64)
    ids = np.zeros((len(windows), int(lengths.max())), np.int64)
    for row, window in zip(ids, windows, strict=True):
        row[: len(window)] = window
    return ids, lengths
