"""The encode lane: texts to vectors, each text an entry of its own so that no call holds up another.

Tokenising runs in a thread beside the lane, so that a batch's cost is known before it forms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from engine.errors import EncodeFailed, EngineError
from engine.lanes.batching import BatchLimits
from engine.lanes.halving import halving
from engine.lanes.lane import Done, Lane
from engine.models.protocol import Encoder, Role, TokenizedText
from engine.types import Float32Array, Priority


@dataclass(frozen=True, slots=True)
class EncodedText:
    """``vectors`` float32 [chunks, d]; ``truncated_tokens`` were not read; waiting and computing took the seconds."""

    vectors: Float32Array
    truncated_tokens: int
    queue_seconds: float
    encode_seconds: float


@dataclass(frozen=True, slots=True)
class _Text:
    encoder: Encoder
    tokens: TokenizedText


class EncodeLane:
    """All encoders share it, a batch is of one encoder.

    Args:
        batch_seconds: how long one batch may take by the encoder's own profile.
        queue_seconds: admission stops when what waits would take longer than this.
    """

    def __init__(self, *, batch_seconds: float, queue_seconds: float, batch_texts: int) -> None:
        self._tokenize = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self.lane: Lane[_Text, Float32Array] = Lane(
            "encode",
            halving(_forward),
            limits=BatchLimits(entries=batch_texts, cost=batch_seconds),
            queue_cost=queue_seconds,
            on_failure=lambda error: EncodeFailed(f"the encoder failed: {error}"),
        )

    async def encode(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        *,
        role: Role,
        chunks: int = 1,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        max_queue_delay: float | None = None,
    ) -> list[EncodedText | EngineError]:
        """One outcome for each text, in order.

        Raises:
            QueueFull: the lane admits no more texts; none of the call's stays in the queue.
        """
        loop = asyncio.get_running_loop()
        tokenized = await loop.run_in_executor(
            self._tokenize, lambda: encoder.tokenize(texts, role=role, chunks=chunks)
        )
        futures: list[asyncio.Future[Done[Float32Array]]] = []
        try:
            for tokens in tokenized:
                futures.append(
                    self.lane.enqueue(
                        _Text(encoder, tokens),
                        group=encoder.version,
                        cost=encoder.estimate_seconds([len(window) for window in tokens.windows]),
                        priority=priority,
                        deadline=deadline,
                        max_queue_delay=max_queue_delay,
                    )
                )
        except EngineError:
            for future in futures:
                future.cancel()
            raise
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        return [_outcome(tokens, one) for tokens, one in zip(tokenized, outcomes, strict=True)]

    def drain(self) -> None:
        self.lane.drain()
        self._tokenize.shutdown()


def _outcome(tokens: TokenizedText, outcome: Done[Float32Array] | BaseException) -> EncodedText | EngineError:
    if isinstance(outcome, EngineError):
        return outcome
    if isinstance(outcome, BaseException):
        raise outcome
    return EncodedText(outcome.result, tokens.truncated_tokens, outcome.queue_seconds, outcome.run_seconds)


def _forward(texts: Sequence[_Text]) -> list[Float32Array | EngineError]:
    windows = [window for text in texts for window in text.tokens.windows]
    vectors = texts[0].encoder.forward(windows)
    ends = np.cumsum([len(text.tokens.windows) for text in texts])[:-1]
    if not np.isfinite(vectors).all():
        raise EncodeFailed("the encoder gave NaN or infinite values")
    return list(np.split(vectors, ends))
